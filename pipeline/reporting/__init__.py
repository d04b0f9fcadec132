"""Reports: a folder of results as one self-contained HTML file."""
