"""Shared memory of a node: a row per process, readable at once and after a SIGKILL.

Front door: board, counters, dumps, file, memory, pauses, post_mortem, process_identity, report, row,
siblings.
"""
