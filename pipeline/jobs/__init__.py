"""The jobs, one file each, told from top to bottom: check, prepare, train, evaluate, submit, score, predict, ..."""
