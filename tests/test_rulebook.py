"""The rulebook stream: what a rulebook must be, when it may come into force, which one holds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import errors, events, provider
from ledger.envelope import MAX_RULEBOOK_BYTES, Event, decode
from ledger.errors import InvalidRulebook
from ledger.findings import Bench
from ledger.rulebook import (
    Rulebooks,
    decide,
    decide_opening,
    evolve,
    first_rulebook,
    parse_rulebook,
)
from tests import given

DAY = timedelta(days=1)
TODAY = given.TODAY
Change = Callable[[dict[str, Any]], object]


def event(data: events.Data, version: int) -> Event:
    """As it comes out of the log: through its bytes."""
    one = Event(
        id="0198c7a0-1111-7222-8333-444455556666",
        stream=events.RULEBOOK_STREAM,
        version=version,
        data=data,
        actor=given.REGISTRAR,
        nonce="AAECAwQFBgcICQoLDA0ODw",
    )
    state, at = one.encode()
    return decode(state[:at] + b"2026-03-02T01:30:00.000000Z" + state[at + 27 :])


def opened(book: dict[str, Any] | None = None) -> Rulebooks:
    """A ledger opened with a rulebook (the shipped one)."""
    command = given.opening() if book is None else given.opening(rulebook=book)
    (data,) = decide_opening(Rulebooks(), command)
    return evolve(Rulebooks(), event(data, 1))


def published(state: Rulebooks, book: dict[str, Any], today: date = TODAY) -> Rulebooks:
    (data,) = decide(state, given.publish(book), today=today)
    return evolve(state, event(data, state.version + 1))


def refused(book: object) -> str:
    with pytest.raises(InvalidRulebook) as caught:
        parse_rulebook(book)
    assert caught.value.chinese()
    return str(caught.value)


def changed(change: Change) -> dict[str, Any]:
    book = given.rulebook()
    change(book)
    return book


# --- what a rulebook must be ----------------------------------------------------------------------


def test_the_shipped_rulebook_is_valid_and_scores_as_the_specification_says(shared: Path) -> None:
    book = parse_rulebook(first_rulebook())
    examples = json.loads((shared / "scoring" / "examples.json").read_text(encoding="utf-8"))
    assert book.scoring == examples["rulebooks"]["RB-2026.1"]
    assert (book.version, book.in_force_from) == ("RB-2026.1", date(2024, 1, 1))
    assert len(event(given.opening(), 1).encode()[0]) < MAX_RULEBOOK_BYTES // 2


def test_the_items_are_those_of_the_domain() -> None:
    items = parse_rulebook(first_rulebook()).items
    assert len(items.families) == 36
    ranges = {code: (f.least, f.default, f.gravest) for code, f in items.families.items()}
    assert ranges["LATE_DELIVERY"] == ("S1", "S2", "S2")
    assert ranges["AD_FALSE_CLAIM"] == ("S2", "S2", "S3")
    assert ranges["BANNED_GOODS_AD"] == ("S3", "S3", "S4")
    assert ranges["DATA_SALE"] == ("S4", "S4", "S4")
    # domain.md §4: the first severity is the default, but S2 where a range begins with S1.
    for least, default, gravest in ranges.values():
        assert default == ("S2" if (least, gravest) != ("S1", "S1") and least == "S1" else least)
    assert {code for code, rule in items.issuers.items() if rule.gravest == "S4"} == {
        "REGULATOR",
        "COURT",
    }
    assert {code for code, rule in items.issuers.items() if rule.listings} == {
        "REGULATOR",
        "COURT",
    }


@pytest.mark.parametrize("value", [None, 1, "RB-1", [], {}, {"version": "RB-1"}])
def test_what_is_no_rulebook_at_all(value: object) -> None:
    assert "is not valid" in refused(value)


@pytest.mark.parametrize("part", ["version", "in_force_from", "scoring", "items", "clocks"])
def test_no_part_may_be_missing(part: str) -> None:
    assert part in refused(changed(lambda book: book.pop(part)))


@pytest.mark.parametrize("member", first_rulebook()["scoring"])
def test_no_member_of_the_first_scale_may_be_missing(member: str) -> None:
    assert member in refused(changed(lambda book: book["scoring"].pop(member)))


@pytest.mark.parametrize("clock", sorted({*first_rulebook()["clocks"]} - {"proposal"}))
def test_no_clock_may_be_missing(clock: str) -> None:
    assert clock in refused(changed(lambda book: book["clocks"].pop(clock)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda b: b.update(author="张三"), "author"),
        (lambda b: b["items"].update(remark="x"), "items.remark"),
        (lambda b: b["clocks"].update(lunch={"count": 1, "unit": "days"}), "clocks.lunch"),
        (lambda b: b["items"]["families"]["NO_REFUND"].update(why="x"), "NO_REFUND.why"),
        (lambda b: b.update(version="rb 1"), "version"),
        (lambda b: b.update(in_force_from="2026-W10-1"), "in_force_from"),
        (lambda b: b["items"]["categories"]["ADVERT"].update(zh=""), "ADVERT.zh"),
        (lambda b: b["items"]["categories"]["ADVERT"].update(zh="广\x00告"), "ADVERT.zh"),
        (lambda b: b["items"]["categories"]["ADVERT"].update(en="ad\u202everts"), "ADVERT.en"),
        (lambda b: b["scoring"].update(bands=[["X", "0.00"]]), "the name X is taken"),
        (lambda b: b["scoring"].update(bands=[["N", "0.00"]]), "the name N is taken"),
        (
            lambda b: b["scoring"].update(bands=[["A", "50.00"], ["A", "0.00"]]),
            "the name A is taken",
        ),
        (lambda b: b["items"]["categories"].update({"广告": {"zh": "a", "en": "b"}}), "categories"),
        (lambda b: b["clocks"]["mediation"].update(count=-1), "mediation.count"),
        (lambda b: b["clocks"]["mediation"].update(count=1.5), "mediation.count"),
        (lambda b: b["clocks"]["mediation"].update(unit="weeks"), "mediation.unit"),
        (lambda b: b["clocks"]["backdating"].update(unit="months"), "clocks.backdating"),
        (lambda b: b["clocks"]["late_entry"].update(unit="working_days"), "clocks.late_entry"),
        (lambda b: b["items"]["severities"]["S2"].update(shortest_months=13), "severities.S2"),
        (lambda b: b["items"]["families"]["NO_REFUND"].update(category="LOVE"), "no LOVE"),
        (lambda b: b["items"]["families"]["NO_REFUND"].update(gravest="S1"), "does not hold"),
        (lambda b: b["items"]["families"]["NO_REFUND"].update(default="S3"), "does not hold"),
        (lambda b: b["items"]["families"]["NO_REFUND"].update(least="S7"), "no S7"),
        (lambda b: b["items"]["issuers"]["COURT"].update(gravest="S7"), "no S7"),
        (lambda b: b["items"]["breach_issuers"].update(JUDGMENT="KING"), "no KING"),
        (lambda b: b["items"]["merits"]["SOCIAL"].update(issuers=["KING"]), "no KING"),
        (lambda b: b["items"]["merits"].pop("SOCIAL"), "SOCIAL must be in scoring too"),
        (lambda b: b["scoring"]["merit"].pop("SOCIAL"), "SOCIAL must be in scoring too"),
        (lambda b: b["scoring"]["issuer_weight"].pop("COURT"), "COURT must be in scoring too"),
        (lambda b: b["items"]["mitigations"].pop("COMPENSATED"), "COMPENSATED must be"),
        (lambda b: b["scoring"]["severity_points"].pop("S0"), "S0 must be in scoring too"),
        (lambda b: b["scoring"].update(version="RB-OTHER"), "differ from the rulebook's own"),
        (lambda b: b["scoring"].update(in_force_from="2026-04-02"), "differ from"),
        (lambda b: b["scoring"].update(baseline="80.005"), "baseline"),
        (lambda b: b["scoring"].update(baseline=80), "baseline"),
    ],
)
def test_a_contradiction_is_refused_where_it_stands(change: Change, told: str) -> None:
    assert told in refused(changed(change))


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        2**53,
        -(2**53),
        None,
        "free text",
        "张三",
        "",
        "a\x00",
        "x" * 65,
        {"名": "1"},
        [[1.0]],
        {"deep": {"deeper": {"name": "Li Lei, phone 138"}}},
    ],
)
def test_a_member_that_the_scale_ignores_holds_no_text_and_no_float(value: object) -> None:
    parse_rulebook(changed(lambda book: book["scoring"].update(x=["A-1", -7, True, {"B": "0.5"}])))
    assert "neither a code nor a whole number" in refused(
        changed(lambda book: book["scoring"].update(remark=value))
    )


def test_endless_nesting_is_refused_not_followed() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert "a list is neither" in refused(changed(lambda book: book["scoring"].update(x=nested)))
    while nested:
        (nested,) = nested  # taken apart by hand: freeing it whole would recurse as deeply


def test_every_reason_is_told_at_once() -> None:
    def change(book: dict[str, Any]) -> None:
        del book["clocks"]["mediation"]
        book["scoring"]["baseline"] = "much"
        book["items"]["families"]["NO_REFUND"]["gravest"] = 3

    told = refused(changed(change))
    for part in ("clocks.mediation", "baseline", "families.NO_REFUND.gravest"):
        assert part in told


def test_only_the_five_severities_of_the_score() -> None:
    def change(book: dict[str, Any]) -> None:
        for table in (book["scoring"]["severity_points"], book["scoring"]["weights"]):
            table["S5"] = table["S4"]
        book["items"]["severities"]["S5"] = book["items"]["severities"]["S4"]

    assert "items.severities.S5" in refused(changed(change))


def test_the_order_in_which_severities_are_written_means_nothing() -> None:
    """Canonical bytes sort an object's keys: what rests on their order would change in the log."""
    book = given.rulebook()
    severities = book["items"]["severities"]
    book["items"]["severities"] = {code: severities[code] for code in reversed(severities)}
    turned = copy.deepcopy(book)
    turned["items"]["families"]["AD_FALSE_CLAIM"] |= {"least": "S3", "gravest": "S2"}
    assert "does not hold" in refused(turned)
    state = published(opened(), book)
    again = evolve(opened(), event(decide(opened(), given.publish(book), today=TODAY)[0], 2))
    assert state.books[-1] == again.books[-1]


# --- opening --------------------------------------------------------------------------------------


def test_a_ledger_is_opened_once() -> None:
    state = opened()
    assert state.opening is not None
    assert (state.opening.name, state.opening.origin, state.opening.purpose) == (
        "示例省诚信账本",
        "ledger.example/demo",
        "demonstration",
    )
    with pytest.raises(errors.LedgerAlreadyOpened, match=r"示例省诚信账本.*demonstration"):
        decide_opening(state, given.opening(name="另一个账本"))


def test_a_ledger_is_not_opened_with_an_invalid_rulebook() -> None:
    with pytest.raises(InvalidRulebook, match="baseline"):
        decide_opening(
            Rulebooks(), given.opening(rulebook=changed(lambda b: b["scoring"].pop("baseline")))
        )


# --- publishing -----------------------------------------------------------------------------------


def test_a_rulebook_needs_seven_days_notice() -> None:
    state = opened()
    for days in (0, 1, 6):
        day = (TODAY + days * DAY).isoformat()
        with pytest.raises(
            errors.RulebookNotice, match=f"from 2026-03-09 at the earliest, not {day}"
        ):
            decide(state, given.publish(given.rulebook("RB-2", day)), today=TODAY)
    state = published(state, given.rulebook("RB-2", "2026-03-09"))
    assert state.of(date(2026, 3, 8)).version == "RB-2026.1"
    assert state.of(date(2026, 3, 9)).version == "RB-2"


def test_a_rulebook_never_reaches_back() -> None:
    with pytest.raises(errors.RulebookNotice):
        decide(opened(), given.publish(given.rulebook("RB-2", "2023-01-01")), today=TODAY)


def test_the_notice_is_that_of_the_rulebook_of_today() -> None:
    short = given.rulebook("RB-2", "2026-03-20")
    short["clocks"]["rulebook_notice"]["count"] = 30
    state = published(opened(), short)
    assert decide(state, given.publish(given.rulebook("RB-3", "2026-03-15")), today=TODAY)
    later = date(2026, 3, 20)
    with pytest.raises(errors.RulebookNotice, match="2026-04-19"):
        decide(state, given.publish(given.rulebook("RB-3", "2026-04-18")), today=later)


def test_even_without_a_notice_period_no_day_that_has_begun_gets_other_rules() -> None:
    book = given.rulebook("RB-1", "2024-01-01")
    book["clocks"]["rulebook_notice"]["count"] = 0
    state = opened(book)
    with pytest.raises(errors.RulebookNotice, match="2026-03-04"):
        decide(state, given.publish(given.rulebook("RB-2", "2026-03-03")), today=TODAY)
    published(state, given.rulebook("RB-2", "2026-03-04"))


def test_the_first_rulebook_stays_the_first() -> None:
    """It holds for every day before it too: one published before it would reach back."""
    state = opened(given.rulebook("RB-1", "2027-01-01"))
    assert state.of(date(2020, 1, 1)).version == "RB-1"
    with pytest.raises(errors.RulebookNotice, match="2027-01-02"):
        decide(state, given.publish(given.rulebook("RB-0", "2026-06-01")), today=TODAY)
    state = published(state, given.rulebook("RB-2", "2027-01-02"))
    assert state.of(date(2020, 1, 1)).version == "RB-1"


def test_a_version_and_a_day_are_taken_once() -> None:
    state = published(opened(), given.rulebook("RB-2", "2026-04-01"))
    for book, why in (
        (given.rulebook("RB-2", "2026-05-01"), "the version is taken"),
        (given.rulebook("RB-3", "2026-04-01"), "two rulebooks cannot start on one day"),
        (given.rulebook("RB-2026.1", "2026-05-01"), "the version is taken"),
    ):
        with pytest.raises(errors.RulebookTaken, match=why):
            decide(state, given.publish(book), today=TODAY)


def test_rulebooks_are_ordered_by_day_whatever_order_they_were_published_in() -> None:
    state = opened()
    for version, day in (("RB-4", "2026-06-01"), ("RB-2", "2026-04-01"), ("RB-3", "2026-05-01")):
        state = published(state, given.rulebook(version, day))
    days = [date(2026, month, 15) for month in (3, 4, 5, 6)]
    assert [state.of(day).version for day in days] == ["RB-2026.1", "RB-2", "RB-3", "RB-4"]
    assert state.scales is not None
    assert [state.scales.of(day).version for day in days] == ["RB-2026.1", "RB-2", "RB-3", "RB-4"]
    assert state.version == 4


def test_the_day_of_recording_decides_not_the_day_of_publication() -> None:
    """A fact of a day before the change is judged by the rules of its day, whenever recorded."""
    book = given.rulebook("RB-2", "2026-04-01")
    for table in (book["scoring"]["mitigation"], book["items"]["mitigations"]):
        del table["COMPENSATED"]
    state = published(opened(), book)
    history = provider.Provider(given.PROVIDER, status="registered")
    later = Bench(date(2026, 5, 1), state, given.REGISTRAR)
    provider.decide(history, given.penalty(mitigation=["COMPENSATED"]), later)
    with pytest.raises(errors.CodeNotInForce, match="RB-2, in force on 2026-04-02"):
        provider.decide(
            history,
            given.penalty(
                mitigation=["COMPENSATED"],
                decided_on=date(2026, 4, 2),
                served_on=date(2026, 4, 2),
            ),
            later,
        )
