"""Plain PyMongo: the one client, error classes, retries, and writes that take effect once.

Front door: backoff, calls, classify, holder, once, reasons, session.
"""
