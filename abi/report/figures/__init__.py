"""Figures of results as SVG with the numbers they show as CSV: the same file for the same figures."""
