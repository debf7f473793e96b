"""Every line of ours in the log of a worker: tests wait for what only DEBUG shows."""

import logging
import os

VARIABLE = "TESTS_OWN_LOG_LEVEL"
"""In the environment of a worker that shall log as it does elsewhere: NOTSET."""


def speak() -> None:
    """Log ours at DEBUG, and all else as the command line says."""
    logging.getLogger("celery_pymongo").setLevel(os.environ.get(VARIABLE, "DEBUG"))
