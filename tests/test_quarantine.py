"""Quarantine: what only a person can answer is kept, shown, answered and settled; never lost."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import psycopg
import pytest

from api.intake.backlog import Waiting, waiting_of
from api.intake.correction import read_again
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.mapping import Importing, mapping_of
from api.intake.quarantine import Entry, Quarantine
from api.intake.rehearsal import Rehearsal
from api.intake.rows import Problem, Row, Unread
from api.intake.tally import Account, Issue, Outcome, Tally
from api.intake.verdict import Accepted, Verdicts
from api.refusals import (
    AcceptanceBegun,
    RowNotUnderstood,
    RowSettled,
    UnknownColumn,
    UnknownRow,
)
from ledger.database import READER_ROLE, Database
from ledger.envelope import decode
from ledger.errors import OutcomeUnknown, Words
from ledger.events import PenaltyImposed
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, Run, new_ledger
from tests.serving import wait_until
from tests.test_imports import csv_file, digest
from tests.wire import Fault, wired

PENALTIES = """
name = "penalties"
identifier = { column = "code" }
row = { key = ["no"] }

[[record]]
command = "register"
fields = { name = { column = "name" }, entity_kind = "ENTERPRISE" }

[[record]]
command = "penalty"

[record.fields]
incident = { column = "no" }
document_no = { template = "市监处〔2026〕{no}号" }
law_article = "《广告法》第五十五条"
category = "ADVERT"
family = { column = "type", values = { "虚假宣传" = "AD_FALSE_CLAIM" }, unknown = "quarantine" }
severity = { column = "grade", default = "S2" }
occurred_on = { column = "day" }
decided_on = { column = "day" }
served_on = { column = "day" }
obligation = false
issuer = { kind = "REGULATOR", name = "某市市场监督管理局" }
evidence = { digest_of_row = "CN-REG-1" }
"""
MENDED = PENALTIES.replace(
    '{ "虚假宣传" = "AD_FALSE_CLAIM" }',
    '{ "虚假宣传" = "AD_FALSE_CLAIM", "刷单" = "FAKE_TRAFFIC" }',
)
HEADER = "no,code,name,type,grade,day\n"
GOOD = f"1,{given.PROVIDER},示例公司,虚假宣传,,2026-01-05\n"
WRONG_CHECK = f"2,{given.PROVIDER[:-1]}J,示例公司,虚假宣传,,2026-01-06\n"
UNKNOWN_TYPE = f"3,{given.OTHER},另一公司,刷单,S3,2026-01-07\n"
BAD_DAY = f"4,{given.OTHER},另一公司,刷单,,某日\n"
FILE = HEADER + GOOD + WRONG_CHECK + UNKNOWN_TYPE + BAD_DAY


class Office:
    """A ledger, its quarantine, and imports of penalties into it."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.ledger = ledger
        self.run = run
        self.quarantine = Quarantine(ledger)
        self.issues: list[Issue] = []

    def take(
        self,
        content: str = FILE,
        text: str = PENALTIES,
        *,
        actor: Actor = given.REGISTRAR,
        dry_run: bool = False,
    ) -> Tally:
        """Import a file; at a desk of its own, as in a new process."""
        self.issues = []
        importing = mapping_of(text)
        work = self.work(importing, actor, dry_run=dry_run)
        return self.run(work.run(importing.rows(csv_file(content))))

    def work(self, importing: Importing, actor: Actor, *, dry_run: bool) -> Import:
        """An import that keeps what is doubtful."""
        return Import(
            Desk(self.ledger),
            actor,
            name=importing.name,
            purpose=importing.purpose,
            digest=digest,
            account=Account(self.issues.append),
            holding=Holding(
                self.quarantine, actor, importing.name, "rows.csv", importing.recipe, dry_run
            ),
        )

    def told(self) -> list[tuple[int, str, str, str]]:
        """Line, field, code and state of each issue, in the order of the lines."""
        return sorted((one.line, one.field, one.code, one.state) for one in self.issues)

    def penalties(self) -> list[PenaltyImposed]:
        """The penalties in the ledger."""
        events = [decode(row.state).data for row in self.ledger.read(0, 1000)]
        return [data for data in events if isinstance(data, PenaltyImposed)]

    def waiting(self) -> list[Entry]:
        """What waits for a person."""
        return self.quarantine.listed(None, state="waiting")


@pytest.fixture
def office(opened: Ledger, run: Run) -> Office:
    """An office with an opened ledger."""
    return Office(opened, run)


# --- Importing -----------------------------------------------------------------------------------


def test_a_row_that_a_person_could_answer_is_kept_and_all_others_are_told(office: Office) -> None:
    assert office.take() == Tally(rows=4, registered=1, recorded=1, quarantined=2, refused=1)
    assert office.told() == [
        (3, "identifier", "invalid-identifier", "quarantined"),
        (4, "family", "not-in-table", "quarantined"),
        (5, "decided_on", "bad-day", "refused"),
        (5, "family", "not-in-table", "refused"),
        (5, "occurred_on", "bad-day", "refused"),
        (5, "served_on", "bad-day", "refused"),
    ]
    first, second = office.waiting()
    numbers = {one.line: one.quarantine for one in office.issues}
    assert numbers == {3: first.id, 4: second.id, 5: None}
    assert (first.organisation, first.name, first.file, first.line) == (
        "CN-REG-1",
        "penalties",
        "rows.csv",
        3,
    )
    assert (first.subject, second.subject) == (given.PROVIDER[:-1] + "J", given.OTHER)
    assert "校验码应为 H，而不是 J" in first.problems[0].reason.zh
    held = office.quarantine.held(first.id)
    assert held is not None
    assert list(held.cells.items()) == list(
        zip(HEADER.strip().split(","), WRONG_CHECK.strip().split(","), strict=True)
    )
    assert (held.recipe.kind, held.recipe.text) == ("mapping", PENALTIES)
    [step] = office.quarantine.steps(first.id)
    assert (step.what, step.actor, step.why) == ("quarantined", given.REGISTRAR, "")
    assert waiting_of(office.ledger) == Waiting(2, given.TODAY)


def test_what_is_kept_are_no_bytes_but_their_digest(office: Office) -> None:
    office.take()
    held = office.quarantine.held(office.waiting()[0].id)
    assert held is not None
    row = WRONG_CHECK.strip().encode()
    assert (held.proof.sha256, held.proof.size_bytes) == (
        sha256(row).hexdigest(),
        len(row),
    )


def test_a_file_imported_again_brings_nothing_in_again(office: Office) -> None:
    office.take()
    again = office.take()
    assert again == Tally(rows=4, already_recorded=1, already_quarantined=2, refused=1)
    assert [one[3] for one in office.told()[:2]] == ["quarantined-before"] * 2
    assert len(office.waiting()) == 2


def test_the_same_doubtful_row_twice_in_a_file_is_kept_once(office: Office) -> None:
    other = WRONG_CHECK.replace("示例", "别的")
    tally = office.take(HEADER + WRONG_CHECK + WRONG_CHECK + other)
    assert (tally.quarantined, tally.repeated) == (2, 1)
    assert [one.line for one in office.waiting()] == [2, 4]


def test_a_dry_run_counts_what_it_would_keep_and_keeps_nothing(office: Office) -> None:
    real, office.ledger.appender = office.ledger.appender, Rehearsal(office.ledger.clock)
    tally = office.take(dry_run=True)
    office.ledger.appender = real
    assert tally == Tally(rows=4, registered=1, recorded=1, quarantined=2, refused=1)
    assert {one.quarantine for one in office.issues} == {None}
    assert office.waiting() == []
    assert office.ledger.head() == 1


def test_many_doubtful_rows_go_in_by_the_block(office: Office) -> None:
    rows = [f"{n},{given.OTHER},另一公司,刷单,,2026-01-07\n" for n in range(1_300)]
    assert office.take(HEADER + "".join(rows)).quarantined == 1_300
    assert waiting_of(office.ledger).rows == 1_300


def test_a_mended_mapping_records_what_waits_and_settles_it(office: Office) -> None:
    office.take()
    tally = office.take(text=MENDED)
    assert (tally.recorded, tally.already_quarantined) == (1, 1)
    assert [one.family for one in office.penalties()] == ["AD_FALSE_CLAIM", "FAKE_TRAFFIC"]
    [left] = office.waiting()
    assert left.line == 3
    [settled] = office.quarantine.listed(None, state="recorded")
    assert list(settled.positions) == [office.ledger.head()]
    assert [step.what for step in office.quarantine.steps(settled.id)] == [
        "quarantined",
        "recorded",
    ]
    # With the old mapping once more: it is recorded, whatever that mapping makes of it.
    assert office.take().already_recorded == 2


def test_what_waits_is_read_by_the_mapping_that_came_last(office: Office) -> None:
    both = HEADER + WRONG_CHECK.replace("虚假宣传", "刷单")
    office.take(both)
    [row] = office.waiting()
    assert [one.code for one in row.problems] == ["invalid-identifier", "not-in-table"]
    for _ in range(2):
        assert office.take(both, MENDED).already_quarantined == 1
    [row] = office.waiting()
    assert [one.code for one in row.problems] == ["invalid-identifier"]
    held = office.quarantine.held(row.id)
    assert held is not None
    assert held.recipe.text == MENDED
    assert [step.what for step in office.quarantine.steps(row.id)] == ["quarantined", "reread"]


def test_what_a_person_has_corrected_is_read_by_the_mapping_it_came_with(office: Office) -> None:
    both = HEADER + WRONG_CHECK.replace("虚假宣传", "刷单")
    office.take(both)
    [row] = office.waiting()
    office.run(verdicts(office).correct(row.id, OFFICER, {"code": given.PROVIDER}, WHY))
    office.take(both, MENDED)
    held = office.quarantine.held(row.id)
    assert held is not None
    assert held.recipe.text == PENALTIES
    assert [one.code for one in held.problems] == ["not-in-table"]


def test_another_import_of_the_row_is_another_row(office: Office) -> None:
    office.take()
    office.take(text=PENALTIES.replace('name = "penalties"', 'name = "others"'))
    other = Actor("CN-REG-2", "registrar", given.REGISTRAR.ref)
    office.take(actor=other)
    assert len(office.waiting()) == 6
    assert len(office.quarantine.listed("CN-REG-2")) == 2
    assert len(office.quarantine.listed(None, name="others")) == 2


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        (given.PROVIDER[:-1] + "J", True),
        (given.PROVIDER[:-1].lower() + "j", True),
        ("91999999****TEXT0H", True),
        ("9１99999＊MA00TEXT0H", True),
        ("91999999MA00TEXT0", False),
        ("HK-CR-***", False),
        ("******", False),
        ("XX-CR-1", False),
    ],
)
def test_which_identifiers_a_person_could_answer(office: Office, code: str, kept: bool) -> None:
    tally = office.take(HEADER + f"1,{code},示例公司,虚假宣传,,2026-01-05\n")
    assert (tally.quarantined, tally.refused) == (int(kept), int(not kept))


def test_without_a_quarantine_doubtful_rows_are_refused(office: Office) -> None:
    importing = mapping_of(PENALTIES)
    work = Import(
        Desk(office.ledger),
        given.REGISTRAR,
        name=importing.name,
        purpose=None,
        digest=digest,
        account=Account(office.issues.append),
    )
    tally = office.run(work.run(importing.rows(csv_file(FILE))))
    assert (tally.refused, tally.quarantined) == (3, 0)


# --- Storage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE intake.steps SET why = 'otherwise'",
        "DELETE FROM intake.steps",
        "TRUNCATE intake.steps",
        "DELETE FROM intake.rows",
        "UPDATE intake.recipes SET text = ''",
        "UPDATE intake.rows SET state = 'waiting' WHERE state = 'recorded'",
    ],
)
def test_nobody_changes_what_was_done(office: Office, statement: str) -> None:
    office.take()
    office.take(text=MENDED)
    with (
        office.ledger.database.connect(role=None) as connection,
        pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="stays"),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("table", ["rows", "steps", "recipes"])
def test_the_reader_role_sees_nothing_of_it(office: Office, table: str) -> None:
    with (
        office.ledger.database.connect(role=READER_ROLE) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"SELECT FROM intake.{table}".encode())


@pytest.mark.parametrize("column", ["person", "content", "organisation", "quarantined_at"])
def test_the_service_cannot_change_what_the_row_was(office: Office, column: str) -> None:
    office.take()
    with (
        office.ledger.database.connect() as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"UPDATE intake.rows SET {column} = {column}".encode())


# --- Verdicts ------------------------------------------------------------------------------------

WHY = "与营业执照核对"
OFFICER = Actor("CN-REG-1", "registrar", "0198c7a0-0000-7000-8000-0000000000a1")


def verdicts(office: Office) -> Verdicts:
    """Verdicts at a desk of their own, as in a new process."""
    return Verdicts(Quarantine(office.ledger), Desk(office.ledger), digest=digest)


def steps(office: Office, id: int) -> list[str]:
    """What was done with a row."""
    return [step.what for step in office.quarantine.steps(id)]


@pytest.fixture
def two(office: Office) -> tuple[int, int]:
    """A row with a wrong check character, and one of an unknown type."""
    office.take()
    first, second = office.waiting()
    return first.id, second.id


def test_a_wrong_check_character_is_corrected_and_recorded(
    office: Office, two: tuple[int, int]
) -> None:
    async def decide() -> Accepted:
        desk = verdicts(office)
        held = await desk.correct(two[0], OFFICER, {"code": given.PROVIDER.lower()}, WHY)
        assert held.problems == []
        return await desk.accept(two[0], OFFICER, WHY)

    accepted = office.run(decide())
    assert not accepted.repeated
    [receipt] = accepted.receipts
    event = decode(office.ledger.read_at([receipt.position])[0].state)
    assert event.actor == OFFICER
    assert event.subject == given.PROVIDER
    assert isinstance(event.data, PenaltyImposed)
    # The evidence is the row as it came, wrong character and all.
    assert event.data.evidence[0].sha256 == sha256(WRONG_CHECK.strip().encode()).hexdigest()
    assert WHY.encode() not in b"".join(row.state for row in office.ledger.read(0, 100))
    held = office.quarantine.held(two[0])
    assert held is not None
    assert (held.state, held.positions) == ("accepted", [receipt.position])
    assert steps(office, two[0]) == ["quarantined", "corrected", "accepting", "accepted"]
    assert [(step.actor, step.why) for step in office.quarantine.steps(two[0])[1:]] == [
        (OFFICER, WHY)
    ] * 3
    tally = office.take()
    assert (tally.already_recorded, tally.already_quarantined) == (2, 1)


@pytest.mark.parametrize(
    "corrections",
    [
        {"type": "虚假宣传"},
        {"penalty.family": "AD_FALSE_CLAIM"},
        {"penalty.family": "NO_SUCH", "type": "虚假宣传"},
        {"type": "虚假宣传", "penalty.obligation": "true", "penalty.mitigation": "COMPENSATED"},
        {"penalty.family": "FAKE_TRAFFIC", "penalty.issuer.name": "某省市场监督管理局"},
        {"penalty.family": "FAKE_TRAFFIC", "day": "2026-01-09", "penalty.ended_on": "2026-01-12"},
    ],
)
def test_a_person_gives_cells_and_fields(
    office: Office, two: tuple[int, int], corrections: dict[str, str]
) -> None:
    wrong = "NO_SUCH" in corrections.values()

    async def decide() -> PenaltyImposed | None:
        desk = verdicts(office)
        more = {"grade": "S2"} if corrections.get("penalty.family") != "FAKE_TRAFFIC" else {}
        await desk.correct(two[1], OFFICER, corrections | more, WHY)
        if wrong:
            with pytest.raises(RowNotUnderstood, match="family 'NO_SUCH' is not in rulebook"):
                await desk.accept(two[1], OFFICER, WHY)
            return None
        await desk.accept(two[1], OFFICER, WHY)
        return office.penalties()[-1]

    found = office.run(decide())
    if found is None:
        held = office.quarantine.held(two[1])
        assert held is not None
        assert held.state == "waiting"
        assert [one.code for one in held.problems] == ["code-not-in-force"]
        assert steps(office, two[1])[-2:] == ["accepting", "declined"]
        return
    assert found.family == corrections.get("penalty.family", "AD_FALSE_CLAIM")
    assert found.obligation == ("penalty.obligation" in corrections)
    assert found.mitigation == (["COMPENSATED"] if "penalty.mitigation" in corrections else [])
    assert found.issuer.name == corrections.get("penalty.issuer.name", "某市市场监督管理局")
    assert str(found.occurred_on) == corrections.get("day", "2026-01-07")


def test_what_is_still_not_understood_is_refused_with_every_reason(
    office: Office, two: tuple[int, int]
) -> None:
    async def decide() -> None:
        desk = verdicts(office)
        with pytest.raises(RowNotUnderstood, match="should be H, not J") as refused:
            await desk.accept(two[0], OFFICER, WHY)
        assert "校验码应为 H" in refused.value.chinese()
        held = await desk.correct(two[0], OFFICER, {"day": "昨日", "identifier": "X"}, WHY)
        assert {(one.field, one.code) for one in held.problems} == {
            ("identifier", "invalid-identifier"),
            ("occurred_on", "bad-day"),
            ("decided_on", "bad-day"),
            ("served_on", "bad-day"),
        }
        with pytest.raises(RowNotUnderstood) as refused:
            await desk.accept(two[0], OFFICER, WHY)
        assert len(refused.value.flaws) == 4

    office.run(decide())
    assert steps(office, two[0]) == ["quarantined", "corrected"]
    assert len(office.waiting()) == 2
    assert len(office.penalties()) == 1


def test_a_correction_names_what_there_is(office: Office, two: tuple[int, int]) -> None:
    async def decide() -> None:
        desk = verdicts(office)
        for name in ("nothing", "penalty.nothing", "family", "register.origin", "penalty.evidence"):
            with pytest.raises(UnknownColumn, match=r"no, code, name, .*penalty\.family"):
                await desk.correct(two[0], OFFICER, {"code": "x", name: "y"}, WHY)
        before = await desk.correct(two[0], OFFICER, {"code": "x"}, WHY)
        assert await desk.correct(two[0], OFFICER, {"code": " x "}, "once more") == before

    office.run(decide())
    assert steps(office, two[0]) == ["quarantined", "corrected"]


def test_a_rejected_row_stays_out_whatever_the_mapping_says_later(
    office: Office, two: tuple[int, int]
) -> None:
    async def decide() -> None:
        desk = verdicts(office)
        held = await desk.reject(two[1], OFFICER, "重复报送")
        assert held.state == "rejected"
        assert (await desk.reject(two[1], OFFICER, "again")).state == "rejected"
        for refused in (
            desk.accept(two[1], OFFICER, WHY),
            desk.correct(two[1], OFFICER, {"type": "x"}, WHY),
        ):
            with pytest.raises(RowSettled, match="is settled: it was rejected"):
                await refused

    office.run(decide())
    assert steps(office, two[1]) == ["quarantined", "rejected"]
    for text in (PENALTIES, MENDED):
        tally = office.take(text=text)
        assert (tally.already_rejected, tally.already_quarantined) == (1, 1)
        assert (4, "row", "rejected", "rejected-before") in office.told()
    assert len(office.penalties()) == 1


def test_an_accepted_row_is_settled_and_answered_again(
    office: Office, two: tuple[int, int]
) -> None:
    async def decide() -> None:
        desk = verdicts(office)
        await desk.correct(two[1], OFFICER, {"penalty.family": "FAKE_TRAFFIC"}, WHY)
        first = await desk.accept(two[1], OFFICER, WHY)
        again = await verdicts(office).accept(two[1], given.REGISTRAR, "whatever")
        assert again == Accepted(first.receipts, repeated=True)
        for refused in (
            desk.reject(two[1], OFFICER, WHY),
            desk.correct(two[1], OFFICER, {"type": "x"}, WHY),
        ):
            with pytest.raises(RowSettled, match="was accepted"):
                await refused

    office.run(decide())
    # Whatever a mended mapping makes of it by now.
    for text in (PENALTIES, MENDED, MENDED.replace("FAKE_TRAFFIC", "AD_ABSOLUTE")):
        tally = office.take(text=text)
        assert (tally.recorded, tally.already_recorded, tally.refused) == (0, 2, 1)


def test_a_row_that_a_person_is_correcting_is_left_to_him(
    office: Office, two: tuple[int, int]
) -> None:
    office.run(verdicts(office).correct(two[1], OFFICER, {"type": "虚假宣传"}, WHY))
    tally = office.take(text=MENDED)
    assert (tally.recorded, tally.already_quarantined) == (0, 2)
    assert (4, "row", "in-hand", "quarantined-before") in office.told()


@pytest.mark.parametrize(
    ("meanwhile", "tally", "told"),
    [
        ('corrections = \'{"no": "9"}\'', (0, 1, 2, 0), "quarantined-before"),
        ("state = 'rejected'", (0, 1, 1, 1), "rejected-before"),
        ("state = 'accepted'", (0, 2, 1, 0), "quarantined-before"),
        ("problems = '[]'", (1, 1, 1, 0), "quarantined-before"),
    ],
)
def test_an_import_records_what_waits_only_if_no_person_decides_it_meanwhile(
    office: Office, two: tuple[int, int], meanwhile: str, tally: tuple[int, ...], told: str
) -> None:
    with (
        psycopg.connect(office.ledger.database.conninfo, autocommit=True) as person,
        ThreadPoolExecutor(1) as threads,
    ):
        lock = [f"chengxin quarantine {two[1]}"]
        person.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", lock)
        imported = threads.submit(office.take, text=MENDED)
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: person.execute(waits).fetchone() == (1,))
        person.execute(f"UPDATE intake.rows SET {meanwhile} WHERE id = %s".encode(), [two[1]])
        person.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", lock)
        found = imported.result()
    assert (
        found.recorded,
        found.already_recorded,
        found.already_quarantined,
        found.already_rejected,
    ) == tally
    assert told in {one.state for one in office.issues}
    assert len(office.penalties()) == 1 + tally[0]


def test_nobody_decides_the_rows_of_another_organisation(
    office: Office, two: tuple[int, int]
) -> None:
    stranger = Actor("CN-REG-2", "registrar", OFFICER.ref)

    async def decide() -> None:
        desk = verdicts(office)
        for id in (two[0], 999):
            for refused in (
                desk.accept(id, stranger, WHY),
                desk.reject(id, stranger, WHY),
                desk.correct(id, stranger, {"code": "x"}, WHY),
            ):
                with pytest.raises(UnknownRow, match=f"There is no row {id} in quarantine"):
                    await refused

    office.run(decide())
    assert steps(office, two[0]) == ["quarantined"]


def test_a_row_of_a_ledger_fact_recorded_before_is_declined(
    office: Office, two: tuple[int, int]
) -> None:
    """Corrected into the row that is recorded already, it is another fact under the same key."""

    async def decide() -> None:
        desk = verdicts(office)
        await desk.correct(two[0], OFFICER, {"no": "1", "code": given.PROVIDER}, WHY)
        with pytest.raises(RowNotUnderstood, match="recorded before, with other content"):
            await desk.accept(two[0], OFFICER, WHY)
        assert (await desk.reject(two[0], OFFICER, "重复报送")).state == "rejected"

    office.run(decide())
    assert steps(office, two[0])[-3:] == ["accepting", "declined", "rejected"]


def test_a_row_that_only_registers_tells_where_its_provider_begins(office: Office) -> None:
    text = PENALTIES.split('[[record]]\ncommand = "penalty"', maxsplit=1)[0]
    office.take(HEADER + WRONG_CHECK, text)
    [row] = office.waiting()

    async def decide() -> Accepted:
        desk = verdicts(office)
        await desk.correct(row.id, OFFICER, {"identifier": given.PROVIDER}, WHY)
        return await desk.accept(row.id, OFFICER, WHY)

    [receipt] = office.run(decide()).receipts
    assert (receipt.position, receipt.version) == (2, 1)


def test_a_recipe_that_cannot_be_read_any_more_is_told(office: Office) -> None:
    office.take()
    [row, _] = office.waiting()
    with office.ledger.database.connect(role=None) as connection:
        connection.execute("ALTER TABLE intake.recipes DISABLE TRIGGER ALL")
        connection.execute("UPDATE intake.recipes SET text = 'name = \"x\"'")
    with pytest.raises(RowNotUnderstood, match="mapping: identifier: Field required"):
        office.run(verdicts(office).accept(row.id, OFFICER, WHY))


@pytest.mark.parametrize("name", ["公" * 201, "a\x1bb"])
def test_what_a_field_may_not_hold_is_told_in_chinese_too(name: str) -> None:
    row = f"1,{given.PROVIDER},{name},虚假宣传,,2026-01-05\n"
    [read] = mapping_of(PENALTIES).rows(csv_file(HEADER + row))
    assert isinstance(read, Unread)
    [problem] = read.problems
    assert (problem.field, problem.code) == ("name", "invalid")
    assert re.search("[A-Za-z]{2}", problem.reason.zh) is None, problem.reason.zh


def test_of_large_rows_only_a_few_are_on_their_way(office: Office) -> None:
    """A small packed file may hold thousands of lines of a mebibyte each."""
    doubt = [Problem("code", "bad", Words("bad", "有误"), doubtful=True)]
    raw = b"x" * 1024 * 1024
    answered: list[Outcome] = []
    most = 0

    def rows() -> Iterator[Unread]:
        nonlocal most
        for line in range(200):
            most = max(most, line - len(answered))
            yield Unread(line, doubt, str(line), raw=raw)

    importing = mapping_of(PENALTIES)
    work = office.work(importing, given.REGISTRAR, dry_run=True)
    work._account = Account(answer=answered.append)
    office.run(work.run(rows()))
    assert len(answered) == 200
    assert most <= 30


# --- At once, and cut off ------------------------------------------------------------------------


def test_sixteen_threads_accept_and_it_is_recorded_once(
    office: Office, two: tuple[int, int]
) -> None:
    office.run(verdicts(office).correct(two[1], OFFICER, {"penalty.family": "FAKE_TRAFFIC"}, WHY))
    begin = threading.Barrier(16)

    def accept(_: int) -> Accepted:
        begin.wait()
        return asyncio.run(verdicts(office).accept(two[1], OFFICER, WHY))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(accept, range(16)))
    assert sorted(one.repeated for one in answers) == [False] + [True] * 15
    assert len({one.receipts[0].position for one in answers}) == 1
    assert len(office.penalties()) == 2
    assert steps(office, two[1]).count("accepted") == 1


def test_accepting_and_rejecting_at_once_leaves_one_decision(
    office: Office, two: tuple[int, int]
) -> None:
    office.run(verdicts(office).correct(two[1], OFFICER, {"penalty.family": "FAKE_TRAFFIC"}, WHY))
    begin = threading.Barrier(8)

    def decide(number: int) -> str:
        desk = verdicts(office)
        begin.wait()
        try:
            if number % 2:
                asyncio.run(desk.reject(two[1], OFFICER, WHY))
                return "rejected"
            asyncio.run(desk.accept(two[1], OFFICER, WHY))
        except RowSettled:
            return "settled"
        return "accepted"

    with ThreadPoolExecutor(8) as threads:
        ends = set(threads.map(decide, range(8)))
    held = office.quarantine.held(two[1])
    assert held is not None
    assert ends == {"settled", held.state}
    assert len(office.penalties()) == 1 + (held.state == "accepted")


@pytest.mark.parametrize("fault", ["lose the request", "lose the reply"])
@pytest.mark.parametrize("mark", ["accepting", "COMMIT", "_append(", "accepted"])
def test_wherever_an_acceptance_is_cut_off_it_is_completed_once(
    office: Office, two: tuple[int, int], clock: Clock, mark: str, fault: Fault
) -> None:
    office.run(verdicts(office).correct(two[1], OFFICER, {"penalty.family": "FAKE_TRAFFIC"}, WHY))
    with (
        wired(office.ledger.database.conninfo) as wire,
        new_ledger(Database(wire.conninfo), clock) as ledger,
    ):
        wire.plan(mark, fault)
        cut = Verdicts(Quarantine(ledger), Desk(ledger), digest=digest)
        try:
            answered = office.run(cut.accept(two[1], OFFICER, WHY))
        except OutcomeUnknown:
            answered = None
        assert wire.happened == [mark.encode()]
    # What the ledger's own connection loses, the ledger itself makes good.
    assert (answered is None) == (mark != "_append(")
    accepted = office.run(verdicts(office).accept(two[1], OFFICER, WHY))
    assert answered is None or accepted == answered._replace(repeated=True)
    assert len(accepted.receipts) == 1
    assert [one.family for one in office.penalties()] == ["AD_FALSE_CLAIM", "FAKE_TRAFFIC"]
    found = steps(office, two[1])
    assert (found[-1], found.count("accepted")) == ("accepted", 1)


DOUBLES = PENALTIES + '\n[doubles]\nname = "name"\n'
DOUBLE = f"5,{given.OTHER},示例公司,虚假宣传,,2026-01-09\n"


def cut_off_acceptance(office: Office, clock: Clock) -> int:
    """The number of a row that is recorded, and of which the quarantine was never told so."""
    office.take(HEADER + GOOD + DOUBLE, DOUBLES)
    [row] = office.waiting()
    with (
        wired(office.ledger.database.conninfo) as wire,
        new_ledger(Database(wire.conninfo), clock) as ledger,
    ):
        wire.plan("accepted", "lose the request")
        with pytest.raises(OutcomeUnknown):
            office.run(
                Verdicts(Quarantine(ledger), Desk(ledger), digest=digest).accept(
                    row.id, OFFICER, WHY
                )
            )
    assert len(office.penalties()) == 2
    assert steps(office, row.id)[-1] == "accepting"
    return row.id


def test_a_begun_acceptance_is_not_forgotten_when_another_mapping_reads_the_row(
    office: Office, clock: Clock
) -> None:
    id = cut_off_acceptance(office, clock)
    assert office.take(HEADER + GOOD + DOUBLE, DOUBLES + "# more\n").already_quarantined == 1
    assert steps(office, id)[-1] == "accepting"
    with pytest.raises(AcceptanceBegun):
        office.run(verdicts(office).reject(id, OFFICER, WHY))
    with pytest.raises(AcceptanceBegun):
        office.run(verdicts(office).correct(id, OFFICER, {"code": given.PROVIDER}, WHY))
    assert len(office.run(verdicts(office).accept(id, OFFICER, WHY)).receipts) == 1
    assert len(office.penalties()) == 2


def test_an_import_settles_no_row_that_a_person_has_to_himself(
    office: Office, clock: Clock
) -> None:
    """Nor one that is recorded already: the person who is about to say so would be cut off."""
    id = cut_off_acceptance(office, clock)
    importing = mapping_of(PENALTIES)
    work = office.work(importing, given.REGISTRAR, dry_run=False)

    def waited() -> bool:
        locks = b"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(office.ledger.rows(locks))

    async def at_once() -> Tally:
        async with office.quarantine.alone(id, given.REGISTRAR.organisation):
            rows = importing.rows(csv_file(HEADER + GOOD + DOUBLE))
            task = asyncio.create_task(work.run(rows))
            while not (task.done() or await asyncio.to_thread(waited)):  # noqa: ASYNC110 none there
                await asyncio.sleep(0)
            assert steps(office, id)[-1] == "accepting"
        return await task

    assert office.run(at_once()).already_recorded == 2
    held = office.quarantine.held(id)
    assert held is not None
    assert (held.state, len(held.positions)) == ("recorded", 1)
    assert steps(office, id)[-1] == "recorded"


def test_a_row_cut_off_between_its_commands_is_accepted_whole(office: Office) -> None:
    """Where its events stand is told of all of them, also of those before the cut."""
    text = (
        PENALTIES
        + """
[[record]]
command = "contract"

[record.fields]
contract = { column = "no" }
on = { column = "day" }
counterparty = "00000000-0000-4000-8000-000000000001"
evidence = { digest_of_row = "CN-REG-1" }
"""
    )
    office.take(HEADER + WRONG_CHECK, text)
    [row] = office.waiting()

    async def decide() -> Accepted:
        desk = verdicts(office)
        await desk.correct(row.id, OFFICER, {"identifier": given.PROVIDER}, WHY)
        held = office.quarantine.held(row.id)
        assert held is not None
        read = read_again(held)
        assert isinstance(read, Row)
        # What a process recorded that was killed before the second command.
        work = office.work(mapping_of(text), OFFICER, dry_run=False)
        first = work.keys_of(read)[0]
        await Desk(office.ledger).record(
            read.subject,
            read.entries[0].data,
            OFFICER,
            key=first,
            registration=read.registration,
        )
        return await desk.accept(row.id, OFFICER, WHY)

    accepted = office.run(decide())
    events = [
        decode(one.state).type
        for one in office.ledger.read_at([one.position for one in accepted.receipts])
    ]
    assert events == ["penalty.imposed.v1", "contract.completed.v1"]
