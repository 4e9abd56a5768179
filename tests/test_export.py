"""双公示 out and in again: the same bytes, the same events; what may not be told is not there."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from api.demo.ledger import Plan, demonstrate
from api.intake.forms.export import Encoding, lines_of
from api.intake.forms.form import form_of
from api.intake.forms.remark import FORMULA, MARK, guarded, row_of, unguarded
from api.intake.mapping import Importing
from api.intake.rows import Unread
from api.intake.source import recognised_file
from ledger.acts import GrantRepair
from ledger.database import Database
from ledger.envelope import decode
from ledger.errors import LedgerError
from ledger.events import Data, DecisionOverturned, PenaltyImposed
from ledger.handle import Desk
from ledger.qualification import QualificationRevoked, QualificationVerified
from ledger.store import Ledger
from projections.decisions import LICENCE, PENALTY, Decisions, Kind, Subject, Told
from projections.disclosure import Disclosure
from projections.runner import advance, migrate_projections
from tests import given
from tests.conftest import Clock, Run, drop, new_ledger
from tests.histories import Author, World, world_of
from tests.officers import approve_all, decided
from tests.test_events import data_of
from tests.test_forms import stream
from tests.test_imports import new_import

TYPES: dict[Kind, tuple[type[Data], ...]] = {
    PENALTY: (PenaltyImposed, DecisionOverturned),
    LICENCE: (QualificationVerified, QualificationRevoked),
}
KINDS = pytest.mark.parametrize("kind", TYPES, ids=["penalty", "licence"])
ENCODINGS = pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
Databases = Callable[[], Database]


def exported(
    ledger: Ledger,
    run: Run,
    kind: Kind,
    *,
    today: date | None = None,
    encoding: Encoding = "utf-8",
) -> bytes:
    """A whole file: what the public sees on a day, or everything."""
    decisions = Decisions(ledger, Disclosure(ledger), kind)
    told = decisions.every() if today is None else decisions.public(today=today)
    rulebooks = run(Desk(ledger).rulebooks())
    return b"".join(lines_of(kind, told, rulebooks, encoding=encoding))


def rows_of(content: bytes) -> list[dict[str, str]]:
    """The rows of an exported file, each with the remark's object parsed."""
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    return [row | {"BZ": orjson.loads(row["BZ"].removeprefix(MARK))} for row in rows]


def take(ledger: Ledger, run: Run, content: bytes) -> list[str]:
    """Import a file as `chengxin import FILE` does; what was told.

    What is withdrawn awaits a second officer; then the file is imported once more, since a decision
    that was made anew is recorded only when the first one is withdrawn.
    """
    issues: list[Any] = []
    proposed = True
    while proposed:
        importing, table = recognised_file(stream(content))
        issues.clear()
        work = new_import(ledger, importing, tell=issues.append)
        run(work.run(importing.rows(table)))
        proposed = bool(run(approve_all(Desk(ledger))))
    return [f"{one.line} {one.field} {one.code} {one.reason.en}" for one in issues]


@contextmanager
def another(databases: Databases, run: Run, clock: Clock) -> Iterator[Ledger]:
    """A ledger of somebody else, opened and empty, on the same day."""
    database = databases()
    migrate_projections(database)
    with new_ledger(database, clock) as ledger:
        run(Desk(ledger).open_ledger(given.opening(name="另一账本"), given.REGISTRAR))
        yield ledger
    drop(database)


def follow(ledger: Ledger, today: date) -> None:
    """Bring the disclosure projection to the head."""
    with ledger.database.connect() as connection:
        while advance(connection, ledger, Disclosure(ledger), today=today):
            pass


def facts(ledger: Ledger, kind: Kind) -> list[tuple[str, str, dict[str, Any]]]:
    """The data of all administrative decisions of a kind and of their ends, by subject.

    Ids are the ledger's own, so that a target is told by what stands there; whether an entry was
    late is the receiving ledger's judgement.
    """
    found = []
    named: dict[str, object] = {}
    for stored in ledger.read(0, 1_000_000):
        event = decode(stored.state)
        if not isinstance(event.data, TYPES[kind]):
            continue
        data = event.data.model_dump(mode="json", exclude={"late_entry"})
        if isinstance(event.data, TYPES[kind][0]):
            if data["issuer"]["kind"] != "REGULATOR":
                continue
            named[event.id] = data
        elif data["target"] not in named:
            continue
        else:
            data["target"] = named[data["target"]]
            data["target_facts"] = len(data["target_facts"])
        found.append((event.subject or "", event.data.type, data))
    return sorted(found, key=repr)


def lived(world: World, seed: int, steps: int) -> None:
    """Random histories of three providers, one of them without a USCC, all on one day."""
    author = Author(Random(seed), world.run(world.desk.rulebooks()))
    providers = (given.PROVIDER, given.OTHER, "CN-GSZC-999999600000012", "HK-CR-1234567")
    for step in range(steps):
        world.attempt(author, providers[step % len(providers)])


# --- round trips ----------------------------------------------------------------------------------


@KINDS
@ENCODINGS
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_comes_back_the_same_to_the_byte(
    ledger: Ledger,
    run: Run,
    clock: Clock,
    databases: Databases,
    kind: Kind,
    encoding: Encoding,
    seed: int,
) -> None:
    with world_of(ledger, run, clock, 2026, 3, 2, 2) as world:
        lived(world, seed, 400)
        content = exported(ledger, run, kind, encoding=encoding)
        with another(databases, run, clock) as other:
            assert take(other, run, content) == []
            assert exported(other, run, kind, encoding=encoding) == content
            assert facts(other, kind) == facts(ledger, kind)
            assert len(facts(other, kind)) > 10
            head = other.head()
            assert take(other, run, content) == []
            assert other.head() == head, "a second import records nothing"


@KINDS
def test_what_the_public_sees_comes_back_the_same_to_the_byte(
    ledger: Ledger, run: Run, clock: Clock, databases: Databases, kind: Kind
) -> None:
    """Also after withdrawals, for whoever follows from export to export."""
    with world_of(ledger, run, clock, 2026, 3, 2, 2) as world:
        author = Author(Random(5), run(world.desk.rulebooks()))
        with another(databases, run, clock) as other:
            withdrawn = 0
            for _ in range(8):
                for step in range(40):
                    provider = given.PROVIDERS[step % 3]
                    command = author.propose(world.state(provider), world.today)
                    if not isinstance(command, GrantRepair):  # the form cannot tell of a repair
                        with suppress(LedgerError):
                            run(decided(world.desk, provider, command))
                clock.advance(days=4)
                for one in (ledger, other):
                    follow(one, world.today)
                content = exported(ledger, run, kind, today=world.today)
                told = take(other, run, content)
                assert all("unknown-decision" in one for one in told), told
                follow(other, world.today)
                mine = rows_of(content)
                withdrawn += sum("status" in row["BZ"] for row in mine)
                assert shown(rows_of(exported(other, run, kind, today=world.today))) == shown(mine)
            assert withdrawn > 3


def shown(rows: list[dict[str, Any]]) -> list[str]:
    """The rows that give something, as they stand."""
    return [repr(row) for row in rows if "status" not in row["BZ"]]


def test_the_demonstration_comes_back_the_same_to_the_byte(
    run: Run, databases: Databases, clock: Clock
) -> None:
    last = date(2026, 11, 20)
    database = databases()
    migrate_projections(database)
    run(demonstrate(database, Plan(last, 40)))
    clock.set(2026, 11, 20, 2)
    with new_ledger(database, clock) as ledger, another(databases, run, clock) as other:
        for today in (None, last):
            follow(ledger, last)
            content = exported(ledger, run, PENALTY, today=today)
            assert content.count(b"\r\n") >= 10
            if today is None:
                assert take(other, run, content) == []
                follow(other, last)
                assert facts(other, PENALTY) == facts(ledger, PENALTY)
                assert exported(other, run, PENALTY) == content
    drop(database)


TEXTS = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"]), min_size=1, max_size=30
).filter(lambda text: text == text.strip())


@for_all(
    TEXTS | st.sampled_from(["=1+1", "'=1", "''", "-", "+1", "@SUM(A1)", "＝1", "暂无", 'a,"b'])
)
def test_no_cell_is_a_formula_and_every_cell_comes_back(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert guarded(text)[0] not in FORMULA - {"'"}


@settings(max_examples=25)
@for_all(st.data())
def test_any_decision_comes_back_through_a_row(data: st.DataObject) -> None:
    penalty = data.draw(data_of(PenaltyImposed))
    event = penalty.model_dump(mode="json")
    event["issuer"]["kind"] = "REGULATOR"
    if event["document_no"].startswith(MARK):
        return
    name = data.draw(TEXTS)
    subject = Subject("91999999MA00FRM01N", name, "ENTERPRISE")
    form = form_of("shuanggongshi-penalty")
    cells = row_of(form, Told(subject, event, 1), title="虚假宣传")
    header = ",".join(one.name for one in form.today)
    line = io.StringIO(newline="")
    csv.writer(line).writerow([cells.get(one.name, "") for one in form.today])
    importing, table = recognised_file(stream(f"{header}\r\n{line.getvalue()}".encode()))
    [row] = importing.rows(table)
    assert not isinstance(row, Unread), row.problems
    assert row.registration is not None
    assert dict(row.registration)["name"] == name
    command = row.entries[0].data.model_dump(mode="json")
    wanted = {k: v for k, v in event.items() if k not in ("publicity", "late_entry")}
    assert without_sealed(command) == without_sealed(wanted)
    assert "sealed" not in cells["BZ"]
    assert '"person"' not in cells["BZ"]


def without_sealed(data: Any) -> Any:
    """Data without what a file never takes along: the groups of sealed text."""
    if isinstance(data, list):
        return [without_sealed(one) for one in data]
    if not isinstance(data, dict):
        return data
    groups = ("remark", "described")
    return {name: without_sealed(one) for name, one in data.items() if name not in groups}


# --- what is in it and what is not ----------------------------------------------------------------


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """An open ledger on 2 March 2026 with one provider."""
    with world_of(ledger, run, clock, 2026, 3, 2, 2) as world:
        world.record(given.register())
        yield world


def public(world: World, kind: Kind = PENALTY) -> list[dict[str, Any]]:
    """The rows of the public file of today."""
    return rows_of(exported(world.ledger, world.run, kind, today=world.today))


def test_the_row_of_a_public_penalty(world: World) -> None:
    world.record(given.penalty(document_no="市监处〔2026〕1号", incident="INC-1"))
    [row] = public(world)
    remark = row.pop("BZ")
    assert {name: text for name, text in row.items() if text} == {
        "CF_XDR_MC": "示例文化传媒有限公司",
        "CF_XDR_LB": "法人及非法人组织",
        "CF_XDR_SHXYM": given.PROVIDER,
        "CF_WSH": "市监处〔2026〕1号",
        "CF_WFXW": "虚假宣传",
        "CF_YJ": "《广告法》第五十五条",
        "CF_JDRQ": "2026-02-10",
        "CF_GSJZQ": "2027-02-10",
        "CF_CFJG": "某市市场监督管理局",
        "CF_SJLY": "某市市场监督管理局",
    }
    evidence = without_sealed(given.penalty().evidence[0].model_dump(mode="json"))
    assert remark == {
        "category": "ADVERT",
        "entity_kind": "ENTERPRISE",
        "evidence": [evidence],
        "family": "AD_FALSE_CLAIM",
        "incident": "INC-1",
        "obligation": False,
        "occurred_on": "2026-01-05",
        "served_on": "2026-02-12",
        "severity": "S2",
    }


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (given.penalty(severity="S1", family="LATE_RESPONSE", category="COMPLAINT"), "minor"),
        (given.penalty(served_on=date(2026, 3, 20)), "not served yet"),
        (given.penalty(issuer=given.issuer("PLATFORM")), "no administrative decision"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_not_public_is_not_in_the_public_file(
    world: World, command: Data, why: str
) -> None:
    world.record(command)
    assert public(world) == [], why


def test_an_overturned_decision_leaves_a_row_that_withdraws_it_and_tells_no_more(
    world: World,
) -> None:
    item = world.record(given.penalty(document_no="市监处〔2026〕1号"))
    world.record(given.overturn(item.id, document_no="撤〔2026〕9号"))
    [row] = public(world)
    assert {name: text for name, text in row.items() if text} == {
        "CF_XDR_SHXYM": given.PROVIDER,
        "CF_WSH": "市监处〔2026〕1号",
        "CF_CFJG": "某市市场监督管理局",
        "BZ": {"status": "撤销"},
    }


def test_of_two_findings_of_a_document_the_withdrawn_one_is_named(world: World) -> None:
    fields = {"document_no": "市监处〔2026〕1号", "incident": "INC-1"}
    item = world.record(given.penalty(**fields))
    world.record(given.penalty(**fields, family="AD_ABSOLUTE"))
    world.record(given.overturn(item.id))
    _, withdrawal = public(world)
    named = {"status": "撤销", "incident": "INC-1", "family": "AD_FALSE_CLAIM"}
    assert withdrawal["BZ"] == named


def test_what_was_repaired_or_never_seen_or_is_over_leaves_nothing(world: World) -> None:
    seen_never = world.record(given.penalty(served_on=date(2026, 3, 20)))
    world.record(given.overturn(seen_never.id))
    old = {"decided_on": date(2025, 6, 1), "served_on": date(2025, 6, 1)}
    repaired = world.record(given.penalty(occurred_on=date(2025, 5, 1), **old))
    world.record(given.repair(repaired.id))
    both = world.record(given.penalty(occurred_on=date(2025, 5, 1), **old))
    world.record(given.repair(both.id))
    world.record(given.overturn(both.id))
    over = world.record(given.penalty(public_until=date(2026, 5, 20)))
    world.record(given.overturn(over.id))
    world.clock.set(2026, 5, 20, 2)
    world.follow()
    assert public(world) == []


def test_a_projection_that_stands_still_tells_of_nothing_withdrawn(world: World) -> None:
    item = world.record(given.penalty())
    world.run(decided(world.desk, given.PROVIDER, given.overturn(item.id)))
    [row] = public(world)
    assert row["BZ"] == {"status": "撤销"}


def test_the_row_of_a_licence_and_of_its_end(world: World) -> None:
    item = world.record(given.qualification(document_no="市监许〔2026〕1号", valid_until=None))
    [row] = public(world, LICENCE)
    assert (row["XK_YXQZI"], row["BZ"]["endless"]) == ("2099-12-31", True)
    assert (row["XK_XKZS"], row["XK_ZT"]) == ("增值电信业务经营许可证", "正常")
    world.record(given.revoke_qualification(item.id))
    [row] = public(world, LICENCE)
    assert (row["BZ"], row["XK_ZT"]) == ({"status": "撤销"}, "撤销")
    assert row["XK_XKZS"] == ""


def test_a_row_that_somebody_changed_is_for_a_person(
    world: World, databases: Databases, run: Run, clock: Clock
) -> None:
    world.record(given.penalty())
    content = exported(world.ledger, run, PENALTY)
    for old, new in ((b'""S2""', b'""S9""' * 40), (b"ENTERPRISE", b"SOMETHING"), (b'}"', b'"')):
        assert old in content
        importing, table = recognised_file(stream(content.replace(old, new)))
        assert isinstance(importing, Importing)
        [row] = importing.rows(table)
        assert isinstance(row, Unread)
        assert row.doubtful
        [problem] = row.problems
        assert problem.code == "own-row-changed"
        assert "：" in problem.reason.zh
        assert "should" not in problem.reason.zh


def test_a_remark_like_ours_lets_no_person_in(world: World, run: Run) -> None:
    world.record(given.penalty())
    content = exported(world.ledger, run, PENALTY)
    changed = content.replace("法人及非法人组织".encode(), "自然人".encode())
    assert changed != content
    importing, table = recognised_file(stream(changed))
    [row] = importing.rows(table)
    assert isinstance(row, Unread)
    assert ([one.code for one in row.problems], row.cells) == (["natural-person"], {})


def test_a_day_after_its_last_a_licence_is_still_told(world: World) -> None:
    world.record(given.qualification(valid_until=world.today - timedelta(days=1)))
    assert len(public(world, LICENCE)) == 1
    assert world.sheet()["qualifications"][0]["status"] == "EXPIRED"
