"""Runs, files, devices and the command line."""
