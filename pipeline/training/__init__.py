"""One training run inside MONAI's engines."""
