"""Celery: install(app), signals, logs, the beat scheduler, and fixes of Celery's own defects.

Front door: config, install, logs.
"""
