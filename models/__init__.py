"""The Attention U-Net and the way Keras weights get into it."""
