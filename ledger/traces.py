"""The tables of traces: references by what they stand for, and marks; and how they change epochs.

A row's trace (`ledger/trace.py`) is of one epoch of the keys. While keys rotate rows of two epochs
stand side by side, so whoever looks asks for the traces of all living epochs at once, and learns
from the same answer whether there is an epoch that it does not know: then it asks again. Why one
text never has two references:

- who looks and draws holds a lock of the text (one of 1,024), so that of two the later finds what
  the earlier has drawn, in whichever epoch;
- a row that is found is locked before it is used: it cannot be moved to the next epoch meanwhile;
  one that was being moved is looked at again when that is done, and if that is an epoch that is not
  known here, the row drawn instead is taken back before anybody sees it.

No key is destroyed while somebody writes a trace under it (the lock of `Persons.share`). Blocking;
all raise SealingOff, VaultKeyMissing or Unavailable. The tables are those of
`ledger/sql/0010_traces.sql`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ledger.persons import Connection, Persons
from ledger.vault_errors import VaultKeyMissing

BATCH_TRACES = 500
LOCKS = 1024
TRIES = 20
TRY_SECONDS = 0.05

Place = tuple[Any, ...]


def known_epochs() -> Iterator[None]:
    """Turns in which to ask again, until the keyring knows the newest epoch; a second or so."""
    for turn in range(TRIES):
        if turn:
            time.sleep(TRY_SECONDS)
        yield


class Table(NamedTuple):
    """A table of traces, and its primary key, with types and what comes before every row."""

    name: str
    columns: Sequence[str]
    types: Sequence[str]
    start: Place


NOBODY = "00000000-0000-0000-0000-000000000000"
TABLES: Final = (
    Table("references", ("kind", "digest"), ("text", "bytea"), ("", b"")),
    Table(
        "marks",
        ("digest", "person", "event_id"),
        ("bytea", "uuid", "uuid"),
        (b"", NOBODY, NOBODY),
    ),
)


class Traces:
    """Finds, draws and moves traces."""

    def __init__(self, persons: Persons) -> None:
        self._persons, prefix = persons, persons.prefix
        self._prefix = prefix
        self._lock = (f"SELECT pg_advisory_xact_lock(hashtext('{prefix}references'), %s)").encode()
        self._held = (
            f"SELECT digest FROM {prefix}references"
            " WHERE kind = %s AND digest = ANY (%s::bytea[]) FOR UPDATE"
        ).encode()
        # Found or drawn, a row is written: whether it was there already takes the same work.
        self._refer = (
            f"INSERT INTO {prefix}references AS r (kind, digest, person, epoch, box)"
            " VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (kind, digest) DO UPDATE SET person = r.person"
            f" RETURNING r.person, (SELECT max(epoch) FROM {prefix}references)"
        ).encode()

    def reference(self, kind: str, scope: str, text: str, *, drawn: str) -> str:
        """The reference that stands for the text; `drawn` where there was none."""
        texts, keyring = (kind, scope, text), self._persons.keyring
        seen = 0
        for _ in known_epochs():
            with self._persons.connected() as connection, connection.transaction() as transaction:
                self._persons.share(connection)
                connection.execute(self._lock, [_lock_of(texts)])
                newest, digests = keyring.lookup([texts])
                epoch, [trace] = keyring.trace([texts])
                held = connection.execute(self._held, [kind, digests]).fetchone()
                digest = trace.digest if held is None else held[0]
                row = connection.execute(
                    self._refer, [kind, digest, drawn, epoch, trace.box]
                ).fetchone()
                assert row is not None
                seen = row[1] or 0
                transaction.force_rollback = seen > newest
            if seen <= newest:
                return str(row[0])
        raise VaultKeyMissing(epoch=seen)

    def retrace(self, table: Table, after: Place) -> Place | None:
        """Move up to 500 rows of older epochs, beyond a place, to the newest; the last place.

        None when there were none left. What somebody is using is left for the next time.
        """
        keyring = self._persons.keyring
        key = ", ".join(table.columns)
        values = ", ".join(f"%s::{one}" for one in table.types)
        name = f"{self._prefix}{table.name}"
        with self._persons.connected() as connection, connection.transaction():
            self._persons.share(connection)
            rows = connection.execute(
                f"SELECT {key}, epoch, box FROM {name} WHERE ({key}) > ({values}) AND epoch < %s"
                f" ORDER BY {key} LIMIT %s FOR UPDATE SKIP LOCKED".encode(),
                [*after, keyring.epochs()[-1].number, BATCH_TRACES],
            ).fetchall()
            if not rows:
                return None
            at = table.columns.index("digest")
            # Of epoch 0 are rows of a version that had no epochs: they hold the inner digest.
            old = [(row[-2], row[at] if row[-1] is None else row[-1]) for row in rows]
            epoch, traces = keyring.retrace(old)
            self._move(connection, table, [row[:-2] for row in rows], epoch, traces)
            return tuple(rows[-1][:-2])

    def _move(
        self,
        connection: Connection,
        table: Table,
        places: Sequence[Place],
        epoch: int,
        traces: Sequence[tuple[bytes, bytes]],
    ) -> None:
        columns = [*table.columns, "new_digest", "new_box"]
        types = [*table.types, "bytea", "bytea"]
        arrays = ", ".join(f"%s::{one}[]" for one in types)
        same = " AND ".join(f"t.{one} = n.{one}" for one in table.columns)
        rows = [(*place, *trace) for place, trace in zip(places, traces, strict=True)]
        connection.execute(
            f"UPDATE {self._prefix}{table.name} AS t SET digest = n.new_digest, epoch = %s,"
            f" box = n.new_box FROM unnest({arrays}) AS n ({', '.join(columns)})"
            f" WHERE {same}".encode(),
            [epoch, *(list(column) for column in zip(*rows, strict=True))],
        )

    def epochless(self) -> bool:
        """Whether there are rows of a version that had no epochs; asks for no key."""
        some = f"SELECT FROM {self._prefix}references WHERE epoch = 0 LIMIT 1".encode()
        with self._persons.connected() as connection:
            return connection.execute(some).rowcount > 0

    def adopt(self) -> None:
        """Move the rows of a version that had no epochs, if these keys are the vault's."""
        with self._persons.connected() as connection:
            self._persons.prove_keys(connection)
        after: Place | None = TABLES[0].start
        while after is not None:
            after = self.retrace(TABLES[0], after)


def _lock_of(texts: Sequence[str]) -> int:
    """One of the locks: alike for everybody, and next to nothing of the texts."""
    return int.from_bytes(sha256("\0".join(texts).encode()).digest()[:2], "big") % LOCKS
