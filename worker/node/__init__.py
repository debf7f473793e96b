"""MAIN of a worker: its gate, its head count, and the commands that it answers.

Front door: addressed, control, expired, gate, headcount.
"""
