"""What the desk holds in its hands: a stream's kept state, what is to be written, what it leads to.

Knows the states of the two kinds of stream and no database; `ledger/handle.py` is the one user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from ledger import provider, rulebook
from ledger.appender import Key
from ledger.envelope import Event, new_id, new_nonce
from ledger.events import Data
from ledger.identity import Actor
from ledger.store import Ledger

S = TypeVar("S", provider.Provider, rulebook.Rulebooks)


@dataclass(slots=True)
class Kept(Generic[S]):
    """A stream's state as last committed, and the queue before it."""

    stream: str
    new: Callable[[], S]
    evolve: Callable[[S, Event], S]
    state: S | None = None
    queue: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Intent(Generic[S]):
    """What is to be written: one command after the other, by whom, about whom, under which key.

    `command` is what was asked for; `before`: how many events of a registration precede its own.
    """

    decides: Sequence[Callable[[S], Sequence[Data]]]
    actor: Actor
    subject: str | None = None
    key: Key | None = None
    causation: str | None = None
    command: type[Data] = Data
    before: int = 0

    def events(
        self, data: Sequence[Data], kept: Kept[S], version: int, ledger: Ledger
    ) -> list[Event]:
        """What was decided as events of a stream, beyond a version of it."""
        now, random = ledger.clock(), ledger.random
        return [
            Event(
                id=new_id(now, random(10)),
                stream=kept.stream,
                version=version + offset,
                data=one,
                actor=self.actor,
                nonce=new_nonce(random(16)),
                subject=self.subject,
                causation=self.causation,
            )
            for offset, one in enumerate(data, 1)
        ]


class Draft(NamedTuple, Generic[S]):
    """What an intent leads to: its events, and the state with the first of them taken in."""

    state: S
    events: list[Event]
    taken_in: int
