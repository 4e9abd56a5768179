"""Which database a process uses: the one that is configured, or the embedded server, kept alive.

An embedded server is started, migrated, looked after by one thread and given up in the end; a
configured one is used as it is, and migrated by nobody but `chengxin migrate`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files

import structlog

from api.apikeys.store import migrate_apikeys
from api.intake.quarantine import SCHEMA
from api.intake.sealing import are_unsealed, seal_rows
from api.options import keyring_of
from api.settings import Settings
from ledger.database import Database, migrate
from ledger.embedded import Embedded, EmbeddedError
from ledger.entropy import Entropy
from ledger.keyring import Keyring
from ledger.store import system_clock
from ledger.vault import Vault
from projections.runner import migrate_projections

SUPERVISE_SECONDS = 1.0
Keys = Callable[[], Keyring | None]

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
            migrate_all(database, lambda: keyring_of(settings))
        yield database


def migrate_all(database: Database, keyring: Keys = lambda: None) -> list[str]:
    """Bring all schemas up to date; the ledger's migrations that were run.

    `keyring` is asked for where rows of an earlier version wait in clear, or references without an
    epoch. Raises SealingOff where there is none then, VaultKeyMissing, Unavailable.
    """
    done = list(migrate(database, files("ledger") / "sql"))
    migrate_references(database, keyring)
    migrate_projections(database)
    migrate_quarantine(database, keyring)
    migrate_apikeys(database)
    return done


def migrate_references(database: Database, keyring: Keys = lambda: None) -> None:
    """Give references of a version that had no epochs the newest one; again it changes nothing."""
    with closing(Vault(database, None, clock=system_clock, random=Entropy())) as keyless:
        if not keyless.traces.epochless():
            return
    with closing(Vault(database, keyring(), clock=system_clock, random=Entropy())) as vault:
        vault.traces.adopt()


def migrate_quarantine(database: Database, keyring: Keys = lambda: None) -> None:
    """Create or upgrade the tables of the quarantine, which look into the vault's."""
    place = Database(database.conninfo, schema=SCHEMA, application=SCHEMA)
    vault = f"{database.schema}_vault.{database.application}_"
    migrate(place, files("api.intake") / "sql", vault=vault)
    if are_unsealed(database):
        with closing(
            Vault(database, keyring(), clock=system_clock, random=Entropy())
        ) as open_vault:
            seal_rows(database, open_vault.persons)


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
