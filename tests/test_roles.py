"""What each database role may do, tried for real: object by object, verb by verb, one matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from api.storage import migrate_all
from ledger.database import READER_ROLE, SERVICE_ROLE, Database

VAULT_ROLE = "chengxin_vault"
KEYMAKER_ROLE = "chengxin_keymaker"
ROLES = (SERVICE_ROLE, READER_ROLE, VAULT_ROLE, KEYMAKER_ROLE)
SCHEMAS = ("ledger", "ledger_vault", "scores_1", "disclosure_1", "intake", "apikeys")

# Table: what may be done. `select` is the whole row, `update` or `update(columns)`.
MOVED = {"update(box)", "update(digest)", "update(epoch)"}
"""What a rotation changes of what is found again."""
TABLES: dict[str, dict[str, set[str]]] = {
    SERVICE_ROLE: {
        "ledger.chengxin_events": {"select"},
        "ledger.chengxin_head": {"select"},
        "ledger.chengxin_keys": {"select"},
        "scores_1.progress": {
            *("select", "update(position)", "update(settled)", "update(day)", "update(error)")
        },
        "scores_1.facts": {"select", "insert"},
        "scores_1.scores": {"select", "insert", "update"},
        "disclosure_1.progress": {
            *("select", "update(position)", "update(settled)", "update(error)")
        },
        "disclosure_1.items": {
            *("select", "insert", "update(suspended)", "update(fulfilled)", "update(repaired)"),
            *("update(overturned)", "update(removed)", "update(ended)"),
        },
        "disclosure_1.proposals": {"select", "insert", "update(decided)"},
        "disclosure_1.looks": {"select", "insert"},
        "intake.recipes": {"select", "insert"},
        "intake.rows": {
            *("select", "insert", "update(state)", "update(problems)", "update(corrections)"),
            *("update(positions)", "update(recipe)", "update(box)"),
        },
        "intake.steps": {"select", "insert"},
        "apikeys.keys": {"select", "update(last_used)"},
    },
    READER_ROLE: {
        "ledger.chengxin_events": {"select"},
        "ledger.chengxin_head": {"select"},
        "scores_1.progress": {"select"},
        "scores_1.facts": {"select"},
        "scores_1.scores": {"select"},
        "disclosure_1.progress": {"select"},
        "disclosure_1.items": {"select"},
        "disclosure_1.proposals": {"select"},
        "disclosure_1.looks": {"select"},
    },
    VAULT_ROLE: {
        "ledger_vault.chengxin_persons": {
            *("select", "insert", "update(epoch)", "update(wrapped)")
        },
        "ledger_vault.chengxin_sealed": {"select"},
        "ledger_vault.chengxin_references": {"select", "insert", "update(person)", *MOVED},
        "ledger_vault.chengxin_marks": {"select", "insert", *MOVED},
        "ledger_vault.chengxin_marked": {"select", "update(position)"},
    },
    KEYMAKER_ROLE: {"apikeys.keys": {"select", "insert", "update(revoked_at)"}},
}
FUNCTIONS: dict[str, set[str]] = {
    SERVICE_ROLE: {"ledger.chengxin_append", "ledger.chengxin_outcome"},
    READER_ROLE: set(),
    VAULT_ROLE: {
        "ledger_vault.chengxin_forget",
        "ledger_vault.chengxin_is_held",
        "ledger_vault.chengxin_may_name",
    },
    KEYMAKER_ROLE: set(),
}
SEQUENCES: dict[str, set[str]] = {role: set() for role in ROLES}


@pytest.fixture(scope="module")
def migrated(databases: Callable[[], Database]) -> Database:
    database = databases()
    migrate_all(database)
    return database


def column(database: Database, query: str) -> list[str]:
    with database.connect(role=None) as connection:
        return [one for (one,) in connection.execute(query.encode(), [list(SCHEMAS)]).fetchall()]


def tables(database: Database) -> list[str]:
    return column(
        database,
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class"
        " WHERE relnamespace::regnamespace::text = ANY (%s) AND relkind IN ('r', 'p', 'v', 'm')",
    )


def columns(database: Database, table: str) -> list[str]:
    with database.connect(role=None) as connection:
        found = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND NOT attisdropped",
            [table],
        )
        return [name for (name,) in found.fetchall()]


def may(connection: psycopg.Connection, statement: str) -> bool:
    """Whether the rights allow a statement, which is tried and taken back.

    What else it fails of (a constraint, a trigger) comes after the rights were judged.
    """
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error as error:
        if (error.sqlstate or "42").startswith("42"):
            raise  # the statement is wrong, and says nothing of rights
    return True


def rights_on(connection: psycopg.Connection, table: str, names: list[str]) -> Iterator[str]:
    if may(connection, f"SELECT * FROM {table} LIMIT 0"):
        yield "select"
    else:
        for name in names:
            if may(connection, f'SELECT "{name}" FROM {table} LIMIT 0'):
                yield f"select({name})"
    if may(connection, f"INSERT INTO {table} DEFAULT VALUES"):
        yield "insert"
    updated = [
        name
        for name in names
        if may(connection, f'UPDATE {table} SET "{name}" = DEFAULT WHERE false')
    ]
    if updated == names:
        yield "update"
    else:
        yield from (f"update({name})" for name in updated)
    if may(connection, f"DELETE FROM {table} WHERE false"):
        yield "delete"
    if may(connection, f"TRUNCATE {table} CASCADE"):
        yield "truncate"
    if may(connection, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE") and not updated:
        yield "lock"
    if may(connection, f"ALTER TABLE {table} ADD COLUMN of_mine int"):
        yield "alter"


@pytest.mark.parametrize("role", ROLES)
def test_every_table_by_every_verb(migrated: Database, role: str) -> None:
    found = {}
    all_tables = tables(migrated)
    assert len(all_tables) > 12
    with migrated.connect(role=role) as connection:
        for table in all_tables:
            rights = set(rights_on(connection, table, columns(migrated, table)))
            if rights:
                found[table] = rights
    assert found == TABLES[role]


@pytest.mark.parametrize("role", ROLES)
def test_every_function(migrated: Database, role: str) -> None:
    calls = column(
        migrated,
        "SELECT pronamespace::regnamespace || '.' || proname || ' (' ||"
        " array_to_string(ARRAY(SELECT 'NULL::' || t::regtype FROM unnest(proargtypes) t), ', ')"
        " || ')' FROM pg_proc WHERE pronamespace::regnamespace::text = ANY (%s)",
    )
    assert len(calls) >= 5
    with migrated.connect(role=role) as connection:
        allowed = {one.partition(" ")[0] for one in calls if may(connection, f"SELECT {one}")}
    assert allowed == FUNCTIONS[role]


@pytest.mark.parametrize("role", ROLES)
def test_every_sequence(migrated: Database, role: str) -> None:
    sequences = column(
        migrated,
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class"
        " WHERE relnamespace::regnamespace::text = ANY (%s) AND relkind = 'S'",
    )
    assert sequences
    with migrated.connect(role=role) as connection:
        allowed = {
            one
            for one in sequences
            for verb in (f"nextval('{one}')", f"setval('{one}', 1)", f"last_value FROM {one}")
            if may(connection, f"SELECT {verb}")
        }
    assert allowed == SEQUENCES[role]


@pytest.mark.parametrize("role", ROLES)
def test_nothing_of_the_server_is_open_to_a_role(migrated: Database, role: str) -> None:
    with migrated.connect(role=role) as connection:
        for statement in (
            *(f"CREATE TABLE {schema}.mine (n int)" for schema in (*SCHEMAS, "public")),
            *(f"CREATE FUNCTION {schema}.mine() RETURNS int RETURN 1" for schema in SCHEMAS),
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            f"ALTER ROLE {role} SUPERUSER",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "COPY (SELECT 1) TO '/tmp/mine'",
            "SELECT pg_read_file('/etc/hostname')",
            "SELECT pg_ls_dir('/')",
            "SELECT lo_import('/etc/hostname')",
            "SELECT rolpassword FROM pg_authid",
            "SET log_statement = 'none'",
            "SET session_replication_role = replica",
            "ALTER TABLE ledger.chengxin_events DISABLE TRIGGER immutable",
        ):
            assert not may(connection, statement), statement


def test_no_role_is_another_and_none_can_log_in(migrated: Database) -> None:
    with migrated.connect(role=None) as connection:
        for one in ROLES:
            found = connection.execute(
                "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls,"
                " rolreplication FROM pg_roles WHERE rolname = %s",
                [one],
            ).fetchone()
            assert found == (False,) * 6, one
            for other in ROLES:
                member = connection.execute(
                    "SELECT pg_has_role(%s, %s, 'MEMBER')", [one, other]
                ).fetchone()
                assert member == (one == other,)


def test_no_schema_and_no_table_is_open_to_everybody(migrated: Database) -> None:
    with migrated.connect(role=None) as connection:
        for query in (
            "SELECT relname FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = 0"
            " AND relnamespace::regnamespace::text = ANY (%s)",
            "SELECT nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = 0"
            " AND nspname = ANY (%s)",
            "SELECT proname FROM pg_proc p,"
            " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
            " WHERE a.grantee = 0 AND pronamespace::regnamespace::text = ANY (%s)",
        ):
            assert connection.execute(query, [list(SCHEMAS)]).fetchall() == []


def test_the_trial_can_fail(migrated: Database) -> None:
    """A right that nobody declared is found."""
    with migrated.connect(role=None) as owner, migrated.connect(role=READER_ROLE) as reader:
        names = columns(migrated, "ledger.chengxin_keys")
        assert set(rights_on(reader, "ledger.chengxin_keys", names)) == set()
        owner.execute(
            "GRANT SELECT (issuer), UPDATE (digest) ON ledger.chengxin_keys TO chengxin_reader"
        )
        try:
            found = set(rights_on(reader, "ledger.chengxin_keys", names))
        finally:
            owner.execute("REVOKE ALL ON ledger.chengxin_keys FROM chengxin_reader")
        assert found == {"select(issuer)", "update(digest)"}
