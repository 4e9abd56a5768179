"""A case: the five kinds of facts, and which cases are valid.

Holds of scoring.md: "Input: facts" (the kinds and their fields, which act fits which kind) and "No
valid case", all of it; refusals that a rulebook earns by itself are in `ledger/scale.py`. Knows:
JSON, the facts, and which codes a rulebook has. Must not know: the clock, a database, events, any
points, or what a fact does to a score (`known.py`, `demerits.py`, `scoring.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import orjson

from ledger.calendar import read_day
from ledger.scale import SEVERITIES, Scale, Scales, parse_scale, shown

CONTRACT_COMPLETED: Final = "CONTRACT_COMPLETED"
SUSPENSION: Final = ("suspended", "resumed")
REPAIR: Final = ("repaired", "repair_revoked")
FULFILMENT: Final = ("fulfilled", "fulfilment_revoked")

_RULEBOOK_SETS_REMEMBERED = 16


class Demerit(NamedTuple):
    """A confirmed finding ("Input: facts")."""

    id: str
    recorded_on: date
    incident: str
    category: str
    family: str
    severity: str
    issuer: str
    occurred_on: date
    ended_on: date
    decided_on: date
    served_on: date
    mitigation: tuple[str, ...]
    """Each entry once, in the order given."""
    obligation: bool


class Merit(NamedTuple):
    """A reward, completed contract, training, clean inspection … ("Input: facts")."""

    id: str
    recorded_on: date
    item: str
    on: date
    counterparty: str | None


class Listing(NamedTuple):
    """An entry in the authority's list of seriously dishonest entities ("Input: facts")."""

    id: str
    recorded_on: date
    listed_on: date


class Inspection(NamedTuple):
    """A finished inspection: evidence only ("Input: facts")."""

    id: str
    recorded_on: date
    on: date


class Act(NamedTuple):
    """What later happened to a fact ("Input: facts")."""

    id: str
    recorded_on: date
    target: str
    act: str
    on: date


Fact: TypeAlias = Demerit | Merit | Listing | Inspection | Act

ACTS_ON: Final[Mapping[type, frozenset[str]]] = {
    Demerit: frozenset({"overturned", *SUSPENSION, *REPAIR, *FULFILMENT}),
    Merit: frozenset({"overturned"}),
    Inspection: frozenset({"overturned"}),
    Listing: frozenset({"overturned", "removed"}),
    Act: frozenset(),
}
ACTS: Final = frozenset[str]().union(*ACTS_ON.values())


class InvalidCase(ValueError):
    """A case that is refused whole, with what, where and why ("No valid case")."""

    def __init__(self, what: str, where: str, why: str) -> None:
        super().__init__(f"{what}, {where}, {why}")


# --- Reading facts -------------------------------------------------------------------------------


def _text(obj: Mapping[str, object], name: str, where: str) -> str:
    value = obj.get(name)
    if isinstance(value, str) and value:
        return value
    why = "is missing" if value is None or value == "" else f"{shown(value)} is not a text"
    raise InvalidCase(name, where, why)


def _day(obj: Mapping[str, object], name: str, where: str) -> date:
    value = obj.get(name)
    day = read_day(value)
    if day is not None:
        return day
    missing = value is None or value == ""
    why = "is missing" if missing else f"{shown(value)} is not a date YYYY-MM-DD"
    raise InvalidCase(name, where, why)


def _day_or(obj: Mapping[str, object], name: str, where: str, *, default: date) -> date:
    """An optional day: absent, null and an empty text mean `default`."""
    return default if obj.get(name) in (None, "") else _day(obj, name, where)


def _mitigation(obj: Mapping[str, object], where: str) -> tuple[str, ...]:
    value = obj.get("mitigation")
    if not isinstance(value, list):
        why = "is missing" if value is None else f"{shown(value)} is not a list"
        raise InvalidCase("mitigation", where, why)
    for entry in value:
        if not isinstance(entry, str) or not entry:
            raise InvalidCase("mitigation", where, f"{shown(entry)} is not a text")
    return tuple(dict.fromkeys(value))


def _demerit(obj: Mapping[str, object], fact_id: str, where: str) -> Demerit:
    occurred_on = _day(obj, "occurred_on", where)
    obligation = obj.get("obligation")
    if not isinstance(obligation, bool):
        why = "is missing" if obligation is None else f"{shown(obligation)} is not true or false"
        raise InvalidCase("obligation", where, why)
    fact = Demerit(
        id=fact_id,
        recorded_on=_day(obj, "recorded_on", where),
        incident=_text(obj, "incident", where),
        category=_text(obj, "category", where),
        family=_text(obj, "family", where),
        severity=_text(obj, "severity", where),
        issuer=_text(obj, "issuer", where),
        occurred_on=occurred_on,
        ended_on=_day_or(obj, "ended_on", where, default=occurred_on),
        decided_on=_day(obj, "decided_on", where),
        served_on=_day(obj, "served_on", where),
        mitigation=_mitigation(obj, where),
        obligation=obligation,
    )
    if fact.severity not in SEVERITIES:
        raise InvalidCase("severity", where, f"{shown(fact.severity)} is none of S0 to S4")
    for earlier, later in (
        ("occurred_on", "decided_on"),
        ("decided_on", "served_on"),
        ("occurred_on", "ended_on"),
    ):
        first, second = getattr(fact, earlier), getattr(fact, later)
        if first > second:
            raise InvalidCase(later, where, f"{second} is before {earlier} {first}")
    return fact


def _merit(obj: Mapping[str, object], fact_id: str, where: str) -> Merit:
    item = _text(obj, "item", where)
    counterparty = None
    if item == CONTRACT_COMPLETED or obj.get("counterparty") not in (None, ""):
        counterparty = _text(obj, "counterparty", where)
    return Merit(
        fact_id, _day(obj, "recorded_on", where), item, _day(obj, "on", where), counterparty
    )


def _listing(obj: Mapping[str, object], fact_id: str, where: str) -> Listing:
    return Listing(fact_id, _day(obj, "recorded_on", where), _day(obj, "listed_on", where))


def _inspection(obj: Mapping[str, object], fact_id: str, where: str) -> Inspection:
    return Inspection(fact_id, _day(obj, "recorded_on", where), _day(obj, "on", where))


def _act(obj: Mapping[str, object], fact_id: str, where: str) -> Act:
    act = _text(obj, "act", where)
    if act not in ACTS:
        raise InvalidCase("act", where, f"{shown(act)} is not a known act")
    target = _text(obj, "target", where)
    return Act(fact_id, _day(obj, "recorded_on", where), target, act, _day(obj, "on", where))


_READERS: Final[Mapping[str, Callable[[Mapping[str, object], str, str], Fact]]] = {
    "demerit": _demerit,
    "merit": _merit,
    "listing": _listing,
    "inspection": _inspection,
    "act": _act,
}


def parse_fact(obj: object, where: str = "a fact") -> Fact:
    """The fact written in `obj`, decoded JSON ("Input: facts"); unknown fields are ignored.

    `where` names the place in a reason as long as the fact's id is unknown. Raises InvalidCase
    for whatever "No valid case" refuses in a fact by itself; the rest is the work of `check`.
    """
    if not isinstance(obj, dict):
        raise InvalidCase("fact", where, f"{shown(obj)} is not an object")
    fact_id = _text(obj, "id", where)
    where = f"fact {shown(fact_id)}"
    kind = _text(obj, "kind", where)
    reader = _READERS.get(kind)
    if reader is None:
        raise InvalidCase("kind", where, f"{shown(kind)} is not a known kind")
    return reader(obj, fact_id, where)


# --- Facts against each other and against the rulebooks -----------------------------------------


def check(facts: Sequence[Fact], scales: Scales) -> None:
    """Refuse a case whose facts contradict each other or a rulebook ("No valid case").

    Judged over all the facts given, known or not. Raises InvalidCase for the first contradiction.
    """
    by_id: dict[str, Fact] = {}
    for fact in facts:
        if fact.id in by_id:
            raise InvalidCase("id", f"fact {shown(fact.id)}", "is there twice")
        by_id[fact.id] = fact
    categories: dict[str, str] = {}
    for fact in facts:
        match fact:
            case Demerit():
                category = categories.setdefault(fact.incident, fact.category)
                if category != fact.category:
                    why = f"incident {shown(fact.incident)} is of category {shown(category)}"
                    raise InvalidCase(
                        "category", f"fact {shown(fact.id)}", f"{shown(fact.category)}, but {why}"
                    )
                _check_codes(fact, scales)
            case Merit():
                scale = scales.of(fact.on)
                if fact.item not in scale.merit:
                    _refuse_code("item", fact, code=fact.item, scale=scale)
            case Act():
                _check_act(fact, by_id.get(fact.target))


def _check_codes(fact: Demerit, scales: Scales) -> None:
    """Severity, issuer and mitigation must be in the rulebook of the act and of the decision."""
    for day in (fact.occurred_on, fact.decided_on):
        scale = scales.of(day)
        if not scale.knows_severity(fact.severity):
            _refuse_code("severity", fact, code=fact.severity, scale=scale)
        if fact.issuer not in scale.issuer_weight:
            _refuse_code("issuer", fact, code=fact.issuer, scale=scale)
        for code in fact.mitigation:
            if code not in scale.mitigation:
                _refuse_code("mitigation", fact, code=code, scale=scale)


def _refuse_code(what: str, fact: Fact, *, code: str, scale: Scale) -> None:
    why = f"{shown(code)} is not in rulebook {shown(scale.version)}"
    raise InvalidCase(what, f"fact {shown(fact.id)}", why)


def _check_act(act: Act, target: Fact | None) -> None:
    where = f"fact {shown(act.id)}"
    if target is None:
        raise InvalidCase("target", where, f"there is no fact {shown(act.target)}")
    if act.act not in ACTS_ON[type(target)]:
        kind = type(target).__name__.lower()
        raise InvalidCase("act", where, f"{act.act!r} is no act on a {kind}, {shown(act.target)}")
    if isinstance(target, Listing) and act.act == "removed" and act.on < target.listed_on:
        raise InvalidCase("on", where, f"{act.on} is before the listing on {target.listed_on}")


# --- One line of the offline command --------------------------------------------------------------


@lru_cache(maxsize=_RULEBOOK_SETS_REMEMBERED)
def _scales_written(rulebooks: bytes) -> Scales:
    """The rulebooks of a case; a file of cases mostly repeats them, so the last few are kept."""
    return Scales(parse_scale(rulebook) for rulebook in orjson.loads(rulebooks))


def read_case(line: bytes) -> tuple[list[Fact], Scales, date, date]:
    """Facts, rulebooks, `as_of` and `known_at` of one line, checked ("No valid case")."""
    where = "the case"
    try:
        case = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidCase("line", where, f"is not JSON: {error}") from None
    if not isinstance(case, dict):
        raise InvalidCase("line", where, f"{shown(case)} is not an object")
    for name in ("facts", "rulebooks"):
        if not isinstance(case.get(name), list):
            why = "is missing" if case.get(name) is None else f"{shown(case[name])} is not a list"
            raise InvalidCase(name, where, why)
    as_of = _day(case, "as_of", where)
    known_at = _day_or(case, "known_at", where, default=as_of)
    try:
        scales = _scales_written(orjson.dumps(case["rulebooks"]))
    except orjson.JSONEncodeError:  # nested deeper than orjson writes: legal in unknown members
        scales = Scales(parse_scale(rulebook) for rulebook in case["rulebooks"])
    facts = [parse_fact(fact, f"facts[{i}]") for i, fact in enumerate(case["facts"])]
    check(facts, scales)
    return facts, scales, as_of, known_at
