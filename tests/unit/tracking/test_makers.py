"""The advice on a second client fits the library that made it."""

import pytest

from worker.tracking.makers import ELSE, instead


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("/site-packages/celery/backends/mongodb.py:150 in _get_connection", "result backend"),
        (
            "/site-packages/mongoengine/connection.py:300 in _create_connection",
            "celery_pymongo.mongoengine import connect",
        ),
        ("/site-packages/pymodm/connection.py:90 in connect", "PyMODM"),
        ("/app/shop/db.py:12 in <module>", ELSE),
        ("/app/celery/tasks.py:12 in sell", ELSE),
        ("a line that ran before install(app)", ELSE),
    ],
)
def test_the_advice_is_that_of_its_maker(site: str, said: str) -> None:
    assert said in instead(site)
    assert (ELSE in instead(site).split(": ")[0]) is (said == ELSE)
