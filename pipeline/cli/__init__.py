"""The command `pneumoseg`: its options, one call per job, and printed tables."""
