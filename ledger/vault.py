"""The vault: sealed texts, and the random references that stand for somebody.

A `Ledger` has one (`ledger.vault`), over its database's schema `<schema>_vault`, which only the
role `chengxin_vault` may read, and over a keyring that is not in the database. Without a keyring
all reads of the log work, and whatever needs a key raises SealingOff. What others use:

- `await seal(events)`: what is written of each event's data, commitments in place of texts, and the
  ciphertexts (`Box`) that go into the log's own transaction with it (`ledger/appender.py`). Nothing
  else makes a box, so here, whoever asks, it is seen that events name only persons that are theirs
  to name;
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

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ledger.counterparty import KIND, client_to_refer_to, client_told
from ledger.database import Database, reading
from ledger.envelope import Event
from ledger.events import Data
from ledger.keyring import Keyring
from ledger.persons import MAX_KEYS, Hand, Persons
from ledger.private import Place, written
from ledger.sealing import (
    NONCE_BYTES,
    Box,
    PersonKey,
    PlainText,
    Salts,
    digest_of,
)
from ledger.traces import Traces
from ledger.vault_errors import NotYourPerson, SealBroken


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
        self._named: dict[tuple[str, str], None] = {}
        self._guard = threading.Lock()
        prefix = self.persons.prefix
        self._open = (
            f"SELECT s.event_id, s.person, s.box, p.epoch, p.wrapped FROM {prefix}sealed s"
            f" JOIN {prefix}persons p USING (person)"
            " WHERE s.event_id = ANY (%s::uuid[]) AND p.wrapped IS NOT NULL"
            f" AND (%s OR NOT {prefix}is_held(s.person))"
        ).encode()
        self._may_name = (
            f"SELECT person, organisation, {prefix}may_name(person, organisation),"
            f" EXISTS (SELECT FROM {prefix}sealed s WHERE s.person = asked.person)"
            " FROM unnest(%s::uuid[], %s::text[]) AS asked (person, organisation) ORDER BY person"
        ).encode()
        self._forget = f"SELECT texts, names FROM {prefix}forget(%s)".encode()

    async def seal(self, events: Sequence[Event]) -> list[SealedEvent]:
        """Each event as it may be stored, with its ciphertexts.

        Raises NotYourPerson, SealingOff, PersonErased, VaultKeyMissing or Unavailable.
        """
        blanks = [_Blank.of(event) for event in events]
        await self._see_naming(blanks)
        persons = [group.person for one in blanks for group in one.groups]
        if not persons:
            return [SealedEvent(one.event, one.data) for one in blanks]
        named = {person for person in persons if person is not None}
        drawn = persons.count(None)
        while (hand := self.persons.take(named, drawn)) is None:
            await reading(self.persons.make_ready, named, drawn)
        sealed = [SealedEvent(one.event, one.data, self._filled(one, hand)) for one in blanks]
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

        Raises what `reference` does.
        """
        name = client_to_refer_to(command)
        if name is None:
            return command
        reference = await reading(self.reference, KIND, provider, name)
        return command.model_copy(update={"counterparty": reference})

    async def check_naming(self, events: Sequence[Event]) -> None:
        """See that events have texts sealed only for persons whom their organisations may name.

        A client is also whose name the event tells. Raises NotYourPerson, and for such a client
        what `reference` does.
        """
        await self._see_naming([_Blank.of(event) for event in events])

    async def _see_naming(self, blanks: Sequence[_Blank]) -> None:
        if not self.named({pair for one in blanks for pair in one.naming()}):
            await reading(self._check_naming, blanks)

    def named(self, asked: Collection[tuple[str, str]]) -> bool:
        """Whether all of these persons are known to be these organisations' own to name."""
        return all(one in self._named for one in asked)

    def check_named(self, asked: Collection[tuple[str, str]]) -> None:
        """See that these persons are these organisations' own to name, and remember it for a while.

        Also of those for whom nobody has sealed yet: for whoever knows that nobody else will.
        Raises NotYourPerson or Unavailable.
        """
        for person, organisation in self._not_own(asked)[0]:
            raise NotYourPerson(person=person, organisation=organisation)
        self._remember(asked)

    def _check_naming(self, blanks: Sequence[_Blank]) -> None:
        refused, own = self._not_own({pair for one in blanks for pair in one.naming()})
        for one in blanks:
            for person, organisation in sorted(one.naming().intersection(refused)):
                if not self._tells(one.event, person):
                    raise NotYourPerson(person=person, organisation=organisation)
        # Not the others: as long as nobody has sealed for somebody, another may be the first.
        self._remember(own)

    def _not_own(
        self, asked: Collection[tuple[str, str]]
    ) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Those of persons that are not these organisations' to name, and those that are theirs."""
        persons, organisations = zip(*sorted(asked), strict=True)
        with self.persons.connected() as connection:
            rows = connection.execute(self._may_name, [list(persons), list(organisations)])
            found = [((str(person), who), may, sealed) for person, who, may, sealed in rows]
        refused = [pair for pair, may, _ in found if not may]
        return refused, [pair for pair, may, sealed in found if may and sealed]

    def _remember(self, own: Collection[tuple[str, str]]) -> None:
        with self._guard:
            self._named |= dict.fromkeys(own)
            while len(self._named) > MAX_KEYS:
                del self._named[next(iter(self._named))]

    def _tells(self, event: Event, person: str) -> bool:
        """Whether an event tells the name of the client for whom a reference stands."""
        name = client_told(event.data)
        if name is None or event.subject is None:
            return False
        return self.reference(KIND, event.subject, name) == person

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

    def _filled(self, one: _Blank, hand: Hand) -> tuple[Box, ...]:
        """The boxes of an event; its blanks are filled in."""
        id = one.event.id
        begun: dict[str, tuple[PersonKey, Salts, dict[str, str]]] = {}
        for group in one.groups:
            person = group.person
            if person is None:
                person, key = hand.new.pop()
                hand.keys[person] = key
            if person not in begun:
                key = hand.keys[person]
                begun[person] = key, key.salts(id), {}
            _, salts, texts = begun[person]
            for name, text in group.fields.items():
                if name == "person":
                    group.written[name] = person
                elif text is not None:
                    assert isinstance(text, PlainText), "sealed already"
                    here = f"{group.path}/{name}"
                    texts[here] = plain = text.text
                    digest = digest_of(plain, salts(here))
                    group.written[name] = {"sealed": {"digest": digest, "person": person}}
        return tuple(
            [
                Box(person, key.box(texts, event_id=id, nonce=self._random(NONCE_BYTES)))
                for person, (key, _, texts) in begun.items()
                if texts
            ]
        )


class SealedEvent(NamedTuple):
    """An event, what is written of its data, and the ciphertexts."""

    event: Event
    data: Any
    boxes: tuple[Box, ...] = ()


class _Group(NamedTuple):
    """A group to be filled in: its person, its place, its fields, and what is written of them."""

    person: str | None
    path: str
    fields: Mapping[str, Any]
    written: dict[str, Any]


class _Blank(NamedTuple):
    """An event, and its data as they will be written once the groups are filled in.

    Dicts, because models would take as long as all the rest of the sealing.
    """

    event: Event
    data: Any
    groups: list[_Group]

    @classmethod
    def of(cls, event: Event) -> _Blank:
        """The event, whose own data stay as they are."""
        groups: list[_Group] = []

        def blank(place: Place) -> dict[str, Any] | None:
            path, group = place
            fields = vars(group)
            if not any(fields.values()):
                return None
            found: dict[str, Any] = {}
            groups.append(_Group(fields["person"], path, fields, found))
            return found

        return cls(event, written(event.data, blank), groups)

    def naming(self) -> set[tuple[str, str]]:
        """The persons whom the event names as those whom something is sealed for, and who does."""
        who = self.event.actor.organisation
        return {(one.person, who) for one in self.groups if one.person is not None}


def _opened(key: PersonKey, *, event_id: str, person: str, box: bytes) -> Iterator[Opened]:
    salts = key.salts(event_id)
    try:
        for path, text in key.open(box, event_id=event_id).items():
            yield Opened(path, person, text, salts(path))
    except ValueError as error:
        raise SealBroken(path="*", event=event_id) from error
