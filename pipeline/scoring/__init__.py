"""The challenge's metric, and the decision that makes a mask of probabilities."""
