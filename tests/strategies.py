"""Facts, rulebooks and whole histories for tests: plain builders, and Hypothesis strategies.

Everything here is JSON as it is written in a case, so that every test goes through the parsers.
"""

import copy
from datetime import date, timedelta
from itertools import permutations
from typing import Any, NamedTuple

from hypothesis import strategies as st

from ledger.scale import FLAGS, SEVERITIES, Scales, parse_scale
from projections.case import Fact, check, parse_fact
from projections.scoring import Result, score

Json = dict[str, Any]

RULEBOOK: Json = {
    "version": "RB-1",
    "in_force_from": "2024-01-01",
    "baseline": "80.00",
    "severity_points": {"S0": "0", "S1": "2", "S2": "5", "S3": "20", "S4": "40"},
    "weights": {
        "S0": [],
        "S1": [[3, "1"]],
        "S2": [[3, "1"], [6, "0.75"], [9, "0.50"], [12, "0.25"]],
        "S3": [[12, "1"], [18, "0.75"], [24, "0.50"], [36, "0.25"]],
        "S4": [[36, "1"], [48, "0.50"], [60, "0.25"]],
    },
    "obligation_floor": "0.25",
    "adverse_life_months": 60,
    "issuer_weight": {"REGULATOR": "1", "COURT": "1", "PLATFORM": "0.5", "ASSOCIATION": "0.5"},
    "recidivism": ["1", "1.5", "2"],
    "recidivism_window_months": 24,
    "repaired_counts_for_recidivism": False,
    "mitigation": {"SELF_REPORTED": "0.50", "CORRECTED": "0.75", "COMPENSATED": "0.75"},
    "mitigation_floor": "0.25",
    "minor_cap_per_category": "20",
    "merit": {
        "CONTRACT_COMPLETED": ["0.5", 12, "8"],
        "TRAINING": ["1", 12, "3"],
        "REGULATOR_HONOUR": ["4", 24, "8"],
    },
    "merit_total_cap": "20",
    "merit_cap_active_S3": "5",
    "merit_cap_active_S4": "0",
    "ceilings": {
        "S4": "59.99",
        "S4_fading": "74.99",
        "S3": "74.99",
        "S3_fading": "89.99",
        "minor_cap": "74.99",
        "delisted": "74.99",
    },
    "delisted_ceiling_months": 12,
    "bands": [["A", "90.00"], ["B", "75.00"], ["C", "60.00"], ["D", "0.00"]],
    "min_evidence": 3,
    "high_evidence": 10,
    "evidence_window_months": 24,
}


def rulebook(**changes: object) -> Json:
    """The rulebook above with other members."""
    return {**copy.deepcopy(RULEBOOK), **changes}


def demerit(fact_id: str, served_on: str, **changes: object) -> Json:
    """An S2 by a regulator, an incident and a family of its own, done and served on one day."""
    return {
        "kind": "demerit",
        "id": fact_id,
        "incident": f"inc-{fact_id}",
        "category": "ADVERT",
        "family": f"FAM-{fact_id}",
        "severity": "S2",
        "issuer": "REGULATOR",
        "occurred_on": served_on,
        "decided_on": served_on,
        "served_on": served_on,
        "recorded_on": served_on,
        "mitigation": [],
        "obligation": False,
        **changes,
    }


def merit(fact_id: str, on: str, item: str = "TRAINING", **changes: object) -> Json:
    """A merit recorded on its day."""
    return {"kind": "merit", "id": fact_id, "item": item, "on": on, "recorded_on": on, **changes}


def contract(fact_id: str, on: str, counterparty: str) -> Json:
    """A completed contract."""
    return merit(fact_id, on, "CONTRACT_COMPLETED", counterparty=counterparty)


def listing(fact_id: str, listed_on: str) -> Json:
    """An entry in the authority's list."""
    return {"kind": "listing", "id": fact_id, "listed_on": listed_on, "recorded_on": listed_on}


def inspection(fact_id: str, on: str) -> Json:
    """A finished inspection."""
    return {"kind": "inspection", "id": fact_id, "on": on, "recorded_on": on}


def act(fact_id: str, target: str, what: str, on: str) -> Json:
    """An act recorded on its day."""
    return {"kind": "act", "id": fact_id, "target": target, "act": what, "on": on} | {
        "recorded_on": on
    }


def parse(facts: list[Json], rulebooks: list[Json]) -> tuple[list[Fact], Scales]:
    """A checked case."""
    scales = Scales(parse_scale(written) for written in rulebooks)
    parsed = [parse_fact(fact) for fact in facts]
    check(parsed, scales)
    return parsed, scales


END_OF_TIME = date(2199, 12, 31)


def score_of(
    facts: list[Json], rulebooks: list[Json], as_of: date | str, known_at: date = END_OF_TIME
) -> Result:
    """The score of a case, all facts known unless said otherwise."""
    day = date.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    parsed, scales = parse(facts, rulebooks)
    return score(parsed, scales, as_of=day, known_at=known_at)


# --- Hypothesis ----------------------------------------------------------------------------------

FIRST_DAY = date(2023, 11, 1)
LAST_DAY = date(2028, 12, 31)
AWKWARD_DAYS = [
    date(2024, 1, 31),
    date(2024, 2, 28),
    date(2024, 2, 29),
    date(2024, 3, 1),
    date(2024, 3, 31),
    date(2024, 4, 30),
    date(2025, 2, 28),
    date(2025, 3, 31),
    date(2026, 2, 28),
    date(2026, 8, 31),
]
INCIDENT_CATEGORIES = {"i-1": "ADVERT", "i-2": "ADVERT", "i-3": "ADVERT", "i-4": "CONTRACT"}
DEMERIT_ACTS = ["suspended", "resumed", "repaired", "repair_revoked"]
DEMERIT_ACTS += ["fulfilled", "fulfilment_revoked", "suspended", "resumed", "overturned"]

days = st.dates(FIRST_DAY, LAST_DAY) | st.sampled_from(AWKWARD_DAYS)
score_days = st.dates(FIRST_DAY, date(2032, 12, 31)) | st.sampled_from(AWKWARD_DAYS) | days
_months = st.sampled_from([0, 1, 6, 12, 24, 60])
_item_rules = st.tuples(
    st.sampled_from(["0", "0.5", "3", "4.25"]), _months, st.sampled_from(["0", "3", "8"])
).map(list)


def _rising(values: list[str], size: int) -> st.SearchStrategy[list[str]]:
    """Decimals from `values`, the smallest first."""
    return st.tuples(*[st.sampled_from(values)] * size).map(lambda v: sorted(v, key=float))


def _steps(upto_and_weights: list[tuple[int, str]]) -> list[list[object]]:
    """Time weights that only fall, as a sensible rulebook has them."""
    upto = sorted({months for months, _ in upto_and_weights})
    weights = sorted((w for _, w in upto_and_weights[: len(upto)]), key=float, reverse=True)
    return [[months, weight] for months, weight in zip(upto, weights, strict=True)]


_weights = st.lists(
    st.tuples(
        st.integers(0, 30), st.sampled_from(["0", "0.25", "0.333", "0.50", "0.75", "1", "1.00"])
    ),
    max_size=4,
).map(_steps)

# Groups of members that are drawn together: graver costs more, later costs less, limits in order.
_CHANGES: list[st.SearchStrategy[Json]] = [
    st.fixed_dictionaries({"baseline": st.sampled_from(["80", "95", "30.5"])}),
    _rising(["0", "0.01", "2", "3.33", "5", "12.50", "20", "40"], 4).map(
        lambda s: {"severity_points": dict(zip(SEVERITIES, ["0", *s], strict=True))}
    ),
    st.fixed_dictionaries({"weights": st.fixed_dictionaries(dict.fromkeys(SEVERITIES, _weights))}),
    st.fixed_dictionaries(
        {
            "issuer_weight": st.fixed_dictionaries(
                dict.fromkeys(RULEBOOK["issuer_weight"], st.sampled_from(["0", "0.5", "1", "1.00"]))
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "mitigation": st.fixed_dictionaries(
                dict.fromkeys(RULEBOOK["mitigation"], st.sampled_from(["0", "0.05", "0.333", "1"]))
            )
        }
    ),
    st.fixed_dictionaries({"obligation_floor": st.sampled_from(["0", "0.5", "1"])}),
    st.fixed_dictionaries({"adverse_life_months": st.sampled_from([0, 11])}),
    st.fixed_dictionaries(
        {
            "recidivism": _rising(["1", "1.5", "2"], 1) | _rising(["1", "1.5", "2"], 2),
            "recidivism_window_months": _months,
        }
    ),
    st.just({"repaired_counts_for_recidivism": True}),
    st.fixed_dictionaries({"mitigation_floor": st.sampled_from(["0", "0.50", "0.6"])}),
    st.fixed_dictionaries({"minor_cap_per_category": st.sampled_from(["0", "7.5"])}),
    st.fixed_dictionaries(
        {"merit": st.fixed_dictionaries(dict.fromkeys(RULEBOOK["merit"], _item_rules))}
    ),
    _rising(["0", "1.25", "5", "20"], 3).map(
        lambda v: dict(
            zip(["merit_cap_active_S4", "merit_cap_active_S3", "merit_total_cap"], v, strict=True)
        )
    ),
    st.tuples(
        _rising(["50", "59.99", "74.99", "100"], 2),
        _rising(["59.99", "74.99", "89.99"], 2),
        st.sampled_from(["74.99", "100"]),
        st.sampled_from(["74.99", "20"]),
    ).map(lambda v: {"ceilings": dict(zip(FLAGS, [*v[0], *v[1], v[2], v[3]], strict=True))}),
    st.fixed_dictionaries({"delisted_ceiling_months": _months}),
    st.fixed_dictionaries({"evidence_window_months": _months, "min_evidence": st.integers(0, 3)}),
]
_rulebook_changes = st.lists(st.sampled_from(range(len(_CHANGES))), max_size=6).flatmap(
    lambda chosen: st.tuples(*(_CHANGES[n] for n in chosen))
)


@st.composite
def rulebook_sets(draw: st.DrawFn, *, most: int = 3) -> list[Json]:
    """One to `most` sensible rulebooks; versions need not sort as their days do."""
    starts = draw(_starts if most > 1 else _one_start)
    versions = draw(st.sampled_from(_VERSIONS))
    written = []
    for version, start in zip(versions, starts, strict=False):
        book = rulebook(version=version, in_force_from=start.isoformat())
        for change in draw(_rulebook_changes):
            book |= change
        written.append(book)
    return written


_starts = st.lists(days, min_size=1, max_size=3, unique=True)
_one_start = st.tuples(days).map(list)
_VERSIONS = list(permutations(["RB-1", "RB-10", "RB-2"]))

_demerit_draws = st.fixed_dictionaries(
    {
        "incident": st.sampled_from(sorted(INCIDENT_CATEGORIES)),
        "family": st.sampled_from(["F-1", "F-1", "F-2"]),
        "severity": st.sampled_from(["S0", "S1", "S2", "S2", "S3", "S4"]),
        "issuer": st.sampled_from(["REGULATOR", "COURT", "PLATFORM"]),
        "mitigation": st.lists(st.sampled_from(sorted(RULEBOOK["mitigation"])), max_size=3),
        "obligation": st.booleans(),
    }
)
_demerit_days = st.tuples(
    days,
    st.sampled_from([0, 1, 30, 400]),
    st.sampled_from([0, 0, 7]),
    st.sampled_from([None, None, 0, 31, 365, 2000]),
)


@st.composite
def demerits(draw: st.DrawFn, fact_id: str) -> Json:
    """A valid demerit; incidents, families and days are few, so that they meet."""
    occurred_on, to_decision, to_service, lasted = draw(_demerit_days)
    decided_on = occurred_on + timedelta(days=to_decision)
    served_on = decided_on + timedelta(days=to_service)
    written = demerit(fact_id, served_on.isoformat(), **draw(_demerit_draws))
    written["category"] = INCIDENT_CATEGORIES[written["incident"]]
    written["occurred_on"] = occurred_on.isoformat()
    written["decided_on"] = decided_on.isoformat()
    if lasted is not None:
        written["ended_on"] = (occurred_on + timedelta(days=lasted)).isoformat()
    return written


_merit_draws = st.tuples(
    days,
    st.sampled_from(["CONTRACT_COMPLETED"] * 3 + ["TRAINING", "REGULATOR_HONOUR"]),
    st.sampled_from(["client-1", "client-2", "client-3"]),
)


@st.composite
def merits(draw: st.DrawFn, fact_id: str) -> Json:
    """A valid merit, mostly a completed contract for one of few clients."""
    on, item, client = draw(_merit_draws)
    counterparty = client if item == "CONTRACT_COMPLETED" or client == "client-1" else None
    return merit(fact_id, on.isoformat(), item, counterparty=counterparty)


_ACTS = {
    "demerit": st.tuples(st.sampled_from(DEMERIT_ACTS), days),
    "listing": st.tuples(st.sampled_from(["removed", "removed", "removed", "overturned"]), days),
    "merit": st.tuples(st.just("overturned"), days),
    "inspection": st.tuples(st.just("overturned"), days),
}


@st.composite
def acts(draw: st.DrawFn, fact_id: str, target: Json) -> Json:
    """A valid act on `target`, on any day."""
    what, on = draw(_ACTS[target["kind"]])
    if what == "removed":
        on = max(on, date.fromisoformat(target["listed_on"]))
    return act(fact_id, target["id"], what, on.isoformat())


class History(NamedTuple):
    """Everything a score depends on, as JSON."""

    facts: list[Json]
    rulebooks: list[Json]


@st.composite
def histories(
    draw: st.DrawFn, *, rulebooks: int = 3, only_demerits: bool = False, recorded: bool = False
) -> History:
    """A whole valid history: facts of all kinds, acts of all kinds in all orders, rulebooks."""
    demerit_count, merit_count, inspection_count, listing_count = draw(_counts)
    facts = [draw(demerits(f"d-{n}")) for n in range(demerit_count)]
    if not only_demerits:
        facts += [draw(merits(f"m-{n}")) for n in range(merit_count)]
        facts += [inspection(f"n-{n}", draw(days).isoformat()) for n in range(inspection_count)]
        facts += [listing(f"v-{n}", draw(days).isoformat()) for n in range(listing_count)]
    if facts:
        targets = draw(st.lists(st.sampled_from(facts), max_size=8))
        facts = facts + [draw(acts(f"a-{n}", target)) for n, target in enumerate(targets)]
    if recorded:
        facts = [{**fact, "recorded_on": draw(days).isoformat()} for fact in facts]
    return History(facts, draw(rulebook_sets(most=rulebooks)))


_counts = st.tuples(*(st.integers(0, most) for most in (5, 5, 2, 2)))
