"""The scale: the `scoring` part of a rulebook as data.

Knows what a rulebook must contain (scoring.md, "Input: rulebooks") and which one holds on a day.
Must not know any fact, any score, or where a rulebook is stored; months are `ledger/calendar.py`.

Amounts (points, caps, limits, ceilings, bands, baseline) are kept as decimals of two places;
factors keep the text of the rulebook beside their value, because the output repeats that text.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from ledger.calendar import read_day

T = TypeVar("T")

EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_UP)
"""Sums and products are exact under it; only `quantize` rounds, half up."""
CENT: Final = Decimal("0.01")
SEVERITIES: Final = ("S0", "S1", "S2", "S3", "S4")
FLAGS: Final = ("S4", "S4_fading", "S3", "S3_fading", "minor_cap", "delisted")

_DECIMAL = re.compile(r"(-?)[0-9]+(?:\.([0-9]+))?")
_SHOWN_CHARACTERS = 60
_SHOWN_INTEGERS = 10**18


def shown(value: object) -> str:
    """A short, safe rendering of any JSON value for a reason: never deep, never long."""
    if isinstance(value, str):
        cut = value[:_SHOWN_CHARACTERS]
        return repr(cut) if cut == value else repr(cut) + "…"
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < _SHOWN_INTEGERS else "a huge integer"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


class InvalidScale(ValueError):
    """A rulebook, or a set of them, that cannot score. `reasons` holds every reason at once."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons: tuple[str, ...] = tuple(reasons)
        super().__init__("; ".join(self.reasons))


class Factor(NamedTuple):
    """A factor of the score and its text as the rulebook writes it."""

    value: Decimal
    text: str


class Step(NamedTuple):
    """Below `upto_months` whole months the finding weighs `weight`."""

    upto_months: int
    weight: Factor


class MeritRule(NamedTuple):
    """Points of one merit, for how many months it counts, and the cap of its item."""

    points: Decimal
    valid_months: int
    cap: Decimal


class Band(NamedTuple):
    """A band begins at `threshold` points."""

    name: str
    threshold: Decimal


@dataclass(frozen=True, slots=True)
class Scale:
    """The scoring part of one rulebook version (scoring.md, "Input: rulebooks")."""

    version: str
    in_force_from: date
    baseline: Decimal
    severity_points: Mapping[str, Factor]
    weights: Mapping[str, tuple[Step, ...]]
    obligation_floor: Factor
    adverse_life_months: int
    issuer_weight: Mapping[str, Factor]
    full_weight_issuers: frozenset[str]
    recidivism: tuple[Factor, ...]
    recidivism_window_months: int
    repaired_counts_for_recidivism: bool
    mitigation: Mapping[str, Factor]
    mitigation_floor: Factor
    minor_cap_per_category: Decimal
    merit: Mapping[str, MeritRule]
    merit_total_cap: Decimal
    merit_cap_active_s3: Decimal
    merit_cap_active_s4: Decimal
    ceilings: Mapping[str, Decimal]
    delisted_ceiling_months: int
    bands: tuple[Band, ...]
    """Highest threshold first; the last one is not above zero."""
    min_evidence: int
    high_evidence: int
    evidence_window_months: int

    def knows_severity(self, severity: str) -> bool:
        """Whether a finding of this severity can be computed under this rulebook."""
        return severity in self.severity_points and severity in self.weights

    def band_of(self, number: Decimal) -> str:
        """The band with the highest threshold not above `number` (at least 0)."""
        return next(band.name for band in self.bands if band.threshold <= number)


class _Reading:
    """One pass over a rulebook that goes on after a fault, so that all reasons are told at once.

    Every reader returns some value of its type even after a refusal; it is never used, because
    `parse_scale` raises when any reason was gathered.
    """

    def __init__(self, members: Mapping[str, object]) -> None:
        self.members = members
        self.reasons: list[str] = []
        version = members.get("version")
        self.where = f"rulebook {shown(version)}" if isinstance(version, str) else "a rulebook"

    def refuse(self, what: str, why: str) -> None:
        """Gather one reason: what, where, why."""
        self.reasons.append(f"{what}, {self.where}, {why}")

    def refuse_type(self, what: str, value: object, *, wanted: str) -> None:
        """Gather a missing member, or one of another type."""
        self.refuse(what, "is missing" if value is None else f"{shown(value)} is not {wanted}")

    def text(self, what: str, value: object) -> str:
        if isinstance(value, str) and value:
            return value
        self.refuse_type(what, value or None, wanted="a text")
        return ""

    def day(self, what: str, value: object) -> date:
        day = read_day(value)
        if day is None:
            self.refuse_type(what, value, wanted="a date YYYY-MM-DD")
        return day or date.min

    def count(self, what: str, value: object) -> int:
        """A whole number, not negative (months, numbers of pieces of evidence)."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self.refuse_type(what, value, wanted="a whole number of 0 or more")
        return 0

    def flag(self, what: str, value: object) -> bool:
        if not isinstance(value, bool):
            self.refuse_type(what, value, wanted="true or false")
        return value is True

    def factor(self, what: str, value: object) -> Factor:
        """A decimal as text, not negative, of any number of places."""
        if isinstance(value, str) and (match := _DECIMAL.fullmatch(value)) and not match[1]:
            return Factor(Decimal(value), value)
        self.refuse_type(what, value, wanted="a decimal of 0 or more written as text")
        return Factor(CENT, "")

    def points(self, what: str, value: object) -> Factor:
        """A factor that is an amount: of at most two places."""
        factor = self.factor(what, value)
        if len(factor.text.partition(".")[2]) > 2:
            self.refuse(what, f"{shown(value)} has more than two decimals")
        return factor

    def amount(self, what: str, value: object) -> Decimal:
        """An amount of at most two places, kept with exactly two."""
        return EXACT.quantize(self.points(what, value).value, CENT)

    def threshold(self, what: str, value: object) -> Decimal:
        """An amount that may lie below zero."""
        if isinstance(value, str) and _DECIMAL.fullmatch(value) and value.startswith("-"):
            return EXACT.minus(self.amount(what, value[1:]))
        return self.amount(what, value)

    def rows(self, what: str, value: object, *, size: int) -> list[list[object]]:
        """A list of lists of `size` values each."""
        if not isinstance(value, list):
            self.refuse_type(what, value, wanted="a list")
            return []
        rows = []
        for number, row in enumerate(value):
            if isinstance(row, list) and len(row) == size:
                rows.append(row)
            else:
                self.refuse(f"{what}[{number}]", f"{shown(row)} is not a list of {size} values")
        return rows

    def table(self, what: str, read: Callable[[str, object], T]) -> dict[str, T]:
        """The member `what`, an object from codes to values read by `read`."""
        value = self.members.get(what)
        if not isinstance(value, dict):
            self.refuse_type(what, value, wanted="an object")
            return {}
        return {str(code): read(f"{what}.{code}", entry) for code, entry in value.items()}

    def steps(self, what: str, value: object) -> tuple[Step, ...]:
        """Time weights `[[upto, weight], …]`, `upto` rising."""
        steps = tuple(
            Step(self.count(f"{what} upto", upto), self.factor(f"{what} weight", weight))
            for upto, weight in self.rows(what, value, size=2)
        )
        if any(b.upto_months <= a.upto_months for a, b in pairwise(steps)):
            self.refuse(what, "its steps do not rise")
        return steps

    def merit_rule(self, what: str, value: object) -> MeritRule:
        """`[points, valid_months, cap]` of a merit item."""
        if not isinstance(value, list) or len(value) != 3:
            self.refuse_type(what, value, wanted="[points, valid_months, cap]")
            return MeritRule(CENT, 0, CENT)
        return MeritRule(
            self.amount(f"{what} points", value[0]),
            self.count(f"{what} valid_months", value[1]),
            self.amount(f"{what} cap", value[2]),
        )

    def recidivism(self) -> tuple[Factor, ...]:
        value = self.members.get("recidivism")
        if not isinstance(value, list) or not value:
            self.refuse_type("recidivism", value, wanted="a list of at least one factor")
            return ()
        return tuple(self.factor(f"recidivism[{i}]", x) for i, x in enumerate(value))

    def ceilings(self) -> dict[str, Decimal]:
        """Every flag needs its ceiling, or the score of a provider under it is undefined."""
        ceilings = self.table("ceilings", self.amount)
        if isinstance(self.members.get("ceilings"), dict):
            for flag in FLAGS:
                if flag not in ceilings:
                    self.refuse(f"ceilings.{flag}", "is missing")
        return ceilings

    def bands(self) -> tuple[Band, ...]:
        """Every number from 0 up needs exactly one band."""
        value = self.members.get("bands")
        bands = [
            Band(self.text("bands name", name), self.threshold("bands threshold", threshold))
            for name, threshold in self.rows("bands", value, size=2)
        ]
        bands.sort(key=lambda band: band.threshold, reverse=True)
        if len({band.threshold for band in bands}) < len(bands):
            self.refuse("bands", "two bands begin at one threshold")
        if isinstance(value, list) and (not bands or bands[-1].threshold > 0):
            self.refuse("bands", "no band begins at or below 0")
        return tuple(bands)


def parse_scale(obj: object) -> Scale:
    """The scale written in `obj`, the decoded JSON of a rulebook's `scoring` part.

    Raises InvalidScale with every reason at once: a member of RB-2026.1 missing or of another
    type, an amount of more than two decimals, or a shape that leaves some score undefined
    (scoring.md, "No valid case"). Unknown members are ignored; a code may be missing from a
    table, because codes are retired: facts that need it are refused, not the rulebook.
    """
    if not isinstance(obj, dict):
        raise InvalidScale([f"rulebook, {shown(obj)}, is not an object"])
    read = _Reading(obj)
    get = obj.get
    issuer_weight = read.table("issuer_weight", read.factor)
    scale = Scale(
        version=read.text("version", get("version")),
        in_force_from=read.day("in_force_from", get("in_force_from")),
        baseline=read.amount("baseline", get("baseline")),
        severity_points=read.table("severity_points", read.points),
        weights=read.table("weights", read.steps),
        obligation_floor=read.factor("obligation_floor", get("obligation_floor")),
        adverse_life_months=read.count("adverse_life_months", get("adverse_life_months")),
        issuer_weight=issuer_weight,
        full_weight_issuers=frozenset(i for i, w in issuer_weight.items() if w.value == 1),
        recidivism=read.recidivism(),
        recidivism_window_months=read.count(
            "recidivism_window_months", get("recidivism_window_months")
        ),
        repaired_counts_for_recidivism=read.flag(
            "repaired_counts_for_recidivism", get("repaired_counts_for_recidivism")
        ),
        mitigation=read.table("mitigation", read.factor),
        mitigation_floor=read.factor("mitigation_floor", get("mitigation_floor")),
        minor_cap_per_category=read.amount("minor_cap_per_category", get("minor_cap_per_category")),
        merit=read.table("merit", read.merit_rule),
        merit_total_cap=read.amount("merit_total_cap", get("merit_total_cap")),
        merit_cap_active_s3=read.amount("merit_cap_active_S3", get("merit_cap_active_S3")),
        merit_cap_active_s4=read.amount("merit_cap_active_S4", get("merit_cap_active_S4")),
        ceilings=read.ceilings(),
        delisted_ceiling_months=read.count(
            "delisted_ceiling_months", get("delisted_ceiling_months")
        ),
        bands=read.bands(),
        min_evidence=read.count("min_evidence", get("min_evidence")),
        high_evidence=read.count("high_evidence", get("high_evidence")),
        evidence_window_months=read.count("evidence_window_months", get("evidence_window_months")),
    )
    if read.reasons:
        raise InvalidScale(read.reasons)
    return scale


class Scales:
    """The rulebooks a score may use, in order of the day they come into force."""

    __slots__ = ("_scales", "_starts", "only")

    def __init__(self, scales: Iterable[Scale]) -> None:
        """Raises InvalidScale for no rulebook, two with one version, or two on one day."""
        self._scales = sorted(scales, key=lambda scale: scale.in_force_from)
        self._starts = [scale.in_force_from for scale in self._scales]
        reasons = [] if self._scales else ["rulebooks, the case, there is none"]
        versions: set[str] = set()
        days: set[date] = set()
        for scale in self._scales:
            if scale.version in versions:
                reasons.append(f"version, rulebook {shown(scale.version)}, is there twice")
            if scale.in_force_from in days:
                why = f"another one is in force from {scale.in_force_from} too"
                reasons.append(f"in_force_from, rulebook {shown(scale.version)}, {why}")
            versions.add(scale.version)
            days.add(scale.in_force_from)
        if reasons:
            raise InvalidScale(reasons)
        self.only: Scale | None = self._scales[0] if len(self._scales) == 1 else None
        """The rulebook of every day, where there is but one."""

    def of(self, day: date) -> Scale:
        """The rulebook of a day: the latest `in_force_from <= day`; before the first, the first."""
        return self._scales[bisect_right(self._starts, day, 1) - 1]

    def next_start(self, day: date) -> date | None:
        """The first day after `day` with another rulebook than `day` has."""
        later = bisect_right(self._starts, day, 1)
        return self._starts[later] if later < len(self._starts) else None
