"""Our beat entries and routes beside those of an app, whatever it sets and whenever."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..settings import schedule
from ..settings.fields import Settings

if TYPE_CHECKING:
    from celery import Celery


def merged_entries(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the beat entries of both; one of the same name is the app's."""
    return {**ours, **(theirs or {})}


def merged_routes(ours: Mapping[str, Any], theirs: Any) -> Any:
    """Return the routes of both, ours first: a router of the app's may know its own tasks alone.

    What the app routes by the same name or pattern stays the app's. Celery takes one router (a mapping,
    a function or its name) as well as several.
    """
    if not theirs or isinstance(theirs, Mapping):
        return {**ours, **(theirs or {})}
    several = list(theirs) if isinstance(theirs, (list, tuple)) else [theirs]
    mappings = [each for each in several if isinstance(each, Mapping)]
    missing = {name: route for name, route in ours.items() if not any(name in each for each in mappings)}
    return [missing, *several] if missing else several


def connect(app: "Celery", settings: Settings) -> None:
    """Merge now, or when the app's configuration is first read: reading it here would be too early.

    `again` does so before anything comes of it, since `conf.update` may replace either setting in between.
    """
    if app.configured:
        merge(app, settings)
    app.on_after_configure.connect(lambda **_kwargs: merge(app, settings), weak=False)
    app.on_after_finalize.connect(lambda **_kwargs: again(app), weak=False)


def merge(app: Any, settings: Settings) -> None:
    """Merge both settings; where nothing of ours is missing nothing is changed."""
    entries = merged_entries(schedule.entries(settings), app.conf.beat_schedule)
    if entries != app.conf.beat_schedule:
        app.conf.beat_schedule = entries
    routes = merged_routes(schedule.routes(), app.conf.task_routes)
    if routes != app.conf.task_routes:
        app.conf.task_routes = routes
        _forget_router(app)


def again(app: Any) -> None:
    """Merge into an app whose configuration was read, and that has us; leave any other alone."""
    # An app that is not ours may well have a `mongo` of its own.
    settings = getattr(vars(app).get("mongo"), "settings", None)
    if isinstance(settings, Settings) and app.configured:
        merge(app, settings)


def _forget_router(app: Any) -> None:
    """Have Celery make its router anew, where it has one already."""
    amqp = vars(app).get("amqp")
    if amqp is not None:
        amqp.flush_routes()
        vars(amqp).pop("router", None)
