"""What a row in quarantine says lies in a box, opens for those who decide it, and goes with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from api.intake.quarantine import Quarantine
from api.intake.rejections import REJECTIONS_FILE, Rejections
from api.intake.verdict import Verdicts
from api.storage import migrate_quarantine
from api.upkeep import environment_of
from ledger.binaries import wheel_installation
from ledger.calendar import local_day
from ledger.database import SERVICE_ROLE, Database, migrate
from ledger.envelope import decode
from ledger.errors import Words
from ledger.events import ComplaintOutcomeRecorded
from ledger.handle import Desk
from ledger.keyfile import KeyFileError
from ledger.keyring import FileKeyring
from ledger.private import Complainant
from ledger.rotation import Terms, steps_due
from ledger.sealing import PlainText, Sealed
from ledger.store import Ledger
from ledger.vault_errors import SealingOff, VaultKeyMissing
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.serving import wait_until
from tests.test_erasing import copied
from tests.test_imports import digest
from tests.test_quarantine import (
    HEADER,
    MENDED,
    OFFICER,
    PENALTIES,
    UNKNOWN_TYPE,
    WHY,
    WRONG_CHECK,
    Office,
    office,
    two,
    verdicts,
)

__all__ = ["office", "two"]

ROOT = Path(__file__).resolve().parent.parent
NAME, TYPE, CORRECTION = "诸葛示例", "欧阳示例之咨询", "司徒示例虚假宣传"
ROW = f"7,{given.PROVIDER[:-1]}J,{NAME},{TYPE},,2026-01-07\n"
SECRETS = (NAME, TYPE, CORRECTION, given.PROVIDER[:-1] + "J")
INTAKE_TABLES = {"rows", "steps", "recipes", "unsealed", "migrations"}


def clear_text(database: Database) -> str:
    """All that the database holds: every table as the server writes it, and a dump."""
    with database.connect(role=None) as connection:
        names = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname !~ '^pg_|^information_schema$'"
        ).fetchall()
        rows = [
            row
            for (name,) in names
            for (row,) in connection.execute(f"SELECT t::text FROM {name} t".encode())
        ]
    assert {f"intake.{name}" for name in INTAKE_TABLES} <= {name for (name,) in names}
    dump = subprocess.run(
        [wheel_installation() / "bin" / "pg_dump"],
        env=os.environ | environment_of(database.conninfo),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "COPY intake.rows" in dump.stdout
    return "\n".join([*rows, dump.stdout])


def spoken(database: Database) -> set[str]:
    """Which of the secrets stand somewhere, as text or as PostgreSQL writes bytes."""
    text = clear_text(database)
    return {one for one in SECRETS if one in text or one.encode().hex() in text.lower()}


def keys_of_persons(database: Database) -> int:
    with database.connect(role=None) as connection:
        row = connection.execute(
            "SELECT count(*) FROM ledger_vault.chengxin_persons JOIN intake.rows USING (person)"
        ).fetchone()
    assert row is not None
    return int(row[0])


def corrected(office: Office) -> int:
    """A row with secrets in cells, reasons and corrections, which waits and could be accepted."""
    office.take(HEADER + ROW)
    [row] = office.waiting()
    desk = verdicts(office)
    wrong = {"type": CORRECTION}
    office.run(desk.correct(row.id, OFFICER, wrong, WHY))
    right = {"code": given.PROVIDER, "type": "虚假宣传", "name": "示例公司"}
    office.run(desk.correct(row.id, OFFICER, right, WHY))
    return row.id


def test_while_it_waits_it_is_shown_and_stands_nowhere_in_clear(office: Office) -> None:
    office.take(HEADER + ROW)
    [row] = office.waiting()
    assert row.subject == given.PROVIDER[:-1] + "J"
    assert any(TYPE in one.reason.zh for one in row.problems)
    assert spoken(office.ledger.database) == set()
    desk = verdicts(office)
    answered = office.run(desk.correct(row.id, OFFICER, {"type": CORRECTION}, WHY))
    held = office.quarantine.held(row.id)
    assert held is not None
    assert any(CORRECTION in one.reason.zh for one in held.problems)
    assert [one._replace(value="") for one in answered.problems] == held.problems
    assert held.corrections == answered.corrections
    assert (held.cells["name"], held.cells["type"]) == (NAME, TYPE)
    [_, step] = office.quarantine.steps(row.id)
    assert step.corrections == {"type": CORRECTION}
    # Read by another mapping, its box is made anew. What a person has in hand is not.
    office.take(HEADER + ROW, MENDED)
    assert office.quarantine.held(row.id) == held
    assert spoken(office.ledger.database) == set()
    assert keys_of_persons(office.ledger.database) == 1


def test_the_search_finds_what_stands_in_clear(office: Office) -> None:
    """The searches of this file could fail."""
    corrected(office)
    with office.ledger.database.connect(role=None) as connection:
        connection.execute(f"CREATE TABLE public.leak AS SELECT '{NAME}'::bytea AS one".encode())
        connection.execute(f"INSERT INTO public.leak VALUES ('{TYPE}')".encode())
    assert spoken(office.ledger.database) == {NAME, TYPE}


@pytest.mark.parametrize("how", ["accepted", "rejected", "recorded"])
def test_once_it_is_settled_its_content_and_its_key_are_gone(office: Office, how: str) -> None:
    database = office.ledger.database
    if how == "recorded":
        office.take(HEADER + UNKNOWN_TYPE.replace("另一公司", NAME))
        [row] = office.waiting()
        id = row.id
        office.take(HEADER + UNKNOWN_TYPE.replace("另一公司", NAME), MENDED)
    else:
        id = corrected(office)
        desk = verdicts(office)
        assert keys_of_persons(database) == 1
        office.run((desk.accept if how == "accepted" else desk.reject)(id, OFFICER, WHY))
    before = office.quarantine.held(id)
    assert before is not None
    assert before.state == how
    assert (before.cells, before.corrections, before.person) == ({}, {}, None)
    assert not before.answers
    # The provider of a row that was recorded is public by what it says of itself.
    assert spoken(database) <= ({NAME} if how == "recorded" else set())
    assert keys_of_persons(database) == 0
    with database.connect(role=None) as connection:
        left = "SELECT person, box FROM intake.rows WHERE id = %s"
        assert connection.execute(left, [id]).fetchone() == (None, None)
    # What an auditor needs is there.
    assert re.fullmatch("[0-9a-f]{64}", before.proof.sha256)
    assert (before.organisation, before.line) == ("CN-REG-1", 2)
    assert bool(before.positions) == (how != "rejected")
    steps = office.quarantine.steps(id)
    assert steps[-1].what == how
    if how != "recorded":
        assert [(step.actor, step.why) for step in steps[1:]] == [(OFFICER, WHY)] * (len(steps) - 1)
        assert [dict(step.corrections) for step in steps[1:3]] == [
            {"type": None},
            {"code": None, "type": None, "name": None},
        ]


def test_of_a_rejected_row_the_codes_stay_and_their_words_go(office: Office) -> None:
    office.take(HEADER + ROW)
    [row] = office.waiting()
    answered = office.run(verdicts(office).reject(row.id, OFFICER, WHY))
    held = office.quarantine.held(row.id)
    assert held is not None
    for one in (answered, held):
        assert [(told.field, told.code) for told in one.problems] == [
            ("identifier", "invalid-identifier"),
            ("family", "not-in-table"),
        ]
        assert {type(told.reason) for told in one.problems} == {Words}
        assert not any(TYPE in told.reason.zh + told.reason.en for told in one.problems)
    assert spoken(office.ledger.database) == set()
    # The file imported again brings nothing of it back.
    assert office.take(HEADER + ROW).already_rejected == 1
    assert spoken(office.ledger.database) == set()


def test_only_a_proper_identifier_stands_in_clear(office: Office) -> None:
    rows = [UNKNOWN_TYPE, WRONG_CHECK.replace(given.PROVIDER[:-1] + "J", "91999999****TEXT0H")]
    office.take(HEADER + "".join(rows))
    with office.ledger.database.connect(role=None) as connection:
        found = connection.execute("SELECT subject FROM intake.rows ORDER BY id").fetchall()
    assert found == [(given.OTHER,), ("",)]
    assert [one.subject for one in office.waiting()] == [given.OTHER, "91999999****TEXT0H"]


# --- Keys ----------------------------------------------------------------------------------------


@pytest.fixture
def keyless(office: Office) -> Iterator[Ledger]:
    """The office's ledger as a process without keys has it."""
    with Ledger(office.ledger.database, clock=office.ledger.clock) as ledger:
        yield ledger


def test_without_keys_it_is_refused_and_nothing_is_lost(
    office: Office, keyless: Ledger, run: Run
) -> None:
    other = Office(keyless, run)
    with pytest.raises(SealingOff):
        other.take()
    assert waiting_rows(keyless) == 0
    tally = office.take()
    assert (tally.rows, tally.quarantined, tally.refused) == (4, 2, 1)
    assert len(office.penalties()) == 1
    for refused in (lambda: other.quarantine.listed(None), lambda: other.quarantine.held(1)):
        with pytest.raises(SealingOff):
            refused()
    with pytest.raises(SealingOff):
        run(verdicts(other).reject(office.waiting()[0].id, OFFICER, WHY))
    assert len(office.waiting()) == 2


def waiting_rows(ledger: Ledger) -> int:
    return len(ledger.rows(b"SELECT FROM intake.rows"))


def test_restored_without_its_keys_it_says_so(
    office: Office, clock: Clock, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.intake.patience.PATIENCE_SECONDS", 0.3)
    office.take()
    with new_ledger(office.ledger.database, clock, tmp_path / "other") as other:
        with pytest.raises(VaultKeyMissing):
            Quarantine(other).listed(None)
        with pytest.raises(VaultKeyMissing):
            Office(other, run).take(HEADER + WRONG_CHECK.replace("示例", "别的"))
    assert len(office.waiting()) == 2


def test_a_row_outlives_the_key_of_the_epoch_in_which_it_came(
    database: Database, clock: Clock, tmp_path: Path, run: Run
) -> None:
    with new_ledger(database, clock, tmp_path / "keys") as ledger:
        run(Desk(ledger).open_ledger(given.opening(), given.REGISTRAR))
        office = Office(ledger, run)
        office.take()
        before = office.waiting()
        terms, persons = Terms(30, 10), ledger.vault.persons
        for step in steps_due(ledger.vault, terms, local_day(clock()), at_once=True):
            step()
        clock.advance(days=40)
        for step in steps_due(ledger.vault, Terms(90, 10), local_day(clock())):
            step()
        first = persons.keyring.epochs()[0]
        assert first.destroyed_on == local_day(clock())
        assert office.waiting() == before


def test_no_row_takes_or_destroys_the_key_of_a_person(office: Office, record: Record) -> None:
    """Not even whoever writes into the tables of the quarantine in the service's role."""
    office.take()
    record(given.complaint(complainant=Complainant(name=PlainText(NAME))))
    [outcome] = [
        data
        for data in (decode(row.state).data for row in office.ledger.read(0, 100))
        if isinstance(data, ComplaintOutcomeRecorded)
    ]
    assert outcome.complainant is not None
    assert isinstance(outcome.complainant.name, Sealed)
    person = outcome.complainant.person
    copied = (
        "INSERT INTO intake.rows (organisation, import, file, recipe, quarantined_at, line,"
        " row_key, content, size_bytes, subject, problems, person, box)"
        " SELECT organisation, 'other', file, recipe, quarantined_at, line, row_key, content,"
        " size_bytes, subject, problems, {}, {} FROM intake.rows LIMIT 1"
    )
    never = "'0198c7a0-0000-7000-8000-0000000000ff'"
    with office.ledger.database.connect(role=SERVICE_ROLE) as connection:
        for whose, box in ((f"'{person}'", "box"), (never, "box"), ("NULL", "box")):
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="key of its own"):
                connection.execute(copied.format(whose, box).encode())
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(copied.format("person", "box").encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"UPDATE intake.rows SET person = '{person}'".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM intake.unsealed")


def test_a_settling_that_is_cut_off_leaves_row_and_key(office: Office) -> None:
    id = corrected(office)
    before = office.quarantine.held(id)
    with office.ledger.database.connect(role=SERVICE_ROLE) as connection:
        connection.autocommit = False
        connection.execute("UPDATE intake.rows SET state = 'rejected'")
        connection.rollback()
    assert office.quarantine.held(id) == before
    office.run(verdicts(office).accept(id, OFFICER, WHY))
    assert keys_of_persons(office.ledger.database) == 0


# --- Ledgers of earlier versions -----------------------------------------------------------------

OLD = """
    INSERT INTO intake.recipes SELECT digest, 'mapping', %(recipe)s FROM (SELECT %(digest)s::text)
        AS r (digest);
    INSERT INTO intake.rows (organisation, import, file, line, row_key, content, size_bytes,
        subject, cells, recipe, quarantined_at, state, problems, corrections, positions)
    SELECT 'CN-REG-1', 'penalties', 'rows.csv', n, 'key' || n, 'content' || n, 80, %(code)s,
        %(cells)s::json, %(digest)s, now(), (ARRAY['waiting', 'rejected', 'waiting'])[n],
        %(problems)s::json, CASE n WHEN 3 THEN '{}'::json ELSE %(corrections)s::json END, '{}'
        FROM generate_series(1, 3) AS n;
    INSERT INTO intake.steps (row_id, number, at, what, organisation, role, ref, why, corrections)
    SELECT id, s, now(), (ARRAY['quarantined', 'corrected'])[s], 'CN-REG-1', 'registrar',
        %(ref)s, '', CASE s WHEN 1 THEN '{}'::json ELSE %(corrections)s::json END
        FROM intake.rows, generate_series(1, 2) AS s WHERE s = 1 OR line < 3;
"""


@pytest.fixture
def old(database: Database, tmp_path: Path) -> Database:
    """A database whose quarantine holds rows in clear, as the version before had them."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA intake CASCADE")
        for one in sorted((ROOT / "api" / "intake" / "sql").glob("*.sql"))[:3]:
            (tmp_path / one.name).write_bytes(one.read_bytes())
        migrate(Database(database.conninfo, schema="intake", application="intake"), tmp_path)
        reason = {"en": TYPE, "zh": TYPE}
        problem = {"field": "family", "code": "not-in-table", **reason, "doubtful": True}
        given_values = {
            "recipe": PENALTIES,
            "digest": "d",
            "code": given.PROVIDER[:-1] + "J",
            "cells": json.dumps({"type": TYPE, "name": NAME}, ensure_ascii=False),
            "problems": json.dumps([problem], ensure_ascii=False),
            "corrections": json.dumps({"type": CORRECTION}, ensure_ascii=False),
            "ref": OFFICER.ref,
        }
        with psycopg.ClientCursor(connection) as cursor:
            cursor.execute(OLD.encode(), given_values)
    return database


def test_rows_that_an_earlier_version_left_in_clear_are_sealed(
    old: Database, clock: Clock, tmp_path: Path
) -> None:
    assert SECRETS[0] in everything_in_intake(old)
    with pytest.raises(SealingOff):
        migrate_quarantine(old)
    keyring = FileKeyring(tmp_path / "keys")
    before = {file(old, one) for one in INTAKE}
    for _ in range(2):
        migrate_quarantine(old, lambda: keyring)
    assert spoken(old) == set()
    with new_ledger(old, clock, tmp_path / "keys") as ledger:
        quarantine = Quarantine(ledger)
        first, rejected, last = (quarantine.held(id) for id in (1, 2, 3))
        assert first is not None
        assert rejected is not None
        assert last is not None
        assert (first.subject, dict(first.cells)) == (
            given.PROVIDER[:-1] + "J",
            {"type": TYPE, "name": NAME},
        )
        assert list(first.cells) == ["type", "name"]
        assert [one.reason.zh for one in first.problems] == [TYPE]
        assert first.corrections == {"type": CORRECTION}
        assert last.corrections == {}
        assert (rejected.cells, rejected.corrections) == ({}, {})
        assert [one.code for one in rejected.problems] == ["not-in-table"]
        assert [dict(one.corrections) for one in quarantine.steps(1)] == [{}, {"type": CORRECTION}]
        assert [dict(one.corrections) for one in quarantine.steps(2)] == [{}, {"type": None}]
    # Nor do the files of the tables hold it: they were written anew, if need be once more. What
    # somebody on this server may still see, who began to read before, the server keeps till then.
    assert {file(old, one) for one in INTAKE}.isdisjoint(before)

    def gone() -> bool:
        if not any(secret.encode() in on_disk(old, one) for one in INTAKE for secret in SECRETS):
            return True
        with old.connect(role=None) as connection:
            connection.execute(f"VACUUM FULL {', '.join(INTAKE)}".encode())
        return False

    wait_until(gone)


INTAKE = ("intake.rows", "intake.steps", "intake.unsealed")


def file(database: Database, table: str) -> str:
    """Where the server has a table."""
    with database.connect(role=None) as connection:
        row = connection.execute("SELECT pg_relation_filepath(%s)", [table]).fetchone()
    assert row is not None
    return str(row[0])


def on_disk(database: Database, table: str) -> bytes:
    """What is in that file."""
    with database.connect(role=None) as connection:
        read = "SELECT pg_read_binary_file(pg_relation_filepath(%s))"
        row = connection.execute(read, [table]).fetchone()
    assert row is not None
    return bytes(row[0])


def everything_in_intake(database: Database) -> str:
    with database.connect(role=None) as connection:
        return "".join(
            row
            for table in ("rows", "steps")
            for (row,) in connection.execute(f"SELECT t::text FROM intake.{table} t".encode())
        )


def test_rows_of_a_file_are_all_kept_when_many_wait(office: Office) -> None:
    """More than the vault's stock of keys holds."""
    rows = [f"{n},{given.OTHER},{NAME}{n},刷单,,2026-01-07\n" for n in range(1_300)]
    assert office.take(HEADER + "".join(rows)).quarantined == 1_300
    shown = office.quarantine.listed(None, limit=2_000)
    assert len({one.id for one in shown}) == 1_300
    held = office.quarantine.held(shown[-1].id)
    assert held is not None
    assert held.cells["name"].startswith(NAME)


# --- a backup that is put back -------------------------------------------------------------------


def test_what_was_rejected_does_not_come_back_with_a_backup(
    office: Office,
    databases: Callable[[], Database],
    tmp_path: Path,
    clock: Clock,
) -> None:
    rejections = Rejections(tmp_path / "keys")
    office.take(HEADER + ROW + WRONG_CHECK)
    first, second = office.waiting()
    backup = copied(databases, office.ledger.database)
    desk = Verdicts(office.quarantine, Desk(office.ledger), digest=digest, rejections=rejections)
    office.run(desk.reject(first.id, OFFICER, WHY))
    office.run(desk.reject(first.id, OFFICER, WHY))
    file = tmp_path / "keys" / REJECTIONS_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_bytes().splitlines()) == 1
    assert not [one for one in (*SECRETS, WHY) if one.encode() in file.read_bytes()]
    with new_ledger(backup, clock) as restored:
        quarantine = Quarantine(restored)
        back = quarantine.held(first.id)
        assert back is not None
        assert (back.state, back.cells["name"]) == ("waiting", NAME)
        assert rejections.apply(restored) == 1
        gone = quarantine.held(first.id)
        assert gone is not None
        assert (gone.state, gone.cells, gone.corrections) == ("rejected", {}, {})
        assert keys_of_persons(backup) == 1
        last = quarantine.steps(first.id)[-1]
        assert (last.what, last.actor) == ("rejected", OFFICER)
        assert last.at == office.quarantine.steps(first.id)[-1].at
        other = quarantine.held(second.id)
        assert other is not None
        assert (other.state, bool(other.cells)) == ("waiting", True)
        assert rejections.apply(restored) == 0
    file.write_bytes(b"{}\n")
    with pytest.raises(KeyFileError, match="line 1 is no rejection"):
        rejections.apply(office.ledger)


def test_killed_before_the_row_is_settled_it_is_rejected_at_the_next_start(
    office: Office, tmp_path: Path
) -> None:
    rejections = Rejections(tmp_path / "keys")
    office.take(HEADER + ROW)
    [row] = office.waiting()
    held = office.quarantine.held(row.id)
    assert held is not None
    assert held.person is not None
    step = office.quarantine.steps(row.id)[-1]
    rejections.add(held.person, step)
    with (tmp_path / "keys" / REJECTIONS_FILE).open("ab") as cut:
        cut.write(b'{"person":')
    assert rejections.apply(office.ledger) == 1
    assert office.waiting() == []
