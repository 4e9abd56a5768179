"""What two officers decide, for tests that are about what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.acts import OverturnDecision
from ledger.envelope import decode
from ledger.events import Data
from ledger.handle import Desk, Receipt
from ledger.identity import Actor
from ledger.proposal import NEEDS_TWO, ProposalMade
from tests import given


def approver_of(command: Data) -> Actor:
    """Who approves a command that somebody else proposes, and may."""
    return given.THIRD if isinstance(command, OverturnDecision) else given.SECOND


async def decided(
    desk: Desk, provider: str, command: Data, actor: Actor = given.REGISTRAR
) -> Receipt:
    """Record a command; what needs a second officer is proposed, and approved by one."""
    receipt = await desk.record(provider, command, actor)
    if type(command) not in NEEDS_TWO:
        return receipt
    return await desk.record(provider, given.approve(receipt.id), approver_of(command))


async def approve_all(desk: Desk) -> Sequence[Receipt]:
    """Approve all that is proposed and undecided in a ledger."""
    events = [decode(one.state) for one in desk.ledger.read(0, 1_000_000)]
    over = {one.causation for one in events}
    return [
        await desk.record(
            str(one.subject), given.approve(one.id), approver_of(one.data.proposed.data)
        )
        for one in events
        if isinstance(one.data, ProposalMade) and one.id not in over
    ]
