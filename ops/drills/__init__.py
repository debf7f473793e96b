"""Loads that are really concurrent, against a database of their own that they drop again."""
