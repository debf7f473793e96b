"""What happened at one server since this process first knew it: counters, histograms, and the last minute."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .histogram import Histogram, Times

WINDOW_SECONDS = 60.0
SAMPLE_SECONDS = 1.0
TIMEOUT = "timeout"
NO_TIMES = Times()


@dataclass(frozen=True, slots=True)
class Sample:
    """The counts and times at one moment (monotonic s). `longest` is of the time since the sample before."""

    at: float
    counts: dict[str, int] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What happened between two samples."""

    seconds: float
    counts: dict[str, int]
    times: dict[str, Times]

    def rate(self, name: str) -> float:
        """Per second; as if over a whole second where the time was shorter."""
        return self.counts[name] / max(self.seconds, 1.0)

    def by(self, name: str) -> dict[str, int]:
        """The parts of a count, such as the connections closed by reason."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): n for key, n in self.counts.items() if key.startswith(prefix)}


class ServerCounts:
    """Counters and histograms of one server. Handlers write them, see `pool_events`; nothing else does.

    `failed` and `closed` are by the driver's reason.
    """

    def __init__(self, now: float) -> None:
        self.created = 0
        self.cleared = 0
        self.heartbeats_failed = 0
        self.drift = 0
        self.closed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.create = Histogram()
        self.wait = Histogram()
        self.use = Histogram()
        self.rtt = Histogram()
        # By command and outcome, where commands are listened to.
        self.commands: dict[str, Histogram] = {}
        self._samples = deque([self.read(now)])
        self._reset = self._samples[0]

    def read(self, now: float) -> Sample:
        """Return everything since the process first knew this server."""
        closed, failed = self.closed.copy(), self.failed.copy()
        counts = {
            "created": self.created,
            "checked_out": sum(self.wait.counts),
            "cleared": self.cleared,
            "heartbeats_failed": self.heartbeats_failed,
            "drift": self.drift,
            "closed": sum(closed.values()),
            "failed": sum(failed.values()),
            "timeouts": failed[TIMEOUT],
        }
        counts |= {f"closed.{reason}": n for reason, n in closed.items()}
        counts |= {f"failed.{reason}": n for reason, n in failed.items()}
        times = {name: histogram.read() for name, histogram in self._histograms().items()}
        return Sample(now, counts, times)

    def _histograms(self) -> dict[str, Histogram]:
        own = {"create": self.create, "wait": self.wait, "use": self.use, "rtt": self.rtt}
        return own | {f"command.{label}": histogram for label, histogram in list(self.commands.items())}

    def sample(self, now: float) -> None:
        """Take a sample for the last minute; called at each tick, whose pace may be any."""
        if now - self._samples[-1].at < SAMPLE_SECONDS:
            return
        self._samples.append(self.read(now))
        for histogram in self._histograms().values():
            histogram.take_longest()
        while len(self._samples) > 1 and self._samples[1].at <= now - WINDOW_SECONDS:
            self._samples.popleft()

    def last_minute(self, now: float) -> Change:
        """Return what happened in the last minute, or since the start where that is less."""
        # A copy: a tick in another thread may add a sample meanwhile.
        first, *later = tuple(self._samples)
        current = self.read(now)
        longest = {
            name: max([_of(sample, name).longest for sample in later] + [times.longest])
            for name, times in current.times.items()
        }
        return _change(first, current, longest)

    def since_reset(self, now: float) -> Change:
        """Return what happened since the last reset, or ever."""
        current = self.read(now)
        return _change(self._reset, current, dict.fromkeys(current.times, 0.0))

    def reset(self, now: float) -> None:
        """Count anew from here on; the last minute is not touched."""
        self._reset = self.read(now)


def together(samples: Iterable[Sample], now: float) -> Sample:
    """Return the sums of these samples, as of `now`."""
    counts: Counter[str] = Counter()
    times: dict[str, Times] = {}
    for sample in samples:
        counts.update(sample.counts)
        for name, told in sample.times.items():
            times[name] = times.get(name, NO_TIMES) + told
    return Sample(now, dict(counts), times)


def _change(before: Sample, after: Sample, longest: dict[str, float]) -> Change:
    return Change(
        after.at - before.at,
        {name: n - before.counts.get(name, 0) for name, n in after.counts.items()},
        {name: times.since(_of(before, name), longest[name]) for name, times in after.times.items()},
    )


def _of(sample: Sample, name: str) -> Times:
    return sample.times.get(name, NO_TIMES)
