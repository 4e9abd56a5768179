"""The vault: sealed texts, and the random references that stand for somebody.

A `Ledger` has one (`ledger.vault`), over its database's schema `<schema>_vault`, which only the
role `chengxin_vault` may read, and over a keyring that is not in the database. Without a keyring
all reads of the log work, and whatever needs a key raises SealingOff. What others use:

- `await seal(events)`: each event with its texts replaced by commitments, and the ciphertexts
  (`Box`) that go into the log's own transaction with it (`ledger/appender.py`, `Entry.boxes`);
- `open(ids)`: the sealed texts of events, each with the salt that proves it; not of who is on hold;
- `reference(kind, scope, text)`: the reference that stands for somebody, the same each time;
- `forget(person)`: a person's key, every ciphertext and reference gone, in one transaction;
- `persons` and `traces`: the keys themselves and what is found by; a rotation's steps
  (`ledger/rotation.py`).

Blocking but for `seal`; call them through `ledger.database.reading`. Why nothing is sealed for the
erased: the append function looks, under the head row's lock, whether each person has a living key.
What this process remembers of a key decides nothing, and a reader is given what the table still
holds: once the row is gone, nobody anywhere opens anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ledger.counterparty import KIND, client_to_refer_to
from ledger.database import Database, reading
from ledger.envelope import Event
from ledger.events import Data
from ledger.keyring import Keyring
from ledger.persons import Hand, Persons
from ledger.private import Place, with_groups
from ledger.sealing import (
    NONCE_BYTES,
    Box,
    PersonKey,
    PlainText,
    digest_of,
)
from ledger.traces import Traces
from ledger.vault_errors import SealBroken


class Opened(NamedTuple):
    """A sealed text: SHA-256(salt ‖ text) is the digest that the event holds at `path`."""

    path: str
    person: str
    text: str
    salt: bytes

    @property
    def digest(self) -> str:
        """The digest in hexadecimal."""
        return digest_of(self.text, self.salt)


class Forgotten(NamedTuple):
    """What was deleted with a person's key: boxes of ciphertexts, and references."""

    boxes: int
    references: int


class Vault:
    """See the module. May be used by many threads; `seal` by one event loop at a time."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring | None,
        *,
        clock: Callable[[], datetime],
        random: Callable[[int], bytes],
    ) -> None:
        self.persons = Persons(database, keyring, clock=clock, random=random)
        self.traces = Traces(self.persons)
        self._random = random
        prefix = self.persons.prefix
        self._open = (
            f"SELECT s.event_id, s.person, s.box, p.epoch, p.wrapped FROM {prefix}sealed s"
            f" JOIN {prefix}persons p USING (person)"
            " WHERE s.event_id = ANY (%s::uuid[]) AND p.wrapped IS NOT NULL"
            f" AND (%s OR NOT {prefix}is_held(s.person))"
        ).encode()
        self._forget = f"SELECT texts, names FROM {prefix}forget(%s)".encode()

    async def seal(self, events: Sequence[Event]) -> list[tuple[Event, tuple[Box, ...]]]:
        """Each event as it may be stored, with its ciphertexts.

        Raises SealingOff, PersonErased, VaultKeyMissing or Unavailable.
        """
        found = [_Blank.of(event) for event in events]
        persons = [group["person"] for one in found for group, _ in one.groups]
        if not persons:
            return [(one.event, ()) for one in found]
        named = {person for person in persons if person is not None}
        drawn = persons.count(None)
        while (hand := self.persons.take(named, drawn)) is None:
            await reading(self.persons.make_ready, named, drawn)
        sealed = [(one.event, self._sealed(one, hand) if one.groups else ()) for one in found]
        self.persons.stock_up_soon()
        return sealed

    def open(self, ids: Collection[str], *, held: bool = False) -> dict[str, list[Opened]]:
        """The sealed texts of events by the events' ids, in the order of their paths.

        What was erased is not there; nor is what is of persons on hold, unless `held`: that is
        for answering the persons themselves and for nobody else. Raises SealingOff,
        VaultKeyMissing, SealBroken, Unavailable.
        """
        keyring = self.persons.keyring
        with self.persons.connected() as connection:
            rows = connection.execute(self._open, [list(ids), held]).fetchall()
        opened: dict[str, list[Opened]] = {}
        for event_id, person, box, epoch, wrapped in rows:
            key = PersonKey(keyring.unwrap(str(person), epoch, wrapped))
            opened.setdefault(str(event_id), []).extend(
                _opened(key, event_id=str(event_id), person=str(person), box=box)
            )
        for one in opened.values():
            one.sort()
        return opened

    def reference(self, kind: str, scope: str, text: str) -> str:
        """The random reference that stands for `text` in `scope`; drawn where there is none yet.

        The database holds a trace of it and no more (`ledger/traces.py`). Whether it was there
        already takes the same work and the same time: a reference is drawn and a row is written
        either way. Raises SealingOff, VaultKeyMissing or Unavailable.
        """
        [(person, key)] = self.persons.new(1)
        reference = self.traces.reference(kind, scope, text, drawn=person)
        if reference != person:
            self.persons.put_back(person, key)
        return reference

    async def referring(self, provider: str, command: Data) -> Data:
        """The command with the reference of a client that it names but does not refer to.

        Raises as `reference`.
        """
        name = client_to_refer_to(command)
        if name is None:
            return command
        reference = await reading(self.reference, KIND, provider, name)
        return command.model_copy(update={"counterparty": reference})

    def forget(self, person: str) -> Forgotten:
        """Delete a person's key, ciphertexts and references; done again it changes nothing.

        The reference stays taken: nothing can ever be sealed under it again. Raises Unavailable.
        """
        self.persons.drop(person)
        with self.persons.connected() as connection:
            row = connection.execute(self._forget, [person]).fetchone()
        assert row is not None
        return Forgotten(*row)

    def close(self) -> None:
        """Finish what is under way and close every connection."""
        self.persons.close()

    def _sealed(self, one: _Blank, hand: Hand) -> tuple[Box, ...]:
        """The boxes of an event; its groups are filled in."""
        plain: dict[str, dict[str, str]] = {}
        blanks: dict[str, list[dict[str, Any]]] = {}
        keys = hand.keys
        for group, given in one.groups:
            person = group["person"]
            if person is None:
                person, key = hand.new.pop()
                group["person"], keys[person] = person, key
            if given:
                plain.setdefault(person, {}).update(given)
                blanks.setdefault(person, []).extend(
                    field["sealed"] for name, field in group.items() if name != "person"
                )
        boxes: list[Box] = []
        for person, written in plain.items():
            nonce = self._random(NONCE_BYTES)
            digests, box = keys[person].seal(written, event_id=one.event.id, nonce=nonce)
            for blank, digest in zip(blanks[person], digests, strict=True):
                blank["digest"], blank["person"] = digest, person
            boxes.append(Box(person, box))
        return tuple(boxes)


class _Blank(NamedTuple):
    """An event whose groups are still to be filled in: as its bytes will have them, and the texts.

    Dicts, because models would take as long as all the rest of the sealing. Texts by their paths,
    in the order of the group's fields.
    """

    event: Event
    groups: list[tuple[dict[str, Any], dict[str, str]]]

    @classmethod
    def of(cls, event: Event) -> _Blank:
        """The event, which stays as it is where nothing is to be sealed."""
        found: list[tuple[dict[str, Any], dict[str, str]]] = []

        def blank(place: Place) -> dict[str, Any] | None:
            path, group = place
            written: dict[str, Any] = {"person": group.person}
            given: dict[str, str] = {}
            for name, text in vars(group).items():
                if text is not None and name != "person":
                    assert isinstance(text, PlainText), "sealed already"
                    given[f"{path}/{name}"] = text.text
                    written[name] = {"sealed": {}}
            if group.person is None and not given:
                return None
            found.append((written, given))
            return written

        data = with_groups(event.data, blank)
        return cls(event if data is event.data else event.with_data(data), found)


def _opened(key: PersonKey, *, event_id: str, person: str, box: bytes) -> Iterator[Opened]:
    try:
        for path, text in key.open(box, event_id=event_id).items():
            yield Opened(path, person, text, key.salt(event_id, path))
    except ValueError as error:
        raise SealBroken(path="*", event=event_id) from error
