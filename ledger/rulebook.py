"""The rulebook stream: which rules are in force on which day, and how a ledger is opened.

A rulebook is data in four parts: `scoring` (the scale, `ledger/scale.py`), `items` (what a finding
may be, who may decide it, how long it is shown), `clocks` (periods) and `privacy` (why personal
data is erased or kept, `ledger/privacy.py`). No period and no number of points stands in code.
Source of the first one: `docs/rulebook.md`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ledger import errors
from ledger.calendar import add_months
from ledger.clauses import Clock, Named, Part
from ledger.envelope import Event
from ledger.events import Data, LedgerOpened, RulebookPublished
from ledger.fields import Code, Day, Version
from ledger.privacy import Privacy, contradictions
from ledger.scale import SEVERITIES, InvalidScale, Scale, Scales, parse_scale, shown

PLAIN = re.compile(r"-?[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEEPEST = 8
SHORTEST_NOTICE = timedelta(days=2)
"""Whole days between, so that no fact is recorded under the rules that a rulebook replaces: a day
may already have begun, and a process may have read the rulebooks a minute ago."""


class Family(Named):
    """A kind of finding: its category and the severities it may have."""

    category: Code
    least: Code
    default: Code
    gravest: Code


class Merit(Named):
    """A kind of merit; `issuers` empty means that any issuer may grant it."""

    issuers: list[Code] = Field(default=[])


class Severity(Named):
    """How a finding of this gravity is shown, and for how long at the least and at the most."""

    publicity: Literal["NEVER", "AGGREGATE", "SINGLY"]
    shortest_months: Annotated[int, Field(ge=0, le=1200)]
    longest_months: Annotated[int, Field(ge=0, le=1200)]


class IssuerKind(Named):
    """What a kind of issuer may decide; without `findings`, only what a ground of breach names."""

    gravest: Code
    listings: bool
    findings: bool = True


class Items(Part):
    """What may be recorded, in words and with its limits."""

    categories: dict[Code, Named]
    families: dict[Code, Family]
    merits: dict[Code, Merit]
    severities: dict[Code, Severity]
    issuers: dict[Code, IssuerKind]
    breach_issuers: dict[Code, Code]
    mitigations: dict[Code, Named]


class Clocks(Part):
    """Every period of domain.md §5."""

    complaint_acceptance: Clock
    mediation: Clock
    report_check: Clock
    report_check_extension: Clock
    penalty_decision: Clock
    penalty_service: Clock
    service_by_notice: Clock
    hearing_request: Clock
    hearing_notice: Clock
    publication: Clock
    withdrawal: Clock
    repair_decision: Clock
    breach_answer: Clock
    objection_annotation: Clock
    objection_decision: Clock
    administrative_review: Clock
    administrative_suit: Clock
    severe_list_early_removal: Clock
    severe_list_longest: Clock
    mirror_confirmation: Clock
    rulebook_notice: Clock
    late_entry: Clock
    backdating: Clock
    limitation: Clock
    proposal: Clock | None = None

    def days(self, name: str) -> timedelta:
        """A period that is counted in plain days."""
        clock: Clock = getattr(self, name)
        assert clock.unit == "days", f"{name} is counted in {clock.unit}"
        return timedelta(days=clock.count)


IN_DAYS = ("service_by_notice", "rulebook_notice", "late_entry", "backdating", "proposal")


class Rulebook(Part):
    """One rulebook, whole and valid."""

    version: Version
    in_force_from: Day
    scoring: dict[str, Any]
    items: Items
    clocks: Clocks
    privacy: Privacy | None = None
    """What earlier rulebooks said nothing about; nobody can be erased under one that does not."""

    @cached_property
    def scale(self) -> Scale:
        """The scoring part, parsed."""
        return parse_scale(self.scoring)

    def publicity_ends(self, severity: str, decided_on: date) -> tuple[date, date]:
        """The earliest and the latest day on which the display of a finding may end."""
        rule = self.items.severities[severity]
        shortest, longest = rule.shortest_months, rule.longest_months
        return add_months(decided_on, shortest), add_months(decided_on, longest)


def parse_rulebook(obj: object) -> Rulebook:
    """A rulebook from plain JSON data. Raises InvalidRulebook with every reason at once."""
    version = str(obj.get("version", "?")) if isinstance(obj, Mapping) else "?"
    try:
        book = Rulebook.model_validate(obj)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        try:
            parse_scale(obj.get("scoring") if isinstance(obj, Mapping) else None)
        except InvalidScale as scale_error:
            reasons += scale_error.reasons
        raise errors.InvalidRulebook(version=version, reasons="; ".join(reasons)) from error
    reasons = _contradictions(book) + _not_plain(book.scoring)
    reasons += contradictions(book.privacy) if book.privacy else []
    try:
        scale = book.scale
    except InvalidScale as error:
        reasons += error.reasons
    else:
        if (scale.version, scale.in_force_from) != (book.version, book.in_force_from):
            reasons.append("scoring: version and in_force_from differ from the rulebook's own")
        reasons += _missing_from_items(book, scale)
        # A band named like the veto, or like too little evidence, would claim what is not so.
        names = ["N", "X", *(band.name for band in scale.bands)]
        taken = sorted({name for name in names if names.count(name) > 1})
        reasons += [f"scoring.bands: the name {name} is taken" for name in taken]
    if reasons:
        raise errors.InvalidRulebook(version=version, reasons="; ".join(reasons))
    return book


def _not_plain(scoring: object) -> list[str]:
    """Codes and whole numbers only, also in members that the scale ignores: events hold no more."""
    pending, reasons = [(scoring, 0)], []
    while pending:
        value, depth = pending.pop()
        match value:
            case dict() | list() if depth < DEEPEST:
                inner = [*value, *value.values()] if isinstance(value, dict) else value
                pending += [(one, depth + 1) for one in inner]
            case int() as number if abs(number) < 2**53:
                pass
            case str() as text if PLAIN.fullmatch(text):
                pass
            case other:
                reasons.append(f"scoring: {shown(other)} is neither a code nor a whole number")
    return reasons


def _contradictions(book: Rulebook) -> list[str]:
    items, known, clocks = book.items, book.items.issuers, vars(book.clocks)
    others = [name for name in IN_DAYS if clocks[name] and clocks[name].unit != "days"]
    reasons = [f"clocks.{name}: is counted in days" for name in others]
    for code, family in items.families.items():
        reasons += _contradictions_of_family(items, code, family)
    reasons += [
        f"items.severities.{code}: shortest_months > longest_months"
        for code, severity in items.severities.items()
        if severity.shortest_months > severity.longest_months
    ]
    references: list[tuple[str, str, Iterable[str]]] = [
        *((f"severities.{code}", code, SEVERITIES) for code in items.severities),
        *((f"issuers.{code}", one.gravest, items.severities) for code, one in known.items()),
        *((f"breach_issuers.{code}", one, known) for code, one in items.breach_issuers.items()),
        *(
            (f"merits.{code}", kind, known)
            for code, merit in items.merits.items()
            for kind in merit.issuers
        ),
    ]
    return reasons + [
        f"items.{where}: there is no {what}"
        for where, what, those in references
        if what not in those
    ]


def _contradictions_of_family(items: Items, code: str, family: Family) -> list[str]:
    reasons = []
    if family.category not in items.categories:
        reasons.append(f"items.families.{code}: there is no {family.category}")
    severities = (family.least, family.default, family.gravest)
    if not all(severity in items.severities for severity in severities):
        reasons.append(f"items.families.{code}: there is no {' or no '.join(severities)}")
    elif sorted(severities) != list(severities):
        reasons.append(f"items.families.{code}: {' <= '.join(severities)} does not hold")
    return reasons


def _missing_from_items(book: Rulebook, scale: Scale) -> list[str]:
    pairs: list[tuple[str, Mapping[str, object], Mapping[str, object]]] = [
        ("severities", book.items.severities, scale.severity_points),
        ("issuers", book.items.issuers, scale.issuer_weight),
        ("mitigations", book.items.mitigations, scale.mitigation),
        ("merits", book.items.merits, scale.merit),
    ]
    return [
        f"items.{name}: {', '.join(sorted(set(named) ^ set(scored)))} must be in scoring too"
        for name, named, scored in pairs
        if set(named) != set(scored)
    ]


def first_rulebook() -> dict[str, Any]:
    """The rulebook this version ships with, as plain data."""
    text = (files("ledger") / "rulebooks" / "RB-2026.1.json").read_text(encoding="utf-8")
    book: dict[str, Any] = json.loads(text)
    return book


@dataclass(frozen=True, slots=True)
class Opening:
    """What the ledger was opened as."""

    name: str
    origin: str
    purpose: str


@dataclass(slots=True)
class Rulebooks:
    """State of the rulebook stream: the opening and every published rulebook, by day."""

    version: int = 0
    opening: Opening | None = None
    books: list[Rulebook] = field(default_factory=list)
    scales: Scales | None = None

    def of(self, day: date) -> Rulebook:
        """The rulebook of a day; before the first, the first."""
        starts = [book.in_force_from for book in self.books]
        return self.books[max(bisect_right(starts, day) - 1, 0)]


def evolve(state: Rulebooks, event: Event) -> Rulebooks:
    """The state after `event`. The given state is used up."""
    state.version = event.version
    match event.data:
        case LedgerOpened() as data:
            state.opening = Opening(data.name, data.origin, data.purpose)
            state.books.append(parse_rulebook(data.rulebook))
        case RulebookPublished() as data:
            state.books.append(parse_rulebook(data.rulebook))
    state.books.sort(key=lambda book: book.in_force_from)
    state.scales = Scales(book.scale for book in state.books)
    return state


class PublishRulebook(Data):
    """A rulebook to publish, whole."""

    rulebook: dict[str, Any]


def decide_opening(state: Rulebooks, command: LedgerOpened) -> Sequence[Data]:
    """Open the ledger. Raises LedgerAlreadyOpened or InvalidRulebook."""
    if state.opening is not None:
        raise errors.LedgerAlreadyOpened(
            name=state.opening.name, purpose=errors.PURPOSES[state.opening.purpose], position=1
        )
    parse_rulebook(command.rulebook)
    return [command]


def decide(state: Rulebooks, command: PublishRulebook, *, today: date) -> Sequence[Data]:
    """Publish a rulebook. Raises InvalidRulebook, RulebookTaken, RulebookNotice.

    The notice period is that of the rulebook in force today (domain.md §5: at least 7 days, never
    reaching back), so a rulebook can never change the validity of a fact already recorded.
    """
    book = parse_rulebook(command.rulebook)
    for other in state.books:
        if other.version == book.version:
            why = errors.Words("the version is taken", "版本号已被使用")
        elif other.in_force_from == book.in_force_from:
            why = errors.Words("two rulebooks cannot start on one day", "两部规则不能同日施行")
        else:
            continue
        raise errors.RulebookTaken(
            version=book.version, on=book.in_force_from, other=other.version, why=why
        )
    notice = max(state.of(today).clocks.days("rulebook_notice"), SHORTEST_NOTICE)
    # The first rulebook is that of every day before it too: another before it would reach back.
    earliest = max(today + notice, state.books[0].in_force_from + timedelta(days=1))
    if book.in_force_from < earliest:
        raise errors.RulebookNotice(version=book.version, earliest=earliest, on=book.in_force_from)
    return [
        RulebookPublished(
            version=book.version, in_force_from=book.in_force_from, rulebook=command.rulebook
        )
    ]
