"""Plain numbers of what a process has done since it began, for whoever wants to show them.

Counted where the work is done, at the price of an addition; nothing here knows who reads. A
distribution has one writer at a time (the appender's thread, the event loop, or who holds the lock
of `Folds`); a reader in another thread may see an addition half made: a count without its sum.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence, Sized

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Bounds for durations: from an index lookup to beyond every limit on an answer."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 5000)
"""Bounds for how much is done at once."""


class Distribution:
    """How often a value fell between which bounds, and the sum of all values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """One for each bound, which itself belongs to it, and one for what is beyond the last."""
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Appends:
    """What the appender has done. `outcomes` counts requests by how they ended: `appended`,
    `repeated`, the code of a refusal (`ledger/errors.py`), or `failed`.
    """

    def __init__(self, queue: Sized) -> None:
        self._queue = queue
        self.seconds = Distribution(SECONDS)
        """From a request's arrival to its answer, whatever the answer."""
        self.requests = Distribution(SIZES)
        """How many requests shared a transaction."""
        self.events = 0
        """Appended events."""
        self.outcomes: dict[str, int] = {}
        self.lost_calls = 0
        """Calls whose connection was lost: their outcome was looked up, or is unknown."""

    @property
    def waiting(self) -> int:
        """How many requests are queued now."""
        return len(self._queue)


class Folds:
    """What a projection has done in this process, in batches that held an event."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self.position: int | None = None
        """Where it stood when this process last looked; None before."""
        self.events = Distribution(SIZES)
        """How many events a batch held."""
        self.seconds = Distribution(SECONDS)
        """How long a batch took: read, fold, settle, commit."""

    def batch(self, events: int, seconds: float) -> None:
        """Count a batch, which any of the followers' threads may have done."""
        with self._one_at_a_time:
            self.events.add(events)
            self.seconds.add(seconds)
