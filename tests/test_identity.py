"""Identifiers: what is a provider's code, what is mended, what is refused and why."""

import base64
import csv
import hashlib
import unicodedata
import zoneinfo
from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from stdnum.iso7064 import mod_11_2

from ledger.errors import InvalidIdentifier
from ledger.evidence import EvidenceDigest
from ledger.identity import (
    COUNTRIES,
    USCC,
    Ref,
    coined_number,
    group_identifier,
    is_doubtful,
    parse_identifier,
)
from tests import given

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
FULL_WIDTH = {code - 0xFEE0: code for code in range(0xFF01, 0xFF5F)}


def refused(text: str) -> InvalidIdentifier:
    with pytest.raises(InvalidIdentifier) as caught:
        parse_identifier(text)
    return caught.value


def check_character(body: str) -> str:
    """GB 32100-2015 by its own formula: 31 minus the sum of value times 3^i mod 31."""
    total = sum(ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(body))
    return ALPHABET[-total % 31]


bodies = st.builds(
    lambda office, division, organisation: office + division + organisation,
    st.text(ALPHABET, min_size=2, max_size=2),
    st.text("0123456789", min_size=6, max_size=6),
    st.text(ALPHABET, min_size=9, max_size=9),
)


def test_every_code_of_a_registered_organisation_is_accepted(shared: Path) -> None:
    codes = (shared / "data" / "uscc_valid.txt").read_text(encoding="utf-8").split()
    assert len(codes) == 496
    assert [parse_identifier(code) for code in codes] == codes
    assert {code[-1] for code in codes} == set(ALPHABET), "all 31 check characters are there"


def test_every_wrong_code_is_judged_as_its_reason_says(shared: Path) -> None:
    with (shared / "data" / "uscc_invalid.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 143
    for row in rows:
        code, wanted = row["value"], row["computed_check_char"]
        match row["why"]:
            case "lower-case":
                assert parse_identifier(code) == code.upper()
                assert code.upper().endswith(wanted)
            case "checksum":
                assert f"should be {wanted}, not {code[-1]}" in str(refused(code))
                assert f"校验码应为 {wanted}" in refused(code).chinese()
            case "length" | "format":
                refused(code)
            case other:
                pytest.fail(f"an unknown reason: {other}")


@for_all(bodies)
def test_of_31_check_characters_exactly_one_is_right(body: str) -> None:
    right = check_character(body)
    assert parse_identifier(body + right) == body + right
    for wrong in set(ALPHABET) - {right}:
        assert f"should be {right}, not {wrong}" in str(refused(body + wrong))


@for_all(bodies, st.data())
def test_one_mistyped_character_is_always_noticed(body: str, data: st.DataObject) -> None:
    code = body + check_character(body)
    at = data.draw(st.integers(0, 17))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda c: c != code[at]))
    refused(code[:at] + other + code[at + 1 :])


@for_all(bodies, st.data())
def test_two_swapped_neighbours_are_always_noticed(body: str, data: st.DataObject) -> None:
    code = body + check_character(body)
    at = data.draw(st.integers(0, 16))
    swapped = code[:at] + code[at + 1] + code[at] + code[at + 2 :]
    if swapped == code:
        assert parse_identifier(swapped) == code
    else:
        refused(swapped)


@for_all(bodies, st.data())
def test_lower_case_full_width_and_outer_space_are_mended(body: str, data: st.DataObject) -> None:
    code = body + check_character(body)
    written = "".join(
        data.draw(st.sampled_from([c, c.lower(), c.translate(FULL_WIDTH)])) for c in code
    )
    assert parse_identifier(f" {written}\u3000") == code


def test_the_corrected_example_of_the_standard() -> None:
    assert parse_identifier("91350100M000100Y43") == "91350100M000100Y43"
    assert "without I, O, S, V, Z" in str(refused("91350100M000100Y4Z"))


@pytest.mark.parametrize("code", given.PROVIDERS)
def test_the_invented_codes_are_valid(code: str) -> None:
    assert parse_identifier(code) == code
    assert code[2:8] == "999999", "a division that does not exist"


@pytest.mark.parametrize(
    "code",
    ["N2110101MF00000012", "Y1999999MA0000000X", "A1999999MA0000000J"],
    ids=["rural collective", "other office", "military office"],
)
def test_offices_with_a_letter(code: str) -> None:
    assert parse_identifier(code) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "9199 9999 MA00 TEXT 0H",
        "91999999MA00TEXT0",
        "91999999MA00TEXT0HH",
        "9199999９MA00TEXTOH",
        "91999999MA00TEXT0\x00",
        "91999999MA00TEXT0\ud800",
        "91999999MA00TEXT\u0660H",
        "00000000000000000X",
        "91999999********0H",
        "9199A999MA00TEXT0H",
        "暂无",
    ],
)
def test_what_is_no_code(text: str) -> None:
    assert repr(text.strip())[1:6].upper() in str(refused(text)).upper()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HK-CR-1234567", "HK-CR-1234567"),
        ("us-chi-2484634", "US-CHI-2484634"),
        ("ｔｗ－ＭＯＥＡ－２２０９９１３１", "TW-MOEA-22099131"),
        (" MO-RC-12345SO\n", "MO-RC-12345SO"),
        ("CN-OLD-320506000019670", "CN-OLD-320506000019670"),
        ("DE-HRB-" + "1" * 53, "DE-HRB-" + "1" * 53),
    ],
)
def test_registers_elsewhere(text: str, canonical: str) -> None:
    assert parse_identifier(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "HK-1234567",
        "HK-CR-",
        "HK--1234567",
        "HK-CR-123-4567",
        "HK-CR-12 34567",
        "HKG-CR-1234567",
        "HK-CR-123é567",
        "HK-CR-12ſ4567",
        "HK-CR-12ﬁ4567",
        "DE-HRB-" + "1" * 54,
        "91999999-MA00TEXT0H",
        "-",
    ],
)
def test_what_is_no_register_number(text: str) -> None:
    assert "COUNTRY-REGISTER-NUMBER" in str(refused(text))


@pytest.mark.parametrize("country", ["XX", "EU", "UK", "AN", "SU", "ZZ"])
def test_what_is_no_country(country: str) -> None:
    assert f"{country} is no country code of ISO 3166-1" in str(refused(f"{country}-R-1"))


def test_the_countries_are_those_of_iso_3166() -> None:
    tables = [Path(top) / "iso3166.tab" for top in zoneinfo.TZPATH]
    found = [table for table in tables if table.is_file()]
    if not found:
        pytest.skip("this machine has no iso3166.tab of the time zone database to compare with")
    lines = found[0].read_text(encoding="utf-8").splitlines()
    assert frozenset(line[:2] for line in lines if line and line[0] != "#") == COUNTRIES


def test_a_monstrous_text_is_refused_without_being_repeated() -> None:
    error = refused("9" * 1_000_000)
    assert len(str(error)) < 200
    assert "far too long" in str(error)
    assert "过长" in error.chinese()


@for_all(st.text(max_size=300))
def test_any_text_is_accepted_in_canonical_form_or_refused(text: str) -> None:
    try:
        value = parse_identifier(text)
    except InvalidIdentifier:
        return
    assert parse_identifier(value) == value
    assert len(value) <= 60
    assert set(value) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


@pytest.mark.parametrize(
    "parts",
    [
        ("(株)サンプル商事", "東京都千代田区"),
        ("（株）サンプル商事", "東京都千代田区"),
        ("㈱ｻﾝﾌﾟﾙ商事", "東京都千代田区"),
    ],
)
def test_a_coined_number_is_the_same_in_every_width(parts: tuple[str, str]) -> None:
    # printf '(株)サンプル商事|東京都千代田区' | openssl dgst -sha256 -binary | base32 | head -c 16
    assert coined_number(parts) == "AK4HYZVSDJM4AEP3"
    assert parse_identifier(f"JP-MHLW-{coined_number(parts)}") == "JP-MHLW-AK4HYZVSDJM4AEP3"


@for_all(st.lists(st.text(max_size=20), min_size=2, max_size=2))
def test_a_coined_number_is_what_the_issue_says(parts: list[str]) -> None:
    """Base32 of SHA-256, of each part in NFKC or of the whole: that is the same."""
    each = "|".join(unicodedata.normalize("NFKC", part) for part in parts)
    whole = unicodedata.normalize("NFKC", "|".join(parts))
    assert each == whole
    wanted = base64.b32encode(hashlib.sha256(each.encode()).digest())[:16].decode()
    assert coined_number(parts) == wanted


def test_a_code_is_shown_in_groups() -> None:
    assert group_identifier("91999999MA00TEXT0H") == "91 999999 MA00 TEXT0 H"
    assert group_identifier("HK-CR-123456789012") == "HK-CR-123456789012"


@pytest.mark.parametrize(
    "text",
    ["张三", "13800138000", "0198C7A0-0000-4000-8000-0000000000C1", given.CLIENT + "\n", ""],
)
def test_a_reference_is_nothing_but_a_random_number(text: str) -> None:
    model: TypeAdapter[str] = TypeAdapter(Ref)
    assert model.validate_python(given.CLIENT) == given.CLIENT
    with pytest.raises(ValidationError):
        model.validate_python(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "AB" * 32},
        {"sha256": "ab" * 31},
        {"media_type": "application/pdf; name=张三.pdf"},
        {"media_type": "pdf"},
        {"size_bytes": -1},
        {"size_bytes": 2**53},
        {"size_bytes": 1.0},
        {"custodian": "张三"},
        {"file_name": "a.pdf"},
    ],
)
def test_evidence_is_a_digest_and_nothing_that_could_name_a_person(
    changes: dict[str, object],
) -> None:
    assert given.evidence().size_bytes == 24_816
    with pytest.raises(ValidationError):
        given.evidence(**changes)
    with pytest.raises(ValidationError):
        EvidenceDigest.model_validate(given.evidence().model_dump() | changes)


@pytest.mark.parametrize("written", ["{}", " {} "])
def test_a_residents_identity_number_is_no_doubtful_code_and_is_not_repeated(written: str) -> None:
    number = "99999919800101999"
    number += mod_11_2.calc_check_digit(number)
    assert USCC.fullmatch(number) is not None
    full_width = number.translate({ord(one): ord(one) + 0xFEE0 for one in "0123456789"})
    for one in (number, full_width):
        text = written.format(one)
        assert not is_doubtful(text)
        error = refused(text)
        assert number[:6] not in f"{error}{error.chinese()}"
        assert "自然人" in error.chinese()
