"""The integrity score as a pure function of facts and rulebooks.

Holds of scoring.md: "One demerit" 1 and 2, the caps of "One incident, one category", "Merits", "The
score" and "Output". `forecast.py` above asks when time alone changes it; the rest is in
three rooms below, each of which knows nothing of those above it: `case.py` (the facts; what is no
valid case), `known.py` (which acts are in force on a day), `demerits.py` (what one demerit, and one
incident, costs); rulebooks and months are `ledger/scale.py` and `ledger/calendar.py`.

Must not know: the clock, a database, events, or how the rulebooks came here; the same inputs give
the same bytes for ever. Sums are decimals under `ledger.scale.EXACT`, entered once by `score`, so
that the caller's decimal context changes nothing. Section names in docstrings are scoring.md's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, localcontext
from operator import attrgetter
from typing import Final, TypedDict

import orjson

from ledger.calendar import before_window, whole_months
from ledger.scale import EXACT, InvalidScale, Scale, Scales
from projections.case import CONTRACT_COMPLETED, Fact, InvalidCase, read_case
from projections.demerits import (
    GRAVE,
    ZERO,
    Finding,
    Line,
    assess_all,
    demerit_line,
    in_effect,
    merge_incidents,
    reason_of,
    severity_flag,
)
from projections.known import Known

TOP_REASONS: Final = 4

_HUNDRED = Decimal("100.00")


class Summary(TypedDict):
    """What a score comes to, unexplained: the last members of a result ("Output")."""

    score: str
    grade: str
    band_of_number: str
    underlying_score: str
    evidence_count: int
    confidence: str
    top_reasons: list[str]


class Result(Summary):
    """One explained score ("Output"); these members come first, in this order."""

    as_of: str
    known_at: str | int
    rulebook: str
    baseline: str
    contributions: list[Line]
    adjustments: list[Line]


@dataclass(slots=True)
class _Sum:
    """One side of the account: what it adds up to, and what the explanation says about it."""

    total: Decimal = ZERO
    lines: list[Line] = field(default_factory=list)
    adjustments: list[Line] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    def adjust(self, reason: str, points: Decimal) -> None:
        """Add `points` and say so; nothing is said about 0.00 ("Output")."""
        if points:
            self.total += points
            self.adjustments.append({"reason": reason, "points": str(points)})


@dataclass(slots=True)
class Reckoning:
    """A score with all that explains it."""

    scale: Scale
    findings: list[Finding]
    adjustments: list[Line]
    merit_lines: list[Line]
    summary: Summary


def _nothing(fact_id: str, reason: str) -> Line:
    """The short line of a fact that does not enter the sum ("Output")."""
    return {"fact": fact_id, "reason": reason, "points": "0.00"}


# --- Demerits ------------------------------------------------------------------------------------


def findings_of(known: Known, scales: Scales, as_of: date) -> list[Finding]:
    """The demerits in effect, each assessed, with the reason and the points it has by itself."""
    findings = in_effect(known, as_of)
    assess_all(findings, scales)
    for finding in findings:
        best, _ = finding.best
        finding.reason = reason_of(finding, best)
        if finding.reason.startswith("ACTIVE"):
            finding.points = best.d
    return findings


def _deductions(findings: Sequence[Finding], cap: Decimal) -> _Sum:
    """All demerits: `total` is −Σ D ("One demerit" 5, "One incident, one category")."""
    out = _Sum()
    costing = [finding for finding in findings if finding.points]
    out.flags.update(
        severity_flag(finding.fact, finding.best[0])
        for finding in findings
        if finding.fact.severity in GRAVE and finding.reason.startswith("ACTIVE")
    )
    small, grave, small_even_if_grave = merge_incidents(costing)
    out.total = -(sum(small.values(), ZERO) + sum(grave.values(), ZERO))
    for category in sorted(small):
        out.adjust(f"MINOR_CAP:{category}", max(small[category] - cap, ZERO))
    if any(total > cap for total in small_even_if_grave.values()):
        out.flags.add("minor_cap")
    largest = sorted((f for f in costing if f.points), key=attrgetter("fact.id"))
    largest.sort(key=attrgetter("points"), reverse=True)  # those with equal points stay by id
    out.reasons = [
        f"{f.fact.id}:{f.fact.severity}:{f.fact.category}" for f in largest[:TOP_REASONS]
    ]
    return out


def _demerit_lines(known: Known, findings: Sequence[Finding]) -> Iterator[Line]:
    """A line for every demerit, in effect or not ("Output")."""
    effective = {finding.fact.id for finding in findings}
    for fact in known.demerits:
        if fact.id in known.overturned:
            yield _nothing(fact.id, "OVERTURNED")
        elif fact.id not in effective:
            yield _nothing(fact.id, "NOT_YET_EFFECTIVE")
    for finding in findings:
        yield demerit_line(finding, *finding.best)


# --- Merits --------------------------------------------------------------------------------------


def _merits(known: Known, scales: Scales, as_of: date, limit: Decimal) -> _Sum:
    """All merits, capped by item and limited in total to `limit` ("Merits")."""
    out = _Sum()
    removal = known.latest_removal(as_of)
    by_item: dict[str, tuple[Decimal, Decimal]] = {}
    counterparties: set[str] = set()
    for merit in sorted(known.merits, key=lambda m: (m.on, m.id)):
        if merit.id in known.overturned:
            out.lines.append(_nothing(merit.id, "OVERTURNED"))
            continue
        if merit.on > as_of:
            out.lines.append(_nothing(merit.id, "NOT_YET_EFFECTIVE"))
            continue
        rule = scales.of(merit.on).merit[merit.item]
        if whole_months(merit.on, as_of) >= rule.valid_months:
            out.lines.append(_nothing(merit.id, "MERIT_EXPIRED"))
            continue
        if removal is not None and merit.on < removal:
            out.lines.append(_nothing(merit.id, "MERIT_BEFORE_DELISTING"))
            continue
        if merit.item == CONTRACT_COMPLETED and merit.counterparty is not None:
            if merit.counterparty in counterparties:
                out.lines.append(_nothing(merit.id, "SAME_COUNTERPARTY"))
                continue
            counterparties.add(merit.counterparty)
        total, cap = by_item.get(merit.item, (ZERO, rule.cap))
        by_item[merit.item] = (total + rule.points, cap)
        out.lines.append(
            {
                "fact": merit.id,
                "category": merit.item,
                "reason": "MERIT",
                "points": str(rule.points),
            }
        )
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


def reckon(known: Known, scales: Scales, as_of: date) -> Reckoning:
    """The score of a day ("The score")."""
    scale = scales.of(as_of)
    veto = known.veto(as_of)
    findings = findings_of(known, scales, as_of)
    deductions = _deductions(findings, scale.minor_cap_per_category)
    flags = deductions.flags
    merits = _merits(known, scales, as_of, _merit_limit(scale, flags, veto=veto))
    removal = known.latest_removal(as_of)
    if removal is not None and whole_months(removal, as_of) < scale.delisted_ceiling_months:
        flags.add("delisted")
    ceiling = min([_HUNDRED, *(scale.ceilings[flag] for flag in flags)])
    end = _Sum(total=scale.baseline + merits.total + deductions.total)
    end.adjust("SEVERITY_CEILING", min(ceiling - end.total, ZERO))
    end.adjust("FLOOR_ZERO", max(-end.total, ZERO))
    underlying = str(end.total)
    if veto:
        points = f"-{underlying}" if end.total else "0.00"
        end.adjustments.append({"reason": "VETO", "points": points})
    evidence = _count_evidence(known, scale, as_of)
    low = evidence < scale.min_evidence
    band = scale.band_of(end.total)
    summary = Summary(
        score="0.00" if veto else underlying,
        grade="X" if veto else "N" if low and band in ("A", "B") else band,
        band_of_number=band,
        underlying_score=underlying,
        evidence_count=evidence,
        confidence="LOW" if low else "MEDIUM" if evidence < scale.high_evidence else "HIGH",
        top_reasons=deductions.reasons,
    )
    adjustments = deductions.adjustments + merits.adjustments + end.adjustments
    return Reckoning(scale, findings, adjustments, merits.lines, summary)


def score(facts: Sequence[Fact], scales: Scales, *, as_of: date, known_at: date | int) -> Result:
    """The explained score for the day `as_of` ("The score", "Output").

    `facts` have passed `check`. With a day as `known_at`, facts recorded later are left out; with
    a log position the caller has chosen the facts, and the number is only echoed.
    """
    if isinstance(known_at, date):
        facts = [fact for fact in facts if fact.recorded_on <= known_at]
    with localcontext(EXACT):
        known = Known(facts)
        return explain(known, reckon(known, scales, as_of), as_of=as_of, known_at=known_at)


def explain(known: Known, reckoning: Reckoning, *, as_of: date, known_at: date | int) -> Result:
    """A reckoning written out, with a line for every fact ("Output")."""
    lines = [*_demerit_lines(known, reckoning.findings), *reckoning.merit_lines]
    result = Result(
        as_of=as_of.isoformat(),
        known_at=known_at.isoformat() if isinstance(known_at, date) else known_at,
        rulebook=reckoning.scale.version,
        baseline=str(reckoning.scale.baseline),
        contributions=sorted(lines, key=lambda line: str(line["fact"])),
        adjustments=reckoning.adjustments,
        **reckoning.summary,
    )
    _assert_closes(result)
    return result


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
