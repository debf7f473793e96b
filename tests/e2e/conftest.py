"""What several files of end-to-end tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.shops import Shop


@pytest.fixture
def shop(mongo: LocalServer, redis: LocalServer, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Make a Shop on a broker, with Celery's settings by name."""
    with ExitStack() as stack:

        def make(broker: str, *, has_redis: bool = True, **conf: Any) -> Shop:
            return stack.enter_context(Shop(mongo, redis if has_redis else None, broker, tmp_path, **conf))

        yield make
