"""The model folder: its description, its weights and its card, and the network as a table and a picture."""
