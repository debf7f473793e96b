"""Celery's tasks: thin, each calls what `install(app)` gave its app and returns JSON."""
