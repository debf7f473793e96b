"""What a fault strikes: MongoDB behind the fault proxy, a Redis, a worker between them, a load of tasks."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis as redis_py
from celery import Celery
from pymongo import MongoClient

from ops.local.replica_set import ReplicaSet, elections
from ops.local.servers import LocalServer, mongo_server, redis_server
from tests.e2e.apps.service import Beat
from tests.e2e.workers import Worker, wait_until
from tests.faults.ledger import PATH, Account, accounts, done_after, entries
from tests.faults.load import Load
from tests.faults.network import Network
from tests.faults.plain import PlainClient
from tests.faults.proxy import FaultProxy
from tests.faults.settings import (
    CROWD,
    ELECTION_SECONDS,
    MODULE,
    PAUSE,
    PAUSE_SECONDS,
    PROCESSES_OF,
    QUEUE,
    QUEUES,
    SETTINGS,
    TRANSACTION,
    concurrency,
)
from tests.faults.users import PASSWORD, as_user, create_user
from worker.delivery.dead_letters import DeadLetters, Letter
from worker.integration.config import celery_config
from worker.settings.fields import load_settings

_ALONE = ("--without-mingle", "--without-gossip")
_ASK_SECONDS = 1.0


@dataclass(frozen=True)
class Look:
    """What the node said of itself: its verdict, how many processes see MongoDB how, and its closed queues.

    All None where it did not answer.
    """

    verdict: str | None = None
    circuits: Mapping[str, int] | None = None
    gate: tuple[str, ...] | None = None


class Rig:
    """Made by `Rig.open`. `now` of the ledger and of `healed_at` is the monotonic clock of this host."""

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        pool: str,
        folder: Path,
        *,
        mongo: LocalServer | ReplicaSet,
        redis: LocalServer,
        network: Network,
        is_secured: bool,
        settings: Mapping[str, str],
        per_second: float,
        seed: int,
    ) -> None:
        self.pool, self.folder, self.seed = pool, folder, seed
        self.mongo, self.redis, self.network = mongo, redis, network
        self.ledger = folder / "ledger"
        self.crowd = folder / "crowd"
        self.secret = folder / "uri"
        self.secret.write_text(as_user(network.uri, PASSWORD) if is_secured else network.uri)
        self.environment = self._environment(settings)
        self.settings = load_settings(self.environment, env_file=None)
        self.workers: list[Worker] = []
        self.look = Look()
        self.strikes: list[float] = []
        self._logged: dict[Path, int] = {}
        self.healed_at: float | None = None
        self._options: tuple[str, ...] = ()
        self._stack = ExitStack()
        self.sender = self._sender()
        self.load = Load(self.sender, per_second=per_second)

    @classmethod
    @contextmanager
    def open(  # noqa: PLR0913 - what it is made of
        cls,
        pool: str,
        folder: Path,
        *,
        members: int = 1,
        is_secured: bool = False,
        settings: Mapping[str, str] | None = None,
        per_second: float = 1.0,
        seed: int = 0,
    ) -> Iterator[Rig]:
        """Have the servers run, with no worker yet; end everything afterwards.

        `is_secured`: MongoDB asks for logins and TLS, between its members too.
        """
        with ExitStack() as stack:
            mongo = _mongo(folder / "mongo", members=members, is_secured=is_secured)
            network = Network(stack.enter_context(FaultProxy(seed=seed)), mongo)
            stack.enter_context(mongo)
            if is_secured and isinstance(mongo, ReplicaSet):
                create_user(mongo)
            redis = stack.enter_context(redis_server(folder / "redis"))
            rig = cls(
                pool,
                folder,
                mongo=mongo,
                redis=redis,
                network=network,
                is_secured=is_secured,
                settings=settings or {},
                per_second=per_second,
                seed=seed,
            )
            stack.enter_context(rig._stack)
            stack.callback(rig.load.stop)
            yield rig

    @property
    def members(self) -> list[LocalServer]:
        """The servers that MongoDB is made of."""
        return self.mongo.members if isinstance(self.mongo, ReplicaSet) else [self.mongo]

    # --- workers ---

    @property
    def worker(self) -> Worker:
        """The worker that was started last."""
        return self.workers[-1]

    @property
    def has_processes(self) -> bool:
        """Whether tasks run in processes of their own."""
        return self.pool in PROCESSES_OF

    def start_worker(self, *options: str) -> Worker:
        """Start one more worker and wait until it takes tasks; later ones get the same options."""
        self._options = options or self._options
        name = f"w{len(self.workers) + 1}"
        worker = Worker(
            MODULE,
            log=self.folder / f"{name}.log",
            pool="prefork" if self.has_processes else self.pool,
            concurrency=concurrency(self.pool),
            queues=QUEUES,
            env=self.environment,
            options=(*_ALONE, *self._options),
            name=name,
        )
        self.workers.append(self._stack.enter_context(worker))
        return worker.wait_ready(seconds=60)

    def start_plain_client(self) -> PlainClient:
        """Start a plain client that does the same as the workers, as many at a time as one of them."""
        uri, threads = self.secret.read_text(), concurrency(self.pool)
        plain = PlainClient(uri, self.database_name, threads=threads, folder=self.folder)
        self._stack.callback(plain.stop)
        plain.start()
        return plain

    def start_beat(self) -> Beat:
        """Start one more beat."""
        name = f"beat{time.monotonic_ns()}"
        beat = Beat(
            MODULE, log=self.folder / f"{name}.log", env=self.environment, name=name, loglevel="DEBUG"
        )
        started: Beat = self._stack.enter_context(beat)
        return started

    @property
    def text(self) -> str:
        """All that the workers and MongoDB have logged since the first strike."""
        return "".join(_tail(log, self._logged.get(log, 0)) for log in self._logs())

    def _logs(self) -> list[Path]:
        return [worker.log for worker in self.workers] + [member.log for member in self.members]

    # --- time ---

    def strike(self) -> None:
        """Note that the fault begins, or strikes once more."""
        if not self.strikes:
            self._logged = {log: log.stat().st_size for log in self._logs()}
        self.strikes.append(time.monotonic())

    def heal(self) -> None:
        """Note that the fault is over, as far as it is not the workers' to mend."""
        self.healed_at = time.monotonic()

    def last(self, seconds: float) -> None:
        """Let the fault last so long; towards the end ask the node what it sees."""
        ends_at = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= ends_at - 2.5, what="the fault's end", seconds=seconds + 5)
        self.ask()
        wait_until(lambda: time.monotonic() >= ends_at, what="the fault's end", seconds=seconds + 5)

    def ask(self) -> bool:
        """Ask the node for its verdict and circuits; say whether it answered."""
        health = self._answer("mongo_health")
        pools = self._answer("mongo_pools")
        if health is None or pools is None:
            return False
        circuits = Counter(slot["circuit"] for slot in pools["slots"] if slot["circuit"])
        self.look = Look(health["verdict"], dict(circuits), tuple(health["gate"]))
        return True

    def ask_until_it_answers(self, *, seconds: float = 15.0) -> None:
        """Ask again and again; a node that is busy with its broker may be deaf for some seconds."""
        with suppress(TimeoutError):
            wait_until(self.ask, what="an answer of the node", seconds=seconds)

    def _answer(self, command: str) -> Any:
        destination = [self.worker.hostname]
        try:
            # A connection of its own: those of the sender's pool may be from before Redis was killed.
            with self.sender.connection_for_write() as connection:
                replies = self.sender.control.broadcast(
                    command,
                    destination=destination,
                    reply=True,
                    limit=1,
                    timeout=_ASK_SECONDS,
                    connection=connection,
                )
        except (OSError, redis_py.RedisError, self.sender.connection_for_write().connection_errors):
            return None
        return replies[0][destination[0]] if replies else None

    # --- what became of it ---

    def accounts(self) -> dict[str, Account]:
        """What the ledger says of each task."""
        return accounts(entries(self.ledger))

    def done_after(self, moment: float) -> float | None:
        """When the first task was done that wrote after a moment; None while none is."""
        return done_after(entries(self.ledger), moment)

    def elected(self) -> list[float]:
        """When MongoDB had a new primary since the first strike, in order."""
        offset = time.time() - time.monotonic()
        moments = (at - offset for member in self.members for at in elections(member.log))
        return sorted(at for at in moments if self.strikes and at > self.strikes[0])

    def wait_for_success(self, *, seconds: float = 60) -> None:
        """Wait until a task is done that writes from now on."""
        now = time.monotonic()
        wait_until(lambda: self.done_after(now), what="a task that succeeds", seconds=seconds)

    def database(self) -> MongoClient[dict[str, Any]]:
        """A client of the server itself, or of the replica set by its routes."""
        if isinstance(self.mongo, ReplicaSet):
            return self.mongo.client()
        return MongoClient(self.mongo.uri, serverSelectionTimeoutMS=10_000)

    def primary(self) -> MongoClient[dict[str, Any]]:
        """A client of the present primary alone, not by way of the proxy."""
        if isinstance(self.mongo, ReplicaSet):
            return self.mongo.client(self.mongo.primary())
        return self.database()

    @property
    def database_name(self) -> str:
        """Where the tasks write."""
        return self.settings.mongodb_database

    def waiting(self) -> int:
        """How many messages the broker holds: in the queue, and handed out without an acknowledgement."""
        with self._redis_client() as client:
            queued: Any = client.llen(self.settings.key(QUEUE))
            unacked: Any = client.hlen(self.settings.key("unacked"))
        return int(queued + unacked)

    def have_results(self, task_ids: Collection[str]) -> bool:
        """Whether a result is stored of each of these tasks."""
        names = [self.settings.key(f"celery-task-meta-{one}") for one in task_ids]
        with self._redis_client() as client:
            return not names or client.exists(*names) == len(names)

    def dead(self) -> dict[str, Letter]:
        """The dead letters, by task id."""
        with self._redis_client() as client:
            return {letter.id: letter for letter in DeadLetters(client, self.settings.key).letters()}

    # --- making it ---

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {
            **SETTINGS,
            "MONGODB_URI_FILE": str(self.secret),
            "REDIS_URL": self.redis.uri,
            "CELERY_PYMONGO_DEPLOYMENT": f"rig{os.getpid()}",
            "CELERY_PYMONGO_INCLUDE": MODULE,
            "CELERY_PYMONGO_POOL_START_METHOD": "spawn" if self.pool == "spawn" else "fork",
            PATH: str(self.ledger),
            CROWD: str(self.crowd),
            PAUSE: str(PAUSE_SECONDS),
            TRANSACTION: "0",
            **settings,
        }

    def _sender(self) -> Celery:
        app = Celery("rig", set_as_current=False)
        # It asks for no result: to subscribe to results would be one more thing that breaks.
        app.conf.update(celery_config(self.settings), result_backend="cache+memory://")
        return app

    def _redis_client(self) -> redis_py.Redis:
        return redis_py.Redis.from_url(self.redis.uri, socket_timeout=5)


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _mongo(data: Path, *, members: int, is_secured: bool) -> LocalServer | ReplicaSet:
    if members == 1 and not is_secured:
        return mongo_server(data)
    return ReplicaSet(
        data, members=members, election_timeout=ELECTION_SECONDS, auth=is_secured, tls=is_secured
    )
