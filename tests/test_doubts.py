"""Rows that may be doubles, days that contradict each other, numbers that are coined, notes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import date

import pytest

from api.intake.complaint import MappingError
from api.intake.mapping import Importing
from api.intake.mappingfile import MappingFile
from api.intake.rows import Row, Unread
from ledger.identity import coined_number
from ledger.referral import ReferralRecorded
from ledger.store import Ledger
from tests import given
from tests.conftest import Record
from tests.test_imports import csv_file

MAPPING = """
name = "referrals"
[identifier]
coined = { prefix = "JP-X-", of = ["name", "place"] }
[row]
key = ["name", "place", "what", "last"]
may_be_empty = ["last"]
in_order = ["referred", "first", "last"]
[doubles]
name = "name"
row = ["name", "place", "first", "what"]
same_words = { "株式会社" = "（株）" }
[[note]]
field = "public_until"
code = "still-shown"
when = { column = "last", one_of = [""] }
en = "still shown"
zh = "仍在公布"
[[record]]
command = "register"
fields = { name = { column = "name" }, entity_kind = "ENTERPRISE" }
[[record]]
command = "referral"
[record.fields]
issuer = { kind = "REGULATOR", name = "署" }
referral = { coined = { prefix = "X-", of = ["name", "what", "last"], may_be_empty = ["last"] } }
law_article = { column = "what" }
referred_on = { column = "referred", when_missing = "omit" }
shown_from = { column = "first" }
public_until = { column = "last", plus_days = 1, default = 2025-05-31 }
evidence = { digest_of_row = "JP-X" }
"""
HEADER = "name,place,what,referred,first,last\n"


def mapping(text: str = MAPPING) -> Importing:
    return Importing(MappingFile.model_validate(tomllib.loads(text)))


def read(*rows: str, registered: Sequence[tuple[str, str]] = ()) -> list[Row | Unread]:
    """What becomes of rows."""
    file = csv_file(HEADER + "\n".join(rows) + "\n")
    return list(mapping().rows(file, registered=lambda: registered))


def codes(row: Row | Unread) -> list[tuple[str, str]]:
    """Field and code of every problem; a row with problems here is one for a person."""
    if isinstance(row, Row):
        return []
    assert row.doubtful
    return [(one.field, one.code) for one in row.problems]


def referral_of(row: Row | Unread) -> ReferralRecorded:
    assert isinstance(row, Row)
    data = row.entries[0].data
    assert isinstance(data, ReferralRecorded)
    return data


SAME_NAME = [("identifier", "possible-double")]
SAME_MATTER = [("row", "possible-double")]


def test_a_row_is_read_whole() -> None:
    first, second = read(
        "（株）甲,市,法1,2024-01-02,2024-01-05,2024-02-29", "（株）乙,市,法1,,2024-01-05,"
    )
    assert isinstance(first, Row)
    assert first.subject == "JP-X-" + coined_number(["（株）甲", "市"])
    data = referral_of(first)
    assert data.referral == "X-" + coined_number(["(株)甲", "法1", "2024-02-29"])
    assert (data.referred_on, data.shown_from) == (date(2024, 1, 2), date(2024, 1, 5))
    assert data.public_until == date(2024, 3, 1), "the first day without it"
    assert first.notes == []
    assert isinstance(second, Row)
    assert (referral_of(second).referred_on, referral_of(second).public_until) == (
        None,
        date(2025, 5, 31),
    )
    [note] = second.notes
    assert (note.field, note.code, note.reason.zh) == ("public_until", "still-shown", "仍在公布")


@pytest.mark.parametrize(
    "name",
    ["（株）甲野", "(株)甲野", "㈱甲野", "株式会社甲野", "（株） 甲 野", "株式会社・甲野"],
)
def test_the_same_name_elsewhere_is_for_a_person(name: str) -> None:
    _, other = read("（株）甲野,市,法1,,2024-01-05,", f"{name},町,法2,,2024-03-01,")
    assert codes(other) == SAME_NAME
    assert isinstance(other, Unread)
    assert "JP-X-" + coined_number(["（株）甲野", "市"]) in other.problems[0].reason.en


@pytest.mark.parametrize("name", ["甲野（株）", "（有）甲野", "（株）甲", "（株）甲野工業"])
def test_another_name_is_another_firm(name: str) -> None:
    rows = read("（株）甲野,市,法1,,2024-01-05,", f"{name},町,法2,,2024-03-01,")
    assert [codes(row) for row in rows] == [[], []]


def test_a_name_that_the_ledger_knows_is_for_a_person_and_its_own_subject_is_not() -> None:
    row = "（株）甲野,市,法1,,2024-01-05,"
    own = "JP-X-" + coined_number(["（株）甲野", "市"])
    assert codes(*read(row, registered=[("91999999MA00TEXT0H", "株式会社甲野")])) == SAME_NAME
    assert codes(*read(row, registered=[(own, "（株）甲野")])) == []
    # Somebody has accepted it: both are known, each under its own identifier.
    both = [("91999999MA00TEXT0H", "株式会社甲野"), (own, "（株）甲野")]
    assert codes(*read(row, registered=both)) == []


def test_a_doubtful_row_makes_no_other_row_doubtful() -> None:
    rows = read(
        "（株）甲,市,法1,,2024-01-05,",
        "（株）甲,町,法2,,2024-01-06,",
        "（株）甲,市,法3,,2024-01-07,",
        "（株）甲,町,法4,,2024-01-08,",
    )
    assert [codes(row) for row in rows] == [[], SAME_NAME, [], SAME_NAME]


def test_the_same_matter_in_other_words_is_for_a_person_and_the_very_same_row_is_not() -> None:
    rows = read(
        "（株）甲,市,法１,,2024-01-05,2024-02-01",
        "(株)甲,市,法 1,,2024-01-05,2024-03-01",
        "（株）甲,市,法１,,2024-01-05,2024-02-01",
        "（株）甲,市,法２,,2024-01-05,2024-02-01",
    )
    assert [codes(row) for row in rows] == [[], SAME_MATTER, [], []]
    assert isinstance(rows[1], Unread)
    assert "line 2 says the same" in rows[1].problems[0].reason.en


def test_whoever_reads_a_doubtful_row_by_itself_has_answered_the_doubt() -> None:
    _, double = read("（株）甲,市,法1,,2024-01-05,", "（株）甲,町,法1,,2024-01-05,")
    assert isinstance(double, Unread)
    again = mapping().read(double.line, double.cells, double.raw)
    assert isinstance(again, Row)
    assert (again.subject, again.key) == (double.subject, double.key)


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ("2024-01-05,2024-01-05,2024-01-05", []),
        (",2024-01-05,", []),
        ("2024-01-06,2024-01-05,2024-01-07", ["first (2024-01-05) is before referred"]),
        ("2024-01-01,2024-01-05,2024-01-04", ["last (2024-01-04) is before first"]),
        ("2024-01-06,2024-01-05,2024-01-04", ["first (2024-01-05)", "last (2024-01-04)"]),
    ],
)
def test_days_that_contradict_each_other_are_for_a_person(days: str, found: list[str]) -> None:
    [row] = read(f"（株）甲,市,法1,{days}")
    assert codes(row) == [("row", "date-order")] * len(found)
    reasons = [one.reason.en for one in row.problems] if isinstance(row, Unread) else []
    assert all(part in reason for part, reason in zip(found, reasons, strict=True))
    if isinstance(row, Unread):
        emptied = mapping().read(row.line, {**row.cells, "referred": "", "last": ""}, row.raw)
        assert referral_of(emptied).referred_on is None


def test_what_is_wrong_in_itself_is_refused_however_doubtful_it_is_besides() -> None:
    [row] = read("（株）甲,市,法1,2024-01-06,2024-01-05,2024-13-01")
    assert isinstance(row, Unread)
    assert not row.doubtful
    assert {one.code for one in row.problems} == {"date-order", "bad-day"}


@pytest.mark.parametrize("row", ["（株）甲,,法1,,2024-01-05,", ",市,法1,,2024-01-05,"])
def test_nothing_is_coined_of_what_is_not_there(row: str) -> None:
    [unread] = read(row)
    assert isinstance(unread, Unread)
    assert ("identifier", "missing") in [(one.field, one.code) for one in unread.problems]


def test_the_last_of_all_days_has_no_day_after_it() -> None:
    [row] = read("（株）甲,市,法1,,2024-01-05,9999-12-31")
    assert isinstance(row, Unread)
    assert [(one.field, one.code) for one in row.problems] == [("public_until", "bad-day")]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('{ column = "what" }', '{ column = "what", plus_days = 1 }', "for days only"),
        ('of = ["name", "place"]', "of = []", "at least 1 item"),
        ('when = { column = "last"', 'when = { column = "lost"', "no column 'lost'"),
        ('name = "name"\nrow', 'name = "nome"\nrow', "no column 'nome'"),
        ('in_order = ["referred"', 'in_order = ["refered"', "no column 'refered'"),
    ],
)
def test_a_wrong_mapping_is_refused_before_any_row(old: str, new: str, why: str) -> None:
    assert old in MAPPING
    with pytest.raises((MappingError, ValueError), match=why):
        mapping(MAPPING.replace(old, new)).rows(csv_file(HEADER))


def test_the_ledger_tells_whom_it_knows(opened: Ledger, record: Record) -> None:
    record(given.register(name="甲"), provider=given.PROVIDER)
    record(given.penalty(), provider=given.PROVIDER)
    record(given.register(name="乙"), provider=given.OTHER)
    assert sorted(opened.registered()) == sorted([(given.PROVIDER, "甲"), (given.OTHER, "乙")])
