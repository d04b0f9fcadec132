"""What to train on: the manifest, its folds, the cache, and the order in which cases are drawn."""
