"""The backup and the restore of `docs/operations.md`, run as they stand there, with real tools.

A filled ledger is dumped while it serves, and restored into a new database of another server that
has none of its roles, by a login that is no superuser: as on a hosted server.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.demo.ledger import Plan, demonstrate
from ledger.database import SERVICE_ROLE, Database
from ledger.embedded import Embedded
from ledger.envelope import decode
from ledger.private import Remark
from ledger.sealing import PlainText
from ledger.store import Ledger
from ledger.vault_errors import VaultKeyMissing
from tests import given
from tests.conftest import Clock, Run, new_ledger
from tests.serving import Served, positioned, problem, serving, wait_until
from tests.test_metrics import hold

DOCUMENT = Path(__file__).parent.parent / "docs" / "operations.md"
PROVIDERS = 30
REMARK = "当事人当面签收，情绪激动"
LAST = date(2026, 2, 27)
"""Before the day of the tests' clock."""
SCHEMAS = ("ledger", "scores_1", "disclosure_1", "intake")


@dataclass(frozen=True)
class Seen:
    """All that a ledger says: its tables, row by row, and what it answers."""

    tables: dict[str, list[str]]
    scores: dict[str, Any]
    sheets: dict[str, Any]


@dataclass(frozen=True)
class Restored:
    """A ledger in its new place, what it was when it was dumped, and a write from before."""

    database: Database
    keys: Path
    before: Seen
    said: str
    path: str
    body: dict[str, Any]
    position: int


def block(number: int) -> str:
    """One of the shell blocks of the document: 0 backs up, 1 restores."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return str(blocks[number])


def shell(script: str, database: Database, keys: Path, backup: Path) -> str:
    """Run a block as an operator does; what it printed."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CHENGXIN_DATABASE_URL": database.conninfo,
        "CHENGXIN_KEY_DIR": str(keys),
        "BACKUP": str(backup),
        "LC_ALL": "C.UTF-8",
        "PSQLRC": str(backup.with_name("psqlrc")),
    }
    done = subprocess.run(
        ["sh", "-euc", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def tables_of(database: Database) -> dict[str, list[str]]:
    """Every row of every table, as PostgreSQL writes it."""
    with database.connect(role=None) as connection:
        names = connection.execute(
            "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname = ANY (%s)",
            [list(SCHEMAS)],
        ).fetchall()
        return {
            name: sorted(
                row for (row,) in connection.execute(f"SELECT t::text FROM {name} t".encode())
            )
            for (name,) in names
        }


def seen(served: Served) -> Seen:
    """What the ledger says now, of every provider."""
    served.follow()
    providers = [row[0] for row in served.ledger.rows(b"SELECT subject FROM scores_1.scores")]
    assert len(providers) == PROVIDERS + 1
    answers: dict[str, dict[str, Any]] = {"scores": {}, "sheets": {}}
    for one in providers:
        score = served.get(f"/v1/providers/{one}/score", "auditor")
        sheet = served.get(f"/v1/disclosure/providers/{one}")
        assert score.status_code == 200, score.text
        # Every look is recorded, and moves on what is known by then.
        moving = dict.fromkeys(("position", "known_at"))
        answers["scores"][one] = score.json() | moving
        answers["sheets"][one] = (sheet.status_code, sheet.json() | {"position": None})
        if sheet.status_code != 200:
            # Not in public; the request's own number is all that may differ.
            answers["sheets"][one][1].pop("request_id")
    # Whoever looks is recorded, and that is followed too.
    served.follow()
    return Seen(tables_of(served.ledger.database), **answers)


@pytest.fixture
def restored(
    databases: Callable[[], Database], own_server: Embedded, tmp_path: Path, run: Run
) -> Restored:
    source, backup = databases(), tmp_path / "backup"
    run(demonstrate(source, Plan(LAST, PROVIDERS)))
    path = f"/v1/providers/{given.PROVIDER}/penalties"
    remark = Remark(text=PlainText(REMARK))
    body = given.penalty(incident="INC-BEFORE", remark=remark).model_dump(mode="json")

    def with_its_keys(database: Database, clock: Callable[[], datetime]) -> Ledger:
        return new_ledger(database, clock, tmp_path / "keys")

    with serving(
        source, tmp_path / "keys", Clock(), new_ledger=with_its_keys, opened=False
    ) as served:
        served.provide()
        position = positioned(served.post(path, body, idempotency_key="before"))
        hold(source, 2)
        before = seen(served)
        # The key folder may be a link to one that is somewhere else, such as a mounted disk.
        linked = tmp_path / "linked"
        linked.symlink_to(tmp_path / "keys")
        shell(block(0), source, linked, backup)
        # What comes after the dump is not in it.
        assert served.penalise().status_code == 201
    with psycopg.connect(own_server.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE ROLE tenant LOGIN CREATEROLE")
        connection.execute("CREATE DATABASE tenant OWNER tenant")
    target = Database(own_server.conninfo(user="tenant", dbname="tenant"))
    keys = tmp_path / "restored-keys"
    # A volume is there before anything is in it; and an operator has habits of his own.
    keys.mkdir(mode=0o700)
    (tmp_path / "psqlrc").write_text("\\set AUTOCOMMIT off\n")
    said = shell(block(1), target, keys, backup)
    return Restored(target, keys, before, said, path, body, position)


def test_a_restored_ledger_says_what_it_said_and_goes_on(restored: Restored, run: Run) -> None:
    before = restored.before
    # Auditors' looks are recorded too, behind the write.
    head = len(before.tables["ledger.chengxin_events"])
    # Byte by byte: the events, the idempotency keys, and how far the projections were.
    assert tables_of(restored.database) == before.tables
    assert head >= restored.position > 500
    assert len(before.tables["intake.rows"]) == 1
    assert "The schema is up to date." in restored.said

    def with_its_keys(database: Database, clock: Callable[[], datetime]) -> Ledger:
        return new_ledger(database, clock, restored.keys)

    with serving(
        restored.database, restored.keys, Clock(), new_ledger=with_its_keys, opened=False
    ) as served:
        again = seen(served)
        since, head = served.head() - head, served.head()
        assert again.scores == before.scores
        assert again.sheets == before.sheets
        assert len({one["score"] for one in again.scores.values()}) > 5
        assert {status for status, _ in again.sheets.values()} == {200}
        # The projections went on from where they were: nothing was folded again.
        assert [one.events.total for one in figures(served)] == [since, since]

        repeated = served.post(restored.path, restored.body, idempotency_key="before")
        assert positioned(repeated) == restored.position
        assert repeated.headers["idempotent-replayed"] == "true"
        other = restored.body | {"incident": "INC-OTHER"}
        problem(served.post(restored.path, other, idempotency_key="before"), 409, "key-reused")
        assert served.head() == head

        assert positioned(served.penalise()) == head + 1
        served.follow()
        wait_until(lambda: all(one.position == head + 1 for one in figures(served)))
        assert [one.events.total for one in figures(served)] == [since + 1, since + 1]
    lost = restored.keys.with_name("other")
    with serving(
        restored.database, lost, Clock(), new_ledger=with_its_keys, opened=False
    ) as served:
        # As the document says: without the key of its digest a repetition is refused, not doubled.
        repeated = served.post(restored.path, restored.body, idempotency_key="before")
        problem(repeated, 409, "key-reused")


def figures(served: Served) -> list[Any]:
    """What the projections' followers count."""
    return list(served.follower.figures.values())


def test_sealed_text_is_read_after_the_restore_with_the_keys_and_not_without(
    restored: Restored, clock: Clock, tmp_path: Path
) -> None:
    with new_ledger(restored.database, clock, restored.keys) as ledger:
        event = decode(ledger.read_at([restored.position])[0].state)
        (opened,) = ledger.vault.open([event.id])[event.id]
        assert (opened.path, opened.text) == ("/remark/text", REMARK)
    dump = (tmp_path / "backup" / "ledger.dump").read_bytes()
    assert REMARK.encode() not in dump
    with (
        new_ledger(restored.database, clock, tmp_path / "no-keys") as ledger,
        pytest.raises(VaultKeyMissing),
    ):
        ledger.vault.open([event.id])


def test_a_restored_ledger_is_as_immutable_as_before(restored: Restored) -> None:
    changes = [
        f"{act} ledger.chengxin_{table}{rest}"
        for table, column in (("events", "topic"), ("keys", "key"))
        for act, rest in (
            ("UPDATE", f" SET {column} = 'x'"),
            ("DELETE FROM", ""),
            ("TRUNCATE", ""),
        )
    ]
    with restored.database.connect(role=None) as owner:
        for change in [*changes, "DELETE FROM ledger.chengxin_head"]:
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="immutable"):
                owner.execute(change.encode())
    with restored.database.connect(role=SERVICE_ROLE) as service:
        insert = "INSERT INTO ledger.chengxin_events SELECT * FROM ledger.chengxin_events LIMIT 1"
        for change in [insert, *changes]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(change.encode())
        assert service.execute("SELECT count(*) FROM ledger.chengxin_events").fetchone() == (
            len(restored.before.tables["ledger.chengxin_events"]),
        )


def test_a_backup_is_private_and_never_restored_over_a_ledger(restored: Restored) -> None:
    backup = restored.keys.parent / "backup"
    for one in (backup, *backup.rglob("*"), restored.keys, *restored.keys.iterdir()):
        assert one.stat().st_mode & 0o077 == 0, one
    assert {one.name for one in backup.iterdir()} == {"ledger.dump", "keys", "contents.txt"}
    assert "TABLE DATA ledger chengxin_events" in (backup / "contents.txt").read_text()
    restore = next(one for one in block(1).splitlines() if "pg_restore" in one)
    with pytest.raises(AssertionError, match="already exists"):
        shell(restore, restored.database, restored.keys, backup)
    assert tables_of(restored.database) == restored.before.tables
