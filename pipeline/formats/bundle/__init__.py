"""Parts of a MONAI Bundle of a model: those that its configurations name, and their writer."""
