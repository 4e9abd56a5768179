"""The API keys there are: made and revoked by an operator, known to every server.

A server remembers what it has looked up for two seconds: so long a revoked key may still be good,
in any process. The look-up is by digest; what the time of it tells is nothing of the key.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from uuid import UUID

import psycopg

from api import unadmitted
from api.apikeys.secret import digest_of, is_whole
from api.security import Claims, Term
from ledger.calendar import local_day
from ledger.database import Database, migrate, reading
from ledger.identity import Actor
from ledger.store import Ledger
from projections.rights import Reader

SCHEMA = "apikeys"
KEYMAKER_ROLE = "chengxin_keymaker"
ISSUER = "api-key"
ROLE = "subscriber"
KNOWN_SECONDS = 2.0
MAX_KNOWN = 10_000
COLUMNS = "id, shown, digest, organisation, ref, scopes, made_at, expires_at, revoked_at, last_used"
FIND = f"SELECT {COLUMNS} FROM {SCHEMA}.keys WHERE digest = %s".encode()
ALL = f"SELECT {COLUMNS} FROM {SCHEMA}.keys ORDER BY made_at, id".encode()
USED = (
    f"UPDATE {SCHEMA}.keys SET last_used = %s"
    " WHERE id = %s AND (last_used IS NULL OR last_used < %s)"
).encode()
ADD = f"INSERT INTO {SCHEMA}.keys ({COLUMNS}) VALUES ({', '.join(['%s'] * 10)})".encode()
REVOKE = (
    f"UPDATE {SCHEMA}.keys SET revoked_at = coalesce(revoked_at, %s) WHERE shown = %s"
    f" RETURNING {COLUMNS}"
).encode()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is known: all but the key."""

    id: UUID
    shown: str
    digest: bytes
    organisation: str
    ref: str
    scopes: list[str]
    made_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used: date | None = None

    def claims(self) -> Claims:
        """What its bearer may do."""
        return Claims(
            issuer=ISSUER,
            actor=Actor(self.organisation, ROLE, self.ref),
            reader=Reader(ROLE, self.organisation),
            token_id=str(self.id),
            term=Term(int(self.made_at.timestamp()), int(self.expires_at.timestamp())),
            scopes=frozenset(self.scopes),
        )

    def check(self, now: datetime) -> None:
        """Raises ApiKeyRevoked or ApiKeyExpired."""
        if self.revoked_at is not None:
            raise unadmitted.ApiKeyRevoked(key=self.shown)
        if now >= self.expires_at:
            raise unadmitted.ApiKeyExpired(key=self.shown)


class ApiKeys:
    """Knows the bearer of a key, in one process on one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._now = monotonic
        self._known: OrderedDict[bytes, tuple[ApiKey | None, float]] = OrderedDict()

    async def verify(self, text: str) -> Claims:
        """The claims of a key's bearer. Raises a refusal of status 401, or Unavailable."""
        if not is_whole(text):
            raise unadmitted.ApiKeyMalformed
        digest = digest_of(text)
        key, until = self._known.get(digest, (None, 0.0))
        if self._now() >= until:
            key = await reading(self._look_up, digest)
            self._known[digest] = key, self._now() + KNOWN_SECONDS
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise unadmitted.ApiKeyUnknown
        key.check(self._clock())
        return key.claims()

    def _look_up(self, digest: bytes) -> ApiKey | None:
        now = self._clock()
        with self._ledger.datastore.reading() as cursor:
            row = cursor.execute(FIND, [digest]).fetchone()
            if row is None:
                return None
            key = ApiKey(*row)
            today = local_day(now)
            if key.revoked_at is None and (key.last_used is None or key.last_used < today):
                cursor.execute(USED, [today, key.id, today])
            return key


class Keymaker:
    """Makes, lists and revokes keys: what an operator does, in a role of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: ApiKey) -> None:
        """Make a key known. Raises psycopg.Error."""
        values = [getattr(key, name) for name in COLUMNS.split(", ")]
        with self._connection() as connection:
            connection.execute(ADD, values)

    def all(self) -> list[ApiKey]:
        """Every key there is or was, in the order in which they were made."""
        with self._connection() as connection:
            return [ApiKey(*row) for row in connection.execute(ALL).fetchall()]

    def revoke(self, shown: str, at: datetime) -> ApiKey | None:
        """Revoke the key that begins so; revoked again it stays as it was. None: no such key."""
        with self._connection() as connection:
            row = connection.execute(REVOKE, [at, shown]).fetchone()
        return None if row is None else ApiKey(*row)

    def _connection(self) -> psycopg.Connection:
        return self._database.connect(role=KEYMAKER_ROLE, name="chengxin apikey")


def migrate_apikeys(database: Database) -> None:
    """Create or upgrade the table of the keys."""
    place = Database(database.conninfo, schema=SCHEMA, application=SCHEMA)
    migrate(place, files("api.apikeys") / "sql")
