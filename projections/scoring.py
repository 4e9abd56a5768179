"""The integrity score as a pure function of facts and rulebooks.

Holds of scoring.md: "One demerit" 1 and 2, the caps of "One incident, one category", "Merits", "The
score" and "Output", and the first day on which time alone may change the score. The rest is in
three rooms below, each of which knows nothing of those above it: `case.py` (the facts; what is no
valid case), `known.py` (which acts are in force on a day), `demerits.py` (what one demerit, and one
incident, costs); rulebooks and months are `ledger/scale.py` and `ledger/months.py`.

Must not know: the clock, a database, events, or how the rulebooks came here; the same inputs give
the same bytes for ever. Sums are decimals under `ledger.scale.EXACT`, entered once by `score`, so
that the caller's decimal context changes nothing. Section names in docstrings are scoring.md's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, localcontext
from typing import Final, TypedDict

import orjson

from ledger.months import add_months, before_window, whole_months, window_leaves
from ledger.scale import EXACT, InvalidScale, Scale, Scales
from projections.case import CONTRACT_COMPLETED, Fact, InvalidCase, read_case
from projections.demerits import (
    GRAVE,
    ZERO,
    Finding,
    Line,
    assess_all,
    demerit_days,
    demerit_line,
    merge_incidents,
    reason_of,
    severity_flag,
    stand,
)
from projections.known import Known

TOP_REASONS: Final = 4

_HUNDRED = Decimal("100.00")


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


@dataclass(slots=True)
class _Sum:
    """One side of the account: what it adds up to, and what the explanation says about it."""

    total: Decimal = ZERO
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


# --- Demerits ------------------------------------------------------------------------------------


def _deductions(known: Known, scales: Scales, as_of: date) -> _Sum:
    """All demerits: `total` is −Σ D ("One demerit", "One incident, one category")."""
    out = _Sum()
    findings: list[Finding] = []
    for fact in known.demerits:
        if fact.id in known.overturned:
            out.nothing(fact.id, "OVERTURNED")
        elif as_of < fact.served_on:
            out.nothing(fact.id, "NOT_YET_EFFECTIVE")
        else:
            findings.append(stand(fact, known.acts.get(fact.id, ()), as_of))
    if not findings:
        return out
    assess_all(findings, scales)
    explained = [(finding, *finding.best) for finding in findings]
    for finding, best, _ in explained:
        finding.reason = reason_of(finding, best)
        if finding.reason.startswith("ACTIVE"):
            finding.points = best.d
            if finding.fact.severity in GRAVE:
                out.flags.add(severity_flag(finding.fact, best))
    small, grave, small_even_if_grave = merge_incidents(f for f in findings if f.points)
    for finding, best, n in explained:
        out.lines[finding.fact.id] = demerit_line(finding, best, n)
    out.total = -(sum(small.values(), ZERO) + sum(grave.values(), ZERO))
    cap = scales.of(as_of).minor_cap_per_category
    for category in sorted(small):
        out.adjust(f"MINOR_CAP:{category}", max(small[category] - cap, ZERO))
    if any(total > cap for total in small_even_if_grave.values()):
        out.flags.add("minor_cap")
    largest = sorted((f for f in findings if f.points), key=lambda f: (-f.points, f.fact.id))
    out.reasons = [
        f"{f.fact.id}:{f.fact.severity}:{f.fact.category}" for f in largest[:TOP_REASONS]
    ]
    return out


# --- Merits --------------------------------------------------------------------------------------


def _merits(known: Known, scales: Scales, as_of: date, limit: Decimal) -> _Sum:
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
        total, cap = by_item.get(merit.item, (ZERO, rule.cap))
        by_item[merit.item] = (total + rule.points, cap)
        out.lines[merit.id] = {
            "fact": merit.id,
            "category": merit.item,
            "reason": "MERIT",
            "points": str(rule.points),
        }
    out.total = sum((total for total, _ in by_item.values()), ZERO)
    for item, (total, cap) in sorted(by_item.items()):
        out.adjust(f"MERIT_CAP:{item}", min(cap - total, ZERO))
    out.adjust("MERIT_LIMIT", min(limit - out.total, ZERO))
    return out


def _merit_limit(scale: Scale, flags: set[str], *, veto: bool) -> Decimal:
    """What all merits together may add ("Merits")."""
    if "S4" in flags or veto:
        return scale.merit_cap_active_s4
    if "S3" in flags or "S4_fading" in flags:
        return scale.merit_cap_active_s3
    return scale.merit_total_cap


# --- The score -----------------------------------------------------------------------------------


def _count_evidence(known: Known, scale: Scale, as_of: date) -> int:
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
        known = Known(facts)
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
        end.adjust("SEVERITY_CEILING", min(ceiling - end.total, ZERO))
        end.adjust("FLOOR_ZERO", max(-end.total, ZERO))
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
    known = Known(facts)
    days = [scales.next_start(as_of)]
    days.extend(_act_days(known))
    days.extend(demerit_days(known, scales, as_of))
    days.extend(_merit_days(known, scales, as_of))
    return min((day for day in days if day is not None and day > as_of), default=None)


def _act_days(known: Known) -> Iterator[date]:
    """Days of the acts; one on an overturned fact changes nothing on any day."""
    for target, acts in known.acts.items():
        if target not in known.overturned:
            for act in acts:
                yield act.on


def _merit_days(known: Known, scales: Scales, as_of: date) -> Iterator[date | None]:
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


def score_line(line: bytes) -> tuple[bytes, bool]:
    """One line of the offline command: one case in, one result or `{"error": …}` out.

    No line raises; the flag is False for a refused one.
    """
    try:
        facts, scales, as_of, known_at = read_case(line)
    except (InvalidCase, InvalidScale) as refusal:
        return orjson.dumps({"error": str(refusal)}), False
    return orjson.dumps(score(facts, scales, as_of=as_of, known_at=known_at)), True
