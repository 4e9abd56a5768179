"""双公示: what becomes of every row of invented files with all the dirt that real ones have."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from api.importing import looks_like_lines
from api.intake.csvfile import NoHeader, Record, Table
from api.intake.encoding import detected
from api.intake.forms.cells import NOTHING, read_day, read_law
from api.intake.forms.form import NAMES, form_of
from api.intake.forms.header import REMOVED, read_header, recognised, without_id_numbers
from api.intake.forms.money import check_amount, parse_sum, sums_in
from api.intake.forms.reading import COMPUTED, bytes_of, read_row
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.mapping import Importing
from api.intake.quarantine import Quarantine
from api.intake.rows import Row, Unread, proof_of
from api.intake.source import mapping_of_form, recognised_file, table_of
from api.intake.tally import Account
from api.intake.verdict import Verdicts
from api.intake.xlsxfile import XlsxFile, text_of
from ledger.database import Database
from ledger.envelope import decode
from ledger.events import DecisionOverturned, PenaltyImposed, ProviderRegistered
from ledger.handle import Desk
from ledger.qualification import QualificationRevoked, QualificationVerified
from ledger.store import Ledger
from tests import given
from tests.conftest import Run
from tests.officers import approve_all
from tests.test_imports import digest, new_import

DATA = Path(__file__).parent / "data"
PENALTIES = DATA / "shuanggongshi-penalty.csv"
OLDER = DATA / "shuanggongshi-penalty-older.csv"
LICENCES = DATA / "shuanggongshi-licence.csv"
SECRETS = ("代表某", "隐号", "赵某某", "钱某某", "孙某某", "李某某", "王小某", "19800101")
"""Names and numbers of (invented) persons in the files: none may be kept anywhere."""


def read(path: Path | io.BufferedReader) -> tuple[Importing, Table]:
    """A file as `chengxin import FILE` reads it."""
    if isinstance(path, Path):
        path = io.BufferedReader(io.BytesIO(path.read_bytes()))
    return recognised_file(path)


def stream(content: bytes) -> io.BufferedReader:
    """A file with this content."""
    return io.BufferedReader(io.BytesIO(content))


def outcomes(path: Path | io.BufferedReader) -> dict[int, tuple[str, str]]:
    """What the form makes of each line: understood, quarantined or refused, and the codes."""
    importing, table = read(path)
    return {row.line: told(row) for row in importing.rows(table)}


def told(row: Row | Unread) -> tuple[str, str]:
    """What became of a row, and every code with its column."""
    if isinstance(row, Row):
        return "understood", " ".join(f"{one.field}:{one.code}" for one in row.notes)
    what = "quarantined" if row.doubtful else "refused"
    return what, " ".join(f"{one.field}:{one.code}" for one in row.problems)


# --- every row, and why ---------------------------------------------------------------------------

EXPECTED_PENALTIES = {
    2: ("understood", ""),
    3: ("understood", "CF_XDR_SHXYM:code-rewritten"),  # lower case
    4: ("understood", "CF_XDR_SHXYM:code-rewritten"),  # full width
    5: ("understood", "CF_XDR_MC:exchanged"),
    6: ("understood", "CF_CFJG:exchanged"),
    7: ("understood", "CF_SJLY:exchanged"),
    8: ("understood", "CF_NR_ZKDX:nothing-there CF_YXQ:nothing-there BZ:nothing-there"),
    9: ("understood", "CF_YXQ:nothing-there"),  # 无处罚期限
    10: ("understood", "CF_NR_FK:yuan-not-wan"),
    11: ("understood", ""),  # 贰仟元整（¥2000.00）
    12: ("understood", ""),  # 3万5千元
    13: ("quarantined", "CF_NR_FK:amount-differs"),
    14: ("understood", "CF_NR_FK:amount-from-text"),
    15: ("understood", ""),  # two kinds, two amounts
    16: ("understood", ""),  # two confiscations, summed
    17: ("quarantined", "CF_CFLB:unknown-kind"),
    18: ("understood", ""),  # a warning
    19: ("quarantined", "CF_NR_FK:amount-without-kind"),
    20: ("understood", "CF_JDRQ:day-rewritten CF_GSJZQ:day-rewritten"),
    21: ("understood", "CF_JDRQ:day-rewritten CF_GSJZQ:day-rewritten"),  # a spreadsheet's serials
    22: ("quarantined", "CF_JDRQ:bad-day"),  # 05/01/2026: January or May?
    23: ("quarantined", "CF_XDR_SHXYM:masked-code"),
    24: ("quarantined", "CF_XDR_SHXYM:invalid-identifier"),  # a wrong check character
    25: ("quarantined", "CF_XDR_SHXYM:no-code"),
    26: ("understood", "CF_XDR_SHXYM:placeholder-code CF_XDR_GSZC:other-register"),
    27: ("understood", "CF_XDR_ZZJG:other-register"),
    28: ("understood", ""),  # an individual business with a trade name
    29: ("quarantined", "CF_XDR_MC:perhaps-a-person"),
    30: ("refused", "CF_XDR_LB:natural-person"),
    31: ("refused", "CF_XDR_SHXYM:natural-person"),  # neither a code nor a kind of party
    32: ("quarantined", "category:not-in-table"),
    33: ("understood", "CF_YJ:law-shortened"),
    34: ("quarantined", "CF_YJ:no-citation"),
    35: ("refused", "CF_WSH:missing"),
    36: ("understood", ""),  # public too long: the ledger says so
    37: ("understood", "CF_SY:missing CF_SJLYDM:missing"),  # not needed
    38: ("refused", "CF_XDR_MC:too-long"),
    39: ("quarantined", "CF_XDR_LB:kind-contradicts-code"),
    40: ("quarantined", "BZ:remark-of-withdrawal"),
    41: ("understood", ""),  # withdraws line 2
    42: ("understood", ""),  # withdraws what nobody recorded: the ledger says so
    43: ("quarantined", "CF_ZT:unknown-status"),
    44: ("understood", "CF_XDR_SHXYM:code-rewritten"),  # line 3 again
    45: ("understood", ""),  # line 4 with another day
    46: ("understood", "CF_SY:id-number-removed"),
    47: ("quarantined", "CF_XDR_SHXYM:no-code"),  # an identity number in the place of a tax number
    48: ("quarantined", "CF_CFLB:missing CF_NR:missing"),
    49: ("understood", "CF_NR_FK:amount-unchecked"),
    50: ("understood", "CF_XDR_LB:missing"),  # the code tells the kind
    51: ("understood", ""),  # a social organisation
    52: ("quarantined", "CF_NR_FK:bad-amount"),
}
EXPECTED_OLDER = {
    2: ("understood", "SJC:day-rewritten"),
    3: ("understood", "SJC:day-rewritten"),
    4: ("understood", "SJC:day-rewritten"),  # status 1: withdraws line 2
    5: ("quarantined", "CF_ZT:unknown-status"),
    6: ("refused", "CF_XDR_LB:natural-person"),
    7: ("quarantined", "CF_CFLB:unknown-kind"),
}
EXPECTED_LICENCES = {
    2: ("understood", ""),
    3: ("understood", "XK_YXQZI:without-end"),
    4: ("understood", "XK_YXQZI:without-end"),  # 2099/12/31
    5: ("understood", ""),  # expired
    6: ("understood", ""),  # no certificate: the document's name
    7: ("understood", "XK_JDRQ:day-rewritten"),
    8: ("understood", ""),  # ends before it begins: the ledger says so
    9: ("quarantined", "XK_ZT:unknown-status"),  # 0: valid in the older form, and in this one?
    10: ("understood", ""),  # 注销: withdraws line 2
    11: ("understood", ""),  # withdraws what nobody recorded
    12: ("refused", "XK_XDR_LB:natural-person"),
    13: ("quarantined", "XK_XDR_SHXYM:invalid-identifier"),
    14: ("understood", "XK_LYDW:exchanged"),
}
EXPECTED = {PENALTIES: EXPECTED_PENALTIES, OLDER: EXPECTED_OLDER, LICENCES: EXPECTED_LICENCES}
FILES = pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem)


@FILES
def test_what_becomes_of_every_row(path: Path) -> None:
    assert outcomes(path) == EXPECTED[path]


@FILES
def test_a_reason_is_told_in_both_languages_and_names_no_person(path: Path) -> None:
    importing, table = read(path)
    for row in importing.rows(table):
        for one in row.notes if isinstance(row, Row) else row.problems:
            assert one.reason.en
            assert one.reason.zh
            assert one.reason.en != one.reason.zh
            assert not any(secret in f"{one.reason}" for secret in SECRETS)


@FILES
def test_nothing_of_a_person_is_kept(path: Path) -> None:
    importing, table = read(path)
    for row in importing.rows(table):
        if isinstance(row, Unread):
            assert isinstance(row.raw, bytes)
            kept = f"{row.cells}{row.raw.decode()}{row.subject}{row.key}"
        else:
            kept = f"{row.registration}{row.entries}"
        assert not any(secret in kept for secret in SECRETS), row.line
        if told(row) == ("refused", "CF_XDR_LB:natural-person"):
            assert (row.subject, row.key) == ("", "")


@FILES
def test_a_row_that_is_read_again_comes_to_the_same(path: Path) -> None:
    """As when a person has looked at it in quarantine, whatever was taken out aside."""
    importing, table = read(path)
    for row in importing.rows(table):
        if isinstance(row, Unread) and row.cells and "perhaps" not in told(row)[1]:
            again = importing.read(row.line, row.cells, row.raw)
            assert again == row


def test_a_corrected_row_is_understood_with_its_first_bytes_as_evidence() -> None:
    importing, table = read(PENALTIES)
    row = next(row for row in importing.rows(table) if row.line == 24)
    assert isinstance(row, Unread)
    again = importing.read(24, {**row.cells, "CF_XDR_SHXYM": "91999999MA00FRM01N"}, row.raw)
    assert isinstance(again, Row)
    penalty = again.entries[0].data
    assert penalty.evidence[0].sha256 == proof_of(row.raw).sha256  # type: ignore[attr-defined]


# --- into the ledger ------------------------------------------------------------------------------


class Office:
    """A test-data ledger into which files are imported."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.ledger, self.run = ledger, run
        self.issues: list[Any] = []
        run(Desk(ledger).open_ledger(given.opening(purpose="test-data"), given.REGISTRAR))

    def take(self, path: Path | io.BufferedReader) -> Any:
        """Import a file as a new process would; the tally."""
        self.issues = []
        importing, table = read(path)
        work = new_import(self.ledger, importing, tell=self.issues.append)
        return self.run(work.run(importing.rows(table)))

    def data(self, kind: type[Any]) -> list[Any]:
        """The data of all events of a kind, in order."""
        events = [decode(row.state) for row in self.ledger.read(1, 100_000)]
        return [event.data for event in events if isinstance(event.data, kind)]


@pytest.fixture
def office(ledger: Ledger, run: Run) -> Office:
    """An office with an empty test-data ledger."""
    return Office(ledger, run)


def test_penalties_are_recorded_withdrawn_and_refused_by_the_ledger(office: Office) -> None:
    office.take(PENALTIES)
    by_ledger = {one.line: one.code for one in office.issues if one.line in (36, 42, 44, 45)}
    assert by_ledger == {
        36: "publicity-out-of-range",
        42: "unknown-decision",
        44: "repeated",
        45: "key-taken",
    }
    penalties = office.data(PenaltyImposed)
    understood = [n for n, one in EXPECTED_PENALTIES.items() if one[0] == "understood"]
    # Not those that the ledger refuses, and line 41 is a withdrawal.
    assert len(penalties) == len(set(understood) - {36, 41, 42, 44, 45})
    first = penalties[0]
    assert (first.issuer.kind, first.issuer.name) == ("REGULATOR", "示范市市场监督管理局")
    assert (first.family, first.severity) == ("AD_FALSE_CLAIM", "S2")
    assert first.occurred_on == first.decided_on == first.served_on == date(2026, 1, 5)
    # 公示截止期 is the first day on which it is gone: never shown longer than the authority says.
    assert first.public_until == date(2026, 7, 5)
    assert first.incident.startswith("SGS-")
    assert all("，" not in one.law_article for one in penalties), "no free text"
    assert office.data(DecisionOverturned) == [], "one officer alone withdraws nothing"
    assert len(office.run(approve_all(Desk(office.ledger)))) == 1
    [overturned] = office.data(DecisionOverturned)
    assert overturned.on == given.TODAY, "the row tells no day: the day of recording"
    kinds = {one.name: one.entity_kind for one in office.data(ProviderRegistered)}
    assert kinds["示范某星短视频工作室"] == "INDIVIDUAL_BUSINESS"
    assert kinds["示范某代运营促进中心"] == "SOCIAL_ORGANISATION"


def test_a_file_imported_again_records_nothing_twice(office: Office) -> None:
    first = office.take(PENALTIES)
    head = office.ledger.head()
    again = office.take(PENALTIES)
    assert office.ledger.head() == head
    assert (again.recorded, again.already_recorded) == (0, first.recorded)


def test_the_older_form_withdraws_by_its_status_on_its_own_day(office: Office) -> None:
    tally = office.take(OLDER)
    assert (tally.recorded, tally.proposed, len(office.data(PenaltyImposed))) == (3, 1, 2)
    [withdrawn] = office.run(approve_all(Desk(office.ledger)))
    again = office.take(OLDER)
    assert (again.recorded, again.already_recorded, again.proposed) == (0, 3, 0)
    assert office.ledger.head() == withdrawn.position
    assert [one.on for one in office.data(DecisionOverturned)] == [date(2026, 2, 1)]


def test_licences_are_recorded_and_revoked(office: Office) -> None:
    office.take(LICENCES)
    issues = {one.line: one.code for one in office.issues if one.line in (8, 11)}
    assert issues == {8: "date-order", 11: "unknown-decision"}
    licences = office.data(QualificationVerified)
    assert [one.valid_until for one in licences][:4] == [
        date(2031, 1, 4),
        None,
        None,
        date(2026, 1, 31),
    ]
    assert (licences[4].certificate, licences[4].certificate_no) == ("准予行政许可决定书", None)
    assert len(office.data(QualificationRevoked)) == 1


# --- the same file, otherwise written -------------------------------------------------------------


def xlsx(rows: list[list[Any]], *, sheet: str = "Sheet1", above: int = 0) -> bytes:
    """A workbook: text as text, numbers as numbers, days as days; rows of a title above."""
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content)
    page = book.add_worksheet(sheet)
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    for number in range(above):
        page.write_string(number, 0, "行政处罚信息公示表")
    for number, row in enumerate(rows, above):
        for place, cell in enumerate(row):
            if isinstance(cell, date):
                page.write_datetime(number, place, cell, day)
            elif isinstance(cell, int | float):
                page.write_number(number, place, cell)
            elif cell:
                page.write_string(number, place, cell)
    book.close()
    return content.getvalue()


def typed(column: str, text: str) -> Any:
    """A cell as somebody would enter it: amounts as numbers, days as days."""
    if column in ("CF_NR_FK", "CF_NR_WFFF") and text.replace(".", "", 1).isdigit():
        return float(text)
    if column in ("CF_JDRQ", "CF_GSJZQ") and len(text) == 10 and text[4] == "-":
        return date.fromisoformat(text)
    return text


@FILES
def test_utf_8_gb18030_and_a_workbook_of_text_come_to_the_same(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    importing, table = read(path)
    wanted = list(importing.rows(table))
    for content in (
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("gb18030"),
        xlsx(list(csv.reader(io.StringIO(text)))),
    ):
        importing, table = read(stream(content))
        assert list(importing.rows(table)) == wanted


def test_typed_cells_of_a_workbook_become_exact_text() -> None:
    header, *rows = csv.reader(io.StringIO(PENALTIES.read_text(encoding="utf-8")))
    cells = [[typed(*pair) for pair in zip(header, row, strict=True)] for row in rows]
    importing, table = read(stream(xlsx([header, *cells], above=2)))
    found = {row.line - 2: told(row) for row in importing.rows(table)}
    assert found == EXPECTED_PENALTIES


def test_titles_in_the_header_and_names_below_it_are_both_headers() -> None:
    form = form_of("shuanggongshi-penalty")
    names = [one.name for one in form.today]
    titles = [one.title for one in form.today]
    row = dict(zip(names, [""] * len(names), strict=True)) | {
        "CF_XDR_LB": "法人及非法人组织",
        "CF_WSH": "1号",
    }
    importing, table = read(stream(xlsx([titles, names, list(row.values())])))
    assert [one.line for one in importing.rows(table)] == [3]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfea\x00", "neither UTF-8 nor GB18030"),
        ("处罚".encode() + b"\x80\xff", "neither UTF-8 nor GB18030"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "xls workbook, or one with a password"),
        (b"PK\x03\x04 torn", "cannot be read"),
        (xlsx([["a"]])[:-300], "cannot be read"),
        (xlsx([]), "sheet is empty"),
        (b"", "empty"),
    ],
)
def test_what_is_no_such_file_is_told(content: bytes, why: str) -> None:
    with pytest.raises(NoHeader, match=why):
        recognised_file(stream(content))


@pytest.mark.parametrize("damage", ["cut short", "garbled"])
def test_a_damaged_compressed_file_is_told(damage: str, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(PENALTIES.read_bytes(), mtime=0))
    if damage == "cut short":
        del packed[-60:]
    else:
        packed[20:400] = b"\xff" * 380
    path = tmp_path / "penalties.csv.gz"
    path.write_bytes(packed)
    assert not looks_like_lines(path)
    with path.open("rb") as raw, pytest.raises(NoHeader, match="compressed file is damaged"):
        recognised_file(raw)


def test_a_header_of_no_form_asks_for_a_mapping() -> None:
    with pytest.raises(ValueError, match="name its --mapping"):
        recognised_file(stream(b"a,b\n1,2\n"))


def test_a_sheet_may_be_named() -> None:
    content = xlsx([["a", "b"], ["1", "2"]], sheet="许可")
    table = XlsxFile(io.BytesIO(content), sheet="许可")
    assert [one.cells for one in table if isinstance(one, Record)] == [["1", "2"]]
    with pytest.raises(NoHeader, match="there is no sheet '处罚', only '许可'"):
        XlsxFile(io.BytesIO(content), sheet="处罚")


def test_a_workbook_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.intake.xlsxparts.MAX_UNPACKED_BYTES", 1_000)
    with pytest.raises(NoHeader, match="unpacks to"):
        XlsxFile(io.BytesIO(xlsx([["a"], ["1"]])))


def with_part(workbook: bytes, name: str, old: bytes, new: bytes) -> bytearray:
    """The workbook with something else in one of its parts."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook)) as parts,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as changed,
    ):
        for one in parts.infolist():
            content = parts.read(one)
            if one.filename == name:
                assert old in content
                content = content.replace(old, new)
            changed.writestr(one.filename, content)
    return bytearray(packed.getvalue())


STRINGS, SHEET = "xl/sharedStrings.xml", "xl/worksheets/sheet1.xml"


def test_a_small_workbook_that_asks_for_all_memory_is_refused() -> None:
    book = xlsx([["a"], ["b"]])
    far = with_part(book, SHEET, b'r="A2"', b'r="XFD1048576"')
    with pytest.raises(NoHeader, match="span 17,179,869,184 places"):
        XlsxFile(io.BytesIO(far))
    unplaced = with_part(
        book,
        SHEET,
        b"</sheetData>",
        b'<row r="9999999"><c r="ZZZ9999999"><v>1</v></c></row></sheetData>',
    )
    with pytest.raises(NoHeader, match="places, at most"):
        XlsxFile(io.BytesIO(unplaced))
    long = with_part(book, STRINGS, b"<t>b</t>", b"<t>" + b"b" * 1024 * 1024 + b"</t>")
    cells = b'<row><c t="s"><v>1</v></c></row>' * 300
    often = with_part(bytes(long), SHEET, b"</sheetData>", cells + b"</sheetData>")
    with pytest.raises(NoHeader, match="unpacks to 31"):
        XlsxFile(io.BytesIO(often))
    declared = with_part(book, SHEET, b"<worksheet", b"<!DOCTYPE worksheet><worksheet")
    with pytest.raises(NoHeader, match="a document type is declared"):
        XlsxFile(io.BytesIO(declared))


def test_what_a_part_unpacks_to_is_counted_and_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.intake.xlsxparts.MAX_UNPACKED_BYTES", 100_000)
    text = b"b" * 200_000
    book = with_part(xlsx([["a"], ["b"]]), STRINGS, b"<t>b</t>", b"<t>" + text + b"</t>")
    place = book.find(b"PK\x01\x02")
    while book[place + 46 : place + 46 + len(STRINGS)] != STRINGS.encode():
        place = book.find(b"PK\x01\x02", place + 4)
    book[place + 24 : place + 28] = (100).to_bytes(4, "little")
    with pytest.raises(NoHeader, match="Bad CRC-32"):
        XlsxFile(io.BytesIO(book))


def test_a_cell_with_a_format_only_is_no_cell() -> None:
    book = with_part(
        xlsx([["a"], ["b"]]),
        SHEET,
        b"</sheetData>",
        b'<row r="99999"><c r="XFD99999" s="0"/></row></sheetData>',
    )
    assert [one.line for one in XlsxFile(io.BytesIO(book))] == [2]


def test_what_no_text_may_hold_costs_its_own_row_only() -> None:
    book = with_part(xlsx([["a"], ["b"], ["c"]]), STRINGS, b"<t>b</t>", b"<t>x_x0000_</t>")
    assert [type(one).__name__ for one in XlsxFile(io.BytesIO(book))] == ["Fault", "Record"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.2"),
        (0.1 + 0.2, "0.3"),
        (2000.0, "2000"),
        (1e-7, "0.0000001"),
        (True, "TRUE"),
        (911999999123456789.0, "9.11999999123457E+17"),
    ],
)
def test_a_typed_cell_as_text(value: object, text: str) -> None:
    assert text_of(value) == text


def test_columns_that_the_form_does_not_have_are_told_and_not_read() -> None:
    header = PENALTIES.read_text(encoding="utf-8").splitlines()[0]
    importing, table = read(stream(f"{header},联系电话\n".encode()))
    assert importing.unused(table.columns) == ["联系电话"]


def test_two_columns_that_claim_to_be_one_are_refused() -> None:
    header = PENALTIES.read_text(encoding="utf-8").splitlines()[0]
    importing, table = read(stream(f"{header},cf_cfmc\n".encode()))
    with pytest.raises(ValueError, match="both CF_WFXW"):
        importing.rows(table)


def test_every_name_in_the_table_of_fields_is_known(shared: Path) -> None:
    with (shared / "data" / "shuanggongshi_fields.csv").open(encoding="utf-8") as file:
        fields = list(csv.DictReader(file))
    for name, letters in zip(NAMES, ("CF", "XK"), strict=True):
        form = form_of(name)
        wanted = [one["code"] for one in fields if one["set"] == letters]
        assert [one.name for one in form.today] == wanted
        for one in fields:
            if one["set"] == letters:
                assert form.by_name[one["code"]].title == one["name"]


# --- cells ----------------------------------------------------------------------------------------


@for_all(st.dates(date(1990, 1, 1), date(2199, 12, 31)))
def test_a_day_is_the_same_however_it_is_written(day: date) -> None:
    y, m, d = day.year, day.month, day.day
    for text in (
        f"{y}-{m:02}-{d:02}",
        f"{y}/{m}/{d}",
        f"{y}年{m}月{d}日",
        f"{y}{m:02}{d:02}",
        f"{y}-{m}-{d} 12:30:05.0",
        f"{y}/{m:02}/{d:02}T00:00:00",
    ):
        assert read_day(text).text == day.isoformat()
    assert read_day(day.isoformat()).notes == ()


@pytest.mark.parametrize("text", ["", "05/01/2026", "2026-02-30", "2026", "12345678901", "昨天"])
def test_what_is_no_day_is_for_a_person(text: str) -> None:
    assert [one.code for one in read_day(text).doubts] == ["bad-day"]


FIGURES = "零壹贰叁肆伍陆柒捌玖"


def capitals(number: int) -> str:
    """A number below a hundred million in the capitals of a decision."""
    groups = []
    for unit, part in (("万", number // 10_000), ("", number % 10_000)):
        text = "".join(
            FIGURES[part // 10**n % 10] + ("", "拾", "佰", "仟")[n]
            for n in (3, 2, 1, 0)
            if part // 10**n % 10
        )
        groups.append(text + unit if text else "")
    return "".join(groups)


@for_all(st.integers(1, 99_999_999))
def test_an_amount_is_the_same_in_figures_and_in_capitals(yuan: int) -> None:
    assert parse_sum(capitals(yuan)) == parse_sum(f"{yuan}") == parse_sum(f"{yuan:,}") == yuan


FINE = next(
    one
    for one in form_of("shuanggongshi-penalty").money.amounts  # type: ignore[union-attr]
    if one.column == "CF_NR_FK"
)


@for_all(st.decimals(Decimal("0.01"), Decimal(9_999_999), places=2))
def test_wan_and_yuan_agree_exactly_or_are_told(yuan: Decimal) -> None:
    text, wan = f"罚款{yuan}元", f"{yuan / 10_000:f}"
    assert check_amount(wan, FINE, text, ["罚款"]).doubts == ()
    assert check_amount(wan, FINE, text, ["罚款"]).notes == ()
    mended = check_amount(f"{yuan}", FINE, text, ["罚款"])
    assert [one.code for one in mended.notes] == ["yuan-not-wan"]
    assert Decimal(mended.text) == yuan / 10_000
    more = f"{yuan / 10_000 + Decimal('0.000001'):f}"
    assert [one.code for one in check_amount(more, FINE, text, ["罚款"]).doubts] == [
        "amount-differs"
    ]


@pytest.mark.parametrize(
    ("text", "yuan"),
    [
        ("罚款２０００元", [2000]),
        ("处以0.2万元罚款", [2000]),
        ("罚款十五万元", [150_000]),
        ("对甲罚款1000元，对乙罚款2000元", [1000, 2000]),
        ("没收违法所得500元", []),
        ("罚款" + "1" * 5_000, []),
        ("罚款1" + "亿" * 125_001 + "元", []),
    ],
)
def test_the_fines_that_a_text_names(text: str, yuan: list[int]) -> None:
    assert sums_in(text, ["罚款"]) == yuan


def test_several_fines_are_held_against_their_sum() -> None:
    text = "对甲罚款1000元，对乙罚款2000元，共计3000元"
    assert check_amount("0.3", FINE, text, ["罚款"]).doubts == ()
    assert check_amount("0.1", FINE, text, ["罚款"]).doubts != ()


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("《广告法》第五十五条", "《广告法》第五十五条"),
        ("依据《广告法》第五十五条第一款的规定", "《广告法》第五十五条第一款"),
        (
            "《反不正当竞争法》第八条第一款、第二十条第一款",
            "《反不正当竞争法》第八条第一款、第二十条第一款",
        ),
        ("《广告法》第二十八条第二款第（一）项", "《广告法》第二十八条第二款第（一）项"),
    ],
)
def test_articles_are_taken_out_of_the_words_around_them(text: str, law: str) -> None:
    assert read_law(text).text == law


def test_an_identity_number_is_taken_out_wherever_it_stands() -> None:
    from stdnum.iso7064 import mod_11_2

    number = "99999919800101999"
    number += mod_11_2.calc_check_digit(number)
    assert without_id_numbers(f"当事人（{number}）") == f"当事人（{REMOVED}）"
    assert without_id_numbers(f"{number}01") == f"{REMOVED}01", "a tax number made of it"
    assert without_id_numbers("91999999MA00FRM01N") == "91999999MA00FRM01N"
    assert without_id_numbers(number[:-1] + "?") == number[:-1] + "?"


PERSONAL = {
    "CF_XDR_MC": "郑某某",
    "CF_WSH": "示市监罚〔2026〕9号",
    "CF_WFXW": "虚假广告",
    "CF_YJ": "《广告法》第五十五条",
    "CF_CFLB": "警告",
    "CF_NR": "警告",
    "CF_JDRQ": "2026-01-05",
    "CF_GSJZQ": "2027-01-05",
    "CF_CFJG": "示例市市场监督管理局",
    "form_version": "newer",
}
"""A row with an (invented) person's name and nothing that tells an organisation."""
INDIVIDUAL = "92999999MA00FRM076"


@pytest.mark.parametrize(
    "cells",
    [
        {"BZ": "诚信账本"},
        {"BZ": "诚信账本 {}", "about_a_person": "yes"},
        {"CF_XDR_SHXYM": "郑某某"},
        {"CF_XDR_SHXYM": "420106********1234"},
        {"CF_XDR_SHXYM": "42010619900101123＊"},
        {"CF_XDR_SHXYM": "420106199001011230"},
        {"CF_XDR_SHXYM": "91999999MA00FRM01N", "CF_XDR_LB": "公民（自然人）"},
    ],
)
def test_what_may_be_about_a_person_is_refused_and_nothing_of_it_kept(
    cells: dict[str, str],
) -> None:
    row = mapping_of_form("shuanggongshi-penalty").read(1, PERSONAL | cells, b"row")
    assert isinstance(row, Unread)
    assert [one.code for one in row.problems] == ["natural-person"]
    assert (row.cells, row.subject, row.key, row.raw) == ({}, "", "", b"")


@pytest.mark.parametrize(
    "cells",
    [
        {"CF_XDR_SHXYM": INDIVIDUAL, "CF_XDR_MC": "郑 某某"},
        {"CF_XDR_SHXYM": "郑某某", "CF_XDR_MC": INDIVIDUAL},
        {"CF_XDR_SHXYM": "郑某某", "CF_XDR_LB": "个体工商户"},
        {"CF_XDR_SHXYM": INDIVIDUAL, "CF_XDR_LB": "法人及非法人组织"},
        {"CF_XDR_SHXYM": "91999999MA00FRM01N", "CF_XDR_LB": "个体工商户"},
        {"CF_XDR_GSZC": "999999600000018"},
        {"CF_XDR_SHXYM": INDIVIDUAL, "CF_XDR_LB": "个体工商户", "BZ": "诚信账本 {"},
    ],
)
def test_a_name_that_may_be_a_persons_is_taken_out_wherever_it_stands(
    cells: dict[str, str],
) -> None:
    row = mapping_of_form("shuanggongshi-penalty").read(1, PERSONAL | cells, b"row")
    assert isinstance(row, Unread)
    assert row.doubtful
    assert isinstance(row.raw, bytes)
    kept = "".join(f"{row.cells}{row.raw.decode()}{row.subject}{row.problems}".split())
    assert "郑某某" not in kept
    if INDIVIDUAL in cells.values():
        assert row.cells["CF_XDR_SHXYM"] == INDIVIDUAL, "the code is not lost with the name"


WORDS = st.sampled_from(
    [
        "",
        *NOTHING,
        "罚款",
        "自然人",
        "个体工商户",
        "撤销",
        "1",
        "2026/1/5",
        "*",
        "91999999MA00FRM01N",
    ]
)


@settings(max_examples=40)
@for_all(st.data())
def test_whatever_stands_in_the_cells_is_read(data: st.DataObject) -> None:
    form = form_of(data.draw(st.sampled_from(NAMES)))
    cells = {one.name: data.draw(WORDS | st.text(max_size=9)).strip() for one in form.kept}
    reading = read_row(form, cells)
    named = [*form.by_name, *COMPUTED]
    assert all(one.field in named and one.reason.zh for one in reading.problems + reading.notes)
    if reading.personal:
        assert reading.cells == {}
    else:
        assert set(reading.cells) == {one.name for one in form.kept} | set(COMPUTED)
        assert reading.problems or reading.cells["identifier"]
    written = io.StringIO(bytes_of(form, cells).decode(), newline="")
    assert list(csv.reader(written, strict=True)) == [list(cells.values())]


def test_a_header_is_known_by_any_of_its_names() -> None:
    for name in NAMES:
        form = form_of(name)
        for change in (str.lower, lambda text: text.replace("_", "＿")):
            columns = [change(one.name) for one in form.today]
            found = read_header(columns, form)
            assert found is not None
            assert set(found.places) == {one.name for one in form.today}
        assert recognised([one.title for one in form.today]) is not None


def test_detection_reads_to_the_end() -> None:
    late = b"a" * 2_000_000 + "处".encode("gb18030")
    assert detected(io.BytesIO(late)) == "gb18030"
    assert detected(io.BytesIO(late[:-2] + "处".encode())) == "utf-8"


def test_the_mappings_that_come_with_the_forms_are_whole() -> None:
    loaders: list[Callable[[], Importing]] = [lambda n=n: mapping_of_form(n) for n in NAMES]  # type: ignore[misc]
    assert [load().name for load in loaders] == list(NAMES)
    assert table_of(stream(b"a\n1\n"), mapping_of_form(NAMES[0]).source).columns == ["a"]


def test_the_document_names_every_column_every_alias_and_every_code() -> None:
    text = (Path(__file__).parent.parent / "docs/imports/shuanggongshi.md").read_text("utf-8")
    _, penalties, licences = re.split("^## (?:Penalties|Licences)$", text, flags=re.MULTILINE)
    for name, section in zip(NAMES, (penalties, licences), strict=True):
        for column in form_of(name).column:
            start = f"| `{column.name}` | {column.title}"
            [row] = [one for one in section.splitlines() if one.startswith(start)]
            assert all(f"`{alias}`" in row for alias in column.aliases)
            assert ("dropped" in row) is (column.kind == "person")
    codes = {
        part.rpartition(":")[2]
        for expected in EXPECTED.values()
        for _, told_codes in expected.values()
        for part in told_codes.split()
    }
    assert len(codes) > 20
    assert not [code for code in codes if f"`{code}`" not in text]


# --- quarantine -----------------------------------------------------------------------------------


CORRECTIONS = {
    13: {"CF_NR_FK": "0.2"},
    22: {"CF_JDRQ": "2026-01-05"},
    23: {"CF_XDR_SHXYM": "91999999MA00FRM01N"},
    24: {"CF_XDR_SHXYM": "91999999MA00FRM01N"},
    25: {"CF_XDR_GSZC": "999999600000013"},
    29: {"CF_XDR_MC": "示范王记短视频店"},
    32: {"CF_WFXW": "虚假广告"},
    34: {"CF_YJ": "《广告法》第五十五条"},
    39: {"CF_XDR_LB": "法人及非法人组织"},
    40: {"CF_ZT": "正常"},
    48: {"CF_CFLB": "警告", "CF_NR": "警告", "CF_NR_FK": "0"},
}
"""What a person says of rows in quarantine, by line."""


def test_a_person_answers_what_is_doubtful_and_the_row_is_recorded(
    office: Office, run: Run, database: Database
) -> None:
    importing, table = read(PENALTIES)
    quarantine, account = Quarantine(office.ledger), Account()
    holding = Holding(quarantine, given.REGISTRAR, importing.name, "f.csv", importing.recipe)
    work = Import(
        Desk(office.ledger),
        given.REGISTRAR,
        name=importing.name,
        purpose=importing.purpose,
        digest=digest,
        account=account,
        holding=holding,
    )
    tally = run(work.run(importing.rows(table)))
    doubtful = {n for n, one in EXPECTED_PENALTIES.items() if one[0] == "quarantined"}
    waiting = {one.line: one.id for one in quarantine.listed(None, state="waiting")}
    assert tally.quarantined == len(doubtful)
    assert set(waiting) == doubtful
    with database.connect(role=None) as owner:
        tables = owner.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'intake'"
        ).fetchall()
        stored = [
            str(row)
            for (name,) in tables
            for row in owner.execute(f"SELECT * FROM intake.{name}".encode()).fetchall()
        ]
    assert len(stored) > len(doubtful)
    assert not any(secret in text for secret in SECRETS for text in stored)
    before = len(office.data(PenaltyImposed))
    verdicts = Verdicts(quarantine, Desk(office.ledger), digest=digest)
    for line, said in CORRECTIONS.items():
        run(verdicts.correct(waiting[line], given.REGISTRAR, said, "依原件核对"))
        run(verdicts.accept(waiting[line], given.REGISTRAR, "依原件核对"))
    assert len(office.data(PenaltyImposed)) == before + len(CORRECTIONS)
    assert len(quarantine.listed(None, state="waiting")) == len(doubtful) - len(CORRECTIONS)
