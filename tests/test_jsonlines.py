"""Our own JSON Lines: cut the same in whatever parts they come, understood whole or refused."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from api.arrival import Torn
from api.examples import EXAMPLES, LINE, LINE_EXAMPLE
from api.importing import looks_like_lines
from api.intake.csvfile import unpacked
from api.intake.imports import Import
from api.intake.jsonlines import ACTS, FACTS, MAX_LINE_BYTES, Cutter, ImportLine, JsonLines
from api.intake.recordable import COMMANDS, REGISTER
from api.intake.rows import Row, Unread, proof_of
from api.intake.tally import Account, Issue, Outcome, Tally
from api.writes import WRITES
from ledger import acts, events
from ledger.events import Data
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.status import ResumeProvider
from ledger.store import Ledger
from tests import given
from tests.conftest import Run, new_ledger
from tests.test_imports import digest

TARGET = "0198c7a0-0000-7000-8000-00000000002a"
WRONG_CHECK = given.PROVIDER[:-1] + "1"


def line(data: Data | dict[str, Any] | None = None, /, **changes: Any) -> bytes:
    """A line: by default an inspection of this test alone; `...` leaves a member out."""
    body = data if isinstance(data, dict) else (data or given.inspection()).model_dump(mode="json")
    written = {
        "key": "a",
        "identifier": given.PROVIDER,
        "command": "inspection",
        "data": body,
        **changes,
    }
    return orjson.dumps({name: value for name, value in written.items() if value is not ...})


def lines_of(*parts: bytes) -> list[tuple[int, bytes | None]]:
    """What is cut out of a body that comes in these parts."""
    cutter = Cutter()
    found = [(one.number, one.raw) for part in parts for one in cutter.cut(part)]
    return found + [(one.number, one.raw) for one in cutter.rest()]


def rows_of(body: bytes) -> Iterator[Row | Unread]:
    """The rows of a body."""
    return JsonLines().rows(unpacked(io.BufferedReader(io.BytesIO(body))))


def read(raw: bytes) -> Row | Unread:
    """The one row of a body."""
    [row] = rows_of(raw)
    return row


def told(row: Row | Unread) -> list[tuple[str, str]]:
    """Field and code of each problem."""
    assert isinstance(row, Unread)
    assert all(one.reason.en and one.reason.zh for one in row.problems)
    return sorted((one.field, one.code) for one in row.problems)


# --- Lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b"\n\r\n  \n", []),
        (b"a", [(1, b"a")]),
        (b"a\n", [(1, b"a")]),
        (b"a\r\nb\r\n", [(1, b"a"), (2, b"b")]),
        (b"\n\na\n\nb", [(3, b"a"), (5, b"b")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
        (b"a\rb\n", [(1, b"a\rb")]),
        (b"x" * MAX_LINE_BYTES + b"\na", [(1, b"x" * MAX_LINE_BYTES), (2, b"a")]),
        (b"x" * MAX_LINE_BYTES + b"\r\na", [(1, b"x" * MAX_LINE_BYTES), (2, b"a")]),
        (b"x" * (MAX_LINE_BYTES + 1) + b"\na", [(1, None), (2, b"a")]),
        (b"a\n" + b"x" * (3 * MAX_LINE_BYTES), [(1, b"a"), (2, None)]),
    ],
)
def test_a_body_is_cut_into_its_lines(body: bytes, lines: list[tuple[int, bytes | None]]) -> None:
    assert lines_of(body) == lines
    assert lines_of(*(body[at : at + 7_919] for at in range(0, len(body), 7_919))) == lines


@examples(
    st.lists(st.sampled_from([b"a", b"{}", b"\n", b"\r", b" ", b"\xef\xbb\xbf", b"\xff"])),
    st.lists(st.integers(0, 40)),
)
def test_it_is_the_same_in_whatever_parts_it_comes(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[start:end] for start, end in pairwise(at)]
    assert b"".join(parts) == body
    assert lines_of(*parts) == lines_of(body)


def test_a_cutter_keeps_no_more_than_a_line() -> None:
    cutter = Cutter()
    for _ in range(200):
        assert not list(cutter.cut(b"x" * MAX_LINE_BYTES))
        assert len(cutter._begun) <= MAX_LINE_BYTES + 1
    [one] = cutter.cut(b"\n")
    assert one == (1, None)


def test_half_a_line_is_none_where_the_body_is_torn() -> None:
    async def parts() -> AsyncGenerator[bytes, None]:
        yield line(key="whole") + b"\n" + line(key="half")
        raise Torn

    async def keys() -> list[str]:
        return [row.key async for row in JsonLines().arriving(parts())]

    assert asyncio.run(keys()) == ["whole"]


def test_a_gzip_file_is_read_as_far_as_it_goes() -> None:
    body = b"".join(line(key=f"k{number}") + b"\n" for number in range(2_000))
    assert sum(isinstance(row, Row) for row in rows_of(gzip.compress(body))) == 2_000
    *good, last = rows_of(gzip.compress(body)[:-500])
    assert len(good) > 1_000
    assert all(isinstance(row, Row) for row in good)
    assert told(last) == [("line", "malformed")]


@pytest.mark.parametrize(
    ("name", "content", "are"),
    [
        ("-", None, True),
        ("rows.jsonl", b"", True),
        ("rows.NDJSON", b"a,b\n", True),
        ("rows.jsonl.gz", b"", True),
        ("rows.txt", b'{"key"', True),
        ("rows.txt", b'\xef\xbb\xbf{"key"', True),
        ("rows.gz", gzip.compress(b"\xef\xbb\xbf{}", mtime=0), True),
        ("rows.csv", b"a,b\n{\n", False),
        ("rows.csv", b"", False),
        ("rows.gz", gzip.compress(b"a,b\n", mtime=0), False),
    ],
)
def test_a_file_is_known_by_its_name_or_by_how_it_begins(
    tmp_path: Path, name: str, content: bytes | None, are: bool
) -> None:
    path = Path(name) if content is None else tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert looks_like_lines(path) is are


# --- Reading a line ------------------------------------------------------------------------------

FACT_DATA: dict[str, Callable[[], Data]] = {
    "register": given.register,
    "admission": given.admit,
    "suspension": given.suspend_provider,
    "resumption": given.resume_provider,
    "exit": given.exit_provider,
    "reward": given.reward,
    "penalty": given.penalty,
    "complaint": given.complaint,
    "breach": given.breach,
    "contract": given.contract,
    "inspection": given.inspection,
    "listing": given.listing,
    "referral": given.referral,
    "qualification": given.qualification,
}


def test_every_command_of_a_mapping_and_every_act_has_its_write() -> None:
    assert set(FACTS) == set(COMMANDS)
    assert set(FACTS) == set(FACT_DATA)
    assert {write.path for write in (*FACTS.values(), *ACTS.values())} == {
        write.path for write in WRITES
    } - {"/v1/rulebooks"} - {write.path for write in WRITES if write.is_verdict}
    published = ImportLine.model_json_schema()["properties"]["command"]["enum"]
    assert set(published) == {*FACTS, *ACTS}


@pytest.mark.parametrize("command", FACT_DATA)
def test_a_fact_is_the_body_of_its_address(command: str) -> None:
    data = FACT_DATA[command]()
    row = read(line(data, command=command))
    assert isinstance(row, Row)
    assert (row.line, row.key, row.subject, row.registration) == (1, "a", given.PROVIDER, None)
    assert list(row.entries) == [(data, "line/a")]


@pytest.mark.parametrize("command", ACTS)
def test_an_act_names_its_target(command: str) -> None:
    row = read(line(EXAMPLES["DecisionOnFact"], command=command, target=TARGET))
    assert isinstance(row, Row)
    [(data, _)] = row.entries
    assert isinstance(data, events.TargetFields)
    assert (type(data), data.target) == (ACTS[command].command, TARGET)


def test_a_suspension_with_a_target_is_of_the_decision_and_without_of_the_provider() -> None:
    of_provider = read(line(given.resume_provider(), command="resumption"))
    of_decision = read(line(EXAMPLES["DecisionOnFact"], command="resumption", target=TARGET))
    assert isinstance(of_provider, Row)
    assert isinstance(of_decision, Row)
    assert type(of_provider.entries[0].data) is ResumeProvider
    assert type(of_decision.entries[0].data) is acts.ResumeDecision


def test_a_registration_is_that_of_an_import() -> None:
    row = read(line(registration={"name": "示例公司", "entity_kind": "ENTERPRISE"}))
    assert isinstance(row, Row)
    assert row.registration == given.register(name="示例公司", origin="IMPORT")


def test_the_published_example_is_a_line() -> None:
    assert isinstance(read(LINE_EXAMPLE.encode()), Row)
    assert orjson.loads(LINE_EXAMPLE) == LINE


@pytest.mark.parametrize(
    "identifier", [given.PROVIDER.lower(), "９１９９９９９９ＭＡ００ＴＥＸＴ０Ｈ"]
)
def test_lower_case_and_full_width_are_mended(identifier: str) -> None:
    assert read(line(identifier=identifier)).subject == given.PROVIDER


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        (b"{", [("line", "unparsable")]),
        (b'{"key":"a","key":"b"}', [("line", "unparsable")]),
        (b'{"key":"\xff"}', [("line", "unparsable")]),
        (b"[" * 40 + b"]" * 40, [("line", "unparsable")]),
        (b"{}{}", [("line", "unparsable")]),
        (b"[]", [("line", "schema-broken")]),
        (b"null", [("line", "schema-broken")]),
        (
            b"{}",
            [(name, "schema-broken") for name in ("command", "data", "identifier", "key")],
        ),
        (line(key=""), [("key", "schema-broken")]),
        (line(key="a b"), [("key", "schema-broken")]),
        (line(key="键"), [("key", "schema-broken")]),
        (line(key="a" * 256), [("key", "schema-broken")]),
        (line(key=7), [("key", "schema-broken")]),
        (line(identifier=""), [("identifier", "schema-broken")]),
        (line(identifier=7), [("identifier", "schema-broken")]),
        (line(identifier="X"), [("identifier", "invalid-identifier")]),
        (line(identifier="x" * 240), [("identifier", "invalid-identifier")]),
        (line(surprise=1), [("surprise", "schema-broken")]),
        (line(command="fly"), [("command", "schema-broken")]),
        (line(command="repair"), [("target", "schema-broken")]),
        (line(command="penalty", target=TARGET), [("command", "schema-broken")]),
        (line(command="repair", target="7"), [("target", "schema-broken")]),
        (
            line(EXAMPLES["DecisionOnFact"] | {"target": TARGET}, command="repair", target=TARGET),
            [("data.target", "schema-broken")],
        ),
        (line(data=[]), [("data", "schema-broken")]),
        (line(data=...), [("data", "schema-broken")]),
        (line(given.inspection().model_dump(mode="json") | {"serious_count": 1.5}),
         [("data.serious_count", "schema-broken")]),
        (line(given.inspection().model_dump(mode="json") | {"weather": "fine"}),
         [("data.weather", "schema-broken")]),
        (line(given.inspection().model_dump(mode="json") | {"on": "2026-02-30"}),
         [("data.on", "schema-broken")]),
        (line(registration={"name": "x"}), [("registration.entity_kind", "schema-broken")]),
        (
            line(registration={"name": "x", "entity_kind": "ENTERPRISE", "origin": "IMPORT"}),
            [("registration.origin", "schema-broken")],
        ),
        (
            line(
                given.register(), command="register",
                registration={"name": "x", "entity_kind": "ENTERPRISE"},
            ),
            [("registration", "schema-broken")],
        ),
        (
            line({}, identifier="X", registration={}),
            [
                *[(f"data.{name}", "schema-broken") for name in ("inspection", "issuer", "on",
                                                                 "result")],
                ("identifier", "invalid-identifier"),
                *[(f"registration.{name}", "schema-broken") for name in ("entity_kind", "name")],
            ],
        ),
        (line() + b" " * MAX_LINE_BYTES, [("line", "line-too-large")]),
    ],
)  # fmt: skip
def test_a_line_is_understood_whole_or_told_with_every_reason(
    raw: bytes, problems: list[tuple[str, str]]
) -> None:
    row = read(raw)
    assert told(row) == problems
    assert isinstance(row, Unread)
    assert not row.doubtful


def test_the_place_of_a_fault_is_told_in_characters_of_the_line() -> None:
    row = read(b'\n\n{"key": x}')
    assert isinstance(row, Unread)
    assert row.line == 3
    assert "(character 9)" in row.problems[0].reason.en
    assert "第 9 个字符处有误" in row.problems[0].reason.zh


def test_a_wrong_check_character_is_for_a_person_to_judge() -> None:
    row = read(line(identifier=WRONG_CHECK))
    assert told(row) == [("identifier", "invalid-identifier")]
    assert isinstance(row, Unread)
    assert row.doubtful
    assert (row.key, row.subject) == ("a", WRONG_CHECK)
    # What else is wrong nobody can answer by looking at the licence.
    also = read(line({}, identifier=WRONG_CHECK))
    assert isinstance(also, Unread)
    assert not also.doubtful


@pytest.mark.parametrize(
    "raw",
    [
        line(identifier=WRONG_CHECK, registration={"name": "某公司", "entity_kind": "ENTERPRISE"}),
        line(EXAMPLES["DecisionOnFact"], identifier=WRONG_CHECK, command="repair", target=TARGET),
    ],
)
def test_a_line_kept_for_a_person_is_read_again_as_it_was(raw: bytes) -> None:
    kept = read(raw)
    assert isinstance(kept, Unread)
    assert JsonLines().read_again(1, kept.cells, proof_of(kept.raw)) == kept
    corrected = {**kept.cells, "identifier": given.PROVIDER}
    meant = read(raw.replace(WRONG_CHECK.encode(), given.PROVIDER.encode()))
    assert isinstance(meant, Row)
    again = JsonLines().read_again(1, corrected, proof_of(kept.raw))
    assert again == replace(meant, raw=proof_of(raw))
    broken = JsonLines().read_again(1, {**corrected, "data": "{"}, proof_of(raw))
    assert told(broken) == [("data", "unparsable")]


# --- Into the ledger -----------------------------------------------------------------------------


class Counter:
    """An import of lines into the opened ledger, at a desk of its own, as in a new process."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.ledger, self.run = ledger, run
        self.outcomes: dict[int, Outcome] = {}
        self.issues: list[Issue] = []

    def take(self, *lines: bytes, actor: Actor = given.REGISTRAR) -> Tally:
        """Import; `outcomes` then has what became of each line."""
        told: list[Outcome] = []
        self.issues = []
        work = Import(
            Desk(self.ledger),
            actor,
            name=JsonLines.name,
            purpose=None,
            digest=digest,
            account=Account(self.issues.append, answer=told.append),
        )
        tally = self.run(work.run(rows_of(b"\n".join(lines))))
        self.outcomes = {one.line: one for one in told}
        assert len(told) == len(self.outcomes) == tally.rows
        return tally

    def states(self) -> list[str]:
        """What became of the lines, in their order."""
        return [self.outcomes[number].state for number in sorted(self.outcomes)]


@pytest.fixture
def counter(opened: Ledger, run: Run) -> Counter:
    return Counter(opened, run)


REGISTRATION = {"name": "示例文化传媒有限公司", "entity_kind": "ENTERPRISE"}


def test_lines_are_recorded_once_and_answered_again(counter: Counter) -> None:
    lines = [
        line(key="1", registration=REGISTRATION),
        line(key="2", registration=REGISTRATION),
        line(given.penalty(), key="3", command="penalty"),
    ]
    assert counter.take(*lines) == Tally(rows=3, registered=1, recorded=3)
    first = [one.receipts for _, one in sorted(counter.outcomes.items())]
    assert [[receipt.position for receipt in one] for one in first] == [[3], [4], [5]]
    assert counter.take(*lines) == Tally(rows=3, already_recorded=3)
    again = [one.receipts for _, one in sorted(counter.outcomes.items())]
    assert again == [[receipt._replace(repeated=True) for receipt in one] for one in first]
    assert counter.ledger.head() == 5


def test_the_id_in_an_answer_is_what_a_later_line_repairs(counter: Counter) -> None:
    year_ago = given.TODAY.replace(year=2025)
    days = dict.fromkeys(("occurred_on", "decided_on", "served_on"), year_ago)
    penalty = given.penalty(**days, obligation=False)
    counter.take(line(penalty, key="1", command="penalty", registration=REGISTRATION))
    target = counter.outcomes[1].receipts[0].id
    act = line(EXAMPLES["DecisionOnFact"], key="2", command="repair", target=target)
    assert counter.take(act).recorded == 1
    assert counter.take(act).already_recorded == 1


def test_a_key_belongs_to_organisation_and_subject(counter: Counter) -> None:
    one = line(registration=REGISTRATION)
    other_subject = line(identifier=given.OTHER, registration=REGISTRATION)
    assert counter.take(one, other_subject).recorded == 2
    other_content = line(registration=REGISTRATION)
    other_command = line(given.reward(), command="reward")
    assert counter.take(other_content, other_command).refused == 2
    codes = [counter.outcomes[number].problems[0].code for number in (1, 2)]
    assert codes == ["key-reused", "key-taken"]
    # Another organisation's key is another key: its line meets the ledger's own rules.
    assert counter.take(one, actor=given.PLATFORM).refused == 1
    assert counter.outcomes[1].problems[0].code == "duplicate-fact"


def test_a_line_that_stands_there_twice_names_the_first(counter: Counter) -> None:
    one = line(registration=REGISTRATION)
    counter.take(one, b"", one, line(given.reward(), command="reward"))
    assert counter.states() == ["recorded", "repeated", "refused"]
    assert counter.outcomes[3].first_line == 1
    assert [(issue.line, issue.code) for issue in counter.issues] == [
        (3, "repeated"),
        (4, "key-taken"),
    ]


def test_a_subject_is_registered_by_a_command_once(counter: Counter) -> None:
    register = line(given.register(), key="r", command="register")
    again = line(given.register(name="另一公司"), key="s", command="register")
    assert counter.take(register, again) == Tally(rows=2, recorded=1, refused=1)
    assert counter.outcomes[2].problems[0].code == "provider-exists"
    assert counter.take(register).already_recorded == 1
    [receipt] = counter.outcomes[1].receipts
    assert (receipt.position, receipt.version) == (2, 1)
    # After it, a line may bring its registration along; it is not needed.
    assert counter.take(line(key="t", registration=REGISTRATION)).registered == 0


def test_what_the_ledger_refuses_is_told_of_the_line_and_nothing_is_registered(
    counter: Counter,
) -> None:
    late = line(given.inspection(on=given.TODAY.replace(year=2030)), registration=REGISTRATION)
    unknown = line(identifier=given.OTHER)
    assert counter.take(late, unknown).refused == 2
    assert [counter.outcomes[number].problems[0].code for number in (1, 2)] == [
        "date-in-future",
        "unknown-provider",
    ]
    assert counter.ledger.head() == 1


def test_many_refused_lines_do_not_hold_back_the_answers(counter: Counter) -> None:
    """A good line is settled within a block, however many bad ones follow it."""
    good = line(registration=REGISTRATION)
    at_most: list[int] = []

    def body() -> Any:
        yield read(good)
        for number in range(2, 5_000):
            at_most.append(int("recorded" in {one.state for one in told}))
            yield Unread(number, read_problems)

    told: list[Outcome] = []
    refused = read(b"{")
    assert isinstance(refused, Unread)
    read_problems = refused.problems
    work = Import(
        Desk(counter.ledger),
        given.REGISTRAR,
        name="lines",
        purpose=None,
        digest=digest,
        account=Account(answer=told.append),
    )
    work.block_rows = 50
    counter.run(work.run(body()))
    # The first block, and five more under way at the most.
    assert at_most.index(1) <= 6 * 50


def test_two_processes_with_the_same_lines_record_each_once(
    counter: Counter, database: Any, clock: Any, run: Run
) -> None:
    lines = b"\n".join(line(key=str(n), registration=REGISTRATION) for n in range(300))

    async def both() -> list[Tally]:
        with new_ledger(database, clock) as other:
            works = [
                Import(
                    Desk(ledger), given.REGISTRAR, name="x", purpose=None, digest=digest,
                    account=Account(),
                )
                for ledger in (counter.ledger, other)
            ]  # fmt: skip
            return await asyncio.gather(*(work.run(rows_of(lines)) for work in works))

    tallies = run(both())
    assert [tally.refused for tally in tallies] == [0, 0]
    assert counter.ledger.head() == 1 + 1 + 300
    assert sum(tally.registered for tally in tallies) == 1


def test_the_command_of_registration_needs_no_more_than_its_address() -> None:
    assert FACTS[REGISTER].path == "/v1/providers"
    assert FACTS[REGISTER].roles == ("registrar",)
