"""A run around all that Celery calls of a task, whatever the task's classes override.

Celery calls `before_start`, then the task itself, then the hooks of its outcome. A class whose `__call__` is
`return self.run(...)`, as web frameworks' guides have it, in a subclass or in a mixin before MongoTask, must
not switch off what MongoTask does. So the outermost methods are wrapped when Celery binds a class to its app,
by when annotations have changed it, too.
"""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.utils.imports import symbol_by_name

from ..errors import NotInstalledError
from ..events import Event
from ..mongo.calls import bounded
from ..process.process import Mongo
from .ending import end_of_process, is_greenlet_exit
from .run import Run

logger = logging.getLogger("celery_pymongo.task")

HOOKS = ("on_success", "on_failure", "on_retry", "after_return")
"""What Celery calls once the outcome of a run is kept."""

_RUN = "celery_pymongo_run"
_IS_OURS = "is_celery_pymongo"

Method = Callable[..., Any]


REQUEST = f"{__name__.partition('.')[0]}.broker.request:MongoRequest"
"""The class of Celery's requests in MAIN, which tells a run how its message came."""


def mongo_of(task: Any) -> Mongo:
    """Return what `install(app)` gave the task's app, whatever a class of its own calls `mongo`."""
    mongo: Mongo | None = getattr(task.app, "mongo", None)
    if mongo is None:
        raise NotInstalledError(str(task.app.main))
    return mongo


def protect(cls: type[Task]) -> None:
    """Wrap the class's outermost methods, each once; what Celery would not call stays as it is."""
    if cls.Request != REQUEST:
        cls.Request = _told(cls.Request)
    _wrap(cls, "__call__", _in_run)
    if cls.before_start is not Task.before_start:
        _wrap(cls, "before_start", _before_run)
    for name in HOOKS:
        if getattr(cls, name) is not getattr(Task, name):
            _wrap(cls, name, _after_run)


def _told(chosen: Any) -> type[Any]:
    """Return a request class of the app's own that tells it, too."""
    ours, theirs = symbol_by_name(REQUEST), symbol_by_name(chosen)
    return theirs if issubclass(theirs, ours) else type(theirs.__name__, (ours, theirs), {})


def _wrap(cls: type[Task], name: str, wrapper: Callable[[Any, str], Method]) -> None:
    found = inspect.getattr_static(cls, name)
    if not getattr(found, _IS_OURS, False):
        method = functools.update_wrapper(wrapper(found, name), found)
        setattr(method, _IS_OURS, True)
        setattr(cls, name, method)


def _bound(found: Any, task: Any) -> Method:
    """Return what the attribute would be on the task: a method, a static one, or a callable as it is."""
    get = getattr(type(found), "__get__", None)
    method: Method = found if get is None else get(found, task, type(task))
    return method


def _in_run(found: Any, _name: str) -> Method:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        call, request = _bound(found, self), self.request
        run = vars(request).get(_RUN)
        if request.called_directly or (run is not None and run.is_in_body):
            return _call_directly(self, call, args, kwargs)
        run = run or _begin(self, request)
        run.is_in_body = True
        result = run.part(lambda: call(*args, **kwargs))
        run.end()
        return result

    return __call__


def _before_run(found: Any, _name: str) -> Method:
    def before_start(self: Any, *args: Any, **kwargs: Any) -> None:
        request = self.request
        if request.called_directly:
            _bound(found, self)(*args, **kwargs)
        else:
            _begin(self, request).part(lambda: _bound(found, self)(*args, **kwargs))

    return before_start


def _after_run(found: Any, name: str) -> Method:
    """Return the hook with its errors logged: the outcome is kept, and Celery would take some for another."""

    def hook(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            _bound(found, self)(*args, **kwargs)
        except Reject:
            raise
        except BaseException as error:
            is_its_end = end_of_process(error) is not None or is_greenlet_exit(error)
            if is_its_end or self.request.is_eager:
                raise
            message = "%s: %s of %s raised %s; the outcome of the task stands"
            logger.exception(message, Event.TASK_HOOK_FAILED, name, self.name, type(error).__name__)

    return hook


def _begin(task: Any, request: Any) -> Run:
    run = Run(task, mongo_of(task), task.seconds_left())
    # Beside what came with the message: a retry's copy is not made of it.
    vars(request)[_RUN] = run
    return run


def _call_directly(task: Any, call: Method, args: Any, kwargs: Any) -> Any:
    """Run the body like a function; inside another task, or itself, it keeps that task's end."""
    mongo = mongo_of(task)
    try:
        with bounded(mongo.limits().deadline):
            return call(*args, **kwargs)
    except Exception as error:
        mongo.link.observe(error)
        raise
