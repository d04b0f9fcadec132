"""What `predict` does with a folder: names and parts, receipts, files of each kind, tables at the end."""
