"""The score by examples: the published ones byte for byte, our own by hand, and every refusal."""

import decimal
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calendar import add_months
from ledger.scale import InvalidScale, Scales, parse_scale
from projections.case import InvalidCase, check, parse_fact
from projections.forecast import next_change
from projections.scoring import score, score_line
from tests.strategies import (
    Json,
    act,
    contract,
    demerit,
    inspection,
    listing,
    merit,
    parse,
    rulebook,
    score_of,
)

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "scoring-examples.json"


# --- The published examples ----------------------------------------------------------------------


def published() -> Json:
    """scoring-examples.json, decoded."""
    examples: Json = json.loads(EXAMPLES.read_text("utf-8"))
    return examples


def test_published_examples_come_out_byte_for_byte() -> None:
    book = published()
    seen = 0
    for example in book["examples"]:
        facts, scales = parse(
            example["facts"], [book["rulebooks"][version] for version in example["rulebooks"]]
        )
        for wanted in example["results"]:
            result = score(
                facts,
                scales,
                as_of=date.fromisoformat(wanted["as_of"]),
                known_at=date.fromisoformat(wanted["known_at"]),
            )
            assert json.dumps(result) == json.dumps(wanted), f"example {example['no']}"
            seen += 1
    assert (len(book["examples"]), seen) == (10, 23)


def test_published_examples_through_the_offline_command() -> None:
    book = published()
    for example in book["examples"]:
        rulebooks = [book["rulebooks"][version] for version in example["rulebooks"]]
        for wanted in example["results"]:
            days = {"as_of": wanted["as_of"], "known_at": wanted["known_at"]}
            line = json.dumps({"facts": example["facts"], "rulebooks": rulebooks, **days})
            assert score_line(line.encode()) == (orjson.dumps(wanted), True)


def test_next_change_walks_the_steps_of_the_fading_example() -> None:
    book = published()
    example = book["examples"][2]
    demerits = [fact for fact in example["facts"] if fact["kind"] == "demerit"]
    walked = walk(demerits, [book["rulebooks"]["RB-2026.1"]], "2026-01-01")
    served, steps = "2026-02-10", ["2026-05-10", "2026-08-10", "2026-11-10", "2027-02-10"]
    assert walked == [served, *steps]


def walk(facts: list[Json], books: list[Json], start: str) -> list[str]:
    """Every day `next_change` names, one after the other."""
    parsed, scales = parse(facts, books)
    walked = []
    day = next_change(parsed, scales, as_of=date.fromisoformat(start))
    while day is not None:
        walked.append(day.isoformat())
        day = next_change(parsed, scales, as_of=day)
    return walked


def test_next_change_follows_the_clock_that_a_suspension_stopped() -> None:
    acts = [act("a-1", "d", "suspended", "2025-01-20"), act("a-2", "d", "resumed", "2025-01-30")]
    walked = walk([demerit("d", "2025-01-10"), *acts], [rulebook()], "2025-01-01")
    assert walked[:3] == ["2025-01-10", "2025-01-20", "2025-01-30"]
    assert walked[3:] == ["2025-04-20", "2025-07-20", "2025-10-20", "2026-01-20"]


def test_next_change_ends_with_adverse_life_or_repair() -> None:
    fact = demerit("d", "2025-01-01", occurred_on="2024-06-01", severity="S4", obligation=True)
    fact["ended_on"] = "2024-06-15"
    short = rulebook(adverse_life_months=12)
    for acts, walked in (
        ([], ["2025-06-15"]),
        ([act("a", "d", "repaired", "2025-05-01")], ["2025-05-01"]),
        ([act("a", "d", "suspended", "2025-05-01")], ["2025-05-01"]),
    ):
        assert walk([fact, *acts], [short], "2025-01-01") == walked


def test_next_change_watches_both_rulebooks_of_a_finding() -> None:
    later = rulebook(
        version="RB-2",
        in_force_from="2025-01-01",
        weights={**rulebook()["weights"], "S2": [[1, "0.9"], [2, "0.8"]]},
    )
    fact = demerit("d", "2025-01-10", occurred_on="2024-12-31")
    steps = ["2025-02-10", "2025-03-10"]  # RB-2 weighs less, so its steps are those that count
    walked = walk([fact], [rulebook(), later], "2025-01-10")
    assert walked[:2] == steps
    scores = [score_of([fact], [rulebook(), later], day)["score"] for day in ["2025-01-10", *steps]]
    assert scores == ["75.50", "76.00", "80.00"]


def test_next_change_knows_what_a_removal_leaves() -> None:
    facts = [
        contract("m-0", "2025-02-27", "client-1"),  # wiped by the removal
        contract("m-1", "2025-02-28", "client-1"),
        inspection("n", "2025-03-31"),
        listing("v", "2025-01-01"),
        act("a", "v", "removed", "2025-02-28"),
    ]
    book = rulebook(evidence_window_months=11, delisted_ceiling_months=13)
    assert walk(facts, [book], "2025-02-28") == [
        "2025-03-31",
        "2026-01-28",  # the contract is no longer evidence
        "2026-02-28",  # nor a merit
        "2026-03-01",  # 28 February less 11 months is before 31 March, 1 March is not
        "2026-03-28",  # the ceiling ends
    ]


# --- Worked by hand ------------------------------------------------------------------------------


def line_of(result: Any, fact_id: str) -> Json:
    """The contribution of one fact."""
    lines: list[Json] = [line for line in result["contributions"] if line["fact"] == fact_id]
    assert len(lines) == 1
    return lines[0]


def brief(result: Any) -> list[str]:
    """`fact:reason:points` of all contributions, then of all adjustments, then the score."""
    lines = [f"{c['fact']}:{c['reason']}:{c['points']}" for c in result["contributions"]]
    lines += [f"{a['reason']}:{a['points']}" for a in result["adjustments"]]
    return [*lines, result["score"]]


def test_no_facts_at_all_is_the_baseline_not_rated() -> None:
    result = score_of([], [rulebook()], "2025-01-01", date(2025, 1, 2))
    assert orjson.dumps(result).decode() == (
        '{"as_of":"2025-01-01","known_at":"2025-01-02","rulebook":"RB-1","baseline":"80.00",'
        '"contributions":[],"adjustments":[],"score":"80.00","grade":"N","band_of_number":"B",'
        '"underlying_score":"80.00","evidence_count":0,"confidence":"LOW","top_reasons":[]}'
    )


def test_every_member_of_a_demerit_line() -> None:
    fact = demerit("d", "2025-01-31", mitigation=["SELF_REPORTED", "CORRECTED", "SELF_REPORTED"])
    assert line_of(score_of([fact], [rulebook()], "2025-04-30"), "d") == {
        "fact": "d",
        "category": "ADVERT",
        "severity": "S2",
        "issuer": "REGULATOR",
        "base": "5",
        "issuer_weight": "1",
        "recidivism_n": 1,
        "recidivism_x": "1",
        "mitigation_x": "0.3750",
        "months": 3,  # 31 January + 3 months = 30 April
        "time_weight": "0.75",
        "rulebook": "RB-1",
        "reason": "ACTIVE",
        "points": "-1.41",  # 5 · 0.375 · 0.75 = 1.40625
    }


def test_mitigation_floor_and_none_for_s4() -> None:
    all_three = ["SELF_REPORTED", "CORRECTED", "COMPENSATED"]
    book = rulebook(mitigation_floor="0.30")
    facts = [
        demerit("d-2", "2025-01-01", mitigation=all_three),
        demerit("d-4", "2025-01-01", mitigation=all_three, severity="S4"),
    ]
    result = score_of(facts, [book], "2025-01-02")
    assert line_of(result, "d-2")["mitigation_x"] == "0.30"
    assert line_of(result, "d-4")["mitigation_x"] == "1"
    assert brief(result) == ["d-2:ACTIVE:-1.50", "d-4:ACTIVE:-40.00", "38.50"]


def test_a_tiny_product_is_written_plainly() -> None:
    book = rulebook(mitigation={"X": "0.00001", "Y": "0.00"}, mitigation_floor="0")
    facts = [demerit("d", "2025-01-01", mitigation=["X", "Y"]), demerit("e", "2025-01-01")]
    result = score_of(facts, [book], "2025-01-02")
    assert line_of(result, "d")["mitigation_x"] == "0.0000000"
    assert brief(result)[0] == "d:ACTIVE:0.00"  # rounds to nothing, yet is active
    assert result["top_reasons"] == ["e:S2:ADVERT"]


def test_recidivism_counts_other_incidents_of_the_family_in_the_window() -> None:
    served = ["2024-01-31", "2024-02-01", "2024-05-05"]
    facts = [demerit(f"d-{n}", day, family="F", incident=f"i-{n}") for n, day in enumerate(served)]
    facts += [
        demerit("same-incident", "2024-05-05", family="F", incident="i-2"),
        demerit("half-weight", "2024-05-05", family="F", issuer="PLATFORM"),
        demerit("warning", "2024-05-05", family="F", severity="S0"),
        demerit("last", "2026-01-31", family="F", incident="i-new"),
    ]
    # 24 months before 31 January 2026 is 31 January 2024, which is outside; i-2 counts once.
    last = line_of(score_of(facts, [rulebook()], "2026-02-01"), "last")
    assert (last["recidivism_n"], last["recidivism_x"]) == (3, "2")
    repaired = [*facts, act("a", "d-1", "repaired", "2025-01-01")]
    assert line_of(score_of(repaired, [rulebook()], "2026-02-01"), "last")["recidivism_n"] == 2
    lenient = rulebook(repaired_counts_for_recidivism=True)
    assert line_of(score_of(repaired, [lenient], "2026-02-01"), "last")["recidivism_n"] == 3
    suspended = [*facts, act("a", "d-1", "suspended", "2026-02-01")]
    assert line_of(score_of(suspended, [rulebook()], "2026-01-31"), "last")["recidivism_n"] == 3
    assert line_of(score_of(suspended, [rulebook()], "2026-02-01"), "last")["recidivism_n"] == 2


def test_findings_alike_but_for_one_factor_are_told_apart() -> None:
    facts = [
        demerit("d-1", "2025-01-01", occurred_on="2025-01-01", family="F"),
        demerit("d-2", "2025-01-01", occurred_on="2024-12-31", family="F"),
        demerit("e-1", "2024-03-01", obligation=True),
        demerit("e-2", "2024-03-01"),
        demerit("f-1", "2024-01-01", obligation=True),
    ]
    assert brief(score_of(facts, [rulebook(minor_cap_per_category="90")], "2025-01-02")) == [
        "d-1:ACTIVE:-7.50",
        "d-2:ACTIVE:-5.00",
        "e-1:ACTIVE:-1.25",
        "e-2:ACTIVE:-1.25",
        "f-1:ACTIVE+OBLIGATION_FLOOR:-1.25",
        "63.75",
    ]


def test_a_window_longer_than_the_calendar_holds_its_first_day() -> None:
    facts = [demerit("d", "0001-01-01", family="F"), demerit("e", "0003-01-01", family="F")]
    facts += [inspection("n", "0001-01-01")]
    for months, n, evidence in ((24, 1, 0), (25, 2, 1)):
        book = rulebook(recidivism_window_months=months, evidence_window_months=months)
        result = score_of(facts, [book], "0003-01-01")
        assert line_of(result, "e")["recidivism_n"] == n
        assert result["evidence_count"] == evidence


def test_suspension_stops_the_clock_and_late_service_does_not_help() -> None:
    fact = demerit("d", "2025-01-10", occurred_on="2023-01-01")
    acts = [
        act("a-1", "d", "suspended", "2024-12-31"),  # before service: only days from it count
        act("a-2", "d", "resumed", "2025-01-20"),  # ten days
        act("a-3", "d", "suspended", "2025-02-01"),
        act("a-4", "d", "resumed", "2025-02-01"),  # the same day: leaving wins
        act("a-5", "d", "suspended", "2024-10-01"),  # over before service: no day of it counts
        act("a-6", "d", "resumed", "2024-11-01"),
    ]
    months = [
        line_of(score_of([fact, *acts], [rulebook()], day), "d")["months"]
        for day in ("2025-01-15", "2025-04-19", "2025-04-20")
    ]
    assert months == [0, 2, 3]
    reason = line_of(score_of([fact, *acts], [rulebook()], "2025-01-15"), "d")["reason"]
    assert reason == "SUSPENDED_BY_REVIEW"


def test_obligation_floor_until_fulfilled_and_adverse_life_ends_all() -> None:
    fact = demerit("d", "2024-01-01", obligation=True, ended_on="2024-06-30")
    acts = [
        act("a-1", "d", "fulfilled", "2025-06-01"),
        act("a-2", "d", "fulfilment_revoked", "2025-07-01"),
    ]
    reasons = [
        line_of(score_of([fact, *acts], [rulebook()], day), "d")["reason"]
        for day in ("2024-12-31", "2025-01-01", "2025-06-01", "2025-07-01", "2029-06-29")
    ]
    floor = "ACTIVE+OBLIGATION_FLOOR"  # on 31 December the step itself weighs 0.25
    assert reasons == ["ACTIVE", floor, "EXPIRED", floor, floor]
    ended = line_of(score_of([fact, *acts], [rulebook()], "2029-06-30"), "d")
    assert (ended["reason"], ended["time_weight"]) == ("EXPIRED", "0")


def test_the_lower_of_two_rulebooks_counts_and_on_a_tie_the_first_version() -> None:
    harsher = rulebook(severity_points={"S0": "0", "S1": "2", "S2": "8", "S3": "20", "S4": "40"})
    later = {"in_force_from": "2025-01-01"}
    fact = demerit("d", "2025-01-02", occurred_on="2024-12-31")
    for old, new, version, points in (
        (rulebook(version="B"), {**harsher, **later, "version": "A"}, "B", "-5.00"),
        ({**harsher, "version": "B"}, rulebook(**later, version="A"), "A", "-5.00"),
        (rulebook(version="RB-2"), rulebook(**later, version="RB-10"), "RB-10", "-5.00"),
    ):
        result = score_of([fact], [old, new], "2025-01-02")
        line = line_of(result, "d")
        assert (line["rulebook"], line["points"]) == (version, points)
        assert result["rulebook"] == new["version"]


def test_one_incident_counts_once_and_takes_its_gravest_class() -> None:
    facts = [
        demerit("d-1", "2025-01-01", incident="i", severity="S2"),
        demerit("d-2", "2025-01-01", incident="i", severity="S2"),
        demerit("d-3", "2024-01-02", incident="i", severity="S3", issuer="PLATFORM"),
        demerit("d-4", "2025-01-01", severity="S2"),
    ]
    points = {"S0": "0", "S1": "2", "S2": "5", "S3": "8", "S4": "40"}
    result = score_of(
        facts, [rulebook(minor_cap_per_category="2", severity_points=points)], "2025-01-31"
    )
    # d-3 costs 8 · 0.5 · 0.75 = 3.00, less than d-1; but its class lifts d-1 over the cap of 2.
    # d-1 and d-4 are past the cap together: the flag stands, and limits to 74.99.
    assert brief(result) == [
        "d-1:ACTIVE:-5.00",
        "d-2:SAME_INCIDENT:0.00",
        "d-3:SAME_INCIDENT:0.00",
        "d-4:ACTIVE:-5.00",
        "MINOR_CAP:ADVERT:3.00",
        "73.00",
    ]
    low_ceiling = {**rulebook()["ceilings"], "minor_cap": "60"}
    for cap, score_under_it in (("9.99", "60.00"), ("10", "70.00")):
        book = rulebook(minor_cap_per_category=cap, severity_points=points, ceilings=low_ceiling)
        assert score_of(facts, [book], "2025-01-31")["score"] == score_under_it


def test_up_to_four_top_reasons_by_amount_then_id() -> None:
    facts = [demerit(f"d-{n}", "2025-01-01") for n in (3, 1, 4, 2, 0)]
    facts += [demerit("z", "2025-01-01", severity="S3", category="PRIVACY")]
    result = score_of(facts, [rulebook()], "2025-01-02")
    top = ["z:S3:PRIVACY", "d-0:S2:ADVERT", "d-1:S2:ADVERT", "d-2:S2:ADVERT"]
    assert result["top_reasons"] == top


def test_on_a_tie_the_smaller_severity_then_the_smaller_id_counts() -> None:
    points = {"S0": "0", "S1": "2", "S2": "5", "S3": "5", "S4": "40"}
    facts = [
        demerit("a", "2025-01-01", incident="i", severity="S3"),
        demerit("c", "2025-01-01", incident="i"),
        demerit("b", "2025-01-01", incident="i"),
    ]
    result = score_of(facts, [rulebook(severity_points=points)], "2025-01-02")
    assert result["top_reasons"] == ["b:S2:ADVERT"]


@pytest.mark.parametrize(
    ("severity", "issuer", "as_of", "ceiling", "merits"),
    [
        ("S4", "REGULATOR", "2024-01-01", "10", "0.00"),
        ("S4", "REGULATOR", "2027-01-01", "11", "5.00"),
        ("S4", "PLATFORM", "2024-01-01", "13", "20.00"),
        ("S3", "REGULATOR", "2024-01-01", "12", "5.00"),
        ("S3", "REGULATOR", "2025-01-01", "13", "20.00"),
        ("S3", "PLATFORM", "2024-01-01", "13", "20.00"),
        ("S2", "REGULATOR", "2024-01-01", None, "20.00"),
        ("S3", "REGULATOR", "2027-01-01", None, "20.00"),  # expired: no flag
    ],
)
def test_flags_set_the_ceiling_and_the_limit_of_merits(
    severity: str, issuer: str, as_of: str, ceiling: str | None, merits: str
) -> None:
    flags = {"S4": "10", "S4_fading": "11", "S3": "12", "S3_fading": "13"}
    book = rulebook(
        ceilings=flags | {"minor_cap": "99", "delisted": "99"},
        merit={"TRAINING": ["30", 12, "30"]},
        severity_points={"S0": "0", "S1": "1", "S2": "1", "S3": "1", "S4": "1"},
    )
    facts = [demerit("d", "2024-01-01", severity=severity, issuer=issuer), merit("m", as_of)]
    result = score_of(facts, [book], as_of)
    limit = f"{float(merits) - 30:.2f}"
    assert result["adjustments"][0] == {"reason": "MERIT_LIMIT", "points": limit}
    if ceiling is not None:
        assert result["score"] == f"{ceiling}.00"
    else:
        assert len(result["adjustments"]) == 1


def test_merits_in_order_with_their_reasons_and_caps() -> None:
    facts = [
        contract("m-1", "2025-03-01", "client-1"),
        contract("m-0", "2025-03-01", "client-1"),
        contract("m-2", "2024-03-01", "client-1"),
        contract("m-3", "2025-03-03", "client-2"),
        contract("m-4", "2025-03-04", "client-3"),
        merit("t-1", "2025-03-05"),
        merit("t-2", "2025-03-04"),
        merit("t-3", "2025-03-04", counterparty="client-1"),
        act("a", "m-3", "overturned", "2030-01-01"),
    ]
    books = [
        rulebook(merit={"CONTRACT_COMPLETED": ["0.5", 12, "0.75"], "TRAINING": ["2", 12, "3"]}),
        rulebook(
            version="RB-2",
            in_force_from="2025-03-04",
            merit={"CONTRACT_COMPLETED": ["4", 1, "9"], "TRAINING": ["2", 12, "5"]},
        ),
    ]
    assert brief(score_of(facts, books, "2025-03-04")) == [
        "m-0:MERIT:0.50",
        "m-1:SAME_COUNTERPARTY:0.00",
        "m-2:MERIT_EXPIRED:0.00",
        "m-3:OVERTURNED:0.00",
        "m-4:MERIT:4.00",
        "t-1:NOT_YET_EFFECTIVE:0.00",
        "t-2:MERIT:2.00",
        "t-3:MERIT:2.00",
        "MERIT_CAP:CONTRACT_COMPLETED:-3.75",  # the cap is that of m-0, the first counted one
        "84.75",
    ]


def test_a_listing_vetoes_until_removed_and_removal_wipes_what_came_before() -> None:
    facts = [
        contract("m-1", "2025-02-27", "client-1"),
        contract("m-2", "2025-02-28", "client-2"),
        inspection("n-1", "2025-02-27"),
        inspection("n-2", "2025-03-01"),
        inspection("n-3", "2025-03-01"),
        listing("v-1", "2025-01-01"),
        act("a-1", "v-1", "removed", "2025-02-28"),
        act("a-2", "v-1", "removed", "2025-02-01"),
    ]
    book = rulebook(bands=[["D", "0"], ["A", "80"]], baseline="75.5", merit_cap_active_S4="0.2")
    listed = score_of(facts, [book], "2025-01-31")
    assert brief(listed)[-2:] == ["VETO:-75.50", "0.00"]
    assert (listed["grade"], listed["band_of_number"]) == ("X", "D")
    assert listed["underlying_score"] == "75.50"
    delisted = score_of(facts, [book], "2025-03-01")
    assert brief(delisted) == [
        "m-1:MERIT_BEFORE_DELISTING:0.00",
        "m-2:MERIT:0.50",
        "SEVERITY_CEILING:-1.01",
        "74.99",
    ]
    assert delisted["evidence_count"] == 2
    assert score_of(facts, [book], "2026-02-27")["score"] == "74.99"
    assert score_of(facts, [book], "2026-02-28")["score"] == "75.50"
    quashed = [*facts, act("a-3", "v-1", "overturned", "2027-01-01")]
    assert score_of(quashed, [book], "2025-01-31")["grade"] == "D"
    assert score_of(quashed, [book], "2025-03-01")["evidence_count"] == 4


def test_a_veto_over_nothing_is_still_written() -> None:
    facts = [listing("v", "2025-01-01")]
    facts += [demerit(f"d-{n}", "2025-01-01", severity="S4") for n in range(3)]
    result = score_of(facts, [rulebook()], "2025-01-01")
    assert brief(result)[-3:] == ["FLOOR_ZERO:40.00", "VETO:0.00", "0.00"]
    assert result["top_reasons"] == ["d-0:S4:ADVERT", "d-1:S4:ADVERT", "d-2:S4:ADVERT"]


def test_no_score_above_one_hundred() -> None:
    assert brief(score_of([], [rulebook(baseline="101.5")], "2025-01-01")) == [
        "SEVERITY_CEILING:-1.50",
        "100.00",
    ]


def test_evidence_fades_and_thin_evidence_hides_only_good_bands() -> None:
    facts = [contract(f"m-{n}", "2024-01-31", f"client-{n}") for n in range(3)]
    window = rulebook(evidence_window_months=1)
    graded = [
        (result["evidence_count"], result["confidence"], result["grade"])
        for day in ("2024-02-28", "2024-02-29", "2024-03-01")
        for result in [score_of(facts, [window], day)]
    ]
    assert graded == [(3, "MEDIUM", "B"), (3, "MEDIUM", "B"), (0, "LOW", "N")]
    bad = [demerit("d", "2024-03-01", severity="S3")]
    assert score_of(bad, [window], "2024-03-01")["grade"] == "C"
    assert score_of(facts, [rulebook(high_evidence=3)], "2024-02-01")["confidence"] == "HIGH"


def test_the_first_rulebook_holds_before_its_day_and_a_position_is_echoed() -> None:
    facts, scales = parse([], [rulebook(), rulebook(version="RB-2", in_force_from="2026-01-01")])
    early = score(facts, scales, as_of=date(2020, 1, 1), known_at=2**60)
    assert (early["rulebook"], early["known_at"]) == ("RB-1", 2**60)
    assert next_change(facts, scales, as_of=date(2020, 1, 1)) == date(2026, 1, 1)
    assert next_change(facts, scales, as_of=date(2026, 1, 1)) is None


def test_the_callers_decimal_context_changes_nothing() -> None:
    facts = [demerit("d", "2025-01-01", severity="S3", mitigation=["CORRECTED", "COMPENSATED"])]
    facts += [merit("m", "2025-01-01", "REGULATOR_HONOUR")]
    wanted = score_of(facts, [rulebook(baseline="87.65")], "2025-01-02")
    with decimal.localcontext() as context:
        context.prec = 2
        context.rounding = decimal.ROUND_UP
        context.traps[decimal.Inexact] = True
        assert score_of(facts, [rulebook(baseline="87.65")], "2025-01-02") == wanted
    assert wanted["score"] == "74.99"


# --- No valid case -------------------------------------------------------------------------------


def valid_case() -> Json:
    """A case with one fact of every kind that must be accepted."""
    return {
        "facts": [
            demerit("d", "2024-05-01", occurred_on="2024-04-01", mitigation=["CORRECTED"]),
            contract("c", "2024-05-01", "client-1"),
            merit("m", "2024-05-01"),
            listing("v", "2024-05-01"),
            inspection("n", "2024-05-01"),
            act("a", "v", "removed", "2024-05-01"),
        ],
        "rulebooks": [rulebook(), rulebook(version="RB-2", in_force_from="2024-04-15")],
        "as_of": "2024-06-01",
        "known_at": "2024-06-01",
    }


def answer(case: object) -> tuple[Any, bool]:
    """The decoded answer to one line."""
    written, good = score_line(orjson.dumps(case))
    decoded = orjson.loads(written)
    assert isinstance(decoded, dict)
    assert good == ("error" not in decoded)
    return decoded, good


Change = Callable[[Json], object]


def put(fact: int, **members: object) -> Change:
    """Set members of the fact at this place."""
    return lambda case: case["facts"][fact].update(members)


def drop(fact: int, member: str) -> Change:
    return lambda case: case["facts"][fact].pop(member)


def add(*facts: Json) -> Change:
    return lambda case: case["facts"].extend(facts)


def book(**members: object) -> Change:
    """Set members of the second rulebook."""
    return lambda case: case["rulebooks"][1].update(members)


def drop_code(which: int, table: str, code: str) -> Change:
    return lambda case: case["rulebooks"][which][table].pop(code)


FIELDS = {
    0: [*demerit("d", "2024-05-01")],
    1: ["kind", "id", "recorded_on", "item", "on", "counterparty"],
    3: ["kind", "id", "recorded_on", "listed_on"],
    4: ["kind", "id", "recorded_on", "on"],
    5: ["kind", "id", "recorded_on", "target", "act", "on"],
}

REFUSED: list[tuple[str, str, Change]] = [
    ("a date in another form", "served_on", put(0, served_on="20240501")),
    ("a week date", "served_on", put(0, served_on="2024-W18-3")),
    ("no such day", "on", put(4, on="2023-02-29")),
    ("year 0", "on", put(4, on="0000-01-01")),
    ("foreign digits", "on", put(4, on="２０２４-05-01")),
    ("a time too", "on", put(4, on="2024-05-01T00:00:00")),
    ("unknown kind", "kind", put(4, kind="praise")),
    ("unknown act", "act", put(5, act="forgiven")),
    ("severity S5", "severity", put(0, severity="S5")),
    ("severity gone when done", "severity", drop_code(0, "severity_points", "S2")),
    ("severity without weights", "severity", drop_code(1, "weights", "S2")),
    ("issuer gone when done", "issuer", drop_code(0, "issuer_weight", "REGULATOR")),
    ("issuer gone when decided", "issuer", drop_code(1, "issuer_weight", "REGULATOR")),
    ("mitigation gone when done", "mitigation", drop_code(0, "mitigation", "CORRECTED")),
    ("mitigation gone when decided", "mitigation", drop_code(1, "mitigation", "CORRECTED")),
    ("item gone", "item", drop_code(1, "merit", "TRAINING")),
    ("empty mitigation", "mitigation", put(0, mitigation=[""])),
    ("unhashable mitigation", "mitigation", put(0, mitigation=[["CORRECTED"]])),
    ("repeated id", "id", put(1, id="d")),
    ("an act with the id of a fact", "id", put(5, id="d")),
    ("target missing", "target", put(5, target="nobody")),
    ("target is an act", "act", add(act("a-2", "a", "overturned", "2024-05-01"))),
    ("target is itself", "act", put(5, target="a")),
    ("a merit suspended", "act", add(act("a-2", "m", "suspended", "2024-05-01"))),
    ("an inspection repaired", "act", add(act("a-2", "n", "repaired", "2024-05-01"))),
    ("a demerit removed", "act", add(act("a-2", "d", "removed", "2024-05-01"))),
    ("a listing resumed", "act", add(act("a-2", "v", "resumed", "2024-05-01"))),
    ("decided before done", "decided_on", put(0, decided_on="2024-03-31")),
    ("served before decided", "served_on", put(0, decided_on="2024-05-02")),
    ("ended before done", "ended_on", put(0, ended_on="2024-03-31")),
    ("ended_on of another type", "ended_on", put(0, ended_on=False)),
    (
        "two categories in one incident",
        "category",
        add(demerit("d-2", "2024-05-01", incident="inc-d", category="CONTRACT")),
    ),
    ("contract with nobody", "counterparty", put(1, counterparty=None)),
    ("contract with an empty name", "counterparty", put(1, counterparty="")),
    ("counterparty of another type", "counterparty", put(2, counterparty=5)),
    ("removal before the listing", "on", put(5, on="2024-04-30")),
    (
        "removal before the listing, not yet known",
        "on",
        put(5, on="2024-04-30", recorded_on="2099-01-01"),
    ),
    ("no rulebook", "rulebooks", lambda case: case["rulebooks"].clear()),
    ("two with one version", "version", book(version="RB-1")),
    ("two on one day", "in_force_from", book(in_force_from="2024-01-01")),
    ("no recidivism factor", "recidivism", book(recidivism=[])),
    ("three decimals: baseline", "baseline", book(baseline="80.000")),
    ("three decimals: cap", "minor_cap_per_category", book(minor_cap_per_category="0.001")),
    ("three decimals: limit", "merit_total_cap", book(merit_total_cap="0.125")),
    ("three decimals: ceiling", "ceilings.S3", book(ceilings={"S3": "0.125"})),
    ("three decimals: band", "bands", book(bands=[["A", "0.000"]])),
    ("three decimals: points", "severity_points.S1", book(severity_points={"S1": "0.125"})),
    ("three decimals: merit points", "merit.X points", book(merit={"X": ["0.125", 1, "1"]})),
    ("three decimals: merit cap", "merit.X cap", book(merit={"X": ["1", 1, "0.125"]})),
    ("no ceiling for a flag", "ceilings.delisted", drop_code(1, "ceilings", "delisted")),
    ("a number without a band", "bands", book(bands=[["A", "0.01"]])),
    ("no bands", "bands", book(bands=[])),
    ("two bands at one threshold", "bands", book(bands=[["A", "0"], ["B", "0.00"]])),
    ("steps that fall", "weights.S1", book(weights={"S1": [[3, "1"], [2, "0.5"]]})),
    ("negative months", "adverse_life_months", book(adverse_life_months=-1)),
    ("months true", "adverse_life_months", book(adverse_life_months=True)),
    ("a number for a decimal", "baseline", book(baseline=80)),
    ("a float for months", "min_evidence", book(min_evidence=3.0)),
    ("exponent", "baseline", book(baseline="8E1")),
    ("infinite", "obligation_floor", book(obligation_floor="Infinity")),
    ("a negative factor", "mitigation_floor", book(mitigation_floor="-0.25")),
    ("one for true", "repaired_counts_for_recidivism", book(repaired_counts_for_recidivism=1)),
    ("as_of missing", "as_of", lambda case: case.pop("as_of")),
    ("as_of a position", "as_of", lambda case: case.update(as_of=7)),
    ("known_at a position", "known_at", lambda case: case.update(known_at=7)),
    ("no facts", "facts", lambda case: case.pop("facts")),
    ("facts an object", "facts", lambda case: case.update(facts={})),
    ("a fact is no object", "fact", lambda case: case["facts"].append(["demerit"])),
    ("rulebooks missing", "rulebooks", lambda case: case.update(rulebooks=None)),
    ("a rulebook is no object", "rulebook", lambda case: case["rulebooks"].append("RB-1")),
]
REFUSED += [
    (f"{field} of fact {place} {how}", field, change)
    for place, fields in FIELDS.items()
    for field in fields
    for how, change in (
        ("absent", drop(place, field)),
        ("null", put(place, **{field: None})),
        ("an object", put(place, **{field: {"x": 1}})),
        ("empty", put(place, **{field: ""})),
    )
]
REFUSED += [
    (f"rulebook member {member} {how}", member, change)
    for member in rulebook()
    for how, change in (
        ("absent", lambda case, member=member: case["rulebooks"][1].pop(member)),
        ("null", book(**{member: None})),
        ("of another type", book(**{member: 1.5})),
    )
]


@pytest.mark.parametrize(
    ("what", "change"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(what: str, change: Change) -> None:
    assert answer(valid_case())[1]
    case = valid_case()
    change(case)
    result, good = answer(case)
    assert not good
    # what, where, why
    assert result["error"].startswith(what)
    assert len(result["error"].split(", ", 2)) == 3


ACCEPTED: list[tuple[str, Change]] = [
    ("nothing at all", lambda case: case.update(facts=[])),
    ("known_at null", lambda case: case.update(known_at=None)),
    ("known_at absent", lambda case: case.pop("known_at")),
    ("ended_on null", put(0, ended_on=None)),
    ("counterparty null", put(2, counterparty=None)),
    ("a trained counterparty", put(2, counterparty="client-9")),
    ("unknown fields", put(0, remark={"deep": [1.5]})),
    ("unknown members", book(remark={"deep": [1.5]})),
    ("a repeated mitigation", put(0, mitigation=["CORRECTED"] * 3)),
    ("an act recorded before its target", put(0, recorded_on="2099-01-01")),
    ("an act before its target", add(act("a-2", "d", "repaired", "2001-01-01"))),
    ("served in the future", put(0, served_on="9999-12-31")),
    ("a code no fact needs is gone", drop_code(1, "issuer_weight", "COURT")),
    ("a code retired after its days", drop_code(0, "merit", "TRAINING")),
    ("another code", lambda case: case["rulebooks"][1]["issuer_weight"].update(X="0.123456")),
    ("weights of many decimals", book(obligation_floor="0.3333333333")),
    ("a band below zero", book(bands=[["A", "-1.5"]])),
    ("endless months", book(evidence_window_months=10**9, recidivism_window_months=10**18)),
    ("endless clocks", book(adverse_life_months=10**9, delisted_ceiling_months=10**9)),
    ("endless steps", book(weights={"S2": [[10**9, "1"]]})),
    (
        "endless merits",
        lambda case: case["rulebooks"][1]["merit"]["TRAINING"].__setitem__(1, 10**9),
    ),
    ("the end of the calendar", lambda case: case.update(as_of="9999-12-31")),
    ("its beginning", lambda case: case.update(as_of="0001-01-01")),
    ("a huge cap", book(merit_total_cap="9" * 5000)),
    ("a huge baseline", book(baseline="9" * 5000)),
]


@pytest.mark.parametrize("change", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_accepted(change: Change) -> None:
    case = valid_case()
    change(case)
    assert answer(case)[1], answer(case)


def test_a_deep_unknown_member_of_a_rulebook_is_ignored_like_any_other() -> None:
    line = orjson.dumps(valid_case()).replace(
        b'"version":"RB-2"', b'"version":"RB-2","remark":' + b"[" * 900 + b"]" * 900
    )
    assert score_line(line) == score_line(orjson.dumps(valid_case()))


def test_an_invalid_scale_tells_all_reasons_at_once() -> None:
    broken = rulebook(baseline="80.005", recidivism=[], min_evidence=True, bands=[["A", "1"]])
    del broken["mitigation"]
    with pytest.raises(InvalidScale) as refusal:
        parse_scale(broken)
    assert refusal.value.reasons == (
        "baseline, rulebook 'RB-1', '80.005' has more than two decimals",
        "recidivism, rulebook 'RB-1', an empty list is not a list of at least one factor",
        "mitigation, rulebook 'RB-1', is missing",
        "bands, rulebook 'RB-1', no band begins at or below 0",
        "min_evidence, rulebook 'RB-1', True is not a whole number of 0 or more",
    )


def test_two_faults_in_a_set_of_rulebooks_are_told_together() -> None:
    scale = parse_scale(rulebook())
    with pytest.raises(InvalidScale) as refusal:
        Scales([scale, scale])
    assert len(refusal.value.reasons) == 2


def test_a_refused_fact_names_itself_the_field_the_value_and_why() -> None:
    with pytest.raises(InvalidCase) as refusal:
        parse_fact(demerit("d-7", "2024-13-01", occurred_on="2024-05-01", decided_on="2024-05-02"))
    message = "recorded_on, fact 'd-7', '2024-13-01' is not a date YYYY-MM-DD"
    assert str(refusal.value) == message
    with pytest.raises(InvalidCase, match=r"^id, facts\[3\], 10 is not a text$"):
        parse_fact({"id": 10}, "facts[3]")


def test_check_refuses_two_facts_with_one_id_even_if_equal() -> None:
    fact = parse_fact(merit("m", "2024-05-01"))
    with pytest.raises(InvalidCase, match="there twice"):
        check([fact, fact], Scales([parse_scale(rulebook())]))


# --- Hostile lines -------------------------------------------------------------------------------

VALID_LINE = orjson.dumps(valid_case())
HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"7",
    b"{}",
    b"{" * 100_000,
    b"[" * 100_000,
    b'{"facts":' * 5_000,
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'"\\ud800"',
    b"NaN",
    VALID_LINE + b"}",
    VALID_LINE.replace(b'"id":"d"', b'"id":"\\ud800"'),
    VALID_LINE.replace(b'"id":"d"', b'"id":NaN'),
    VALID_LINE.replace(b'"id":"d"', b'"id":1e999'),
    VALID_LINE.replace(b'"id":"d"', b'"id":' + b"9" * 10_000),
    VALID_LINE.replace(b'"id":"d"', b'"id":' + b"[" * 900 + b"]" * 900),
    VALID_LINE.replace(b'"id":"d"', b'"id":"' + b"x" * 1_000_000 + b'","kind":"?"'),
    VALID_LINE.replace(b'"min_evidence":3', b'"min_evidence":' + b"9" * 10_000),
    VALID_LINE.replace(b'"min_evidence":3', b'"min_evidence":-0'),
    VALID_LINE.replace(b'"min_evidence":3', b'"min_evidence":-1e-999'),
    VALID_LINE.replace(b'"obligation":false', b'"obligation":0'),
    VALID_LINE.replace(b'"1"', b'"' + b"9" * 10_000 + b'"'),
    VALID_LINE.replace(b'"0.75"', b'"0.' + b"7" * 10_000 + b'"'),
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_no_hostile_line_raises(line: bytes) -> None:
    written, good = score_line(line)
    assert ("error" in orjson.loads(written)) is not good
    assert good or len(written) < 5_000


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "-0.00", "1", "S4", "d", "v", "0001-01-01", "9999-12-31", "demerit"])
    | st.text(max_size=4).filter(lambda text: text.isprintable()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("S2"), inner),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


PLACES = places(valid_case())


@settings(deadline=None, max_examples=600)
@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3))
def test_anything_anywhere_is_answered(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    case: Any = valid_case()
    for path, value in changes:
        inside = case
        with suppress(TypeError, LookupError):  # an earlier change may have removed the place
            for key in path[:-1]:
                inside = inside[key]
            if isinstance(inside, dict) is isinstance(path[-1], str):
                inside[path[-1]] = value
    result, good = answer(case)
    assert good or len(result["error"].split(", ", 2)) == 3


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40), st.integers(0, len(VALID_LINE)), st.integers(0, 40))
def test_any_bytes_are_answered(noise: bytes, at: int, cut: int) -> None:
    written, good = score_line(VALID_LINE[:at] + noise + VALID_LINE[at + cut :])
    assert ("error" in orjson.loads(written)) is not good


# --- The calendar --------------------------------------------------------------------------------


def test_months_are_clamped_and_end_with_the_calendar() -> None:
    assert add_months(date(2024, 1, 31), 1) == date(2024, 2, 29)
    assert add_months(date(2024, 3, 31), -1) == date(2024, 2, 29)
    assert add_months(date(2024, 1, 31), 10**30) == date.max
    assert add_months(date(2024, 1, 31), -(10**30)) == date.min
