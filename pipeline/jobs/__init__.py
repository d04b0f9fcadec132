"""The jobs, one file each, which reads from top to bottom: check, prepare, train, evaluate, submit, score, predict, ..."""
