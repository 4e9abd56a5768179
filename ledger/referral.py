"""A referral to prosecutors (移送司法机关) against the rulebooks: what its own fields can break.

Whoever is referred has been found guilty of nothing. Therefore no rulebook gives a referral points
or a period: it is no scoring fact, and how long it is shown is its issuer's to say. Must not know
the stream it goes to.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ledger import errors
from ledger.errors import Words
from ledger.events import Data, Issuer
from ledger.evidence import EvidenceDigest
from ledger.fields import Citation, Day, Reference

if TYPE_CHECKING:
    from ledger.findings import Bench


class ReferralRecorded(Data):
    """Somebody was sent to prosecutors (移送司法机关): a referral, no finding, never in a score.

    A register of referrals gives no document number: `referral` is its own reference to the entry.
    `referred_on` is None where it names no day. Its issuer shows it from `shown_from` to the day
    before `public_until`, and so does the ledger: never longer than where it comes from.
    """

    type: ClassVar[str] = "referral.recorded.v1"
    issuer: Issuer
    referral: Reference
    evidence: Annotated[list[EvidenceDigest], Field(min_length=1, max_length=20)]
    law_article: Citation
    referred_on: Day | None = None
    shown_from: Day
    public_until: Day


def check_referral(command: ReferralRecorded, bench: Bench) -> None:
    """Whether it may be recorded.

    Raises DateInFuture, DateOrder, CodeNotInForce, or IssuerNotEntitled where the issuer is no
    authority: of a kind that may not enter anybody in the severe list either.
    """
    if command.referred_on is not None:
        bench.check_past("referred_on", command.referred_on)
        if command.shown_from < command.referred_on:
            raise errors.DateOrder(
                later="shown_from",
                later_on=command.shown_from,
                earlier="referred_on",
                earlier_on=command.referred_on,
            )
    bench.check_past("shown_from", command.shown_from)
    if command.public_until <= command.shown_from:
        raise errors.DateOrder(
            later="public_until",
            later_on=command.public_until,
            earlier=Words("the day after shown_from", "shown_from 的次日"),
            earlier_on=command.shown_from + timedelta(days=1),
        )
    if not bench.issuer_kind(command.issuer.kind, command.shown_from).listings:
        what = Words("a referral to prosecutors", "移送司法机关的决定")
        raise errors.IssuerNotEntitled(issuer=command.issuer.kind, what=what)
