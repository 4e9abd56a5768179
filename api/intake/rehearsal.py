"""A dry run: everything is decided as if it were recorded, and nothing is.

The desk decides each command on the state that the rows before it would have led to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from datetime import datetime
from typing import Any

from ledger.appender import Answer, Appender, Entry, Key
from ledger.entropy import Entropy
from ledger.envelope import Event, new_id, new_nonce
from ledger.events import RULEBOOK_STREAM, LedgerOpened, Purpose
from ledger.identity import Actor
from ledger.rulebook import first_rulebook
from ledger.store import Ledger, Stored


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


class ShippedRules(Ledger):
    """A ledger that was opened with the shipped rulebook, holds nothing else and lies nowhere."""

    def __init__(self, actor: Actor, *, purpose: Purpose, clock: Callable[[], datetime]) -> None:
        # Nothing of the real ledger is set up: no library, no pool, no appender's thread.
        self.clock = clock
        self.random = Entropy()
        self.appender = Rehearsal(clock)
        opening = Event(
            id=new_id(clock(), self.random(10)),
            stream=RULEBOOK_STREAM,
            version=1,
            data=LedgerOpened(
                name="chengxin", origin="localhost", purpose=purpose, rulebook=first_rulebook()
            ),
            actor=actor,
            nonce=new_nonce(self.random(16)),
            time=clock(),
        )
        self._opening = Stored(1, opening.encode()[0])

    def rows(self, query: bytes, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Nothing lies beside the log either."""
        return []

    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        """The opening."""
        return [self._opening] if stream == RULEBOOK_STREAM and after_version < 1 else []

    def read_streams(self, streams: Sequence[str], *, up_to_version: int) -> list[Stored]:
        """No provider is known."""
        return []

    def registered(self) -> Generator[tuple[str, str]]:
        """No provider is known."""
        yield from ()

    def find_key(self, issuer: str, subject: str, key: str) -> tuple[bytes, int] | None:
        """No key is."""
        return None

    def find_keys(
        self, issuer: str, asked: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[bytes, int]]:
        """None of them."""
        return {}
