"""The composition of one process: its client, link, report, and what it shows of itself.

Front door: attribution, denials, drills, handles, presence, process, publisher.
"""
