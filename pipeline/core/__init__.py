"""What every part of the pipeline rests on: configuration, errors, files, devices, names, interruption, console."""
