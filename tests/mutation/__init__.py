"""Mutants of the rules that decide: how many does the unit tests' net catch? `python -m tests.mutation`."""
