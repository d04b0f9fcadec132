"""The network as a table of layers and as a picture."""
