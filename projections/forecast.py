"""When time alone changes a score: the first day on which its summary may be another.

Holds no rule of its own: every day named here is one on which a rule of scoring.md turns. Must not
know: the clock, a database, or what is written about a score; rows and sheets are made elsewhere.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal, localcontext

from ledger.calendar import add_months, window_leaves
from ledger.scale import EXACT, Scales
from projections.case import Fact
from projections.demerits import Finding, demerit_days, next_fall
from projections.known import Known
from projections.scoring import Result, Summary, explain, findings_of, reckon


def next_change(facts: Sequence[Fact], scales: Scales, *, as_of: date) -> date | None:
    """The first day after `as_of` on which the summary of the score may differ, or None.

    The summary is every member of the result but `as_of`, `known_at`, `contributions` and
    `adjustments`. `facts` are taken as known, and have passed `check`. On each day from `as_of`
    up to the day returned the summary is that of `as_of`; the day returned may prove unchanged.
    """
    with localcontext(EXACT):
        known = Known(facts)
        findings = findings_of(known, scales, as_of)
    return _next_change(known, findings, scales, as_of)


def _next_change(
    known: Known, findings: Sequence[Finding], scales: Scales, as_of: date
) -> date | None:
    days = [scales.next_start(as_of)]
    days.extend(_act_days(known))
    days.extend(demerit_days(known, findings, as_of))
    days.extend(_merit_days(known, scales, as_of))
    return min((day for day in days if day is not None and day > as_of), default=None)


def summarise(facts: Sequence[Fact], scales: Scales, *, as_of: date) -> tuple[Summary, date | None]:
    """The unexplained score of a day and the first day on which it may differ (`next_change`).

    For whoever needs both for many providers: what explains a score is not written out.
    """
    with localcontext(EXACT):
        known = Known(facts)
        reckoning = reckon(known, scales, as_of)
    return reckoning.summary, _next_change(known, reckoning.findings, scales, as_of)


def score_and_falls(
    facts: Sequence[Fact], scales: Scales, *, as_of: date, position: int
) -> tuple[Result, dict[str, tuple[date, Decimal]]]:
    """The explained score of a day, and the next fall of each demerit that costs something.

    The falls are by fact id: when, and to what, its points next fall by time alone. Each by itself
    (`next_fall`): what comes into effect on a later day is not looked at, so that who reads it
    learns nothing of what he may not see yet.
    """
    with localcontext(EXACT):
        known = Known(facts)
        reckoning = reckon(known, scales, as_of)
        result = explain(known, reckoning, as_of=as_of, known_at=position)
        falls = [(one.fact.id, next_fall(one)) for one in reckoning.findings if one.points]
    return result, {id: fall for id, fall in falls if fall is not None}


def score_until(
    facts: Sequence[Fact], scales: Scales, *, as_of: date, position: int
) -> tuple[Result, date | None]:
    """The explained score of a day and the first day on which it may differ (`next_change`).

    `position` is up to where the facts are known.
    """
    with localcontext(EXACT):
        known = Known(facts)
        reckoning = reckon(known, scales, as_of)
        result = explain(known, reckoning, as_of=as_of, known_at=position)
    return result, _next_change(known, reckoning.findings, scales, as_of)


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
