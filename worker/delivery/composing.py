"""A MongoTask beside the task class of its app: both hold, or its process does not start.

Celery takes `base=` in the place of the app's class (`task_cls`, `app.Task`), and what that adds, as Flask's
application context or Django's `delay_on_commit`, would be missing in a MongoTask without a word.
"""

import inspect
from typing import Any

from celery import Celery, Task
from celery.utils.imports import symbol_by_name

from ..errors import SettingsError, end_command


def compose(cls: type[Task], app: Celery) -> None:
    """Give the class of one task what the app's class adds, too; SettingsError where both cannot hold.

    The task's own base comes first, so that what it sets holds. Done for functions that `app.task` or
    `shared_task` made a task of, whose class is nobody else's. A command of Celery's ends with one line.
    """
    if "run" not in vars(cls):
        return
    try:
        _refuse_strategy(cls)
        if "_decorated" in vars(cls) and getattr(cls, "with_app_class", False):
            _join(cls, _apps_class(app))
    except SettingsError as error:
        end_command(error)
        raise


def _apps_class(app: Celery) -> Any:
    """Return the app's class as the app named it: Celery derives an empty one of the same name."""
    theirs, named = app.Task, symbol_by_name(app.task_cls)
    return named if theirs.__bases__ == (named,) and "_app" in vars(theirs) else theirs


def _join(cls: Any, theirs: Any) -> None:
    if theirs is Task or issubclass(cls, theirs):
        return
    (base,) = cls.__bases__
    _refuse_hidden_call(cls, base, theirs)
    try:
        cls.__bases__ = (theirs,) if issubclass(theirs, base) else (base, theirs)
    except TypeError as error:
        raise SettingsError(
            [
                f"{cls.name}: its base {_named(base)} and the app's task class {_named(theirs)} do not go "
                f"together ({' '.join(str(error).split())}): {_OR}"
            ]
        ) from None


_OR = "name its classes in one order, or set `with_app_class = False` in it to do without the app's"


def _refuse_hidden_call(cls: Any, base: Any, theirs: Any) -> None:
    """Two that both end with `self.run(...)`: the first would switch the other off."""
    if Task.__call__ in (base.__call__, theirs.__call__) or issubclass(theirs, base):
        return
    function = inspect.unwrap(base.__call__)
    code = getattr(function, "__code__", None)
    if code is None or "super" in code.co_names or base.__call__ is theirs.__call__:
        return
    raise SettingsError(
        [
            f"{cls.name}: __call__ of {_named(base)} hides that of the app's task class {_named(theirs)}: "
            "end it with `return super().__call__(*args, **kwargs)` in the place of `self.run(...)`, or set "
            "`with_app_class = False` there to do without the app's"
        ]
    )


def _refuse_strategy(cls: Any) -> None:
    """A strategy of its own, as of celery-batches, takes and acknowledges messages past every run."""
    if cls.Strategy == Task.Strategy:
        return
    owner = next((each for each in cls.__mro__ if "Strategy" in vars(each)), cls)
    raise SettingsError(
        [
            f"{cls.name}: {_named(owner)} takes its messages by a Strategy of its own, so that MongoTask "
            "could give none back in an outage: leave MongoTask out of its bases, and use call()"
        ]
    )


def _named(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
