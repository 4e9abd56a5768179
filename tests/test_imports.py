"""Importing: every kind of bad row is told, good ones are recorded once, whatever happens."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from pydantic import ValidationError

from api.intake.complaint import MappingError
from api.intake.csvfile import CsvFile, Fault, NoHeader, Record, unpacked
from api.intake.imports import Import
from api.intake.mapping import Importing, load_mapping
from api.intake.mappingfile import MappingFile
from api.intake.recordable import BY_AUTHORITY, COMMANDS
from api.intake.rehearsal import Rehearsal
from api.intake.rows import Row, Unread
from api.intake.tally import Account, Issue, Tally
from ledger.database import Database
from ledger.envelope import decode
from ledger.errors import WrongPurpose
from ledger.events import (
    Data,
    InspectionRecorded,
    PenaltyImposed,
    ProviderRegistered,
    provider_stream,
)
from ledger.handle import MAX_PRELOADED_VERSION, Desk
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, Run, new_ledger

ROOT = Path(__file__).resolve().parent.parent
CHICAGO = ROOT / "docs" / "imports" / "chicago.toml"
HEADER = "no,firm,name,day,result,serious"
INSPECTIONS: dict[str, Any] = {
    "name": "inspections",
    "identifier": {"template": "US-CHI-{firm}", "missing": ["0"]},
    "row": {"key": ["no"]},
    "record": [
        {
            "command": "register",
            "fields": {"name": {"column": "name"}, "entity_kind": "ENTERPRISE"},
        },
        {
            "command": "inspection",
            "fields": {
                "inspection": {"column": "no"},
                "on": {"column": "day"},
                "result": {"column": "result", "values": {"ok": "CLEAN", "bad": "FINDING"}},
                "serious_count": {"column": "serious", "default": 0},
                "issuer": {"kind": "REGULATOR", "name": "City"},
            },
        },
    ],
}


def digest(*parts: bytes) -> bytes:
    """A request's digest."""
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


def mapping(written: dict[str, Any] = INSPECTIONS, **changes: Any) -> Importing:
    """A mapping, with top-level members changed."""
    return Importing(MappingFile.model_validate(written | changes))


def csv_file(content: bytes | str, *, encoding: str = "utf-8", delimiter: str = ",") -> CsvFile:
    """A file with this content."""
    raw = content.encode(encoding) if isinstance(content, str) else content
    stream = unpacked(io.BufferedReader(io.BytesIO(raw)))
    return CsvFile(stream, encoding=encoding, delimiter=delimiter)


def new_import(
    ledger: Ledger,
    importing: Importing,
    *,
    tell: Callable[[Issue], None],
    advance: Callable[[Tally], None] = lambda tally: None,
) -> Import:
    """An import at a desk of its own, as in a new process."""
    return Import(
        Desk(ledger),
        given.REGISTRAR,
        name=importing.name,
        purpose=importing.purpose,
        digest=digest,
        account=Account(tell),
        advance=advance,
    )


class Office:
    """A test-data ledger and an import into it."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.ledger = ledger
        self.run = run
        self.issues: list[Issue] = []
        run(Desk(ledger).open_ledger(given.opening(purpose="test-data"), given.REGISTRAR))

    def take(
        self,
        content: bytes | str | CsvFile,
        importing: Importing | None = None,
        *,
        advance: Callable[[Tally], None] = lambda tally: None,
    ) -> Tally:
        """Import; a new desk, as in a new process. `issues` then has what was told."""
        self.issues = []
        file = content if isinstance(content, CsvFile) else csv_file(content)
        importing = importing or mapping()
        rows = importing.rows(file)
        work = new_import(self.ledger, importing, tell=self.issues.append, advance=advance)
        return self.run(work.run(rows))

    def told(self) -> list[tuple[int, str, str]]:
        """Line, field and code of each issue, in the order of the lines."""
        return sorted((one.line, one.field, one.code) for one in self.issues)

    def data(self, kind: type[Data] = Data) -> list[Data]:
        """The data of all events of a kind after the opening, in order."""
        events = [decode(row.state) for row in self.ledger.read(1, 1_000_000)]
        return [event.data for event in events if isinstance(event.data, kind)]


@pytest.fixture
def office(ledger: Ledger, run: Run) -> Office:
    """An office with an empty test-data ledger."""
    return Office(ledger, run)


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a,b\n1,2\n\n3,4", {2: ["1", "2"], 4: ["3", "4"]}),
        (b"a,b\r\n1,2\r\n  \r\n3,4\r\n", {2: ["1", "2"], 4: ["3", "4"]}),
        (b'\xef\xbb\xbf"a",b\n1,"x,\n""y"""\n3,4\n', {2: ["1", 'x,\n"y"'], 4: ["3", "4"]}),
        (b"a,b\n1,2,3\n4\n5,6\n", {2: "3 fields", 3: "1 fields", 4: ["5", "6"]}),
        (b"a,b\n1,x\x00\n3,4\n", {2: "NUL", 3: ["3", "4"]}),
        (b"a,b\n1,\xff\xfe\n3,4\n", {2: "not utf-8 at byte 3", 3: ["3", "4"]}),
        (b'a,b\n1,"x\n3,4\n5,"6,7"\n', {2: "not closed", 3: ["3", "4"], 4: ["5", "6,7"]}),
        (b'a,b\n1,"x\n3,4\n5,6"\n7,8\n', {2: ["1", "x\n3,4\n5,6"], 5: ["7", "8"]}),
        (b'a,b\n1,"x\n3,"4\n5,6\n', {2: "not closed", 3: "not closed", 4: ["5", "6"]}),
        (b'a,b\n"x"y,2\n3,4\n', {2: "malformed", 3: ["3", "4"]}),
        (b"a,b\n1,x\ry\n3,4\n", {2: "malformed", 3: ["3", "4"]}),
        (b"a,b\n1," + b"x" * 1_100_000 + b"\n3,4\n", {2: "longer than", 3: ["3", "4"]}),
        (b'a,b\n1,"' + b"x\n" * 100 + b"3,4\n", None),
    ],
)
def test_a_fault_costs_its_own_line_only(
    content: bytes, lines: dict[int, list[str] | str] | None
) -> None:
    found = list(csv_file(content))
    if lines is None:  # a quote never closed: every line is told, the last is read
        assert [one.line for one in found] == list(range(2, 103))
        assert [isinstance(one, Record) for one in found] == [False] * 100 + [True]
        return
    assert [one.line for one in found] == list(lines)
    for one, wanted in zip(found, lines.values(), strict=True):
        if isinstance(one, Fault):
            assert isinstance(wanted, str)
            assert wanted in one.reason.en
        else:
            assert one.cells == wanted


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk", "big5"])
def test_encodings(encoding: str) -> None:
    file = csv_file("名;市\n誠信;x\n", encoding=encoding, delimiter=";")
    assert file.columns == ["名", "市"]
    assert [one.cells for one in file if isinstance(one, Record)] == [["誠信", "x"]]


def test_gzip_is_told_by_its_bytes_and_a_torn_one_is_read_as_far_as_it_goes() -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(30_000)))
    assert sum(isinstance(one, Record) for one in csv_file(whole)) == 30_000
    *good, last = list(csv_file(whole[:-1000]))
    assert len(good) > 10_000
    assert all(isinstance(one, Record) for one in good)
    assert isinstance(last, Fault)
    assert "damaged" in last.reason.en


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty"), (b"\n\n", "empty"), (b"a,b,a\n1,2,3\n", "twice"), (b"\xff\n", "not utf-8")],
)
def test_a_file_without_a_header(content: bytes, why: str) -> None:
    with pytest.raises(NoHeader, match=why):
        csv_file(content)


# --- Mappings ------------------------------------------------------------------------------------


def record_of(command: str, **fields: Any) -> dict[str, Any]:
    return {"record": [{"command": command, "fields": fields}]}


GOOD = INSPECTIONS["record"][1]["fields"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "Not A Name"}, "name String should match"),
        ({"purpose": "fun"}, "purpose"),
        ({"surprise": 1}, "surprise Extra inputs"),
        ({"source": {"encoding": "utf-17"}}, "unknown encoding"),
        ({"source": {"encoding": "utf-16"}}, "convert the file to UTF-8"),
        ({"source": {"delimiter": "::"}}, "delimiter"),
        ({"row": {"key": []}}, "row.key"),
        ({"record": []}, "record"),
        ({"identifier": {"column": "a", "template": "{a}"}}, "exactly one of"),
        ({"identifier": {"template": "fixed"}}, "names no column"),
        ({"identifier": {"template": "{a!r}"}}, "nothing else"),
        ({"identifier": {"digest_of_row": "X"}}, "evidence only"),
        (record_of("fly"), "there is no command 'fly'"),
        (record_of("inspection", **GOOD, weather={"column": "w"}), "there is no field weather"),
        (record_of("inspection", on={"column": "day"}), "the field inspection is missing"),
        (record_of("inspection", **GOOD | {"issuer": "City"}), "a table of its fields"),
        (record_of("inspection", **GOOD | {"issuer": {"kind": "X"}}), "field name is missing"),
        (record_of("inspection", **GOOD | {"issuer": {"kind": "x", "name": "y"}}), "kind"),
        (record_of("inspection", **GOOD | {"result": "FINE"}), "result"),
        (
            record_of("inspection", **GOOD | {"result": {"column": "r", "values": {"1": "FINE"}}}),
            "result",
        ),
        (
            record_of("inspection", **GOOD | {"serious_count": {"column": "s", "default": "x"}}),
            "serious_count",
        ),
        (record_of("inspection", **GOOD | {"result": {"column": "r", "date": "%Y"}}), "for days"),
        (record_of("inspection", **GOOD | {"result": {"column": "r", "split": ";"}}), "list"),
        (record_of("inspection", **GOOD | {"evidence": {"column": "e"}}), "digest_of_row"),
        (record_of("inspection", **GOOD | {"evidence": {"digest_of_row": "no good"}}), "custodian"),
        (record_of("register", name="x", entity_kind="ENTERPRISE", origin="IMPORT"), "not yours"),
        (record_of("reward", consent={"column": "c"}), "a table that gives true and false"),
        ({"record": [INSPECTIONS["record"][0]] * 2}, "stands there twice"),
    ],
)
def test_a_wrong_mapping_is_refused_before_any_row(changes: dict[str, Any], why: str) -> None:
    with pytest.raises((MappingError, ValidationError)) as refused:
        mapping(**changes)
    assert why in " ".join(str(refused.value).split())


def test_a_mapping_tells_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        'name = "m"\nidentifier = { template = "x" }\nrow = { key = ["a"] }\n'
        '[[record]]\ncommand = "fly"\nfields = {}\n[[record]]\ncommand = "contract"\nfields = {}\n'
    )
    with pytest.raises(MappingError) as refused:
        load_mapping(path)
    for why in ("m.toml", "names no column", "'fly'", "field contract is missing"):
        assert why in str(refused.value)
    for why in (
        "m.toml：",
        "未引用任何列",
        "没有命令 'fly'，只有：",
        "；",
        "缺少字段 contract",
    ):
        assert why in refused.value.reason.zh


def test_what_is_wrong_with_a_source_is_told_in_both_languages(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        'name = "m"\nidentifier = { column = "a", template = "{b}" }\nrow = { key = ["a"] }\n'
        '[[record]]\ncommand = "exit"\nfields = {}\n'
    )
    with pytest.raises(MappingError, match="identifier: Value error, name exactly one of") as told:
        load_mapping(path)
    assert told.value.reason.zh.endswith(
        "identifier：须且只能写明其中一项：column、constant、template、coined、digest_of_row"
    )


@pytest.mark.parametrize("text", ["name = ", "\xff", "name = 1\n"])
def test_a_mapping_that_is_no_toml_or_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(MappingError, match=r"m\.toml"):
        load_mapping(path)


def test_a_missing_column_is_told_with_the_nearest_one(office: Office) -> None:
    with pytest.raises(MappingError, match=r"no column 'serious' \(did you mean 'Serious'"):
        office.take("no,firm,name,day,result,Serious\n1,2,x,2013-01-01,ok,0\n")
    assert office.ledger.head() == 1


def test_fields_may_share_a_table_of_values(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    text = CHICAGO.read_text(encoding="utf-8")
    inline = 'values = { "Pass" = "CLEAN", "Pass w/ Conditions" = "MINOR", "Fail" = "FINDING" }'
    shared = '[table.results]\n"Pass" = { is = "CLEAN" }\n"Fail" = { is = "FINDING" }\n'
    assert inline in text
    path.write_text(text.replace(inline, 'table = "results", member = "is"') + shared)
    header = "inspection_id,license,legal_name,inspection_date,results,critical_count"
    rows = csv_file(
        f"{header},serious_count,minor_count\n1,7,INN,2013-01-01,Fail,0,0,1\n"
        "2,7,INN,2013-01-02,Closed,0,0,1\n"
    )
    good, bad = load_mapping(path).rows(rows)
    assert isinstance(good, Row)
    assert good.entries[0].data.result == "FINDING"  # type: ignore[attr-defined]
    assert isinstance(bad, Unread)
    assert [one.code for one in bad.problems] == ["not-in-table"]
    for wrong, told in (
        ('table = "nothing", member = "is"', "there is no table 'nothing', only results"),
        ('table = "results", member = "was"', "'Pass' has no member 'was'"),
    ):
        path.write_text(text.replace(inline, wrong) + shared)
        with pytest.raises(MappingError, match=told):
            load_mapping(path)


def test_every_command_of_the_documentation_is_there_and_no_other() -> None:
    text = (CHICAGO.parent / "README.md").read_text(encoding="utf-8")
    commands = COMMANDS | BY_AUTHORITY
    assert {name for name in commands if f"`{name}`" in text} == set(commands)


# --- Rows ----------------------------------------------------------------------------------------


def test_good_rows_are_recorded_and_their_subjects_registered(office: Office) -> None:
    tally = office.take(
        f"{HEADER}\n1,7,Old Inn,2013-01-01,ok,0\n2,8,Bar,2013-01-02,bad,3\n3,7,Inn,2013-01-03,ok,\n"
    )
    assert tally == Tally(rows=3, registered=2, recorded=3)
    assert office.issues == []
    registered = [one for one in office.data() if isinstance(one, ProviderRegistered)]
    assert sorted((one.name, one.origin) for one in registered) == [
        ("Bar", "IMPORT"),
        ("Old Inn", "IMPORT"),
    ]
    history = office.ledger.read_stream(provider_stream("US-CHI-7"))
    _, first, second = (decode(row.state).data for row in history)
    assert isinstance(first, InspectionRecorded)
    assert isinstance(second, InspectionRecorded)
    assert (first.inspection, first.result, first.merit) == ("1", "CLEAN", "INSPECTION_CLEAN")
    assert (second.inspection, second.serious_count) == ("3", 0)


@pytest.mark.parametrize(
    ("row", "issues"),
    [
        ("2,9,Bar,2013-02-30,ok,0", [("on", "bad-day")]),
        ("2,9,Bar,01/02/2013,ok,0", [("on", "bad-day")]),
        ("2,9,Bar,,ok,0", [("on", "missing")]),
        ("2,9,Bar,2013-01-02,Ok,0", [("result", "not-in-table")]),
        ("2,9,Bar,2013-01-02,ok,2.0", [("serious_count", "bad-integer")]),
        ("2,9,Bar,2013-01-02,ok,-1", [("serious_count", "invalid")]),
        ("2,9,Bar,2013-01-02,ok,99999", [("serious_count", "invalid")]),
        ("2,,Bar,2013-01-02,ok,0", [("identifier", "missing")]),
        ("2,0,Bar,2013-01-02,ok,0", [("identifier", "missing")]),
        ("2,9 9,Bar,2013-01-02,ok,0", [("identifier", "invalid-identifier")]),
        (",9,Bar,2013-01-02,ok,0", [("inspection", "missing"), ("row.key", "missing")]),
        ("2,9,,2013-01-02,ok,0", [("name", "missing")]),
        ("2,9," + "x" * 201 + ",2013-01-02,ok,0", [("name", "invalid")]),
        ("2,9,a\x1bb,2013-01-02,ok,0", [("name", "invalid")]),
        ("2 2,9,Bar,2013-01-02,ok,0", [("inspection", "invalid")]),
        ("2,9,Bar,2013-01-02,ok", [("line", "malformed")]),
        ("2,9,Bar,2013-01-02,ok,0,", [("line", "malformed")]),
        ('2,9,"Bar,2013-01-02,ok,0', [("line", "malformed")]),
        ("2,9,Bar\x00,2013-01-02,ok,0", [("line", "malformed")]),
        ("2,9,Bar\ud800,2013-01-02,ok,0", [("line", "malformed")]),
        ("2,9,Bar,2030-01-02,ok,0", [("on", "date-in-future")]),
        ("1,9,Bar,2013-01-02,ok,0", []),
        ("1,7,Inn,2013-01-01,bad,0", [("row.key", "key-taken")]),
        ("1,7,Inn,2013-01-01,ok,0", [("row", "repeated")]),
        ("1 ,7,Inn,2013-01-01,ok ,0", [("row", "repeated")]),
        (
            "x,,,,,y",
            [
                ("identifier", "missing"),
                ("name", "missing"),
                ("on", "missing"),
                ("result", "missing"),
                ("serious_count", "bad-integer"),
            ],
        ),
    ],
)
def test_a_bad_row_is_told_with_line_field_and_reason(
    office: Office, row: str, issues: list[tuple[str, str]]
) -> None:
    content = f"{HEADER}\n1,7,Inn,2013-01-01,ok,0\n{row}\n5,7,Inn,2013-01-05,bad,1\n"
    tally = office.take(content.encode("utf-8", "surrogatepass"))
    assert office.told() == [(3, *issue) for issue in sorted(issues)]
    assert all(issue.reason.en and issue.reason.zh for issue in office.issues)
    codes = [code for _, code in issues]
    refused, repeated = int(bool(codes) and codes != ["repeated"]), codes.count("repeated")
    assert (tally.rows, tally.refused, tally.repeated) == (3, refused, repeated)
    assert tally.recorded == 3 - refused - repeated
    inspections = [one for one in office.data() if isinstance(one, InspectionRecorded)]
    assert {"1", "5"} <= {one.inspection for one in inspections}
    assert len(inspections) == tally.recorded


def test_a_subject_whose_first_row_is_bad_is_registered_by_the_next(office: Office) -> None:
    tally = office.take(
        f"{HEADER}\n1,7,,2013-01-01,ok,0\n2,7,Inn,2030-01-01,ok,0\n3,7,Inn,2013-01-03,ok,0\n"
    )
    assert (tally.registered, tally.recorded, tally.refused) == (1, 1, 2)
    assert office.told() == [(2, "name", "missing"), (3, "on", "date-in-future")]


def test_without_a_registration_an_unknown_subject_is_refused(office: Office) -> None:
    only_inspections = mapping(record=[INSPECTIONS["record"][1]])
    tally = office.take(f"{HEADER}\n1,7,Inn,2013-01-01,ok,0\n", only_inspections)
    assert (tally.refused, office.told()) == (1, [(2, "record", "unknown-provider")])


def test_rows_that_no_record_applies_to(office: Office) -> None:
    inspection = INSPECTIONS["record"][1] | {"when": {"column": "result", "one_of": ["ok"]}}
    content = f"{HEADER}\n1,7,Inn,2013-01-01,ok,0\n2,7,Inn,2013-01-02,bad,0\n"
    rejecting = mapping(record=[inspection])
    office.take(content, rejecting)
    assert (3, "row", "no-record-applies") in office.told()
    skipping = mapping(record=[inspection], row={"key": ["no"], "unmatched": "skip"})
    assert office.take(content, skipping).skipped == 1


def test_every_feature_of_a_mapping(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "penalties.toml"
    path.write_text(
        """
name = "penalties"
[source]
encoding = "gb18030"
delimiter = ";"
missing = ["无", "1900-01-01"]
[identifier]
column = "代码"
[row]
key = ["文号", "机关"]
[[record]]
command = "register"
fields = { name = { column = "名称" }, entity_kind = "ENTERPRISE" }
[[record]]
command = "penalty"
when = { column = "类别", one_of = ["罚款"] }
[record.fields]
issuer = { kind = "REGULATOR", name = { column = "机关" } }
document_no = { column = "文号" }
evidence = { digest_of_row = "CN-CREDIT" }
incident = { template = "{年}-{序}" }
category = "ADVERT"
family = { constant = "AD_FALSE_CLAIM" }
severity = "S2"
law_article = "《广告法》第五十五条"
occurred_on = { column = "行为日", date = ["%Y-%m-%d", "%Y/%m/%d"] }
decided_on = { column = "决定日", date = "%Y年%m月%d日" }
served_on = { column = "决定日", date = "%Y年%m月%d日" }
ended_on = { column = "终止日", when_missing = "omit" }
obligation = { column = "义务", values = { "有" = true, "无义务" = false } }
[record.fields.mitigation]
column = "情节"
split = "、"
values = { "主动报告" = "SELF_REPORTED", "已赔偿" = "COMPENSATED" }
when_missing = "omit"
[[record]]
command = "reward"
when = { column = "类别", one_of = ["表彰"] }
[record.fields]
issuer = { kind = "REGULATOR", name = { column = "机关" } }
document_no = { column = "文号" }
evidence = { digest_of_row = "CN-CREDIT" }
item = "REGULATOR_HONOUR"
on = { column = "决定日", date = "%Y年%m月%d日" }
consent = true
""",
        encoding="utf-8",
    )
    importing = load_mapping(path)
    rows = [
        "代码;名称;类别;机关;文号;年;序;行为日;决定日;终止日;义务;情节",
        "９１９９９９９９ＭＡ００ＴＥＸＴ０Ｈ;示例公司;罚款;某局;甲1号;2025;1;2025/01/02;2025年03月04日;"
        "1900-01-01;有;主动报告、已赔偿",
        f"{given.OTHER.lower()};示例二公司;表彰;某局;乙2号;2025;2;无;2025年03月04日;无;;",
        f"{given.PROVIDER};示例公司;罚款;某局;甲2号;2025;3;2025-01-02;2025年03月04日;"
        "2025-01-09;无义务;自首",
    ]
    content = "\r\n".join(rows) + "\r\n"
    file = csv_file(content, encoding="gb18030", delimiter=";")
    tally = office.take(file, importing)
    assert (tally.recorded, tally.refused) == (2, 1)
    assert office.told() == [(4, "mitigation", "not-in-table")]
    [penalty] = [one for one in office.data() if isinstance(one, PenaltyImposed)]
    assert (penalty.incident, str(penalty.decided_on)) == ("2025-1", "2025-03-04")
    assert (penalty.ended_on, penalty.obligation) == (None, True)
    assert penalty.mitigation == ["SELF_REPORTED", "COMPENSATED"]
    assert penalty.evidence[0].sha256 == sha256(rows[1].encode("gb18030")).hexdigest()
    assert penalty.evidence[0].size_bytes == len(rows[1].encode("gb18030"))


# --- Identifiers ---------------------------------------------------------------------------------


def firms(codes: Iterable[str]) -> str:
    """A file with one inspection of each firm."""
    rows = (f"{number},{code},甲,2025-01-02,ok," for number, code in enumerate(codes, 1))
    return "\n".join([HEADER, *rows]) + "\n"


def test_every_code_of_a_registered_organisation_is_taken_in(office: Office, shared: Path) -> None:
    codes = (shared / "data" / "uscc_valid.txt").read_text(encoding="utf-8").split()
    tally = office.take(firms(codes), mapping(identifier={"column": "firm"}))
    assert tally == Tally(rows=496, registered=496, recorded=496)
    assert {subject for subject, _ in office.ledger.registered()} == set(codes)


def test_every_wrong_code_is_told_with_what_is_wrong_with_it(shared: Path) -> None:
    with (shared / "data" / "uscc_invalid.csv").open(encoding="utf-8", newline="") as file:
        wrong = list(csv.DictReader(file))
    content = csv_file(firms(one["value"] for one in wrong))
    judged = Counter[str]()
    for row, one in zip(mapping(identifier={"column": "firm"}).rows(content), wrong, strict=True):
        judged[one["why"]] += 1
        if one["why"] == "lower-case":
            assert isinstance(row, Row)
            assert row.subject == one["value"].upper()
            continue
        assert isinstance(row, Unread)
        [problem] = row.problems
        assert (problem.field, problem.code) == ("identifier", "invalid-identifier")
        if one["why"] == "checksum":
            assert f"should be {one['computed_check_char']}, not" in problem.reason.en
            assert f"校验码应为 {one['computed_check_char']}" in problem.reason.zh
    assert set(judged) == {"lower-case", "checksum", "length", "format"}
    assert judged.total() == 143


def test_identifiers_are_mended_and_registers_elsewhere_are_taken(office: Office) -> None:
    written = {
        "91999999ma00text0h": given.PROVIDER,
        "９１９９９９９９ＭＡ０ＤＹＣＲＤ５Ｙ": given.OTHER,
        "\u300091999999MA1AGENC8N ": "91999999MA1AGENC8N",
        "hk-cr-1234567": "HK-CR-1234567",
        "MO-RC-12345SO": "MO-RC-12345SO",
        "ＴＷ－ＭＯＥＡ－２２０９９１３１": "TW-MOEA-22099131",
        "JP-MHLW-24RL47BMX6ACBPL7": "JP-MHLW-24RL47BMX6ACBPL7",
        "us-chi-2484634": "US-CHI-2484634",
    }
    wrong = ["HK-1234567", "XX-CR-1234567", "HK-CR-12 34567", "9199 9999 MA00 TEXT 0H", "暂无", ""]
    office.take(firms([*written, *wrong]), mapping(identifier={"column": "firm"}))
    assert {subject for subject, _ in office.ledger.registered()} == set(written.values())
    told = [(line, code) for line, field, code in office.told() if field == "identifier"]
    first = 2 + len(written)
    assert told == [
        *((first + number, "invalid-identifier") for number in range(len(wrong) - 1)),
        (first + len(wrong) - 1, "missing"),
    ]


# --- Once, and in order --------------------------------------------------------------------------


def many(rows: int, subjects: int) -> str:
    """A file in which each subject's inspections follow each other day by day."""
    lines = [HEADER]
    for number in range(rows):
        day = f"2013-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}"
        lines.append(f"{number + 1},{number % subjects + 1},Firm,{day},ok,0")
    return "\n".join(lines) + "\n"


def test_a_second_run_records_nothing(office: Office) -> None:
    content = many(1_200, 70)
    assert office.take(content) == Tally(rows=1_200, registered=70, recorded=1_200)
    head = office.ledger.head()
    assert office.take(content) == Tally(rows=1_200, already_recorded=1_200)
    assert office.ledger.head() == head == 1 + 1_200 + 70


def test_a_row_changed_after_it_was_recorded_is_refused(office: Office) -> None:
    content = many(10, 3)
    office.take(content)
    tally = office.take(content.replace("5,2,Firm,2013-01-05,ok", "5,2,Firm,2013-01-05,bad"))
    assert (tally.already_recorded, tally.refused) == (9, 1)
    assert office.told() == [(6, "record", "key-reused")]
    assert office.issues[0].reason == (
        "the row was recorded before, with other content",
        "该行此前已有记录，但内容不同",
    )


def test_rows_of_one_subject_keep_the_order_of_the_file(office: Office) -> None:
    content = many(1_600, 7)  # many blocks, few subjects
    office.take(content)
    for subject in range(1, 8):
        history = office.ledger.read_stream(provider_stream(f"US-CHI-{subject}"))
        numbers = [int(orjson.loads(row.state)["data"]["inspection"]) for row in history[1:]]
        assert numbers == sorted(numbers)
        assert len(numbers) >= 228


def test_a_row_that_stands_in_the_file_twice_is_recorded_once(office: Office) -> None:
    header, *rows = many(1_500, 40).splitlines()
    tally = office.take("\n".join([header, *rows, *rows[:600]]))
    assert (tally.recorded, tally.repeated) == (1_500, 600)
    assert office.issues[0].reason.en == "the same row as line 2"
    assert len(office.data(InspectionRecorded)) == 1_500


def test_two_imports_at_once_record_each_row_once(
    database: Database, clock: Clock, office: Office, run: Run
) -> None:
    content = many(2_000, 300)

    async def both() -> list[Tally]:
        with new_ledger(database, clock) as other:
            works = [new_import(it, mapping(), tell=issues.append) for it in (office.ledger, other)]
            return await asyncio.gather(
                *(one.run(mapping().rows(csv_file(content))) for one in works)
            )

    issues: list[Issue] = []
    tallies = run(both())
    assert issues == []
    assert sum(tally.recorded for tally in tallies) >= 2_000
    assert Counter(
        one.inspection for one in office.data() if isinstance(one, InspectionRecorded)
    ) == Counter(str(number) for number in range(1, 2_001))


def test_a_dry_run_judges_as_the_import_does_and_writes_nothing(office: Office) -> None:
    rows = many(700, 60).splitlines()
    rows += ["701,1,Firm,2013-01-01,ok,0", "702,900,,2013-01-01,ok,0", rows[5]]
    rows += ["703,901,Firm,2030-01-01,ok,0", "701,1,Firm,2013-01-02,ok,0", "704,2,Firm,x,ok,0"]
    real, office.ledger.appender = office.ledger.appender, Rehearsal(office.ledger.clock)
    rehearsed, told = office.take("\n".join(rows)), None
    told, office.ledger.appender = office.told(), real
    assert office.ledger.head() == 1
    assert office.take("\n".join(rows)) == rehearsed
    assert office.told() == told
    assert rehearsed.refused == 4


def test_a_dry_run_finds_what_earlier_rows_forbid(office: Office) -> None:
    # Two keys, one inspection: only the state after the first row tells.
    by_day = mapping(row={"key": ["no", "day"]})
    rows = f"{HEADER}\n1,7,Inn,2013-01-01,ok,0\n1,7,Inn,2013-01-02,ok,0\n"
    real, office.ledger.appender = office.ledger.appender, Rehearsal(office.ledger.clock)
    office.take(rows, by_day)
    office.ledger.appender = real
    assert office.told() == [(3, "record", "duplicate-fact")]


def test_a_row_is_recorded_whole_or_refused_whole(office: Office) -> None:
    """A subject whose only row is refused is not even registered."""
    both: list[dict[str, Any]] = [
        *deepcopy(INSPECTIONS["record"]),
        {
            "command": "contract",
            "fields": {
                "contract": {"template": "C-{no}"},
                "evidence": {"digest_of_row": "CITY"},
                "counterparty": given.CLIENT,
                "on": {"column": "serious"},
            },
        },
    ]
    rows = ["1,7,Inn,2013-01-01,ok,2099-01-01", "2,8,Bar,2013-01-01,ok,2013-02-01"]
    rows += ["3,8,Bar,2013-01-01,ok,2099-02-01", "4,9,Pub,2099-01-01,ok,2013-01-01"]
    del both[1]["fields"]["serious_count"]
    tally = office.take("\n".join([HEADER, *rows]), mapping(record=both))
    assert (tally.registered, tally.recorded, tally.refused) == (1, 1, 3)
    assert office.told() == [(line, "on", "date-in-future") for line in (2, 4, 5)]
    assert len(office.data()) == 3
    assert office.take("\n".join([HEADER, *rows]), mapping(record=both)).already_recorded == 1


def test_a_dry_run_knows_a_long_stream_whole(office: Office) -> None:
    rows = [f"{n},7,Inn,2013-01-01,ok,0" for n in range(MAX_PRELOADED_VERSION + 20)]
    office.take("\n".join([HEADER, *rows]))
    real, office.ledger.appender = office.ledger.appender, Rehearsal(office.ledger.clock)
    office.take("\n".join([HEADER, rows[-1]]), mapping(name="another"))
    office.ledger.appender = real
    assert office.told() == [(2, "record", "duplicate-fact")]


@pytest.mark.parametrize("column", ["Lic.No", "Lic[0]", "a b", "许可证"])
def test_a_template_takes_a_column_by_its_very_name(office: Office, column: str) -> None:
    content = f"no,{column},name,day,result,serious\n1,7,Inn,2013-01-01,ok,0\n"
    named = mapping(identifier={"template": f"US-CHI-{{{column}}}"})
    assert office.take(content, named).recorded == 1
    assert office.ledger.read_stream("provider-US-CHI-7")


def test_a_week_date_is_no_day(office: Office) -> None:
    office.take(f"{HEADER}\n1,7,Inn,2013-W10-1,ok,0\n2,7,Inn,20130101,ok,0\n")
    assert office.told() == [(2, "on", "bad-day"), (3, "on", "bad-day")]


def test_a_mapping_for_test_data_goes_into_no_other_ledger(opened: Ledger, run: Run) -> None:
    importing = mapping(purpose="test-data")
    work = new_import(opened, importing, tell=lambda issue: None)
    with pytest.raises(WrongPurpose, match="only possible in a ledger opened as test-data"):
        run(work.run(importing.rows(csv_file(many(3, 3)))))
    assert opened.head() == 1


def test_connections_cut_in_the_middle_cost_nothing(office: Office, database: Database) -> None:
    cut = 0

    def terminate(tally: Tally) -> None:
        nonlocal cut
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            [row] = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        cut += row[0]

    tally = office.take(many(4_000, 400), advance=terminate)
    assert cut >= 3
    assert office.issues == []
    assert tally == Tally(rows=4_000, registered=tally.registered, recorded=4_000)
    inspections = [one for one in office.data() if isinstance(one, InspectionRecorded)]
    assert Counter(one.inspection for one in inspections) == Counter(map(str, range(1, 4_001)))


# --- Real processes ------------------------------------------------------------------------------


def chengxin(database: Database, keys: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """The command line as a process of its own, on a test's database."""
    return subprocess.Popen(
        [sys.executable, "-c", "from api.cli import main; main()", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ
        | {
            "CHENGXIN_DATABASE_URL": database.conninfo,
            "CHENGXIN_KEY_DIR": str(keys),
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_killed_in_the_middle_the_next_run_completes_the_work(
    office: Office, database: Database, tmp_path: Path
) -> None:
    rows = 5_000
    path, keys = tmp_path / "rows.csv", tmp_path / "keys"
    path.write_text(many(rows, 900))
    toml = tmp_path / "m.toml"
    toml.write_text(
        'name = "m"\nidentifier = { template = "US-CHI-{firm}" }\nrow = { key = ["no"] }\n'
        '[[record]]\ncommand = "register"\n'
        'fields = { name = { column = "name" }, entity_kind = "ENTERPRISE" }\n'
        '[[record]]\ncommand = "inspection"\n[record.fields]\n'
        'inspection = { column = "no" }\non = { column = "day" }\nresult = "CLEAN"\n'
        'issuer = { kind = "REGULATOR", name = "City" }\n'
    )
    command = ("import", path, "--mapping", toml, "--json")
    for part in (0.2, 0.6):
        killed = chengxin(database, keys, *command)
        deadline = time.monotonic() + 60
        while office.ledger.head() < part * rows and killed.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL, "it ended before it could be killed"
    left = chengxin(database, keys, *command)
    out, err = left.communicate(timeout=60)
    assert left.returncode == 0, err.decode()
    tally = orjson.loads(out)
    assert tally["rows"] == tally["recorded"] + tally["already_recorded"] == rows
    assert tally["already_recorded"] > 1_000
    inspections = [one for one in office.data() if isinstance(one, InspectionRecorded)]
    assert Counter(one.inspection for one in inspections) == Counter(map(str, range(1, rows + 1)))
    assert office.ledger.head() == 1 + 900 + rows


# --- The real file -------------------------------------------------------------------------------


@pytest.fixture
def chicago(shared: Path) -> bytes:
    """The inspections of the City of Chicago, as they are published."""
    path = shared / "data" / "chicago_food_inspections.csv.gz"
    if not path.is_file():
        pytest.skip(f"there is no file {path}")
    return path.read_bytes()


def test_before_each_inspection_stands_what_the_city_says_of_the_one_before(
    office: Office, chicago: bytes
) -> None:
    file = csv_file(chicago, encoding="utf-8-sig")
    # What the City says of each inspection; all else is read from the ledger.
    said: dict[str, dict[str, str]] = {}
    for one in csv_file(chicago, encoding="utf-8-sig"):
        assert isinstance(one, Record)
        cells = dict(zip(file.columns, one.cells, strict=True))
        said[f"CHI-{cells['inspection_id']}"] = cells
    tally = office.take(file, load_mapping(CHICAGO))
    assert tally == Tally(rows=21_321, registered=9_740, recorded=21_321)
    assert office.issues == []

    before: dict[str, InspectionRecorded] = {}
    compared = Counter[str]()
    not_comparable = Counter[str]()
    for row in office.ledger.read(1, 100_000):
        event = decode(row.state)
        assert event.subject is not None
        if not isinstance(event.data, InspectionRecorded):
            continue
        now, city = event.data, said.pop(event.data.inspection)
        last = before.get(event.subject)
        before[event.subject] = now
        if last is None:
            not_comparable[city["first_record"]] += 1
            continue
        assert last.on <= now.on
        ours = {
            "past_fail": int(last.result == "FINDING"),
            "past_critical": last.critical_count,
            "past_serious": last.serious_count,
            "past_minor": last.minor_count,
        }
        for name, value in ours.items():
            assert value == int(city[name]), f"{now.inspection}: {name}"
            compared[name] += 1
        assert city["first_record"] == "0"
    assert said == {}
    assert set(compared.values()) == {11_581}
    assert len(compared) == 4
    assert not_comparable == {"1": 9_730, "0": 10}
    failed_before = sum(last.result == "FINDING" for last in before.values())
    assert 0 < failed_before < 9_740
