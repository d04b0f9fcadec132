"""A page that segments radiographs in a browser, and its writer."""
