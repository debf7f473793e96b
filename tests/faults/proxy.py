"""A TCP proxy that hurts on demand: late, slow, silent, half deaf, reset, refusing, cut off in mid-sentence.

    with FaultProxy(seed=1) as proxy:
        mongo, redis = proxy.route(mongo_uri), proxy.route(redis_uri)
        ...                 # give mongo.uri and redis.uri to a worker
        mongo.blackhole()   # and delay, throttle, cut, half_open, reset, refuse: see Route
        mongo.clear()

It knows nothing of what passes, but for the bytes that `hold` waits for. To read along, let it lead to a
WatchingProxy: `proxy.route(watching.uri)`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.faults.route import Route

ANSWER_SECONDS = 10.0


class FaultProxy:
    """Runs routes in a thread of its own; a context manager that leaves no socket and no thread behind.

    `seed` determines the jitter of each connection of each route.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._routes: list[Route] = []

    def route(self, uri: str) -> Route:
        """Listen on a loopback port for the one server that `uri` names with its port."""
        route: Route = self._run(lambda: Route(uri, seed=self._seed, run=self._run))
        self._run(route.listen)
        self._routes.append(route)
        return route

    def _run(self, act: Callable[[], Any]) -> Any:
        async def acting() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(acting(), self._loop).result(ANSWER_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(ANSWER_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(ANSWER_SECONDS)
            self._loop.close()

    async def _end(self) -> None:
        for route in self._routes:
            route.end()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()
