"""How the schema comes to be, and as whom one connects."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest

from ledger.database import (
    READER_ROLE,
    SERVICE_ROLE,
    VAULT_ROLE,
    Database,
    MigrationError,
    migrate,
    reading,
)
from ledger.embedded import Embedded
from ledger.errors import Unavailable
from ledger.handle import Desk
from tests import given
from tests.conftest import Clock, Run, new_ledger

OURS = files("ledger") / "sql"
MIGRATIONS = [
    "0001_ledger.sql",
    "0002_append.sql",
    "0003_roles.sql",
    "0004_vault.sql",
    "0005_access.sql",
    "0006_append.sql",
    "0007_rights.sql",
    "0008_erasure.sql",
    "0009_access.sql",
    "0010_traces.sql",
    "0011_hold.sql",
    "0012_naming.sql",
    "0013_requests.sql",
    "0014_requests.sql",
]


def run_by(database: Database) -> list[tuple[str, str]]:
    """The recorded migrations: application and file."""
    with database.connect(role=None) as connection:
        found = connection.execute(
            database.fill("SELECT application, name FROM :schema.migrations ORDER BY 1, 2").encode()
        )
        return found.fetchall()


def exists(database: Database, table: str) -> bool:
    with database.connect(role=None) as connection:
        found = connection.execute("SELECT to_regclass(%s)", [f"{database.schema}.{table}"])
        return found.fetchone() != (None,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two migrations of our own making."""
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE :schema.:app_a (n int);")
    (tmp_path / "0002_b.sql").write_text("CREATE TABLE :schema.:app_b (n int);")
    (tmp_path / "README.md").write_text("no migration")
    return tmp_path


@pytest.fixture
def place(database: Database) -> Database:
    """An application of this test's own in a schema of its own."""
    return Database(database.conninfo, schema="elsewhere", application="test")


# --- migrations -----------------------------------------------------------------------------------


def test_the_template_has_all_migrations(database: Database) -> None:
    assert run_by(database) == [("chengxin", name) for name in MIGRATIONS]
    assert migrate(database, OURS) == []


def test_migrations_run_once_in_the_order_of_their_numbers(place: Database, folder: Path) -> None:
    assert migrate(place, folder) == ["0001_a.sql", "0002_b.sql"]
    (folder / "0003_c.sql").write_text("ALTER TABLE :schema.:app_b ADD m int; SELECT 1;")
    assert migrate(place, folder) == ["0003_c.sql"]
    assert migrate(place, folder) == []
    assert run_by(place) == [("test", f"000{n}_{c}.sql") for n, c in ((1, "a"), (2, "b"), (3, "c"))]


def test_a_migration_that_has_changed_is_refused(place: Database, folder: Path) -> None:
    migrate(place, folder)
    (folder / "0001_a.sql").write_text("CREATE TABLE :schema.:app_a (n bigint);")
    (folder / "0003_c.sql").write_text("CREATE TABLE :schema.:app_c (n int);")
    with pytest.raises(
        MigrationError, match=r"0001_a\.sql has changed since it was run in schema elsewhere"
    ):
        migrate(place, folder)
    assert not exists(place, "test_c")


def test_of_a_migration_that_fails_nothing_is_left(place: Database, folder: Path) -> None:
    (folder / "0002_b.sql").write_text("CREATE TABLE :schema.:app_b (n int); SELECT 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(place, folder)
    assert exists(place, "test_a")
    assert not exists(place, "test_b")
    (folder / "0002_b.sql").write_text("CREATE TABLE :schema.:app_b (n int);")
    assert migrate(place, folder) == ["0002_b.sql"]
    assert exists(place, "test_b")


def test_many_processes_migrate_at_once(place: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: migrate(place, OURS), range(8)))
    assert sorted(name for one in done for name in one) == MIGRATIONS
    assert run_by(place) == [("test", name) for name in MIGRATIONS]


def test_applications_and_schemas_have_their_own(database: Database) -> None:
    other = Database(database.conninfo, application="other")
    elsewhere = Database(database.conninfo, schema="elsewhere")
    for one in (other, elsewhere):
        assert migrate(one, OURS) == MIGRATIONS
    assert (
        run_by(database)
        == run_by(other)
        == [(application, name) for application in ("chengxin", "other") for name in MIGRATIONS]
    )
    assert run_by(elsewhere) == [("chengxin", name) for name in MIGRATIONS]
    assert {one.channel for one in (database, other, elsewhere)} == {
        "ledger.chengxin",
        "ledger.other",
        "elsewhere.chengxin",
    }


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a-b", 'a"b', "a;b", "a.b", "ä", "a" * 31, "a\n", "_a"]
)
def test_what_is_no_name_of_a_schema_or_application(name: str) -> None:
    assert Database("", schema="a" * 30, application="b_1").channel == f"{'a' * 30}.b_1"
    with pytest.raises(ValueError, match="is no name of a schema or application"):
        Database("", schema=name)
    with pytest.raises(ValueError, match="is no name of a schema or application"):
        Database("", application=name)


# --- connections ----------------------------------------------------------------------------------


def setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("role", [SERVICE_ROLE, READER_ROLE, VAULT_ROLE])
def test_one_connects_in_a_role(database: Database, role: str) -> None:
    with database.connect(role=role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        assert setting(connection, "lock_timeout") == "10s"
        assert connection.autocommit
    with database.connect(role=None) as connection:
        assert connection.execute("SELECT current_user = session_user").fetchone() == (True,)


def test_what_the_address_says_is_kept(database: Database) -> None:
    address = f"{database.conninfo} options='-c statement_timeout=7s' connect_timeout=3"
    with Database(address).connect(name="a name") as connection:
        assert setting(connection, "statement_timeout") == "7s"
        assert setting(connection, "lock_timeout") == "10s"
        assert setting(connection, "application_name") == "a name"
        assert connection.info.get_parameters()["connect_timeout"] == "3"


@pytest.mark.parametrize("role", [SERVICE_ROLE, None])
def test_no_connection_is_waited_for_for_ever(database: Database, role: str | None) -> None:
    with database.connect(role=role) as connection:
        assert connection.info.get_parameters()["connect_timeout"] == "5"


# --- a server of one's own: roles belong to all its databases -------------------------------------


def test_an_owner_who_is_no_superuser(own_server: Embedded, run: Run) -> None:
    """As on a hosted server: a role that may create roles, and a database of its own."""
    with psycopg.connect(own_server.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE ROLE tenant LOGIN CREATEROLE")
        connection.execute("CREATE DATABASE tenant OWNER tenant")
    database = Database(own_server.conninfo(user="tenant", dbname="tenant"))
    assert migrate(database, OURS) == MIGRATIONS
    with new_ledger(database, Clock()) as ledger:
        desk = Desk(ledger)
        assert run(desk.open_ledger(given.opening(), given.REGISTRAR)).position == 1
        assert run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR)).position == 2
        with database.connect(role=None) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'chengxin appender %'"
            ).fetchall()
        assert ended == [(True,)], "the appender may end its own lost sessions"
        assert run(desk.record(given.PROVIDER, given.inspection(), given.REGISTRAR)).position == 3
    refused = pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="immutable")
    with database.connect(role=None) as connection, refused:
        connection.execute("DELETE FROM ledger.chengxin_events")


def test_an_owner_who_may_not_take_on_the_roles_is_told_at_once(own_server: Embedded) -> None:
    with psycopg.connect(own_server.conninfo(), autocommit=True) as connection:
        for role in (SERVICE_ROLE, READER_ROLE, VAULT_ROLE, "tenant LOGIN"):
            connection.execute(f"CREATE ROLE {role}".encode())
        connection.execute("CREATE DATABASE tenant OWNER tenant")
        database = Database(own_server.conninfo(user="tenant", dbname="tenant"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=SERVICE_ROLE):
            migrate(database, OURS)
        connection.execute(f"GRANT {SERVICE_ROLE}, {READER_ROLE}, {VAULT_ROLE} TO tenant".encode())
    assert migrate(database, OURS) == MIGRATIONS[2:]
    database.connect().close()


def test_databases_of_one_server_are_migrated_at_once(own_server: Embedded) -> None:
    with psycopg.connect(own_server.conninfo(), autocommit=True) as connection:
        for n in range(6):
            connection.execute(f"CREATE DATABASE many_{n}".encode())
    databases = [Database(own_server.conninfo(dbname=f"many_{n}")) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda one: migrate(one, OURS), databases)) == [MIGRATIONS] * 6


# --- blocking reads ------------------------------------------------------------------------------


def test_a_read_gives_what_its_call_gives(run: Run) -> None:
    def read(number: int, *, times: int) -> int:
        if times == 0:
            raise psycopg.OperationalError("away")
        return number * times

    assert run(reading(read, 3, times=2)) == 6
    with pytest.raises(psycopg.OperationalError, match="away"):
        run(reading(read, 3, times=0))


def test_a_read_without_an_answer_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.database.READ_SECONDS", 0.1)
    answered = threading.Event()
    with pytest.raises(Unavailable):
        run(reading(answered.wait, 20))
    answered.set()
