"""Run lengths and the label CSV files of the challenge."""
