"""The integrity score as a pure function of facts and rulebooks (scoring.md, all of it).

Knows: the five kinds of facts, which cases are valid, the score with every reason, and the first
day on which time alone may change it. Must not know: the clock, a database, events, or how the
rulebooks came here; the same inputs give the same bytes for ever.

Sums are decimals under `ledger.scale.EXACT`, entered once by each public function, so that the
caller's decimal context changes nothing. Section names in docstrings are those of scoring.md.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import repeat
from operator import attrgetter
from typing import Final, TypeAlias, TypedDict

import orjson

from ledger.scale import (
    CENT,
    EXACT,
    SEVERITIES,
    Factor,
    InvalidScale,
    Scale,
    Scales,
    add_months,
    before_window,
    parse_scale,
    read_day,
    shown,
    whole_months,
    window_leaves,
)

CONTRACT_COMPLETED: Final = "CONTRACT_COMPLETED"
SUSPENSION: Final = ("suspended", "resumed")
REPAIR: Final = ("repaired", "repair_revoked")
FULFILMENT: Final = ("fulfilled", "fulfilment_revoked")
GRAVE: Final = frozenset({"S3", "S4"})
TOP_REASONS: Final = 4

_ZERO = Decimal("0.00")
_HUNDRED = Decimal("100.00")
_ONE = Factor(Decimal(1), "1")
_NOTHING = Factor(Decimal(0), "0")
_RULEBOOK_SETS_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Demerit:
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


@dataclass(frozen=True, slots=True)
class Merit:
    """A reward, completed contract, training, clean inspection … ("Input: facts")."""

    id: str
    recorded_on: date
    item: str
    on: date
    counterparty: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """An entry in the authority's list of seriously dishonest entities ("Input: facts")."""

    id: str
    recorded_on: date
    listed_on: date


@dataclass(frozen=True, slots=True)
class Inspection:
    """A finished inspection: evidence only ("Input: facts")."""

    id: str
    recorded_on: date
    on: date


@dataclass(frozen=True, slots=True)
class Act:
    """What later happened to a fact ("Input: facts")."""

    id: str
    recorded_on: date
    target: str
    act: str
    on: date


Fact: TypeAlias = Demerit | Merit | Listing | Inspection | Act
Line: TypeAlias = dict[str, str | int]

ACTS_ON: Final[Mapping[type, frozenset[str]]] = {
    Demerit: frozenset({"overturned", *SUSPENSION, *REPAIR, *FULFILMENT}),
    Merit: frozenset({"overturned"}),
    Inspection: frozenset({"overturned"}),
    Listing: frozenset({"overturned", "removed"}),
    Act: frozenset(),
}
ACTS: Final = frozenset[str]().union(*ACTS_ON.values())


class Result(TypedDict):
    """One explained score ("Output"), members in this order."""

    as_of: str
    known_at: str | int
    rulebook: str
    baseline: str
    contributions: list[Line]
    adjustments: list[Line]
    score: str
    grade: str
    band_of_number: str
    underlying_score: str
    evidence_count: int
    confidence: str
    top_reasons: list[str]


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


# --- What is known, by kind ----------------------------------------------------------------------


class _Known:
    """The known facts by kind, the overturned ones apart, and the acts by target."""

    __slots__ = ("acts", "demerits", "inspections", "listings", "merits", "overturned")

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.demerits: list[Demerit] = []
        self.merits: list[Merit] = []
        self.listings: list[Listing] = []
        self.inspections: list[Inspection] = []
        self.acts: dict[str, list[Act]] = {}
        self.overturned: set[str] = set()
        for fact in facts:
            if isinstance(fact, Merit):
                self.merits.append(fact)
            elif isinstance(fact, Demerit):
                self.demerits.append(fact)
            elif isinstance(fact, Inspection):
                self.inspections.append(fact)
            elif isinstance(fact, Listing):
                self.listings.append(fact)
            elif fact.act == "overturned":
                self.overturned.add(fact.target)
            else:
                self.acts.setdefault(fact.target, []).append(fact)

    def latest_removal(self, as_of: date) -> date | None:
        """The latest removal, of any listing not overturned ("Input: facts")."""
        return max(
            (
                act.on
                for listing in self.listings
                if listing.id not in self.overturned
                for act in self.acts.get(listing.id, ())
                if act.on <= as_of
            ),
            default=None,
        )

    def veto(self, as_of: date) -> bool:
        """Whether a listing is in force ("The score", Veto)."""
        return any(
            listing.listed_on <= as_of
            and listing.id not in self.overturned
            and all(act.on > as_of for act in self.acts.get(listing.id, ()))
            for listing in self.listings
        )

    def evidence(self) -> Iterator[tuple[str | date, date]]:
        """Every piece of evidence, as what makes it distinct and its day ("Evidence")."""
        for merit in self.merits:
            if (
                merit.item == CONTRACT_COMPLETED
                and merit.counterparty is not None
                and merit.id not in self.overturned
            ):
                yield merit.counterparty, merit.on
        for inspection in self.inspections:
            if inspection.id not in self.overturned:
                yield inspection.on, inspection.on


def _latest(acts: Sequence[Act], as_of: date) -> dict[str, date]:
    """The latest day, not after `as_of`, of each act."""
    latest: dict[str, date] = {}
    for act in acts:
        if act.on <= as_of and act.on >= latest.get(act.act, act.on):
            latest[act.act] = act.on
    return latest


def _in_force(latest: Mapping[str, date], pair: tuple[str, str]) -> bool:
    """Whether a pair of acts is in force ("Input: facts"): on the same day leaving wins."""
    entered, left = latest.get(pair[0]), latest.get(pair[1])
    return entered is not None and (left is None or entered > left)


def _suspended_days(acts: Sequence[Act], *, start: date, end: date) -> int:
    """Days x, `start <= x < end`, on which a suspension was in force ("One demerit", 3)."""
    turns: dict[date, bool] = {}
    for act in acts:
        if act.act == "resumed":
            turns[act.on] = False
        elif act.act == "suspended":
            turns.setdefault(act.on, True)
    days = 0
    since: date | None = None
    for day in sorted(turns):
        if day >= end:
            break
        if turns[day] and since is None:
            since = max(day, start)
        elif not turns[day] and since is not None:
            days += max((day - since).days, 0)
            since = None
    return days if since is None else days + (end - since).days


# --- One demerit ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Assessment:
    """A demerit under one rulebook ("One demerit", 3), shared by all that are alike."""

    scale: Scale
    base: Factor
    issuer: Factor
    recid: Factor
    mitig: Factor
    weight: Factor
    floored: bool
    d: Decimal


@dataclass(slots=True)
class _Finding:
    """A demerit in effect and not overturned, as it stands on one day."""

    fact: Demerit
    suspended: bool
    repaired: bool
    owing: bool
    clock_start: date
    """`served_on`, moved on by the days under suspension."""
    months: int
    life_months: int
    computed: list[tuple[_Assessment, int]] = field(default_factory=list)
    """Its assessment and `n` under the rulebook of the act and, if another, of the decision."""
    reason: str = ""
    points: Decimal = _ZERO
    """What it costs: `d` if it counts, else zero."""

    @property
    def best(self) -> tuple[_Assessment, int]:
        """What counts: the lower `d`, on a tie the version that sorts first."""
        if len(self.computed) == 1:
            return self.computed[0]
        return min(self.computed, key=lambda pair: (pair[0].d, pair[0].scale.version))


def _stand(fact: Demerit, acts: Sequence[Act], as_of: date) -> _Finding:
    """How a demerit in effect stands on `as_of`, apart from any rulebook."""
    start = fact.served_on
    suspended = repaired = fulfilled = False
    if acts:
        start += timedelta(days=_suspended_days(acts, start=start, end=as_of))
        latest = _latest(acts, as_of)
        suspended = _in_force(latest, SUSPENSION)
        repaired = _in_force(latest, REPAIR)
        fulfilled = _in_force(latest, FULFILMENT)
    return _Finding(
        fact=fact,
        suspended=suspended,
        repaired=repaired,
        owing=fact.obligation and not fulfilled,
        clock_start=start,
        months=whole_months(start, as_of),
        life_months=whole_months(fact.ended_on, as_of),
    )


def _priors(family: Sequence[_Finding], under: Sequence[_Finding], scale: Scale) -> Iterator[int]:
    """`prior` under `scale` for each finding in `under` ("One demerit", 3).

    `family` holds the findings of the family by `served_on`, `under` those to be computed by
    `occurred_on`. Both ends of the window only move forward then, so one pass over `family`
    keeps the incidents inside it.
    """
    counted = [
        finding.fact
        for finding in family
        if finding.fact.severity != "S0"
        and finding.fact.issuer in scale.full_weight_issuers
        and not finding.suspended
        and (not finding.repaired or scale.repaired_counts_for_recidivism)
    ]
    if not counted:
        yield from repeat(0, len(under))
        return
    inside: dict[str, int] = {}
    first = last = 0
    for finding in under:
        fact = finding.fact
        before = before_window(fact.occurred_on, scale.recidivism_window_months)
        while last < len(counted) and counted[last].served_on <= fact.occurred_on:
            incident = counted[last].incident
            inside[incident] = inside.get(incident, 0) + 1
            last += 1
        while before and first < last and counted[first].served_on <= before:
            incident = counted[first].incident
            inside[incident] -= 1
            if not inside[incident]:
                del inside[incident]
            first += 1
        yield len(inside) - (fact.incident in inside)


def _mitigated(fact: Demerit, scale: Scale) -> Factor:
    """`mitig` ("One demerit", 3): one entry as the rulebook writes it, several as the product."""
    if fact.severity == "S4":
        return _ONE
    factors = [scale.mitigation[code] for code in fact.mitigation]
    if not factors:
        mitig = _ONE
    elif len(factors) == 1:
        mitig = factors[0]
    else:
        product = Decimal(1)
        for factor in factors:
            product *= factor.value
        mitig = Factor(product, format(product, "f"))
    return scale.mitigation_floor if scale.mitigation_floor.value > mitig.value else mitig


def _weigh(finding: _Finding, scale: Scale) -> tuple[Factor, bool]:
    """`w`, and whether the obligation floor strictly raised it ("One demerit", 3)."""
    if finding.life_months >= scale.adverse_life_months:
        return _NOTHING, False
    weight = _NOTHING
    for step in scale.weights[finding.fact.severity]:
        if finding.months < step.upto_months:
            weight = step.weight
            break
    if finding.owing and scale.obligation_floor.value > weight.value:
        return scale.obligation_floor, True
    return weight, False


def _assess(
    finding: _Finding, scale: Scale, prior: int, made: dict[Hashable, _Assessment]
) -> _Assessment:
    """One demerit under one rulebook ("One demerit", 3); what is alike is computed once."""
    fact = finding.fact
    recid = scale.recidivism[min(prior, len(scale.recidivism) - 1)]
    weight, floored = _weigh(finding, scale)
    key = (fact.severity, fact.issuer, recid.text, fact.mitigation, weight.text, floored)
    if (assessment := made.get(key)) is None:
        base = scale.severity_points[fact.severity]
        issuer = scale.issuer_weight[fact.issuer]
        mitig = _mitigated(fact, scale)
        exact = base.value * issuer.value * recid.value * mitig.value * weight.value
        assessment = made[key] = _Assessment(
            scale, base, issuer, recid, mitig, weight, floored, exact.quantize(CENT)
        )
    return assessment


def _assess_all(findings: Iterable[_Finding], scales: Scales) -> None:
    """Assess every finding under the rulebooks of its act and of its decision."""
    made: defaultdict[str, dict[Hashable, _Assessment]] = defaultdict(dict)
    families: defaultdict[str, list[_Finding]] = defaultdict(list)
    for finding in findings:
        families[finding.fact.family].append(finding)
    for family in families.values():
        family.sort(key=attrgetter("fact.served_on"))
        under: dict[str, tuple[Scale, list[_Finding]]] = {}
        for finding in sorted(family, key=attrgetter("fact.occurred_on")):
            act = scales.of(finding.fact.occurred_on)
            decision = scales.of(finding.fact.decided_on)
            under.setdefault(act.version, (act, []))[1].append(finding)
            if decision is not act:
                under.setdefault(decision.version, (decision, []))[1].append(finding)
        for scale, group in under.values():
            for finding, prior in zip(group, _priors(family, group, scale), strict=True):
                assessment = _assess(finding, scale, prior, made[scale.version])
                finding.computed.append((assessment, 1 + prior))


def _reason(finding: _Finding, best: _Assessment) -> str:
    """The first reason that holds ("One demerit", 4)."""
    if finding.repaired:
        return "REPAIRED"
    if finding.suspended:
        return "SUSPENDED_BY_REVIEW"
    if not best.base.value:
        return "RECORD_ONLY"
    if not best.weight.value:
        return "EXPIRED"
    return "ACTIVE+OBLIGATION_FLOOR" if best.floored else "ACTIVE"


def _severity_flag(fact: Demerit, best: _Assessment) -> str:
    """The flag of an active S3 or S4 ("One demerit", 5)."""
    full_weight = fact.issuer in best.scale.full_weight_issuers
    now = best.weight.value == 1
    if fact.severity == "S4" and full_weight:
        return "S4" if now else "S4_fading"
    return "S3" if full_weight and now else "S3_fading"


def _demerit_line(finding: _Finding, best: _Assessment, n: int) -> Line:
    fact = finding.fact
    return {
        "fact": fact.id,
        "category": fact.category,
        "severity": fact.severity,
        "issuer": fact.issuer,
        "base": best.base.text,
        "issuer_weight": best.issuer.text,
        "recidivism_n": n,
        "recidivism_x": best.recid.text,
        "mitigation_x": best.mitig.text,
        "months": finding.months,
        "time_weight": best.weight.text,
        "rulebook": best.scale.version,
        "reason": finding.reason,
        "points": f"-{finding.points}" if finding.points else "0.00",
    }


# --- One incident, one category ------------------------------------------------------------------


def _merge_incidents(counting: Iterable[_Finding]) -> tuple[dict[str, Decimal], ...]:
    """Let only the largest `d` of each incident count ("One incident, one category").

    Returns by category: Σ d of small incidents, Σ d of grave ones, and the sum over incidents of
    the largest `d` among their small findings, which is what the flag `minor_cap` looks at.
    """
    incidents: defaultdict[str, list[_Finding]] = defaultdict(list)
    for finding in counting:
        incidents[finding.fact.incident].append(finding)
    small: defaultdict[str, Decimal] = defaultdict(lambda: _ZERO)
    grave: defaultdict[str, Decimal] = defaultdict(lambda: _ZERO)
    small_even_if_grave: defaultdict[str, Decimal] = defaultdict(lambda: _ZERO)
    for findings in incidents.values():
        counted = min(findings, key=lambda f: (-f.points, f.fact.severity, f.fact.id))
        category = counted.fact.category
        minor = max((f.points for f in findings if f.fact.severity not in GRAVE), default=_ZERO)
        small_even_if_grave[category] += minor
        if any(f.fact.severity in GRAVE for f in findings):
            grave[category] += counted.points
        else:
            small[category] += counted.points
        for finding in findings:
            if finding is not counted:
                finding.reason = "SAME_INCIDENT"
                finding.points = _ZERO
    return small, grave, small_even_if_grave


@dataclass(slots=True)
class _Sum:
    """One side of the account: what it adds up to, and what the explanation says about it."""

    total: Decimal = _ZERO
    lines: dict[str, Line] = field(default_factory=dict)
    adjustments: list[Line] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    def adjust(self, reason: str, points: Decimal) -> None:
        """Add `points` and say so; nothing is said about 0.00 ("Output")."""
        if points:
            self.total += points
            self.adjustments.append({"reason": reason, "points": str(points)})

    def nothing(self, fact_id: str, reason: str) -> None:
        """The short line of a fact that does not enter the sum ("Output")."""
        self.lines[fact_id] = {"fact": fact_id, "reason": reason, "points": "0.00"}


def _deductions(known: _Known, scales: Scales, as_of: date) -> _Sum:
    """All demerits: `total` is −Σ D ("One demerit", "One incident, one category")."""
    out = _Sum()
    findings: list[_Finding] = []
    for fact in known.demerits:
        if fact.id in known.overturned:
            out.nothing(fact.id, "OVERTURNED")
        elif as_of < fact.served_on:
            out.nothing(fact.id, "NOT_YET_EFFECTIVE")
        else:
            findings.append(_stand(fact, known.acts.get(fact.id, ()), as_of))
    if not findings:
        return out
    _assess_all(findings, scales)
    explained = [(finding, *finding.best) for finding in findings]
    for finding, best, _ in explained:
        finding.reason = _reason(finding, best)
        if finding.reason.startswith("ACTIVE"):
            finding.points = best.d
            if finding.fact.severity in GRAVE:
                out.flags.add(_severity_flag(finding.fact, best))
    small, grave, small_even_if_grave = _merge_incidents(f for f in findings if f.points)
    for finding, best, n in explained:
        out.lines[finding.fact.id] = _demerit_line(finding, best, n)
    out.total = -(sum(small.values(), _ZERO) + sum(grave.values(), _ZERO))
    cap = scales.of(as_of).minor_cap_per_category
    for category in sorted(small):
        out.adjust(f"MINOR_CAP:{category}", max(small[category] - cap, _ZERO))
    if any(total > cap for total in small_even_if_grave.values()):
        out.flags.add("minor_cap")
    largest = sorted((f for f in findings if f.points), key=lambda f: (-f.points, f.fact.id))
    out.reasons = [
        f"{f.fact.id}:{f.fact.severity}:{f.fact.category}" for f in largest[:TOP_REASONS]
    ]
    return out


# --- Merits --------------------------------------------------------------------------------------


def _merits(known: _Known, scales: Scales, as_of: date, limit: Decimal) -> _Sum:
    """All merits, capped by item and limited in total to `limit` ("Merits")."""
    out = _Sum()
    removal = known.latest_removal(as_of)
    by_item: dict[str, tuple[Decimal, Decimal]] = {}
    counterparties: set[str] = set()
    for merit in sorted(known.merits, key=lambda m: (m.on, m.id)):
        if merit.id in known.overturned:
            out.nothing(merit.id, "OVERTURNED")
            continue
        if merit.on > as_of:
            out.nothing(merit.id, "NOT_YET_EFFECTIVE")
            continue
        rule = scales.of(merit.on).merit[merit.item]
        if whole_months(merit.on, as_of) >= rule.valid_months:
            out.nothing(merit.id, "MERIT_EXPIRED")
            continue
        if removal is not None and merit.on < removal:
            out.nothing(merit.id, "MERIT_BEFORE_DELISTING")
            continue
        if merit.item == CONTRACT_COMPLETED and merit.counterparty is not None:
            if merit.counterparty in counterparties:
                out.nothing(merit.id, "SAME_COUNTERPARTY")
                continue
            counterparties.add(merit.counterparty)
        total, cap = by_item.get(merit.item, (_ZERO, rule.cap))
        by_item[merit.item] = (total + rule.points, cap)
        out.lines[merit.id] = {
            "fact": merit.id,
            "category": merit.item,
            "reason": "MERIT",
            "points": str(rule.points),
        }
    out.total = sum((total for total, _ in by_item.values()), _ZERO)
    for item, (total, cap) in sorted(by_item.items()):
        out.adjust(f"MERIT_CAP:{item}", min(cap - total, _ZERO))
    out.adjust("MERIT_LIMIT", min(limit - out.total, _ZERO))
    return out


def _merit_limit(scale: Scale, flags: set[str], *, veto: bool) -> Decimal:
    """What all merits together may add ("Merits")."""
    if "S4" in flags or veto:
        return scale.merit_cap_active_s4
    if "S3" in flags or "S4_fading" in flags:
        return scale.merit_cap_active_s3
    return scale.merit_total_cap


# --- The score -----------------------------------------------------------------------------------


def _count_evidence(known: _Known, scale: Scale, as_of: date) -> int:
    """Distinct counterparties and days of inspection in the window ("Evidence")."""
    before = before_window(as_of, scale.evidence_window_months)
    since = known.latest_removal(as_of) or date.min
    return len(
        {
            what
            for what, on in known.evidence()
            if since <= on <= as_of and (before is None or on > before)
        }
    )


def _assert_closes(result: Result) -> None:
    """`baseline + contributions + adjustments = score`; else this module is wrong."""
    total = Decimal(result["baseline"])
    for lines in (result["contributions"], result["adjustments"]):
        for line in lines:
            total += Decimal(line["points"])
    assert str(total) == result["score"], f"{total} explained, {result['score']} scored"


def score(facts: Sequence[Fact], scales: Scales, *, as_of: date, known_at: date | int) -> Result:
    """The explained score for the day `as_of` ("The score", "Output").

    `facts` have passed `check`. With a day as `known_at`, facts recorded later are left out; with
    a log position the caller has chosen the facts, and the number is only echoed.
    """
    if isinstance(known_at, date):
        facts = [fact for fact in facts if fact.recorded_on <= known_at]
    with localcontext(EXACT):
        known = _Known(facts)
        scale = scales.of(as_of)
        veto = known.veto(as_of)
        deductions = _deductions(known, scales, as_of)
        flags = deductions.flags
        merits = _merits(known, scales, as_of, _merit_limit(scale, flags, veto=veto))
        removal = known.latest_removal(as_of)
        if removal is not None and whole_months(removal, as_of) < scale.delisted_ceiling_months:
            flags.add("delisted")
        ceiling = min([_HUNDRED, *(scale.ceilings[flag] for flag in flags)])
        end = _Sum(total=scale.baseline + merits.total + deductions.total)
        end.adjust("SEVERITY_CEILING", min(ceiling - end.total, _ZERO))
        end.adjust("FLOOR_ZERO", max(-end.total, _ZERO))
        underlying = end.total
        if veto:
            points = f"-{underlying}" if underlying else "0.00"
            end.adjustments.append({"reason": "VETO", "points": points})
        evidence = _count_evidence(known, scale, as_of)
        low = evidence < scale.min_evidence
        band = scale.band_of(underlying)
        lines = deductions.lines | merits.lines
        result = Result(
            as_of=as_of.isoformat(),
            known_at=known_at.isoformat() if isinstance(known_at, date) else known_at,
            rulebook=scale.version,
            baseline=str(scale.baseline),
            contributions=[lines[fact_id] for fact_id in sorted(lines)],
            adjustments=deductions.adjustments + merits.adjustments + end.adjustments,
            score="0.00" if veto else str(underlying),
            grade="X" if veto else "N" if low and band in ("A", "B") else band,
            band_of_number=band,
            underlying_score=str(underlying),
            evidence_count=evidence,
            confidence="LOW" if low else "MEDIUM" if evidence < scale.high_evidence else "HIGH",
            top_reasons=deductions.reasons,
        )
        _assert_closes(result)
    return result


# --- When time alone changes it ------------------------------------------------------------------


def next_change(facts: Sequence[Fact], scales: Scales, *, as_of: date) -> date | None:
    """The first day after `as_of` on which the summary of the score may differ, or None.

    The summary is every member of the result but `as_of`, `known_at`, `contributions` and
    `adjustments`. `facts` are taken as known, and have passed `check`. On each day from `as_of`
    up to the day returned the summary is that of `as_of`; the day returned may prove unchanged.
    """
    known = _Known(facts)
    days = [scales.next_start(as_of)]
    days.extend(_act_days(known))
    days.extend(_demerit_days(known, scales, as_of))
    days.extend(_merit_days(known, scales, as_of))
    return min((day for day in days if day is not None and day > as_of), default=None)


def _act_days(known: _Known) -> Iterator[date]:
    """Days of the acts; one on an overturned fact changes nothing on any day."""
    for target, acts in known.acts.items():
        if target not in known.overturned:
            for act in acts:
                yield act.on


def _demerit_days(known: _Known, scales: Scales, as_of: date) -> Iterator[date | None]:
    """Service, time weights and adverse life.

    A repaired or suspended demerit costs nothing until an act changes that, and before that its
    clock may stand still; so between two acts the start of the clock of all others is fixed.
    """
    for fact in known.demerits:
        if fact.id in known.overturned:
            continue
        if as_of < fact.served_on:
            yield fact.served_on
            continue
        finding = _stand(fact, known.acts.get(fact.id, ()), as_of)
        if finding.repaired or finding.suspended:
            continue
        act, decision = scales.of(fact.occurred_on), scales.of(fact.decided_on)
        for scale in (act,) if act is decision else (act, decision):
            if not scale.severity_points[fact.severity].value:
                continue
            if finding.life_months >= scale.adverse_life_months:
                continue
            for step in scale.weights[fact.severity]:
                if finding.months < step.upto_months:
                    yield add_months(finding.clock_start, step.upto_months)
                    break
            if _weigh(finding, scale)[0].value:
                yield add_months(fact.ended_on, scale.adverse_life_months)


def _merit_days(known: _Known, scales: Scales, as_of: date) -> Iterator[date | None]:
    """Start and expiry of merits, the evidence window, listings and the end of `delisted`."""
    scale = scales.of(as_of)
    removal = known.latest_removal(as_of)
    since = removal or date.min
    for merit in known.merits:
        if merit.on < since or merit.id in known.overturned:
            continue
        yield merit.on
        yield add_months(merit.on, scales.of(merit.on).merit[merit.item].valid_months)
    for _, on in known.evidence():
        if on >= since:
            yield on
            yield window_leaves(on, scale.evidence_window_months)
    for listing in known.listings:
        if listing.id not in known.overturned:
            yield listing.listed_on
    if removal is not None:
        yield add_months(removal, scale.delisted_ceiling_months)


# --- The offline command -------------------------------------------------------------------------


@lru_cache(maxsize=_RULEBOOK_SETS_REMEMBERED)
def _scales_written(rulebooks: bytes) -> Scales:
    """The rulebooks of a case; a file of cases mostly repeats them, so the last few are kept."""
    return Scales(parse_scale(rulebook) for rulebook in orjson.loads(rulebooks))


def _read_case(line: bytes) -> tuple[list[Fact], Scales, date, date]:
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


def score_line(line: bytes) -> tuple[bytes, bool]:
    """One line of the offline command: one case in, one result or `{"error": …}` out.

    No line raises; the flag is False for a refused one.
    """
    try:
        facts, scales, as_of, known_at = _read_case(line)
    except (InvalidCase, InvalidScale) as refusal:
        return orjson.dumps({"error": str(refusal)}), False
    return orjson.dumps(score(facts, scales, as_of=as_of, known_at=known_at)), True
