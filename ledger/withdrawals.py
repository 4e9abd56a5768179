"""Withdrawals that name what they withdraw as authorities do: by who decided and its number.

An exchange format knows no event ids. The stream resolves the name to every finding (or every
qualification) recorded under it that is still in force; each becomes an act on that fact, under the
same rules as one that names its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from ledger import errors
from ledger.acts import Fact, OverturnDecision, RevokeQualification
from ledger.events import Data, Decision, TargetFields
from ledger.fields import Citation, Code, Day, LegalName, Reference


class NamedDecision(Data):
    """A decision by its authority and document number; of its findings one alone, where named."""

    issuer_name: LegalName
    document_no: Citation
    incident: Reference | None = None
    family: Code | None = None


class NamedQualification(Data):
    """A licence by its authority and document number; one certificate alone, where named."""

    issuer_name: LegalName
    document_no: Citation
    certificate: Citation | None = None
    certificate_no: Citation | None = None


class WithdrawDecision(Decision):
    """Overturn the findings of a decision, which is named; `on` is the recording day if unknown."""

    withdrawn: NamedDecision
    on: Day | None = None


class WithdrawQualification(Decision):
    """Revoke the qualifications of a decision, which is named; `on` as in `WithdrawDecision`."""

    withdrawn: NamedQualification
    on: Day | None = None


ENDS = ("overturned", "revoked")
Withdrawal = WithdrawDecision | WithdrawQualification


def acts_of(
    command: Withdrawal,
    seen: Mapping[tuple[str, ...], str],
    facts: Mapping[str, Fact],
    *,
    today: date,
) -> list[TargetFields]:
    """The acts that a withdrawal comes to, in the order in which their facts were recorded.

    `seen`: what the stream has recorded, by its kind and its own name. Raises UnknownDecision where
    nothing was recorded under the name. Where all of it is withdrawn already, the acts are given
    and the rules of acts refuse them.
    """
    named = command.withdrawn
    act: type[TargetFields]
    act = OverturnDecision
    wanted: tuple[str | None, ...] = ("finding", *dict(named).values())
    if isinstance(command, WithdrawQualification):
        wanted, act = ("qualification", *wanted[1:]), RevokeQualification
    found = [id for key, id in seen.items() if _matches(key, wanted)]
    if not found:
        raise errors.UnknownDecision(issuer=named.issuer_name, document=named.document_no)
    in_force = [id for id in found if facts[id].acts.keys().isdisjoint(ENDS)]
    fields = {name: getattr(command, name) for name in Decision.model_fields}
    on = command.on or today
    return [act(**fields, target=id, on=on) for id in in_force or found]


def _matches(key: tuple[str, ...], wanted: tuple[str | None, ...]) -> bool:
    """Whether a name is the one wanted, whose parts may be left open."""
    return len(key) == len(wanted) and all(
        want in (None, got) for got, want in zip(key, wanted, strict=True)
    )
