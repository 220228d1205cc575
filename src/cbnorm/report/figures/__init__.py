"""Figures from records, histories and small artifacts; each with the numbers that it shows, as a table."""
