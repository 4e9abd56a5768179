"""What is known about one provider: the facts by kind, and which acts are in force on a day.

Holds of scoring.md: from "Input: facts" what acts do (overturned, pairs in force, the latest
removal), from "One demerit" the days under suspension, from "The score" which listing is in force
(Veto) and what is a piece of evidence (Evidence). Must not know: the clock, any rulebook, points,
or whether the case is valid (`case.py` has seen to that).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from projections.case import (
    CONTRACT_COMPLETED,
    Act,
    Demerit,
    Fact,
    Inspection,
    Listing,
    Merit,
)


class Known:
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


def latest_days(acts: Sequence[Act], as_of: date) -> dict[str, date]:
    """The latest day, not after `as_of`, of each act."""
    latest: dict[str, date] = {}
    for act in acts:
        if act.on <= as_of and act.on >= latest.get(act.act, act.on):
            latest[act.act] = act.on
    return latest


def in_force(latest: Mapping[str, date], pair: tuple[str, str]) -> bool:
    """Whether a pair of acts is in force ("Input: facts"): on the same day leaving wins."""
    entered, left = latest.get(pair[0]), latest.get(pair[1])
    return entered is not None and (left is None or entered > left)


def suspended_days(acts: Sequence[Act], *, start: date, end: date) -> int:
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
