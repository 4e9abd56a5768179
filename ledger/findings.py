"""A finding against the rulebooks: every clause it can break, and what the rulebook adds to it.

Knows a finding's own fields and the rules of its days; must not know the stream it goes to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from ledger import errors
from ledger.events import Data, FindingFields
from ledger.fields import Day, Reference
from ledger.identity import Actor
from ledger.rulebook import IssuerKind, Rulebook, Rulebooks


class Display(Data):
    """Until when a finding is shown, where its issuer set a shorter period than the longest."""

    public_until: Day | None = None


class ImposePenalty(FindingFields, Display):
    """Record a penalty that was imposed elsewhere."""


class ComplaintFinding(FindingFields, Display):
    """The finding of a substantiated complaint."""


class ConfirmBreach(FindingFields, Display):
    """Record a contract breach that was confirmed on one of five grounds (domain.md §3)."""

    contract: Reference
    ground: Literal["JUDGMENT", "AWARD", "SIGNED_MEDIATION", "ADMISSION", "UNANSWERED_NOTICE"]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a decision rests on besides the stream: the recording day, the rulebooks, and who."""

    today: date
    rulebooks: Rulebooks
    actor: Actor

    def now(self) -> Rulebook:
        """The rulebook of the recording day, whose periods bind the recording itself."""
        return self.rulebooks.of(self.today)

    def check_past(self, name: str, on: date) -> None:
        """Raises DateInFuture for a day after the recording day."""
        if on > self.today:
            raise errors.DateInFuture(field=name, on=on, limit=self.today, today=self.today)

    def issuer_kind(self, kind: str, on: date) -> IssuerKind:
        """What a kind of issuer may decide on a day. Raises CodeNotInForce."""
        rulebook = self.rulebooks.of(on)
        rule = rulebook.items.issuers.get(kind)
        if rule is None:
            raise errors.CodeNotInForce(
                field="issuer.kind", value=kind, rulebook=rulebook.version, on=on
            )
        return rule


def finding_fields(
    command: ImposePenalty | ComplaintFinding | ConfirmBreach, bench: Bench
) -> dict[str, Any]:
    """The fields of the finding event, what the rulebook adds included.

    Raises DateOrder, DateInFuture, CodeNotInForce, WrongCategory, SeverityOutOfRange,
    IssuerNotEntitled, SeverityReasonMissing, PublicityOutOfRange.
    """
    _check_dates(command, bench)
    for on in (command.occurred_on, command.decided_on):
        _check_codes(command, bench.rulebooks.of(on), on)
    rulebook = bench.rulebooks.of(command.decided_on)
    _check_gravity(command, rulebook)
    earliest, latest = rulebook.publicity_ends(command.severity, command.decided_on)
    public_until = latest if command.public_until is None else command.public_until
    if not earliest <= public_until <= latest:
        raise errors.PublicityOutOfRange(on=public_until, earliest=earliest, latest=latest)
    late = bench.now().clocks.days("late_entry")
    return vars(command) | {
        "publicity": rulebook.items.severities[command.severity].publicity,
        "public_until": public_until,
        "late_entry": bench.today - command.decided_on > late,
    }


def _check_dates(command: FindingFields, bench: Bench) -> None:
    days = [("occurred_on", command.occurred_on), ("decided_on", command.decided_on)]
    for pair in (
        (days[0], days[1]),
        (days[1], ("served_on", command.served_on)),
        (days[0], ("ended_on", command.ended_on or command.occurred_on)),
    ):
        (earlier, earlier_on), (later, later_on) = pair
        if later_on < earlier_on:
            raise errors.DateOrder(
                later=later, later_on=later_on, earlier=earlier, earlier_on=earlier_on
            )
    bench.check_past("decided_on", command.decided_on)
    if command.ended_on is not None:
        bench.check_past("ended_on", command.ended_on)
    latest = bench.today + bench.now().clocks.days("service_by_notice")
    if command.served_on > latest:
        raise errors.DateInFuture(
            field="served_on", on=command.served_on, limit=latest, today=bench.today
        )


def _check_codes(command: FindingFields, rulebook: Rulebook, on: date) -> None:
    scale, items = rulebook.scale, rulebook.items
    checks: list[tuple[str, str, bool]] = [
        ("severity", command.severity, scale.knows_severity(command.severity)),
        ("issuer.kind", command.issuer.kind, command.issuer.kind in scale.issuer_weight),
        ("family", command.family, command.family in items.families),
        *(("mitigation", code, code in scale.mitigation) for code in command.mitigation),
    ]
    for name, value, known in checks:
        if not known:
            raise errors.CodeNotInForce(field=name, value=value, rulebook=rulebook.version, on=on)
    category = items.families[command.family].category
    if category != command.category:
        raise errors.WrongCategory(family=command.family, category=category, given=command.category)


def _check_gravity(command: FindingFields, rulebook: Rulebook) -> None:
    family = rulebook.items.families[command.family]
    # Severities sort by gravity: the rulebook has none but S0 to S4.
    if not family.least <= command.severity <= family.gravest:
        raise errors.SeverityOutOfRange(
            family=command.family,
            least=family.least,
            gravest=family.gravest,
            severity=command.severity,
        )
    issuer = rulebook.items.issuers[command.issuer.kind]
    if not (issuer.findings or isinstance(command, ConfirmBreach)):
        raise errors.IssuerNotEntitled(issuer=command.issuer.kind, what=type(command).__name__)
    if command.severity > issuer.gravest:
        raise errors.IssuerNotEntitled(issuer=command.issuer.kind, what=command.severity)
    if command.severity != family.default and command.severity_reason is None:
        raise errors.SeverityReasonMissing(
            family=command.family, default=family.default, severity=command.severity
        )
