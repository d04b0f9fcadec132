"""Figures and pictures for results, reports and training."""
