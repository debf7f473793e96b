"""What to do about another client, by the library that made it."""

ELSE = "use get_client()"

_CELERY = "Celery's own MongoDB result backend needs a client of its own: count its connections in"
_MONGOENGINE = (
    "let mongoengine have this process's: `from celery_pymongo.mongoengine import connect`, with its "
    "own one's arguments"
)
_PYMODM = "PyMODM takes no other client than its own: count its connections in"

# By a part of the path of the file that made the client.
_BY_FILE = (
    ("/celery/backends/mongodb.py:", _CELERY),
    ("/mongoengine/", _MONGOENGINE),
    ("/pymodm/", _PYMODM),
)


def instead(site: str) -> str:
    """Return the advice on a client made at `site`, which is `file:line in function`."""
    return next((advice for part, advice in _BY_FILE if part in site), ELSE)
