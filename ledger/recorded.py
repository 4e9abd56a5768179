"""What the stream's state keeps of a recorded fact that is no finding: its own name, and the fact.

The name is what may be recorded once. Knows events and facts, and no provider.
"""

from __future__ import annotations

from ledger import events
from ledger.acts import Fact
from ledger.events import Data
from ledger.qualification import QualificationVerified
from ledger.referral import ReferralRecorded

Name = tuple[str, ...]


def recorded(id: str, data: Data) -> tuple[Name, Fact]:
    """The name and the fact of an event, by its id."""
    match data:
        case events.RewardGranted():
            fact = Fact(id, "merit", data.on, data.consent, [id])
            return ("reward", data.issuer.name, data.document_no, data.item), fact
        case events.ContractCompleted():
            return ("contract", data.contract), Fact(id, "merit", data.on, False, [id])
        case events.InspectionRecorded():
            parts = [id, f"{id}/merit"] if data.merit else [id]
            fact = Fact(id, "inspection", data.on, False, parts)
            return ("inspection", data.inspection), fact
        case events.SevereListEntered():
            fact = Fact(id, "listing", data.listed_on, True, [id])
            return ("listing", data.issuer.name, data.document_no), fact
        case ReferralRecorded():
            since, until = data.referred_on or data.shown_from, data.public_until
            fact = Fact(id, "referral", since, True, [], public_until=until)
            return ("referral", data.issuer.name, data.referral), fact
        case QualificationVerified():
            return qualification_name(data), Fact(id, "qualification", data.decided_on, True, [])
        case _:
            raise AssertionError(f"{data.type} is no event of a provider's stream")


def qualification_name(data: QualificationVerified) -> Name:
    """What tells a qualification from every other of the provider."""
    number = data.certificate_no or ""
    return ("qualification", data.issuer.name, data.document_no, data.certificate, number)
