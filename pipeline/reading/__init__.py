"""Files to radiographs, in worker processes that a bad file cannot take along."""
