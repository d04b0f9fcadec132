"""Train a network with MONAI's engines."""
