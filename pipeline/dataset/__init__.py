"""Training data: manifest, folds, cache, and the order in which cases are sampled."""
