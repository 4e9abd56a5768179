"""One demerit: how it stands on a day, what it costs, and which of an incident's demerits counts.

Holds of scoring.md: "One demerit" (3 to 5, with its line of the "Output") and of "One incident, one
category" which `d` counts. Must not know: the clock, merits, listings, caps, ceilings or the sum;
`scoring.py` leaves out what is overturned or not yet effective, and adds up.

Sums and products here are exact only under `ledger.scale.EXACT`, which `scoring.score` has entered.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import repeat
from operator import attrgetter
from typing import Final, TypeAlias

from ledger.calendar import add_months, before_window, whole_months
from ledger.scale import CENT, Factor, Scale, Scales
from projections.case import FULFILMENT, REPAIR, SUSPENSION, Act, Demerit
from projections.known import Known, in_force, latest_days, suspended_days

Line: TypeAlias = dict[str, str | int]
"""One line of the explanation, its amount as `points` ("Output")."""

GRAVE: Final = frozenset({"S3", "S4"})
ZERO: Final = Decimal("0.00")

_ONE = Factor(Decimal(1), "1")
_NOTHING = Factor(Decimal(0), "0")


@dataclass(frozen=True, slots=True)
class Assessment:
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
class Finding:
    """A demerit in effect and not overturned, as it stands on one day."""

    fact: Demerit
    suspended: bool
    repaired: bool
    owing: bool
    clock_start: date
    """`served_on`, moved on by the days under suspension."""
    months: int
    life_months: int
    computed: list[tuple[Assessment, int]] = field(default_factory=list)
    """Its assessment and `n` under the rulebook of the act and, if another, of the decision."""
    reason: str = ""
    points: Decimal = ZERO
    """What it costs: `d` if it counts, else zero."""

    @property
    def best(self) -> tuple[Assessment, int]:
        """What counts: the lower `d`, on a tie the version that sorts first."""
        if len(self.computed) == 1:
            return self.computed[0]
        return min(self.computed, key=lambda pair: (pair[0].d, pair[0].scale.version))


def stand(fact: Demerit, acts: Sequence[Act], as_of: date) -> Finding:
    """How a demerit in effect stands on `as_of`, apart from any rulebook."""
    start = fact.served_on
    suspended = repaired = fulfilled = False
    if acts:
        start += timedelta(days=suspended_days(acts, start=start, end=as_of))
        latest = latest_days(acts, as_of)
        suspended = in_force(latest, SUSPENSION)
        repaired = in_force(latest, REPAIR)
        fulfilled = in_force(latest, FULFILMENT)
    owing = fact.obligation and not fulfilled
    months, life_months = whole_months(start, as_of), whole_months(fact.ended_on, as_of)
    return Finding(fact, suspended, repaired, owing, start, months, life_months)


def in_effect(known: Known, as_of: date) -> list[Finding]:
    """The demerits served by `as_of` and not overturned, as they stand on that day."""
    return [
        stand(fact, known.acts.get(fact.id, ()), as_of)
        for fact in known.demerits
        if fact.served_on <= as_of and fact.id not in known.overturned
    ]


def _priors(family: Sequence[Finding], under: Sequence[Finding], scale: Scale) -> Iterator[int]:
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


def _weigh(finding: Finding, scale: Scale) -> tuple[Factor, bool]:
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
    finding: Finding, scale: Scale, prior: int, made: dict[Hashable, Assessment]
) -> Assessment:
    """One demerit under one rulebook ("One demerit", 3); what is alike is computed once."""
    fact = finding.fact
    recid = scale.recidivism[min(prior, len(scale.recidivism) - 1)]
    weight, floored = _weigh(finding, scale)
    key = (fact.severity, fact.issuer, recid.text, fact.mitigation, weight.text, floored)
    if (assessment := made.get(key)) is None:
        base = scale.severity_points[fact.severity]
        issuer = scale.issuer_weight[fact.issuer]
        mitig = _mitigated(fact, scale)
        d = _cost(base, issuer, recid, mitig, weight)
        assessment = made[key] = Assessment(scale, base, issuer, recid, mitig, weight, floored, d)
    return assessment


def _cost(*factors: Factor) -> Decimal:
    """`d`: the product, rounded ("One demerit", 3)."""
    exact = Decimal(1)
    for factor in factors:
        exact *= factor.value
    return exact.quantize(CENT)


def assess_all(findings: Iterable[Finding], scales: Scales) -> None:
    """Assess every finding under the rulebooks of its act and of its decision."""
    made: defaultdict[str, dict[Hashable, Assessment]] = defaultdict(dict)
    families: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        families[finding.fact.family].append(finding)
    for family in families.values():
        family.sort(key=attrgetter("fact.served_on"))
        for scale, group in _by_rulebook(family, scales):
            alike = made[scale.version]
            for finding, prior in zip(group, _priors(family, group, scale), strict=True):
                finding.computed.append((_assess(finding, scale, prior, alike), 1 + prior))


def _by_rulebook(
    family: Sequence[Finding], scales: Scales
) -> Iterable[tuple[Scale, list[Finding]]]:
    """Each rulebook with the findings to be computed under it, by `occurred_on`."""
    findings = sorted(family, key=attrgetter("fact.occurred_on"))
    if scales.only is not None:
        return [(scales.only, findings)]
    under: dict[str, tuple[Scale, list[Finding]]] = {}
    for finding in findings:
        act = scales.of(finding.fact.occurred_on)
        decision = scales.of(finding.fact.decided_on)
        under.setdefault(act.version, (act, []))[1].append(finding)
        if decision is not act:
            under.setdefault(decision.version, (decision, []))[1].append(finding)
    return under.values()


def reason_of(finding: Finding, best: Assessment) -> str:
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


def severity_flag(fact: Demerit, best: Assessment) -> str:
    """The flag of an active S3 or S4 ("One demerit", 5)."""
    full_weight = fact.issuer in best.scale.full_weight_issuers
    now = best.weight.value == 1
    if fact.severity == "S4" and full_weight:
        return "S4" if now else "S4_fading"
    return "S3" if full_weight and now else "S3_fading"


def demerit_line(finding: Finding, best: Assessment, n: int) -> Line:
    """The full line of a demerit in effect, with every factor ("Output")."""
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


def merge_incidents(counting: Iterable[Finding]) -> tuple[dict[str, Decimal], ...]:
    """Let only the largest `d` of each incident count ("One incident, one category").

    Returns by category: Σ d of small incidents, Σ d of grave ones, and the sum over incidents of
    the largest `d` among their small findings, which is what the flag `minor_cap` looks at.
    """
    incidents: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in counting:
        incidents[finding.fact.incident].append(finding)
    small: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    grave: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    small_even_if_grave: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for findings in incidents.values():
        counted = findings[0]
        if len(findings) > 1:
            counted = min(findings, key=lambda f: (-f.points, f.fact.severity, f.fact.id))
        category = counted.fact.category
        minor = [f.points for f in findings if f.fact.severity not in GRAVE]
        if minor:
            small_even_if_grave[category] += max(minor)
        side = small if len(minor) == len(findings) else grave
        side[category] += counted.points
        for finding in findings:
            if finding is not counted:
                finding.reason = "SAME_INCIDENT"
                finding.points = ZERO
    return small, grave, small_even_if_grave


# --- When time alone changes it ------------------------------------------------------------------


def demerit_days(known: Known, findings: Iterable[Finding], as_of: date) -> Iterator[date]:
    """Service, time weights and adverse life; `findings` are all in effect, and assessed.

    A repaired or suspended demerit costs nothing until an act changes that, and before that its
    clock may stand still; so between two acts the start of the clock of all others is fixed.
    """
    for fact in known.demerits:
        if as_of < fact.served_on and fact.id not in known.overturned:
            yield fact.served_on
    for finding in findings:
        if finding.repaired or finding.suspended:
            continue
        for assessment, _ in finding.computed:
            scale = assessment.scale
            if not assessment.base.value or finding.life_months >= scale.adverse_life_months:
                continue
            for step in scale.weights[finding.fact.severity]:
                if finding.months < step.upto_months:
                    yield add_months(finding.clock_start, step.upto_months)
                    break
            if assessment.weight.value:
                yield add_months(finding.fact.ended_on, scale.adverse_life_months)


def next_fall(finding: Finding) -> tuple[date, Decimal] | None:
    """When, and to what, the `d` of a finding that costs something next changes by time alone.

    By itself, whatever else belongs to its incident. Its priors were served before its act, so
    nothing but its own weight moves with time.
    """
    fact = finding.fact
    days = {
        add_months(fact.ended_on, assessment.scale.adverse_life_months)
        for assessment, _ in finding.computed
    }
    for assessment, _ in finding.computed:
        for step in assessment.scale.weights[fact.severity]:
            if finding.months < step.upto_months:
                days.add(add_months(finding.clock_start, step.upto_months))
    for day in sorted(days):
        later = replace(
            finding,
            months=whole_months(finding.clock_start, day),
            life_months=whole_months(fact.ended_on, day),
        )
        d = min(
            _cost(one.base, one.issuer, one.recid, one.mitig, _weigh(later, one.scale)[0])
            for one, _ in finding.computed
        )
        if d != finding.points:
            return day, d
    return None
