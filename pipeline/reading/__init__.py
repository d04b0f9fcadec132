"""Find files, and read them as radiographs in worker processes, so that no file can end the batch."""
