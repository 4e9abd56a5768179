"""The PostgreSQL database: how to connect in a role, and how its schema comes to be.

Migrations are the numbered SQL files of a folder, run in order under an advisory lock, each in a
transaction of its own with its digest recorded; a changed file that was already run is refused.
`:schema` and `:app` stand for the schema and the application's name (several applications may
share one schema and do not mix). This module knows no table but its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources.abc import Traversable
from typing import ParamSpec, TypeVar

import psycopg
from anyio import to_thread
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.errors import Unavailable

SERVICE_ROLE = "chengxin_service"
READER_ROLE = "chengxin_reader"
VAULT_ROLE = "chengxin_vault"
CONNECT_SECONDS = 5
LOST_NETWORK = {
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
"""A network that vanished without a word is noticed within about ten seconds, not two hours."""
READ_SECONDS = 10
NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")

P = ParamSpec("P")
T = TypeVar("T")


class MigrationError(RuntimeError):
    """A migration cannot be run: what, where and why are in the message."""


@dataclass(frozen=True, slots=True)
class Database:
    """One application's place in one PostgreSQL database."""

    conninfo: str
    schema: str = "ledger"
    application: str = "chengxin"

    def __post_init__(self) -> None:
        for name in (self.schema, self.application):
            if NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is no name of a schema or application: {NAME.pattern}")

    @property
    def channel(self) -> str:
        """The NOTIFY channel: named by schema and application, so that nobody wakes in vain."""
        return f"{self.schema}.{self.application}"

    def service_conninfo(self, role: str = SERVICE_ROLE) -> str:
        """Connection parameters that take on `role` at once, with patient but finite waits."""
        given = conninfo_to_dict(self.conninfo)
        options = f"{given.get('options') or ''} -c role={role} -c lock_timeout=10s".strip()
        return make_conninfo(
            self.conninfo,
            **(LOST_NETWORK | {name: given[name] for name in LOST_NETWORK if name in given}),
            options=options,
            connect_timeout=given.get("connect_timeout") or CONNECT_SECONDS,
        )

    def connect(
        self, *, role: str | None = SERVICE_ROLE, name: str = "chengxin"
    ) -> psycopg.Connection:
        """A connection in autocommit, in the given role (None: as whoever logs in).

        `name` is what the server's list of sessions shows.
        """
        wait = conninfo_to_dict(self.conninfo).get("connect_timeout") or CONNECT_SECONDS
        info = self.conninfo if role is None else self.service_conninfo(role)
        return psycopg.connect(info, autocommit=True, connect_timeout=wait, application_name=name)

    def fill(self, text: str) -> str:
        """SQL text with `:schema` and `:app` replaced (both are checked names)."""
        return text.replace(":schema", self.schema).replace(":app", self.application)


async def reading(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a blocking read returns or raises; it runs in a thread, and no longer than 10 seconds.

    Then its caller gets Unavailable: the server may be there and yet not answer. The thread stays
    behind until it does. Such threads cannot become many: each holds one of the pool's eight
    connections, and who finds none left gives up after five seconds (PoolTimeout).
    """
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await to_thread.run_sync(partial(call, *args, **kwargs), abandon_on_cancel=True)
    except TimeoutError as error:
        raise Unavailable from error


def migrate(database: Database, folder: Traversable, *, vault: str = ":vault_") -> Sequence[str]:
    """Run the migrations of `folder` that have not run yet; their file names.

    `vault`: what the names of the vault's tables begin with, where a file says `:vault_`.

    Safe from any number of processes at once: an advisory lock lets one at a time through, and
    a crash leaves either the whole file done and recorded or nothing of it.
    """
    done: list[str] = []
    with database.connect(role=None) as connection:
        lock = f"chengxin migrate {database.schema}"
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [lock])
        connection.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(database.schema))
        )
        table = sql.Identifier(database.schema, "migrations")
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (application text, name text, sha256 text NOT NULL,"
                " run_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (application, name))"
            ).format(table)
        )
        known: dict[str, str] = dict(
            connection.execute(
                sql.SQL("SELECT name, sha256 FROM {} WHERE application = %s").format(table),
                [database.application],
            ).fetchall()
        )
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if not file.name.endswith(".sql"):
                continue
            text = file.read_text(encoding="utf-8")
            digest = hashlib.sha256(text.encode()).hexdigest()
            if file.name in known:
                if known[file.name] != digest:
                    raise MigrationError(
                        f"{file.name} has changed since it was run in schema {database.schema}: "
                        f"recorded sha256 {known[file.name]}, file {digest}"
                    )
                continue
            with connection.transaction():
                connection.execute(database.fill(text).replace(":vault_", vault).encode())
                connection.execute(
                    sql.SQL(
                        "INSERT INTO {} (application, name, sha256) VALUES (%s, %s, %s)"
                    ).format(table),
                    [database.application, file.name, digest],
                )
            done.append(file.name)
    return done
