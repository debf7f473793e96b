"""The pool monitor: what a client's pools hold, did and took, as numbers with units.

Front door: adapter, histogram, missing_names, monitor, suspicion.
"""
