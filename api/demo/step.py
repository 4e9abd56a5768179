"""One step of an invented history: a command, when and by whom it is given, what it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from api.demo.invented import Body
from ledger import acts, events, findings, provider, status
from ledger.events import Data
from ledger.proposal import ApproveProposal, RefuseProposal, WithdrawProposal

_KINDS: tuple[type[Data], ...] = (
    events.ProviderRegistered,
    events.ProviderAdmitted,
    events.ProviderSuspended,
    status.ResumeProvider,
    events.ProviderExited,
    events.ContractCompleted,
    provider.RecordInspection,
    provider.RecordComplaintOutcome,
    provider.EndPublicity,
    events.RewardGranted,
    events.SevereListEntered,
    findings.ImposePenalty,
    findings.ConfirmBreach,
    ApproveProposal,
    RefuseProposal,
    WithdrawProposal,
    *acts.ACTS,
)
COMMANDS = {kind.__name__: kind for kind in _KINDS}
"""Every command that a story may hold, by name."""

NOT_YET = "00000000-0000-7000-8000-000000000000"
"""Stands for the id of an event that is not recorded yet."""


class Step(NamedTuple):
    """One command of a story: the day it is recorded, its name, and the name of its target.

    Where there is a target, the command names `NOT_YET` until that step is recorded. `second`: the
    second of the two officers gives it.
    """

    on: date
    name: str
    command: Data
    target: str = ""
    second: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A finding or listing that later steps may concern: its step's name and its days.

    `by_second`: the second officer decided it.
    """

    name: str
    recorded: date
    decided: date
    severity: str
    public_until: date
    where: Body
    by_second: bool = False
