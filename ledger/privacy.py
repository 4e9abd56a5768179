"""The part of a rulebook on personal data: why it is erased, why it must be kept and for how long.

Codes, names and articles of law; a duty to retain says of which kinds of event, from which day of
the event, how long. Nothing of this stands in code. Source of the first one: `docs/rulebook.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Annotated, NamedTuple, get_type_hints

from pydantic import StringConstraints

from ledger.calendar import add_months, local_day
from ledger.clauses import Clock, Named, Part, Phrase
from ledger.envelope import Event
from ledger.fields import Code, Day
from ledger.vocabulary import EVENT_TYPES

RECORDED = "recorded"
TypeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
DayField = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,39}$")]
"""A field of the event that holds a day, or `recorded`: the day on which it was recorded."""


class Ground(Named):
    """Something that the law gives as a reason, and its article."""

    article: Phrase


class ReleaseGround(Ground):
    """Why a hold ends early, and whether the text is then erased or stays."""

    erases: bool


class Retention(Ground):
    """A duty to retain: for each kind of event the day it is counted from, and for how long.

    `actors`: also by whom events were recorded, counted from the last act of each actor.
    """

    events: dict[TypeName, DayField]
    period: Clock
    actors: bool = False

    def until(self, event: Event) -> date | None:
        """The last day on which what is sealed in this event must be kept; None: no such duty."""
        since = self.events.get(event.type)
        if since is None:
            return None
        assert event.time is not None
        day = local_day(event.time) if since == RECORDED else getattr(event.data, since)
        assert isinstance(day, date)
        return self.counted_from(day)

    def counted_from(self, day: date) -> date:
        """The last day of the period."""
        if self.period.unit == "months":
            return add_months(day, self.period.count)
        return day + timedelta(days=self.period.count)


class Duty(NamedTuple):
    """Until which day (itself included) something must be kept, and on which basis."""

    until: date
    basis: str


class Privacy(Part):
    """The whole part."""

    grounds: dict[Code, Ground]
    retentions: dict[Code, Retention]
    releases: dict[Code, ReleaseGround]

    def duty(self, events: Iterable[Event], *, acted: date | None = None) -> Duty | None:
        """The duty that keeps what is sealed in these events the longest.

        `acted`: the day of the last act, of somebody whose reference is an actor's.
        """
        found = [
            Duty(until, code)
            for event in events
            for code, retention in self.retentions.items()
            if (until := retention.until(event)) is not None
        ]
        if acted is not None:
            found += [
                Duty(retention.counted_from(acted), code)
                for code, retention in self.retentions.items()
                if retention.actors
            ]
        return max(found, default=None)

    def must_be_known(self, acted: date, today: date) -> bool:
        """Whether whoever acted last on a day must still be told from everybody else.

        For ever where no retention of the rulebook says until when.
        """
        ends = [one.counted_from(acted) for one in self.retentions.values() if one.actors]
        return not ends or max(ends) >= today


def contradictions(privacy: Privacy) -> Iterator[str]:
    """What is wrong with the part though each of its members is valid."""
    if not privacy.grounds:
        yield "privacy.grounds: there is none"
    for code, retention in privacy.retentions.items():
        where = f"privacy.retentions.{code}"
        if not (retention.events or retention.actors):
            yield f"{where}: names no event"
        if retention.period.unit == "working_days":
            yield f"{where}: is counted in days or months"
        for name, since in retention.events.items():
            model = EVENT_TYPES.get(name)
            if model is None:
                yield f"{where}: there is no event {name}"
            elif since != RECORDED:
                types = get_type_hints(model, include_extras=True)
                if types.get(since) is not Day and types.get(since) != Day:
                    yield f"{where}: {name} has no day {since}"
