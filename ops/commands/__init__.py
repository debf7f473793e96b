"""The commands of `celery -A app mongo …`, one to a file; see `frame`."""
