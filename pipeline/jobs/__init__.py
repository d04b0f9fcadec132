"""The jobs; each is one file, which reads from top to bottom: check, prepare, train, evaluate, submit, score, ..."""
