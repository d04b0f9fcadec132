"""What a folder of results looks like to people: one HTML file that needs nothing else."""
