"""Recall tables, significance tests and how they are printed."""
