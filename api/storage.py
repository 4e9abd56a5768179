"""Which database a process uses: the one that is configured, or the embedded server, kept alive.

An embedded server is started, migrated, looked after by one thread and given up in the end; a
configured one is used as it is, and migrated by nobody but `chengxin migrate`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import structlog

from api.apikeys.store import migrate_apikeys
from api.intake.quarantine import SCHEMA
from api.settings import Settings
from ledger.database import Database, migrate
from ledger.embedded import Embedded, EmbeddedError
from projections.runner import migrate_projections

SUPERVISE_SECONDS = 1.0

log = structlog.get_logger()


@contextmanager
def database_of(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """The database of this process. Raises EmbeddedError, MigrationError, psycopg.Error.

    With `migrated` False an embedded one too is left as it is found.
    """
    conninfo = settings.conninfo()
    if conninfo is not None:
        yield Database(conninfo)
        return
    with Embedded(settings.data_dir) as embedded, _supervised(embedded):
        database = Database(embedded.conninfo())
        if migrated:
            migrate_all(database)
        yield database


def migrate_all(database: Database) -> list[str]:
    """Bring all schemas up to date; the ledger's migrations that were run."""
    done = list(migrate(database, files("ledger") / "sql"))
    migrate_projections(database)
    migrate_quarantine(database)
    migrate_apikeys(database)
    return done


def migrate_quarantine(database: Database) -> None:
    """Create or upgrade the tables of the quarantine."""
    place = Database(database.conninfo, schema=SCHEMA, application=SCHEMA)
    migrate(place, files("api.intake") / "sql")


@contextmanager
def _supervised(embedded: Embedded) -> Iterator[None]:
    """See once a second that the server has its keeper."""
    over = threading.Event()

    def supervise() -> None:
        while not over.wait(SUPERVISE_SECONDS):
            try:
                embedded.ensure()
            except EmbeddedError as error:
                log.error("embedded server has no keeper", reason=str(error))

    thread = threading.Thread(target=supervise, name="supervisor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
