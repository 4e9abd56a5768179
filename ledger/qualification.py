"""A qualification (资质): a licence that an authority gave, until when it holds, and its end.

It is no scoring fact: that somebody may work brings no points. An expired one stays in the public
view and says so; a revoked one leaves it. Events only: the vocabulary rests on this module.
"""

from __future__ import annotations

from typing import ClassVar

from ledger.events import Decision, Later
from ledger.fields import Citation, Day


class QualificationVerified(Decision):
    """A licence is known: which, under what number, and from when to when it holds.

    `valid_until` is its last day, None where it has no end.
    """

    type: ClassVar[str] = "qualification.verified.v1"
    certificate: Citation
    certificate_no: Citation | None = None
    decided_on: Day
    valid_from: Day
    valid_until: Day | None = None


class QualificationRevoked(Later):
    """The licence was withdrawn, revoked or cancelled before its time."""

    type: ClassVar[str] = "qualification.revoked.v1"
