"""Whether a message that was delivered before may run."""

from collections.abc import Sequence

import pytest

from worker.delivery.attempts import Admission, Attempt, Earlier, Rule, admit, last_killed
from worker.errors import SettingsError
from worker.settings.fields import load_settings

ALIVE, DEAD = (Attempt("w1@h", slot, 10 + slot, 1, "host", 0.0) for slot in (0, 1))
LATER = Attempt("w1@h", 4, 14, 1, "host", 1.0)
STOPPED, SIGNALLED = (Attempt("w1@h", slot, 10 + slot, 1, "host", 0.0, slot, 1) for slot in (2, 3))
"""Interrupted by a signal: with its node, and in a node that goes on."""
AGAIN = Rule(is_idempotent=True, limit=3)
ONCE = Rule(is_idempotent=False, limit=3)


def ask(rule: Rule, attempts: Sequence[Attempt] = (), *, given_back: bool = False) -> tuple[Admission, int]:
    earlier = Earlier(given_back, attempts)
    return admit(earlier, rule, lives=lambda one: one is ALIVE, goes_on=lambda one: one is SIGNALLED)


@pytest.mark.parametrize(
    ("attempts", "given_back", "admission", "forced"),
    [
        ([], False, Admission.RUN, 1),
        ([], True, Admission.RUN, 0),
        ([DEAD], False, Admission.RUN, 2),
        ([DEAD, DEAD], True, Admission.RUN, 2),
        ([DEAD, DEAD], False, Admission.POISON, 3),
        ([DEAD, DEAD, DEAD], True, Admission.POISON, 3),
        ([ALIVE, ALIVE, ALIVE], False, Admission.RUN, 1),
    ],
)
def test_a_message_is_poison_once_its_process_was_killed_three_times(
    attempts: list[Attempt], given_back: bool, admission: Admission, forced: int
) -> None:
    assert ask(AGAIN, attempts, given_back=given_back) == (admission, forced)


@pytest.mark.parametrize(
    ("attempts", "admission"),
    [
        ([], Admission.RUN),
        ([DEAD], Admission.UNKNOWN),
        ([ALIVE], Admission.WAIT),
        ([DEAD, ALIVE], Admission.WAIT),
    ],
)
def test_what_must_not_run_twice_runs_only_where_no_run_began(
    attempts: list[Attempt], admission: Admission
) -> None:
    """Delivered again without a run that began: it never got to a process."""
    assert ask(ONCE, attempts)[0] is admission


@pytest.mark.parametrize("rule", [AGAIN, ONCE])
def test_a_shutdown_is_no_fault_of_the_message(rule: Rule) -> None:
    assert ask(rule, [STOPPED] * 5, given_back=True) == (Admission.RUN, 0)


@pytest.mark.parametrize("rule", [AGAIN, ONCE])
def test_a_signal_for_its_process_alone_counts(rule: Rule) -> None:
    """A task that sends itself SIGTERM would run for ever."""
    assert ask(rule, [SIGNALLED] * 2, given_back=True) == (Admission.RUN, 2)
    assert ask(rule, [SIGNALLED] * 3, given_back=True) == (Admission.POISON, 3)
    assert ask(AGAIN, [SIGNALLED, DEAD, STOPPED], given_back=False) == (Admission.POISON, 3)
    assert ask(ONCE, [SIGNALLED, DEAD])[0] is Admission.UNKNOWN


@pytest.mark.parametrize(("rule", "admission"), [(ONCE, Admission.UNKNOWN), (AGAIN, Admission.RUN)])
def test_what_must_not_run_twice_does_not_run_after_one_that_came_to_its_end(
    rule: Rule, admission: Admission
) -> None:
    earlier = Earlier(was_given_back=False, attempts=[], is_done=True)
    assert admit(earlier, rule, lives=lambda _: True)[0] is admission


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [([], None), ([ALIVE, STOPPED], None), ([LATER, DEAD, ALIVE], LATER), ([SIGNALLED, STOPPED], SIGNALLED)],
)
def test_the_last_run_that_was_ended_by_force_is_told_of_a_letter(
    attempts: list[Attempt], expected: Attempt | None
) -> None:
    found = last_killed(
        Earlier(False, attempts), lives=lambda one: one is ALIVE, goes_on=lambda one: one is SIGNALLED
    )
    assert found == expected


def test_no_message_is_poison_only_for_being_given_back() -> None:
    """Its first delivery says nothing when it begins, so being delivered again looks like a kill."""
    with pytest.raises(SettingsError, match="POISON_LIMIT"):
        load_settings({"CELERY_PYMONGO_POISON_LIMIT": "1"}, env_file=None)
    assert ask(Rule(is_idempotent=True, limit=2)) == (Admission.RUN, 1)
