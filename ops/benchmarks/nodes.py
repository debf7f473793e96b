"""One real worker under measurement: started, given messages, watched, stopped."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

import psutil
import redis
from celery import Celery

from worker.integration.config import celery_config
from worker.settings.fields import load_settings
from worker.settings.schedule import QUEUES

from ..local.child import Child
from .apps import TASK, Spec
from .records import Record, Records
from .site import MeasurementError, Site

_START_SECONDS = 40.0
_BATCH_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.002
_WAITING_ROOM = "bench.waiting"


@dataclass(frozen=True)
class Batch:
    """What a batch of tasks took, from the moment that the worker could see it to its last operation."""

    records: list[Record]
    released_ns: int

    @property
    def tasks_per_second(self) -> float:
        """The rate of the whole batch."""
        ended_ns = max(record.ended_ns for record in self.records)
        return len(self.records) * 1e9 / (ended_ns - self.released_ns)


class Node:
    """A prefork worker of one of `apps`, alone on its queue; a context manager.

    `use` and `app` name its files and its keys in Redis: no two nodes of a site have both the same.
    `max_tasks` recycles each child after so many; those workers, whatever their app, have our mends of
    Celery's own bugs, since a child is else replaced after up to 5 s.
    """

    def __init__(
        self, site: Site, app: str, *, use: str, concurrency: int, max_tasks: int | None = None
    ) -> None:
        name = f"{use}-{app}".replace("_", "-")
        self.app = app
        self.concurrency = concurrency
        environment = site.environment_of(name)
        settings = load_settings(environment, env_file=None)
        config = celery_config(settings)
        records = site.folder / f"{name}.records"
        spec = Spec(
            celery=config,
            mongo_uri=settings.mongodb_uri.get_secret_value(),
            mongo_options=settings.client_options(1),
            database=settings.mongodb_database,
            records=str(records),
            with_fixes=max_tasks is not None,
        )
        argv = _command(app, name, concurrency, max_tasks)
        log = site.folder / f"{name}.log"
        self._child = Child(name, argv, log=log, env=environment | spec.to_environment())
        self._records = Records(records)
        self._producer = Celery(name, set_as_current=False)
        self._producer.conf.update(config)
        self._redis = redis.Redis.from_url(config["broker_url"], socket_timeout=5, socket_connect_timeout=5)
        self._key = settings.key

    def __enter__(self) -> Self:
        self._child.start()
        try:
            self._wait(self._is_ready, seconds=_START_SECONDS, what="its start")
        except BaseException:
            self._child.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop(_STOP_SECONDS)
        self._redis.close()
        self._producer.close()

    @property
    def children(self) -> list[Any]:
        """The processes of its pool."""
        return [child for child in psutil.Process(self._child.pid).children() if _is_alive(child)]

    def run(self, count: int, *, pause_seconds: float = 0.0) -> Batch:
        """Run a batch; every task of it ran exactly once, in a process of the pool.

        The messages wait under another name while they are published, so that publishing takes no time
        from the worker, and then appear all at once. A pause at the end of each task spreads a batch over
        the whole pool; without one, the process that comes first may well run most of it.
        """
        pool = {child.pid for child in self.children}
        for number in range(count):
            self._publish(number, queue=_WAITING_ROOM, pause_seconds=pause_seconds)
        released_ns = time.monotonic_ns()
        self._redis.rename(self._key(_WAITING_ROOM), self._key("celery"))
        records = self._take(count)
        self._verify([record.number for record in records] == list(range(count)), "each task exactly once")
        self._verify({record.pid for record in records} <= pool, "its tasks in processes of its pool")
        return Batch(records, released_ns)

    def run_singly(self, count: int) -> list[Record]:
        """Run tasks one by one, each published when the one before has ended; all in one process."""
        records = [self._run_one(number) for number in range(count)]
        self._verify(len({record.pid for record in records}) == 1, "all tasks in one process")
        return records

    def wait_for_replacement(self, pid: int) -> None:
        """Wait until a child that has run its last task is gone and the pool complete again."""

        def is_replaced() -> bool:
            pids = {child.pid for child in self.children}
            return len(pids) == self.concurrency and pid not in pids

        self._wait(is_replaced, seconds=_BATCH_SECONDS, what="its replacement of a child")

    def _run_one(self, number: int) -> Record:
        self._publish(number, queue="celery")
        (record,) = self._take(1)
        return record

    def _publish(self, number: int, *, queue: str, pause_seconds: float = 0.0) -> None:
        self._producer.send_task(TASK, (number, pause_seconds), queue=queue, ignore_result=True)

    def _take(self, count: int) -> list[Record]:
        """Return the next records by number, once the worker is done with their messages too."""
        self._wait(lambda: self._records.waiting() >= count, seconds=_BATCH_SECONDS, what=f"{count} tasks")
        self._wait(self._is_drained, seconds=_BATCH_SECONDS, what="its acknowledgements")
        records = self._records.take()
        self._verify(len(records) == count, f"{count} tasks, not {len(records)}")
        return sorted(records, key=lambda record: record.number)

    def _is_drained(self) -> bool:
        return self._redis.exists(self._key("unacked"), self._key("celery")) == 0

    def _is_ready(self) -> bool:
        is_ready = f"{self._child.name}@bench ready." in self._log()
        return is_ready and len(self.children) == self.concurrency

    def _wait(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if not self._child.is_running:
                raise MeasurementError(
                    f"the worker {self._child.name} ended by itself:\n{self._log()[-2000:]}"
                )
            if time.monotonic() > deadline:
                raise MeasurementError(
                    f"the worker {self._child.name} did not finish {what} in {seconds:.0f} s:\n"
                    f"{self._log()[-2000:]}"
                )
            time.sleep(_POLL_SECONDS)

    def _verify(self, is_true: bool, expected: str) -> None:
        if not is_true:
            self._fail(f"did not run {expected}")

    def _fail(self, sentence: str) -> NoReturn:
        raise MeasurementError(
            f"the worker {self._child.name} {sentence}; its log ends:\n{self._log()[-2000:]}"
        )

    def _log(self) -> str:
        return self._child.log.read_text(errors="replace")


def _command(app: str, name: str, concurrency: int, max_tasks: int | None) -> list[str]:
    argv = [sys.executable, "-m", "celery", "-A", f"{__package__}.apps:{app}", "worker"]
    argv += ["-P", "prefork", "-c", str(concurrency), "-n", f"{name}@bench", "-l", "INFO"]
    # Each queue costs MAIN a little per message whoever consumes it, so all have the service's.
    argv += ["-Q", ",".join(("celery", *QUEUES))]
    return argv if max_tasks is None else [*argv, "--max-tasks-per-child", str(max_tasks)]


def _is_alive(process: Any) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
