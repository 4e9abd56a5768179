"""A dry run: everything is decided as if it were recorded, and nothing is.

The desk decides each command on the state that the rows before it would have led to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ledger.appender import Answer, Appender, Entry, Key


class Rehearsal(Appender):
    """The appender of a dry run: every request is accepted and nothing is written.

    The desk then decides each command on the state that the rows before it would have led to.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        # No thread, no connection: nothing of the real appender is set up.
        self._now = clock

    async def append_async(self, entries: Sequence[Entry], key: Key | None = None) -> Answer:
        """Accept."""
        return Answer(0, self._now())

    def close(self) -> None:
        """Nothing is open."""
