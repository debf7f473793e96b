"""Delays between attempts: arithmetic only, somebody else waits."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Full-jitter exponential backoff: the delay after failure n is uniform in [0, min(cap, base * 2^n)].

    Full jitter spreads a fleet's attempts best for the fewest calls (Marc Brooker, "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). Seconds.
    """

    base: float = 0.5
    cap: float = 30.0

    def ceiling(self, failures: int) -> float:
        """Return the longest delay, in seconds, after this many failures in a row (0 is the first)."""
        # 2.0 ** 1024 overflows; past 64 doublings every sensible cap is reached.
        return min(self.cap, self.base * 2.0 ** min(failures, 64))

    def delay(self, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Return a random delay in seconds for the attempt after this many failures in a row."""
        return uniform(0.0, self.ceiling(failures))
