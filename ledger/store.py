"""The ledger as the eventsourcing library knows it: application, mapper, recorder, reads.

With `recorder.py` this is the only module that knows the library. Stored bytes are our canonical
bytes under our stable type names, so that a cold process (and a stranger) can read them without
any Python path in the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson
from eventsourcing.application import Application
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    ApplicationRecorder,
    BaseInfrastructureFactory,
    InfrastructureFactory,
    InterfaceError,
    JSONTranscoder,
    Mapper,
    OperationalError,
    StoredEvent,
)
from eventsourcing.postgres import PostgresDatastore, PostgresFactory
from eventsourcing.utils import Environment, EnvType
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from ledger.appender import Appender
from ledger.database import Database
from ledger.entropy import Entropy
from ledger.envelope import Event, decode
from ledger.errors import Unavailable
from ledger.events import ProviderRegistered
from ledger.keyring import Keyring
from ledger.recorder import Recorder
from ledger.vault import Vault

POOL_SIZE = 8
STREAM_EVENTS = 250
WAIT_SECONDS = 5
STATEMENT_SECONDS = 8
"""No query of a read takes longer; one that sends the log (`stream`) takes as long as it takes."""
UNTIMED = b"SET LOCAL statement_timeout = 0"


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class Stored(NamedTuple):
    """One stored event: its position and its bytes."""

    position: int
    state: bytes


class Parsed(NamedTuple):
    """One stored event, parsed once for all who look at it: nobody changes the envelope."""

    position: int
    envelope: Mapping[str, Any]


class CanonicalMapper(Mapper[str]):
    """Our events to our bytes and back."""

    def __init__(self) -> None:
        super().__init__(transcoder=JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Canonical bytes; `time` must be set, since no appender stamps it on this way."""
        assert isinstance(domain_event, Event)
        state, _ = domain_event.encode()
        return StoredEvent(domain_event.stream, domain_event.version, domain_event.type, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Event:
        """The event of stored bytes. Raises UnknownEventType."""
        return decode(stored_event.state)


class Datastore(PostgresDatastore):
    """The library's connection pool, in our role and with our connection parameters."""

    def __init__(self, database: Database) -> None:
        given = conninfo_to_dict(database.service_conninfo())
        super().__init__(
            dbname=str(given.get("dbname") or ""),
            host=str(given.get("host") or ""),
            port=str(given.get("port") or ""),
            user=str(given.get("user") or ""),
            password=str(given.get("password") or ""),
            schema=database.schema,
            originator_id_type="text",
            pool_size=1,
            max_overflow=POOL_SIZE - 1,
            connect_timeout=WAIT_SECONDS,
            pre_ping=True,
        )
        # The pool would double its delay between attempts for five minutes: after 40 seconds
        # without a database it came back 19 seconds late. It begins anew with each request.
        self.pool.reconnect_timeout = WAIT_SECONDS
        assert isinstance(self.pool.kwargs, dict)
        # An answer that nobody waits for any more (`database.READ_SECONDS`) ends at the server too;
        # what the operator's own options say comes later and wins.
        options = f"-c statement_timeout={STATEMENT_SECONDS}s {given['options']}"
        self.pool.kwargs.update(given | {"options": options})

    @contextmanager
    def reading(self) -> Iterator[Cursor[tuple[Any, ...]]]:
        """A cursor for plain rows in binary. Raises psycopg.Error (a PoolTimeout is one)."""
        self.pool.open()
        with (
            self.pool.connection() as connection,
            connection.cursor(binary=True, row_factory=tuple_row) as cursor,
        ):
            yield cursor


class Factory(PostgresFactory):
    """Builds our recorder over our datastore."""

    def __init__(
        self, env: Environment, database: Database, datastore: Datastore, appender: Appender
    ) -> None:
        BaseInfrastructureFactory.__init__(self, env)
        self.datastore = datastore
        self._database = database
        self._appender = appender

    def application_recorder(self) -> ApplicationRecorder:
        """The recorder of this application's log."""
        return Recorder(
            self.datastore,
            events_table_name=f"{self._database.application}_events",
            appender=self._appender,
        )


class Ledger(Application[str]):
    """The log of one database: append through `appender`, read by position or by stream.

    Without a `keyring` everything can be read but sealed texts, and none can be sealed.
    """

    name = "chengxin"

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], datetime] = system_clock,
        random: Callable[[int], bytes] | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.random = random or Entropy()
        self.appender = Appender(database, clock=clock)
        self.datastore = Datastore(database)
        self.vault = Vault(database, keyring, clock=clock, random=self.random)
        try:
            super().__init__()
        except (OperationalError, InterfaceError) as error:
            # The library asks the database once; nobody will close what could not be made.
            self.appender.close()
            self.datastore.close()
            self.vault.close()
            raise Unavailable from error
        self._word_queries(f"{database.schema}.{database.application}_")

    def _word_queries(self, name: str) -> None:
        """The queries over the tables whose names begin so."""
        self._read = (
            f"SELECT notification_id, state FROM {name}events"
            " WHERE notification_id > %s ORDER BY notification_id LIMIT %s"
        ).encode()
        self._read_at = (
            f"SELECT notification_id, state FROM {name}events"
            " WHERE notification_id = ANY (%s) ORDER BY notification_id"
        ).encode()
        ids = b"SELECT event_id, state FROM %bevents WHERE event_id = ANY (%%s::uuid[])"
        self._read_ids = ids % name.encode()
        self._read_stream = (
            f"SELECT notification_id, state FROM {name}events WHERE originator_id = %s"
            " AND originator_version > %s ORDER BY originator_version"
        ).encode()
        self._read_stream_after = (
            f"SELECT notification_id, state FROM {name}events WHERE originator_id = %s"
            " AND notification_id > %s ORDER BY originator_version LIMIT %s"
        ).encode()
        self._read_streams = (
            f"SELECT notification_id, state FROM {name}events WHERE originator_id = ANY (%s)"
            " AND originator_version <= %s ORDER BY originator_id, originator_version"
        ).encode()
        self._read_types_after = (
            f"SELECT notification_id, state FROM {name}events WHERE originator_id = ANY (%s)"
            " AND notification_id > %s AND topic = ANY (%s) ORDER BY notification_id"
        ).encode()
        self._read_head = f"SELECT position FROM {name}head".encode()
        self._read_key = (
            f"SELECT digest, first_position FROM {name}keys"
            " WHERE issuer = %s AND subject = %s AND key = %s"
        ).encode()
        self._read_keys = (
            f"SELECT subject, key, digest, first_position FROM {name}keys"
            " JOIN unnest(%s::text[], %s::text[]) AS asked (subject, key) USING (subject, key)"
            " WHERE issuer = %s"
        ).encode()
        self._read_registered = (
            f"SELECT state FROM {name}events WHERE originator_version = 1"
            f" AND topic = '{ProviderRegistered.type}'"
        ).encode()

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Our factory, whatever the process's environment says."""
        return Factory(env, self.database, self.datastore, self.appender)

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """An empty environment: nothing of the library is configured from outside."""
        return Environment(name, dict(env or {}))

    def construct_mapper(self) -> Mapper[str]:
        """The canonical mapper."""
        return CanonicalMapper()

    def rows(
        self,
        query: bytes,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        seconds: int | None = None,
    ) -> list[tuple[Any, ...]]:
        """The rows of a read-only query over the pool. Raises psycopg.Error.

        Where it takes longer than `seconds`, that is psycopg.errors.QueryCanceled.
        """
        with self.datastore.reading() as cursor:
            if seconds is not None:
                with cursor.connection.transaction():
                    cursor.execute(b"SET LOCAL statement_timeout = '%ds'" % seconds)
                    return cursor.execute(query, parameters, prepare=True).fetchall()
            return cursor.execute(query, parameters, prepare=True).fetchall()

    def read(self, after: int, limit: int) -> list[Stored]:
        """Up to `limit` events with a position greater than `after`, in order."""
        return [Stored(*row) for row in self.rows(self._read, [after, limit])]

    def stream(self, after: int, limit: int) -> Generator[Stored]:
        """What `read` gives, a part at a time while the server sends on; to be closed when left.

        Holds a connection of the pool until then. Raises psycopg.Error.
        """
        with self.datastore.reading() as cursor, cursor.connection.transaction():
            cursor.execute(UNTIMED)
            for row in cursor.stream(self._read, [after, limit], binary=True, size=STREAM_EVENTS):
                yield Stored._make(row)

    def read_at(self, positions: Sequence[int]) -> list[Stored]:
        """The events at these positions, in order."""
        return [Stored(*row) for row in self.rows(self._read_at, [list(positions)])]

    def read_ids(self, ids: Collection[str]) -> dict[str, bytes]:
        """The stored bytes of the events with these ids, by id."""
        return {str(id): state for id, state in self.rows(self._read_ids, [list(ids)])}

    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        """A stream's events beyond a version, in order."""
        return [Stored(*row) for row in self.rows(self._read_stream, [stream, after_version])]

    def read_stream_after(self, stream: str, after: int, limit: int) -> list[Stored]:
        """Up to `limit` events of a stream with a position greater than `after`, in order."""
        return [Stored(*row) for row in self.rows(self._read_stream_after, [stream, after, limit])]

    def read_types_after(
        self, streams: Collection[str], after: int, types: Collection[str]
    ) -> list[Stored]:
        """The events of some types in some streams with a position greater than `after`."""
        rows = self.rows(self._read_types_after, [list(streams), after, list(types)])
        return [Stored(*row) for row in rows]

    def read_streams(self, streams: Sequence[str], *, up_to_version: int) -> list[Stored]:
        """The first events of many streams in one query; each stream's are in order."""
        return [
            Stored(*row) for row in self.rows(self._read_streams, [list(streams), up_to_version])
        ]

    def registered(self) -> Generator[tuple[str, str]]:
        """Identifier and name of every provider, while the server sends on; to be closed when left.

        Holds a connection of the pool until then. Raises psycopg.Error.
        """
        with self.datastore.reading() as cursor, cursor.connection.transaction():
            cursor.execute(UNTIMED)
            for (state,) in cursor.stream(self._read_registered, binary=True, size=STREAM_EVENTS):
                envelope = orjson.loads(state)
                yield envelope["subject"], envelope["data"]["name"]

    def head(self) -> int:
        """The last position; 0 for an empty log."""
        return int(self.rows(self._read_head)[0][0])

    def pool(self) -> dict[str, int]:
        """What the pool says of itself: `pool_size`, `pool_available`, `requests_waiting` …"""
        return self.datastore.pool.get_stats()

    def find_key(self, issuer: str, subject: str, key: str) -> tuple[bytes, int] | None:
        """The request digest and first position recorded under an idempotency key."""
        rows = self.rows(self._read_key, [issuer, subject, key])
        return (rows[0][0], rows[0][1]) if rows else None

    def find_keys(
        self, issuer: str, asked: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[bytes, int]]:
        """Those of many (subject, key) that are recorded, with request digest and position."""
        subjects, keys = [one[0] for one in asked], [one[1] for one in asked]
        rows = self.rows(self._read_keys, [subjects, keys, issuer])
        return {(subject, key): (digest, at) for subject, key, digest, at in rows}

    def close(self) -> None:
        """Finish what is queued; close every connection."""
        self.appender.close()
        self.vault.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
