"""Figures, tables, the page and the receipt."""
