"""Foundation of the pipeline: configuration, errors, files, devices, names, interruption, console."""
