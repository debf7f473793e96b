"""What a process's reconnector may ask about the other processes of its node."""

from typing import Protocol


class Company(Protocol):
    """The others. Each answer is of this moment and touches memory only."""

    def is_prober(self) -> bool:
        """Whether it falls to this process to keep nudging, so that nobody waits a long backoff out."""

    def has_returned(self) -> bool:
        """Whether one of them that was cut off when last asked is not any more."""

    def reaches(self) -> bool:
        """Whether one of them reaches MongoDB."""

    def is_cut_off(self) -> bool:
        """Whether one of them does not reach MongoDB."""

    def leads(self) -> bool:
        """Whether this process speaks for all of what each of them meets."""


class Alone:
    """Of a process that has no others, or cannot see them: outside a worker nobody keeps nudging."""

    def is_prober(self) -> bool:
        """Backoff alone says when to try."""
        return False

    def has_returned(self) -> bool:
        """There is nobody."""
        return False

    def reaches(self) -> bool:
        """There is nobody."""
        return False

    def is_cut_off(self) -> bool:
        """There is nobody."""
        return False

    def leads(self) -> bool:
        """There is nobody else."""
        return True
