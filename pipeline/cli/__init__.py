"""The command `pneumoseg`: its commands and options, and the tables that it prints."""
