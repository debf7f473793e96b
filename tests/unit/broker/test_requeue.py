"""What goes back to the broker is told once, by us."""

import logging
import pickle

import pytest
from celery.exceptions import Reject

from worker.broker import requeue
from worker.broker.requeue import BackToBroker

LOGGER = logging.getLogger("celery.app.trace")


@pytest.mark.parametrize(("error", "count"), [(BackToBroker("away"), 0), (Reject("theirs", requeue=True), 1)])
def test_celery_tells_of_every_other_rejection(
    error: Exception, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    requeue.hush()
    requeue.hush()
    LOGGER.warning("rejected", exc_info=error)
    assert len(caplog.records) == count
    assert len([one for one in LOGGER.filters if one is requeue._is_news]) == 1


def test_it_reaches_the_main_process_as_what_it_is() -> None:
    back = pickle.loads(pickle.dumps(BackToBroker("away")))  # noqa: S301 - our own bytes
    assert (type(back), back.reason, back.requeue) == (BackToBroker, "away", True)
