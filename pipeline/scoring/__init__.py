"""Challenge metric, confidence intervals, and the search of the operating point."""
