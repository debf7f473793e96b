"""Plain PyMongo: the client of a process, its pool, its health and its way back after an outage.

Nothing here knows Celery, Redis or Sentry.
"""
