"""Marks: by which a person is found who knows a sealed text, and by nobody else.

A mark is a trace (`ledger/trace.py`: its keys are outside the database) of a field's name and its
text, made alike for whoever writes it: width, case, spaces and hyphens say nothing. Marks follow
the log, some time after the append, so that sealing costs nothing for them; each batch is one
transaction with its progress, and a second process waits for the first. Looking for what is there
and for what is not takes the same work. Blocking.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

import psycopg

from ledger.errors import Unavailable
from ledger.persons import Connection
from ledger.private import Private
from ledger.store import Ledger
from ledger.traces import known_epochs
from ledger.vault_errors import VaultKeyMissing

BATCH_EVENTS = 2_000
MAX_MARKED_CHARACTERS = 200
MAX_FOUND = 100
KIND = "mark"
UNSAID = re.compile(r"[\s\-‐-―・·]+")


def fields() -> list[str]:
    """The names of all fields that are ever sealed, in order."""
    return sorted(
        {name for group in Private.__subclasses__() for name in group.model_fields} - {"person"}
    )


def alike(text: str) -> str:
    """What is left of a text without what only its writing decides."""
    return UNSAID.sub("", unicodedata.normalize("NFKC", text)).casefold()


class Found(NamedTuple):
    """Persons (at most a hundred) in whose sealed fields a text stands; up to which position."""

    persons: list[str]
    position: int

    def with_more(self, persons: Collection[str]) -> Found:
        """The same, with others in whom it was found elsewhere."""
        return Found(sorted({*self.persons, *persons})[:MAX_FOUND], self.position)


class Marks:
    """Makes marks, and finds by them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._vault = ledger, ledger.vault
        prefix = ledger.vault.persons.prefix
        name = f"{ledger.database.schema}.{ledger.database.application}_events"
        self._next = (
            f"SELECT notification_id, event_id FROM {name} WHERE notification_id > %s"
            " ORDER BY notification_id LIMIT %s"
        ).encode()
        self._progress = f"SELECT position FROM {prefix}marked FOR UPDATE".encode()
        self._advance = f"UPDATE {prefix}marked SET position = %s".encode()
        # Whoever forgets a person waits for this lock, and then finds the marks.
        self._living = (
            f"SELECT person FROM {prefix}persons"
            " WHERE person = ANY (%s::uuid[]) AND wrapped IS NOT NULL ORDER BY person FOR SHARE"
        ).encode()
        self._mark = (
            f"INSERT INTO {prefix}marks (epoch, digest, box, person, event_id) SELECT %s, n.*"
            " FROM unnest(%s::bytea[], %s::bytea[], %s::uuid[], %s::uuid[]) AS n"
            " ON CONFLICT DO NOTHING"
        ).encode()
        self._find = (
            # One text, not an array: to read an array takes longer the more there is in it.
            "SELECT position, (SELECT string_agg(person::text, ',') FROM (SELECT DISTINCT person"
            f" FROM {prefix}marks WHERE digest = ANY (%s::bytea[])"
            f" ORDER BY person LIMIT {MAX_FOUND}) f),"
            f" (SELECT max(epoch) FROM {prefix}marks) FROM {prefix}marked"
        ).encode()

    def follow(self) -> int:
        """Mark what is next in the log; how many events there were, 0 at its end.

        Raises SealingOff, VaultKeyMissing, SealBroken or Unavailable.
        """
        with self._vault.persons.connected() as connection, connection.transaction():
            row = connection.execute(self._progress).fetchone()
            assert row is not None
            rows = self._rows(row[0])
            if rows:
                self._mark_all(connection, [str(id) for _, id in rows])
                connection.execute(self._advance, [rows[-1][0]])
            return len(rows)

    def find(self, text: str, names: Collection[str]) -> Found:
        """Who has this text in a field of one of these names.

        Raises SealingOff, VaultKeyMissing or Unavailable.
        """
        sought = [_traced(name, text) for name in sorted(names)]
        seen = 0
        for _ in known_epochs():
            newest, digests = self._vault.persons.keyring.lookup(sought)
            with self._vault.persons.connected() as connection:
                row = connection.execute(self._find, [digests]).fetchone()
            assert row is not None
            # In one answer: a mark moved to an epoch that is not known here would be missed.
            seen = row[2] or 0
            if seen <= newest:
                return Found(row[1].split(",") if row[1] else [], row[0])
        raise VaultKeyMissing(epoch=seen)

    def _mark_all(self, connection: Connection, ids: list[str]) -> None:
        opened = self._vault.open(ids, held=True)
        texts = [
            (id, one)
            for id, found in opened.items()
            for one in found
            if len(one.text) <= MAX_MARKED_CHARACTERS
        ]
        # Before any row is locked: who destroys a key waits for this, and others wait for him.
        self._vault.persons.share(connection)
        persons = {one.person for _, one in texts}
        living = {str(p) for (p,) in connection.execute(self._living, [sorted(persons)])}
        marked = [(id, one) for id, one in texts if one.person in living]
        if not marked:
            return
        epoch, traces = self._vault.persons.keyring.trace(
            [_traced(one.path.rpartition("/")[2], one.text) for _, one in marked]
        )
        rows = [
            (trace.digest, trace.box, one.person, id)
            for trace, (id, one) in zip(traces, marked, strict=True)
        ]
        connection.execute(self._mark, [epoch, *map(list, zip(*rows, strict=True))])

    def _rows(self, after: int) -> list[tuple[int, object]]:
        try:
            return [
                (row[0], row[1]) for row in self._ledger.rows(self._next, [after, BATCH_EVENTS])
            ]
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error


def _traced(name: str, text: str) -> tuple[str, str, str]:
    return (KIND, name, alike(text))
