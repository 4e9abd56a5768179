"""The vault on a real database: what is sealed, who may open it, and what a crash may leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from ledger.database import READER_ROLE, SERVICE_ROLE, VAULT_ROLE, Database
from ledger.envelope import decode
from ledger.events import ComplaintOutcomeRecorded
from ledger.handle import Desk, Receipt
from ledger.keyring import KEY_FILE, FileKeyring
from ledger.private import Complainant
from ledger.provider import RecordComplaintOutcome
from ledger.rotation import Terms, steps_due
from ledger.sealing import PlainText, Sealed
from ledger.store import Ledger
from ledger.vault import Opened
from ledger.vault_errors import PersonErased, SealBroken, SealingOff, VaultKeyMissing
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.wire import wired

TABLES = ("persons", "sealed", "references")
NAME, CONTACT = "张某某", "138-0000-0000 转 8"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ledger(database: Database, clock: Clock, keys: Path) -> Iterator[Ledger]:
    """A ledger whose vault keys are its own."""
    with new_ledger(database, clock, keys) as ledger:
        yield ledger


@pytest.fixture
def known(record: Record) -> Record:
    """Records on a provider that is registered already."""
    record(given.register())
    return record


def complaint(person: str | None = None, **changes: Any) -> RecordComplaintOutcome:
    """A complaint that names who complained."""
    complainant = Complainant(person=person, name=PlainText(NAME), contact=PlainText(CONTACT))
    return given.complaint(complainant=complainant, **changes)


def complainant_of(ledger: Ledger, receipt: Receipt) -> Complainant:
    """Who complained, as the event says it."""
    data = decode(ledger.read_at([receipt.position])[0].state).data
    assert isinstance(data, ComplaintOutcomeRecorded)
    assert data.complainant is not None
    return data.complainant


def person_of(ledger: Ledger, receipt: Receipt) -> str:
    person = complainant_of(ledger, receipt).person
    assert person is not None
    return person


def texts_of(ledger: Ledger, receipt: Receipt) -> dict[str, str]:
    return {one.path: one.text for one in ledger.vault.open([receipt.id]).get(receipt.id, [])}


def all_rows(database: Database, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with database.connect(role=None) as connection:
        return connection.execute(database.fill(query).encode(), parameters).fetchall()


def whole_database(database: Database) -> bytes:
    """Every row of every table of ours, as the server has it."""
    found = b""
    with database.connect(role=None) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname !~ '^pg_|^information_schema'"
        ).fetchall()
        for (table,) in tables:
            whole = f"COPY {table} TO STDOUT (FORMAT binary)".encode()
            with connection.cursor().copy(whole) as pieces:
                found += b"".join(map(bytes, pieces))
    return found


# --- what is recorded ----------------------------------------------------------------------------


def test_what_a_command_gives_as_text_is_sealed_and_opens(
    opened: Ledger, known: Record, database: Database
) -> None:
    receipt = known(complaint())
    assert texts_of(opened, receipt) == {
        "/complainant/contact": CONTACT,
        "/complainant/name": NAME,
    }
    whole = whole_database(database)
    assert b"TS-" in whole
    for text in (NAME, CONTACT, "138-0000"):
        assert text.encode() not in whole


def test_the_digest_in_the_event_is_proven_by_text_and_salt(opened: Ledger, known: Record) -> None:
    receipt = known(complaint())
    event = complainant_of(opened, receipt)
    for one in opened.vault.open([receipt.id])[receipt.id]:
        sealed = getattr(event, one.path.rpartition("/")[2])
        assert isinstance(sealed, Sealed)
        assert sealed.sealed.digest == one.digest
        assert sealed.sealed.person == one.person == event.person
        assert Opened(one.path, one.person, one.text + "!", one.salt).digest != one.digest


def test_who_is_not_named_gets_a_reference_of_his_own(opened: Ledger, known: Record) -> None:
    persons = {person_of(opened, known(complaint())) for _ in range(3)}
    assert len(persons) == 3
    again = known(complaint(person=min(persons)))
    assert person_of(opened, again) == min(persons)


def test_a_reference_that_the_writer_brings_gets_a_key(opened: Ledger, known: Record) -> None:
    first, second = (known(complaint(person=given.CLIENT)) for _ in range(2))
    assert person_of(opened, second) == given.CLIENT
    for receipt in (first, second):
        assert texts_of(opened, receipt)["/complainant/name"] == NAME


def test_a_group_without_a_text_is_left_out(opened: Ledger, known: Record) -> None:
    receipt = known(given.complaint(complainant=Complainant()))
    state = orjson.loads(opened.read_at([receipt.position])[0].state)
    assert "complainant" not in state["data"]


def test_without_sealed_text_the_vault_is_not_touched(
    database: Database, clock: Clock, run: Run
) -> None:
    with Ledger(database, clock=clock) as ledger:
        desk = Desk(ledger)
        run(desk.open_ledger(given.opening(), given.REGISTRAR))
        run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
        run(desk.record(given.PROVIDER, given.complaint(), given.REGISTRAR))
        with pytest.raises(SealingOff):
            run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR))
        with pytest.raises(SealingOff):
            ledger.vault.open([given.CLIENT])
        with pytest.raises(SealingOff):
            ledger.vault.reference("client", given.PROVIDER, "某店")
        assert ledger.head() == 3
    assert all_rows(database, "SELECT * FROM :schema_vault.:app_persons") == []


# --- what was altered does not open --------------------------------------------------------------

SWAP = (
    "UPDATE :schema_vault.:app_sealed SET box = CASE event_id WHEN '{a}' THEN (SELECT box FROM"
    " :schema_vault.:app_sealed WHERE event_id = '{b}') ELSE box END"
)


@pytest.mark.parametrize(
    "change",
    [
        # Another event's box of the same person.
        SWAP,
        # One bit of the ciphertext; and the path that it was sealed under.
        "UPDATE :schema_vault.:app_sealed SET box = set_bit(box, 8 * 60, 1 - get_bit(box, 8 * 60))",
        "UPDATE :schema_vault.:app_sealed SET box = overlay(box PLACING 'C' FROM 4)",
        "UPDATE :schema_vault.:app_sealed SET box = substr(box, 1, length(box) - 1)",
    ],
)
def test_what_was_altered_or_moved_is_refused(
    opened: Ledger, known: Record, database: Database, change: str
) -> None:
    first, second = (known(complaint(person=given.CLIENT)) for _ in range(2))
    assert len(texts_of(opened, first)) == 2
    with database.connect(role=None) as connection:
        statement = database.fill(change).replace("{a}", first.id).replace("{b}", second.id)
        connection.execute(statement.encode())
    with pytest.raises(SealBroken, match=first.id):
        opened.vault.open([first.id])


def test_a_box_given_to_another_person_is_refused(
    opened: Ledger, known: Record, database: Database
) -> None:
    first, second = known(complaint()), known(complaint())
    with database.connect(role=None) as connection:
        connection.execute(
            b"UPDATE ledger_vault.chengxin_sealed SET person = %s WHERE event_id = %s",
            [person_of(opened, second), first.id],
        )
    with pytest.raises(SealBroken, match=first.id):
        opened.vault.open([first.id])


def test_a_key_given_to_another_person_is_refused(
    opened: Ledger, known: Record, database: Database
) -> None:
    first, second = known(complaint()), known(complaint())
    with database.connect(role=None) as connection:
        connection.execute(
            b"UPDATE ledger_vault.chengxin_persons SET wrapped = (SELECT wrapped FROM"
            b" ledger_vault.chengxin_persons WHERE person = %s) WHERE person = %s",
            [person_of(opened, second), person_of(opened, first)],
        )
    with pytest.raises(VaultKeyMissing):
        opened.vault.open([first.id])


# --- roles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [SERVICE_ROLE, READER_ROLE])
@pytest.mark.parametrize(
    "statement",
    [
        *(f"SELECT * FROM :schema_vault.:app_{table}" for table in TABLES),
        *(f"DELETE FROM :schema_vault.:app_{table}" for table in TABLES),
        "INSERT INTO :schema_vault.:app_sealed VALUES (gen_random_uuid(), gen_random_uuid(), 'x')",
        "SELECT :schema_vault.:app_forget(gen_random_uuid())",
    ],
)
def test_neither_service_nor_reader_gets_into_the_vault(
    database: Database, role: str, statement: str
) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with database.connect(role=role) as connection, refused:
        connection.execute(database.fill(statement).encode())


@pytest.mark.parametrize(
    "statement",
    [
        *(f"DELETE FROM :schema_vault.:app_{table}" for table in TABLES),
        *(f"TRUNCATE :schema_vault.:app_{table}" for table in TABLES),
        "INSERT INTO :schema_vault.:app_sealed VALUES (gen_random_uuid(), gen_random_uuid(), 'x')",
        "UPDATE :schema_vault.:app_sealed SET box = 'x'",
        "UPDATE :schema_vault.:app_persons SET erased_at = NULL",
        "INSERT INTO :schema_vault.:app_persons (person, erased_at)"
        " VALUES (gen_random_uuid(), now())",
        "SELECT * FROM :schema.:app_events",
        "SELECT * FROM :schema.:app_keys",
    ],
)
def test_the_vaults_role_does_no_more_than_the_vault_needs(
    database: Database, statement: str
) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with database.connect(role=VAULT_ROLE) as connection, refused:
        connection.execute(database.fill(statement).encode())


# --- the erased ----------------------------------------------------------------------------------


def test_of_the_forgotten_nothing_is_left_and_nothing_is_sealed_again(
    opened: Ledger, known: Record, database: Database
) -> None:
    receipt = known(complaint(person=given.CLIENT))
    other = known(complaint())
    state = opened.read_at([receipt.position])[0].state
    assert opened.vault.forget(given.CLIENT) == (1, 0)
    assert opened.vault.forget(given.CLIENT) == (0, 0)
    assert texts_of(opened, receipt) == {}
    assert len(texts_of(opened, other)) == 2
    assert opened.read_at([receipt.position])[0].state == state
    head = opened.head()
    for _ in range(2):
        with pytest.raises(PersonErased, match=given.CLIENT):
            known(complaint(person=given.CLIENT))
    assert opened.head() == head
    tombstone = all_rows(
        database,
        "SELECT wrapped, epoch, erased_at IS NULL FROM :schema_vault.:app_persons WHERE person=%s",
        given.CLIENT,
    )
    assert tombstone == [(None, None, False)]


def test_who_was_never_sealed_can_be_forgotten_in_advance(opened: Ledger, known: Record) -> None:
    opened.vault.forget(given.CLIENT)
    with pytest.raises(PersonErased):
        known(complaint(person=given.CLIENT))


def test_the_key_that_a_process_remembers_decides_nothing(
    opened: Ledger, known: Record, database: Database, clock: Clock, keys: Path
) -> None:
    """Another process erases; this one still has the key in its hands."""
    known(complaint(person=given.CLIENT))
    with new_ledger(database, clock, keys) as other:
        other.vault.forget(given.CLIENT)
    head = opened.head()
    with pytest.raises(PersonErased, match=given.CLIENT):
        known(complaint(person=given.CLIENT))
    assert opened.head() == head
    assert all_rows(database, "SELECT * FROM :schema_vault.:app_sealed") == []


def test_one_erased_person_leaves_the_others_of_the_batch_alone(
    opened: Ledger, known: Record, desk: Desk, run: Run, database: Database, clock: Clock,
    keys: Path,
) -> None:  # fmt: skip
    known(complaint(person=given.CLIENT))
    with new_ledger(database, clock, keys) as other:
        other.vault.forget(given.CLIENT)
    providers = [f"HK-CR-{n}" for n in range(7)]
    for one in providers:
        known(given.register(), provider=one)

    async def all_at_once() -> list[Receipt | BaseException]:
        import asyncio

        return await asyncio.gather(
            *(
                desk.record(
                    one, complaint(person=given.CLIENT if n == 3 else None), given.REGISTRAR
                )
                for n, one in enumerate(providers)
            ),
            return_exceptions=True,
        )

    calls = sum(opened.appender.figures.requests.counts)
    answers = run(all_at_once())
    assert isinstance(answers[3], PersonErased)
    recorded = [one for one in answers if isinstance(one, Receipt)]
    assert len(recorded) == 6
    assert sum(opened.appender.figures.requests.counts) - calls < 7, "no batch at all"
    positions = sorted(one.position for one in recorded)
    assert positions == list(range(positions[0], positions[0] + 6)), "dense"
    assert all(len(texts_of(opened, one)) == 2 for one in recorded)
    assert len(all_rows(database, "SELECT FROM :schema_vault.:app_sealed")) == 6


# --- references ----------------------------------------------------------------------------------


def test_a_reference_is_the_same_for_the_same_and_another_for_every_other(
    ledger: Ledger, database: Database
) -> None:
    asked = [
        ("client", given.PROVIDER, "某某餐饮店"),
        ("client", "HK-CR-1", "某某餐饮店"),
        ("actor", given.PROVIDER, "某某餐饮店"),
        ("client", given.PROVIDER, "某某餐饮"),
        ("client", given.PROVIDER + "某", "某餐饮店"),
    ]
    first = [ledger.vault.reference(*one) for one in asked]
    assert len(set(first)) == len(asked)
    assert [ledger.vault.reference(*one) for one in asked] == first
    assert "某某餐饮店".encode() not in whole_database(database)


def test_many_at_once_get_one_reference(
    ledger: Ledger, database: Database, clock: Clock, keys: Path
) -> None:
    with new_ledger(database, clock, keys) as other, ThreadPoolExecutor(8) as pool:
        found = pool.map(
            lambda n: (ledger, other)[n % 2].vault.reference("actor", "issuer", "subject"),
            range(40),
        )
        assert len(set(found)) == 1


def test_a_forgotten_reference_is_not_given_again(opened: Ledger, known: Record, run: Run) -> None:
    vault = opened.vault
    first = vault.reference("client", given.PROVIDER, "某某餐饮店")
    known(complaint(person=first))
    assert vault.forget(first) == (1, 1)
    second = vault.reference("client", given.PROVIDER, "某某餐饮店")
    assert second != first
    known(complaint(person=second))


# --- keys outside the database -------------------------------------------------------------------


def test_the_keys_are_in_a_file_of_this_user_and_nowhere_in_the_database(
    opened: Ledger, known: Record, database: Database, keys: Path
) -> None:
    import base64

    known(complaint())
    file = keys / KEY_FILE
    assert (file.stat().st_mode & 0o777, keys.stat().st_mode & 0o777) == (0o600, 0o700)
    content = orjson.loads(file.read_bytes())
    secrets = [*content["keys"].values(), content["digests"]]
    whole = whole_database(database)
    for secret in secrets:
        assert base64.b64decode(secret) not in whole
        assert secret.encode() not in whole


def test_a_vault_does_not_go_on_with_other_keys(
    opened: Ledger, known: Record, database: Database, clock: Clock, tmp_path: Path, run: Run
) -> None:
    """A database restored without its keys, or with those of another: told before anything is."""
    receipt = known(complaint())
    with new_ledger(database, clock, tmp_path / "empty") as lost:
        with pytest.raises(VaultKeyMissing, match="epoch 1"):
            run(Desk(lost).record(given.PROVIDER, complaint(), given.REGISTRAR))
        assert not (tmp_path / "empty" / KEY_FILE).exists()
    FileKeyring(tmp_path / "others").begin(0, given.TODAY)
    with new_ledger(database, clock, tmp_path / "others") as wrong:
        for act in (
            lambda: run(Desk(wrong).record(given.PROVIDER, complaint(), given.REGISTRAR)),
            lambda: wrong.vault.open([receipt.id]),
            lambda: wrong.vault.reference("client", given.PROVIDER, "某某餐饮店"),
        ):
            with pytest.raises(VaultKeyMissing, match="epoch 1"):
                act()


def rotate(ledger: Ledger) -> None:
    keyring = ledger.vault.persons.keyring
    keyring.begin(keyring.epochs()[-1].number, given.TODAY)
    for step in steps_due(ledger.vault, Terms(90, 30), given.TODAY):
        step()


def test_two_processes_work_through_a_rotation(
    opened: Ledger, known: Record, database: Database, clock: Clock, keys: Path, run: Run
) -> None:
    """One rotates; the other goes on sealing and opening, also when the old key is destroyed."""
    receipts = [known(complaint()) for _ in range(3)]
    with new_ledger(database, clock, keys) as other:
        desk = Desk(other)
        receipts.append(run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR)))
        rotate(opened)
        assert set(opened.vault.persons.wrapped()) == {2}
        assert opened.vault.persons.destroy(1)
        receipts += [run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR))]
        receipts += [
            run(desk.record(given.PROVIDER, complaint(person=given.CLIENT), given.REGISTRAR))
        ]
        receipts.append(known(complaint()))
        for one in (opened, other):
            assert all(len(texts_of(one, receipt)) == 2 for receipt in receipts)
            assert [epoch.destroyed_on for epoch in one.vault.persons.keyring.epochs()] == [
                given.TODAY,
                None,
            ]
        rotate(other)
        assert set(other.vault.persons.wrapped()) == {3}
        assert all(len(texts_of(opened, receipt)) == 2 for receipt in receipts)


def test_a_key_under_which_something_is_wrapped_is_not_destroyed(
    opened: Ledger, known: Record, keys: Path
) -> None:
    receipt = known(complaint())
    persons = opened.vault.persons
    persons.keyring.begin(1, given.TODAY)
    assert not persons.retire(1)
    assert not persons.destroy(1)
    assert len(texts_of(opened, receipt)) == 2
    rotate(opened)
    assert persons.destroy(1)
    content = orjson.loads((keys / KEY_FILE).read_bytes())
    assert "1" not in content["keys"]


def test_an_old_copy_of_the_database_does_not_open_once_its_epoch_is_over(
    opened: Ledger, known: Record, database: Database
) -> None:
    """What a backup from before still holds of somebody who was erased since."""
    receipt = known(complaint(person=given.CLIENT))
    ((epoch, wrapped),) = all_rows(
        database,
        "SELECT epoch, wrapped FROM :schema_vault.:app_persons WHERE person = %s",
        given.CLIENT,
    )
    keyring = opened.vault.persons.keyring
    assert len(keyring.unwrap(given.CLIENT, epoch, wrapped)) == 32
    opened.vault.forget(given.CLIENT)
    rotate(opened)
    assert opened.vault.persons.destroy(1)
    assert texts_of(opened, receipt) == {}
    with pytest.raises(VaultKeyMissing, match="epoch 1"):
        keyring.unwrap(given.CLIENT, epoch, wrapped)


def test_a_rotation_wakes_none_of_the_erased(opened: Ledger, known: Record) -> None:
    known(complaint(person=given.CLIENT))
    opened.vault.forget(given.CLIENT)
    rotate(opened)
    with pytest.raises(PersonErased):
        known(complaint(person=given.CLIENT))


# --- crashes and lost replies --------------------------------------------------------------------

KILLED = """
import os, sys
from datetime import UTC, datetime
from ledger.database import Database
from ledger.keyring import FileKeyring
from ledger.store import Ledger
from pathlib import Path

ledger = Ledger(Database(sys.argv[1]), keyring=FileKeyring(Path(sys.argv[2])))
ledger.vault.persons.make_ready(["0198c7a0-0000-4000-8000-00000000dead"], 5)
os.kill(os.getpid(), 9)
"""


def test_killed_between_keys_and_append_nothing_has_to_be_mended(
    opened: Ledger, known: Record, database: Database, keys: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, database.conninfo, str(keys)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        check=False,
    )
    assert done.returncode == -9
    assert len(all_rows(database, "SELECT FROM :schema_vault.:app_persons")) > 5
    # The reference that was made for nothing is as good as any.
    receipt = known(complaint(person="0198c7a0-0000-4000-8000-00000000dead"))
    assert len(texts_of(opened, receipt)) == 2


@pytest.mark.parametrize("fault", ["lose the reply", "lose the request"])
def test_a_lost_call_leaves_event_and_ciphertext_together(
    opened: Ledger, known: Record, database: Database, clock: Clock, keys: Path, run: Run,
    fault: Any,
) -> None:  # fmt: skip
    with wired(database.conninfo) as wire:
        far = Database(wire.conninfo)
        with new_ledger(far, clock, keys) as ledger:
            wire.plan("TS-marked", fault)
            command = complaint(complaint="TS-marked")
            receipt = run(Desk(ledger).record(given.PROVIDER, command, given.REGISTRAR))
            assert wire.happened == [b"TS-marked"]
    assert receipt.position == opened.head() == 3
    assert texts_of(opened, receipt)["/complainant/name"] == NAME
    assert len(all_rows(database, "SELECT FROM :schema_vault.:app_sealed")) == 1


def test_a_version_conflict_leaves_no_ciphertext_behind(
    opened: Ledger, known: Record, database: Database, clock: Clock, keys: Path, run: Run
) -> None:
    with new_ledger(database, clock, keys) as other:
        desk = Desk(other)
        run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR))
        known(complaint())
        receipt = run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR))
        assert len(texts_of(other, receipt)) == 2
    ids = {str(row[0]) for row in all_rows(database, "SELECT event_id FROM :schema.:app_events")}
    sealed = all_rows(database, "SELECT event_id FROM :schema_vault.:app_sealed")
    assert len(sealed) == 3
    assert {str(row[0]) for row in sealed} <= ids
