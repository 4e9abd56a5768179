"""What a row of a source may record: the commands by the names that mappings use.

Knows the commands, and no file.
"""

from __future__ import annotations

from ledger import events, findings, provider, status
from ledger.events import Data
from ledger.proposal import NEEDS_TWO
from ledger.qualification import QualificationVerified
from ledger.referral import ReferralRecorded
from ledger.withdrawals import WithdrawDecision, WithdrawQualification

REGISTER = "register"
COMMANDS: dict[str, type[Data]] = {
    REGISTER: events.ProviderRegistered,
    "admission": events.ProviderAdmitted,
    "suspension": events.ProviderSuspended,
    "resumption": status.ResumeProvider,
    "exit": events.ProviderExited,
    "reward": events.RewardGranted,
    "penalty": findings.ImposePenalty,
    "complaint": provider.RecordComplaintOutcome,
    "breach": findings.ConfirmBreach,
    "contract": events.ContractCompleted,
    "inspection": provider.RecordInspection,
    "listing": events.SevereListEntered,
    "referral": ReferralRecorded,
    "qualification": QualificationVerified,
}
"""What a row of any source may record."""
BY_AUTHORITY: dict[str, type[Data]] = {
    "withdrawal": WithdrawDecision,
    "qualification-withdrawal": WithdrawQualification,
}
"""What only a mapping may record besides: what authorities' registers give, and take back by their
own names. Other acts on a recorded fact name an event's id, which no such file has."""


def awaits_second(data: Data) -> bool:
    """Whether a command becomes a proposal, for a second officer to decide."""
    return type(data) in NEEDS_TWO or isinstance(data, WithdrawDecision)


GIVEN: dict[str, dict[str, object]] = {REGISTER: {"origin": "IMPORT"}}
"""Fields that are the importer's to say, not the mapping's."""
