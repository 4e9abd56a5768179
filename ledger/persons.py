"""The keys of persons: made ahead, fetched, wrapped anew, and never more than the vault may hold.

A key is made before it is needed, in a stock, so that sealing costs no commit of its own: of a
process that ends, some keys are left that nobody uses. The keyring (`ledger/keyring.py`) wraps
them: what the database holds opens nothing. The steps of a rotation may all be
repeated (`ledger/rotation.py`). Blocking; the one
user is `ledger/vault.py`. The tables are in `ledger/sql/0004_vault.sql`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from ledger.calendar import local_day
from ledger.database import VAULT_ROLE, Database
from ledger.errors import Unavailable
from ledger.keyring import Keyring
from ledger.sealing import KEY_BYTES, PersonKey
from ledger.vault_errors import PersonErased, SealingOff, VaultKeyMissing

POOL_SIZE = 3
WAIT_SECONDS = 5
FIRST_STOCK = 32
MAX_STOCK = 1024
MAX_KEYS = 10_000
REWRAP_PERSONS = 500
NOBODY = "00000000-0000-0000-0000-000000000000"

Connection = psycopg.Connection[TupleRow]


class Hand(NamedTuple):
    """Keys of persons, and new persons with theirs, which nobody else gets."""

    keys: dict[str, PersonKey]
    new: list[tuple[str, PersonKey]]


class Persons:
    """The table of keys, over a keyring; None: none can be made or read."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring | None,
        *,
        clock: Callable[[], datetime],
        random: Callable[[int], bytes],
    ) -> None:
        self._keyring, self._clock, self._random = keyring, clock, random
        self.prefix = f"{database.schema}_vault.{database.application}_"
        self._lock = f"SELECT %s(hashtextextended('{self.prefix}epochs', 0))"
        self._pool = ConnectionPool(
            database.service_conninfo(VAULT_ROLE),
            min_size=0,
            max_size=POOL_SIZE,
            open=False,
            timeout=WAIT_SECONDS,
            reconnect_timeout=WAIT_SECONDS,
            kwargs={"application_name": "chengxin vault", "autocommit": True},
            check=ConnectionPool.check_connection,
        )
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._stocking: Future[None] | None = None
        self._stock: deque[tuple[str, PersonKey]] = deque()
        self._stock_size = FIRST_STOCK // 2
        self._guard = threading.Lock()
        self._keys: OrderedDict[str, PersonKey] = OrderedDict()
        self._dropped: OrderedDict[str, None] = OrderedDict()
        self._proven = False
        self.key_of: Callable[[str], bytes] | None = None
        """The key of a new person; None: drawn. For a ledger that is the same for a seed."""

    @property
    def keyring(self) -> Keyring:
        """The keyring. Raises SealingOff where there is none."""
        if self._keyring is None:
            raise SealingOff
        return self._keyring

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection in the vault's role. Raises Unavailable."""
        try:
            self._pool.open()
            with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error

    def close(self) -> None:
        """Finish what is under way and close every connection."""
        self._worker.shutdown()
        self._pool.close()

    # --- at hand ---------------------------------------------------------------------------------

    def take(self, named: Collection[str] = (), drawn: int = 0) -> Hand | None:
        """The keys of these persons, and so many new persons; None where not all are at hand."""
        with self._guard:
            if len(self._stock) < drawn or not all(map(self._keys.__contains__, named)):
                return None
            keys = {one: self._keys[one] for one in named}
            return Hand(keys, [self._stock.popleft() for _ in range(drawn)])

    def make_ready(self, named: Collection[str] = (), drawn: int = 0) -> None:
        """See that they are at hand, unless somebody else takes them first.

        Raises SealingOff, PersonErased, VaultKeyMissing or Unavailable.
        """
        while len(self._stock) < drawn:
            self._stock_up()
        missing = [person for person in named if person not in self._keys]
        if missing:
            self._fetch(missing)

    def new(self, count: int) -> list[tuple[str, PersonKey]]:
        """So many new persons with their keys. Raises SealingOff, VaultKeyMissing, Unavailable."""
        while (hand := self.take(drawn=count)) is None:
            self.make_ready(drawn=count)
        return hand.new

    def living(self, persons: Collection[str]) -> dict[str, PersonKey]:
        """The keys of those of these persons who have one; nothing is made and nothing remembered.

        Raises SealingOff, VaultKeyMissing or Unavailable.
        """
        if not persons:
            return {}
        keyring = self.keyring
        find = (
            f"SELECT person, epoch, wrapped FROM {self.prefix}persons"
            " WHERE person = ANY (%s::uuid[]) AND wrapped IS NOT NULL"
        ).encode()
        with self.connected() as connection:
            rows = connection.execute(find, [list(persons)]).fetchall()
        return {
            str(person): PersonKey(keyring.unwrap(str(person), epoch, wrapped))
            for person, epoch, wrapped in rows
        }

    def put_back(self, person: str, key: PersonKey) -> None:
        """Give back what was drawn and came to stand for nobody."""
        self._stock.append((person, key))

    def drop(self, person: str) -> None:
        """Forget what this process remembers of a person, and remember nothing of it again.

        The key may be in the hands of somebody who read it before it was deleted and is about to
        put it here. The latest ten thousand are told from others: a read takes moments.
        """
        with self._guard:
            self._keys.pop(person, None)
            self._dropped[person] = None
            while len(self._dropped) > MAX_KEYS:
                self._dropped.popitem(last=False)

    def let_go(self) -> None:
        """Drop the keys of epochs that another process destroyed; nothing without a keyring."""
        if self._keyring is not None:
            self._keyring.epochs()

    def stock_up_soon(self) -> None:
        """Have the stock filled before it is empty, by a thread of its own."""
        if 2 * len(self._stock) > self._stock_size:
            return
        if self._stocking is None or self._stocking.done():
            # What fails here is told to whoever finds the stock empty and tries again.
            self._stocking = self._worker.submit(self._stock_up)

    def _stock_up(self) -> None:
        self._stock_size = min(2 * self._stock_size, MAX_STOCK)
        drawn = self._random(16 * self._stock_size)
        persons = [
            str(UUID(bytes=drawn[at : at + 16], version=4)) for at in range(0, len(drawn), 16)
        ]
        with self.connected() as connection:
            made = self._make(connection, persons)
        self._stock.extend((person, PersonKey(key)) for person, key in made)

    def _fetch(self, persons: Sequence[str]) -> None:
        """Remember the keys of persons; made for those who have none. Raises PersonErased."""
        find = (
            f"SELECT person, epoch, wrapped FROM {self.prefix}persons"
            " WHERE person = ANY (%s::uuid[])"
        ).encode()
        with self.connected() as connection:
            rows = connection.execute(find, [persons]).fetchall()
            new = set(persons) - {str(row[0]) for row in rows}
            if new:
                # Of two processes at once the second finds what the first has made.
                self._make(connection, sorted(new))
                rows = connection.execute(find, [persons]).fetchall()
        for person, epoch, wrapped in rows:
            if wrapped is None:
                raise PersonErased(person=person)
            key = PersonKey(self.keyring.unwrap(str(person), epoch, wrapped))
            with self._guard:
                if str(person) in self._dropped:
                    raise PersonErased(person=person)
                self._keys[str(person)] = key
                while len(self._keys) > MAX_KEYS + len(persons):
                    self._keys.popitem(last=False)

    def _make(self, connection: Connection, persons: Sequence[str]) -> list[tuple[str, bytes]]:
        """New keys in the database; whoever has a row there already keeps it as it is."""
        keyring = self.keyring
        if not self._proven:
            self._prove(connection)
        made = list(zip(persons, self._new_keys(persons), strict=True))
        with connection.transaction():
            self.share(connection)
            epoch, wrapped = keyring.wrap(made)
            connection.execute(
                f"INSERT INTO {self.prefix}persons (person, epoch, wrapped)"
                " SELECT person, %s, wrapped FROM unnest(%s::uuid[], %s::bytea[])"
                " AS n (person, wrapped) ON CONFLICT (person) DO NOTHING".encode(),
                [epoch, persons, wrapped],
            )
        return made

    def _new_keys(self, persons: Sequence[str]) -> list[bytes]:
        if self.key_of is not None:
            return [self.key_of(one) for one in persons]
        drawn = self._random(KEY_BYTES * len(persons))
        return [drawn[at : at + KEY_BYTES] for at in range(0, len(drawn), KEY_BYTES)]

    def _prove(self, connection: Connection) -> None:
        """See that this keyring is the one of this vault; the first epoch of a new one is begun.

        Raises VaultKeyMissing.
        """
        self.prove_keys(connection)
        found = connection.execute(
            f"SELECT FROM {self.prefix}references WHERE epoch = 0 LIMIT 1".encode()
        )
        if found.rowcount:
            raise VaultKeyMissing(epoch=0)
        if not self.keyring.epochs():
            self.keyring.begin(0, local_day(self._clock()))
        self._proven = True

    def prove_keys(self, connection: Connection) -> None:
        """See that some key of this vault opens with this keyring.

        Otherwise a vault restored without its keys would go on with others, and nobody would
        notice until it had to be read. Raises VaultKeyMissing.
        """
        row = connection.execute(
            f"SELECT person, epoch, wrapped FROM {self.prefix}persons WHERE epoch IS NOT NULL"
            " ORDER BY person LIMIT 1".encode()
        ).fetchone()
        if row is not None:
            self.keyring.unwrap(str(row[0]), row[1], row[2])

    # --- rotation --------------------------------------------------------------------------------

    def wrapped(self) -> dict[int, int]:
        """How many persons' keys are wrapped under each epoch. Raises Unavailable."""
        with self.connected() as connection:
            rows = connection.execute(
                f"SELECT epoch, count(*) FROM {self.prefix}persons"
                " WHERE epoch IS NOT NULL GROUP BY epoch".encode()
            ).fetchall()
        return dict(rows)

    def rewrap(self, *, after: str = NOBODY) -> str | None:
        """Wrap up to 500 keys of older epochs, beyond a person, under the newest; the last person.

        None when there were none left. Whoever is erased meanwhile stays erased. Raises
        SealingOff, VaultKeyMissing or Unavailable.
        """
        keyring = self.keyring
        with self.connected() as connection, connection.transaction():
            self.share(connection)
            rows = connection.execute(
                f"SELECT person, epoch, wrapped FROM {self.prefix}persons"
                " WHERE person > %s AND epoch < %s ORDER BY person LIMIT %s".encode(),
                [after, keyring.epochs()[-1].number, REWRAP_PERSONS],
            ).fetchall()
            if not rows:
                return None
            secrets = [(str(p), keyring.unwrap(str(p), epoch, old)) for p, epoch, old in rows]
            epoch, wrapped = keyring.wrap(secrets)
            connection.execute(
                f"UPDATE {self.prefix}persons AS p SET epoch = %s, wrapped = n.wrapped"
                " FROM unnest(%s::uuid[], %s::bytea[]) AS n (person, wrapped)"
                " WHERE p.person = n.person AND p.epoch < %s".encode(),
                [epoch, [row[0] for row in rows], wrapped, epoch],
            )
            return str(rows[-1][0])

    def retire(self, epoch: int) -> bool:
        """Note that nothing is of an older epoch any more; whether that is so.

        Raises SealingOff or Unavailable.
        """
        return self._if_empty(epoch, self.keyring.retire)

    def destroy(self, epoch: int) -> bool:
        """Destroy the key of a retired epoch; whether nothing was of it.

        Raises SealingOff or Unavailable.
        """
        return self._if_empty(epoch, self.keyring.destroy)

    def _if_empty(self, epoch: int, act: Callable[[int, date], None]) -> bool:
        with self.connected() as connection, connection.transaction():
            # Whoever wraps reads the newest epoch under the same lock: none is wrapped meanwhile.
            connection.execute((self._lock % "pg_advisory_xact_lock").encode())
            for table in ("persons", "references", "marks"):
                left = f"SELECT FROM {self.prefix}{table} WHERE epoch = %s LIMIT 1".encode()
                if connection.execute(left, [epoch]).rowcount:
                    return False
            act(epoch, local_day(self._clock()))
            return True

    def share(self, connection: Connection) -> None:
        """Until this transaction ends, no epoch's key is destroyed."""
        connection.execute((self._lock % "pg_advisory_xact_lock_shared").encode())
