"""Which task does what now: its connections, sessions, writes and stacks, and the recorder of events.

Front door: checkouts, findings, flight, guard, leaks, listening, makers, stacks, task_times, work, writes.
"""
