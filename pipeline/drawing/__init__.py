"""Figures and pixels of pictures, for results, reports and training alike."""
