"""A dry run: everything is decided as if it were recorded, and nothing is.

The desk decides each command on the state that the rows before it would have led to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ledger.appender import Appender, Entry, Key
from ledger.counterparty import client_to_refer_to
from ledger.entropy import Entropy
from ledger.envelope import Event, new_id, new_nonce
from ledger.events import RULEBOOK_STREAM, Data, LedgerOpened, Purpose
from ledger.identity import Actor
from ledger.parameters import Answer
from ledger.private import Place, Private, texts, written
from ledger.rulebook import first_rulebook
from ledger.sealing import Commitment, Sealed
from ledger.store import Ledger, Stored
from ledger.vault import SealedEvent, Vault

NOBODY = "00000000-0000-0000-0000-000000000000"


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


class RehearsedVault(Vault):
    """The vault of a dry run: no key is made, and no text kept.

    Its commitments are as long as true ones, so that an event too large is refused here too.
    """

    def __init__(self) -> None:
        # No connection, no keys: nothing of the real vault is set up.
        pass

    async def seal(self, events: Sequence[Event]) -> list[SealedEvent]:
        """Empty commitments in the place of texts."""
        return [SealedEvent(one, written(one.data, _unsealed)) for one in events]

    async def check_naming(self, events: Sequence[Event]) -> None:
        """Whose the persons are is seen when it is recorded."""

    async def referring(self, provider: str, command: Data) -> Data:
        """With one that stands for nobody."""
        if client_to_refer_to(command) is None:
            return command
        return command.model_copy(update={"counterparty": NOBODY})

    def reference(self, kind: str, scope: str, text: str) -> str:
        """One that stands for nobody."""
        return NOBODY

    def close(self) -> None:
        """Nothing is open."""


def _unsealed(place: Place) -> Private:
    group = place.group
    person = group.person or NOBODY
    nothing = Sealed(sealed=Commitment(person=person, digest="0" * 64))
    return group.model_copy(update={"person": person} | {name: nothing for name, _ in texts(group)})


def rehearse(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """From here on nothing is written to a ledger."""
    ledger.appender.close()
    ledger.vault.close()
    ledger.appender = Rehearsal(clock)
    ledger.vault = RehearsedVault()


class ShippedRules(Ledger):
    """A ledger that was opened with the shipped rulebook, holds nothing else and lies nowhere."""

    def __init__(self, actor: Actor, *, purpose: Purpose, clock: Callable[[], datetime]) -> None:
        # Nothing of the real ledger is set up: no library, no pool, no appender's thread.
        self.clock = clock
        self.random = Entropy()
        self.appender = Rehearsal(clock)
        self.vault = RehearsedVault()
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

    def rows(
        self,
        query: bytes,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        seconds: int | None = None,
    ) -> list[tuple[Any, ...]]:
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
