"""What every test may ask for: one real PostgreSQL for the whole run, a fresh ledger for each test.

The server is the embedded one of the product. All workers of a run are its owners; the process
that started the run made its folder and removes it. A test's database is a copy of a template that
is migrated once a run. The clock and the randomness of a test's ledger are its own.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Generator, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.apikeys.store import migrate_apikeys
from api.storage import migrate_quarantine
from ledger.appender import Key
from ledger.database import Database, migrate
from ledger.embedded import Embedded
from ledger.events import Data
from ledger.handle import Desk, Receipt
from ledger.identity import Actor
from ledger.keyring import FileKeyring
from ledger.store import Ledger
from tests import given

T = TypeVar("T")

# The same examples in every run: what is red tomorrow was red today. `explore` looks further.
settings.register_profile(
    "ledger", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ledger"))

TEMPLATE = "template_ledger"
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
FOLDER = pytest.StashKey[Path]()
LOG_TAIL_LINES = 60


class Clock:
    """A clock that stands still until a test moves it. Starts well before the real now."""

    def __init__(self, now: datetime = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **time: float) -> None:
        """Move on (or, with negative numbers, back) by a timedelta's arguments."""
        self.now += timedelta(**time)

    def set(self, *at: int) -> None:
        """Move to a moment in UTC: year, month, day and what else datetime takes."""
        self.now = datetime(*at, tzinfo=UTC)  # type: ignore[arg-type,misc]


class Run(Protocol):
    """Runs a coroutine to its end on the test's one event loop."""

    def __call__(self, coro: Coroutine[Any, Any, T]) -> T: ...


class Record(Protocol):
    """Records one command on a provider's stream; see `record`."""

    def __call__(
        self,
        command: Data,
        actor: Actor = ...,
        *,
        provider: str = ...,
        key: Key | None = ...,
    ) -> Receipt: ...


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's folder, or learn of it from the process that made it."""
    given_folder = getattr(config, "workerinput", {}).get("folder")
    if given_folder is None:
        folder = Path(tempfile.mkdtemp(prefix="chengxin-test-", dir="/tmp")).resolve()
        folder.chmod(0o755)  # the server's user must get through it when the tests run as root
    else:
        folder = Path(given_folder)
    config.stash[FOLDER] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker of pytest-xdist the run's folder."""
    node.workerinput["folder"] = str(node.config.stash[FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's folder; the workers have ended and with them the server."""
    if not hasattr(config, "workerinput") and FOLDER in config.stash:
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server wrote during a test that failed."""
    report = yield
    log = item.config.stash[FOLDER] / "server" / "server.log"
    if report.failed and call.start and log.exists():
        since = datetime.fromtimestamp(call.start, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        # Lines of one message but the first begin with a tab; they stay with it.
        first = next((n for n, line in enumerate(lines) if line[:19] >= since), len(lines))
        told = [line for line in lines[first:] if line.strip()][-LOG_TAIL_LINES:]
        if told:
            report.sections.append((f"PostgreSQL since {since}", "\n".join(told)))
    return report


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Embedded]:
    """The embedded PostgreSQL of this run, shared by all workers. Do not kill it: make another."""
    with Embedded(request.config.stash[FOLDER] / "server") as embedded:
        yield embedded


@pytest.fixture
def own_server() -> Iterator[Embedded]:
    """A server of one test alone, on which nothing was ever migrated, and which may be killed."""
    # Not tmp_path: the server's user must get through it when the tests run as root.
    top = Path(tempfile.mkdtemp(prefix="chengxin-own-", dir="/tmp")).resolve()
    top.chmod(0o755)
    try:
        with Embedded(top / "data") as server:
            yield server
    finally:
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server: Embedded) -> str:
    """The name of a database with the migrated schema, made by whichever worker comes first."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE])
        if found.fetchone() is None:
            making = f"{TEMPLATE}_in_the_making"
            connection.execute(f"DROP DATABASE IF EXISTS {making}".encode())
            connection.execute(f"CREATE DATABASE {making}".encode())
            migrate(Database(server.conninfo(dbname=making)), files("ledger") / "sql")
            migrate_quarantine(Database(server.conninfo(dbname=making)))
            migrate_apikeys(Database(server.conninfo(dbname=making)))
            connection.execute(f"ALTER DATABASE {making} RENAME TO {TEMPLATE}".encode())
    return TEMPLATE


@pytest.fixture(scope="session")
def databases(server: Embedded, template: str) -> Iterator[Callable[[], Database]]:
    """Makes fresh, migrated, empty databases, which end with the server unless dropped before."""
    made: list[sql.Identifier] = []
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        prefix = f"t{connection.info.backend_pid}"

        def make() -> Database:
            name = f"{prefix}_{len(made)}"
            made.append(sql.Identifier(name))
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made[-1], sql.Identifier(template))
            )
            return Database(server.conninfo(dbname=name))

        yield make


@pytest.fixture
def database(databases: Callable[[], Database]) -> Iterator[Database]:
    """A fresh, migrated, empty database of this test; dropped when the test is over."""
    fresh = databases()
    yield fresh
    drop(fresh)


def drop(database: Database) -> None:
    """Drop a test's database, whoever is still connected to it."""
    name = sql.Identifier(str(conninfo_to_dict(database.conninfo)["dbname"]))
    with psycopg.connect(make_conninfo(database.conninfo, dbname="postgres"), autocommit=True) as c:
        c.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def clock() -> Clock:
    """The clock of `ledger`; standing at 2026-03-02 09:30 in Shanghai until the test moves it."""
    return Clock()


SEEDS = itertools.count(1)


def new_ledger(
    database: Database, clock: Callable[[], datetime], keys: Path | None = None
) -> Ledger:
    """A ledger as one process has it, with randomness that is the same in every run.

    Each has a seed of its own: two processes never draw the same event ids. `keys`: the folder of
    its vault keys; without one all ledgers of this process share theirs.
    """
    return Ledger(
        database,
        clock=clock,
        random=random.Random(next(SEEDS)).randbytes,
        keyring=FileKeyring(keys or _shared_keys()),
    )


@cache
def _shared_keys() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="chengxin-keys-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder)
    return folder


@pytest.fixture
def ledger(database: Database, clock: Clock) -> Iterator[Ledger]:
    """A ledger on `database`, not opened."""
    with new_ledger(database, clock) as ledger:
        yield ledger


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs coroutines on one event loop, which lives as long as the test."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    """The desk of `ledger`."""
    return Desk(ledger)


@pytest.fixture
def opened(ledger: Ledger, desk: Desk, run: Run) -> Ledger:
    """`ledger`, opened as a demonstration with the shipped rulebook. Its event is position 1."""
    run(desk.open_ledger(given.opening(), given.REGISTRAR))
    return ledger


@pytest.fixture
def record(opened: Ledger, desk: Desk, run: Run) -> Record:
    """Records a command in the opened ledger: `record(given.penalty(severity="S3"))`."""

    def record_one(
        command: Data,
        actor: Actor = given.REGISTRAR,
        *,
        provider: str = given.PROVIDER,
        key: Key | None = None,
    ) -> Receipt:
        return run(desk.record(provider, command, actor, key=key))

    return record_one


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `../shared` with data and examples that are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"there is no folder {SHARED}; its data are not copied into the tree")
    return SHARED
