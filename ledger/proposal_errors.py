"""What the ledger refuses where two officers are needed, one class a reason, as in `errors.py`."""

from __future__ import annotations

from ledger.errors import LedgerError


class UnknownProposal(LedgerError):
    """There is no proposal {proposal} of this provider."""

    code = "unknown-proposal"
    status = 404
    zh = "该服务商没有编号为 {proposal} 的提请。"


class ProposalOpen(LedgerError):
    """The same is proposed already and awaits a second officer: {proposal}."""

    code = "proposal-open"
    zh = "同一事项已有提请，正待另一名工作人员决定：{proposal}。"


class ProposalSettled(LedgerError):
    """Proposal {proposal} is {how} already."""

    code = "proposal-settled"
    zh = "提请 {proposal} 已有结论：{how}。"


class ProposalLapsed(LedgerError):
    """Proposal {proposal} lapsed on {on}; nothing follows from it any more."""

    code = "proposal-lapsed"
    zh = "提请 {proposal} 已于 {on} 失效，不得再作决定。"


class SameOfficer(LedgerError):
    """Proposal {proposal} was made by the same person; another officer must decide it."""

    code = "same-officer"
    zh = "提请 {proposal} 系同一人提出，须由另一名工作人员决定。"


class NotTheProposer(LedgerError):
    """Proposal {proposal} was made by another person, who alone may withdraw it."""

    code = "not-the-proposer"
    zh = "提请 {proposal} 系他人提出，只有提请人可以撤回。"


class OwnRecord(LedgerError):
    """Proposal {proposal} is about fact {target}, which the same person recorded."""

    code = "own-record"
    zh = "提请 {proposal} 针对的记录 {target} 系同一人登记，本人不得决定。"


class NoPerson(LedgerError):
    """This needs two officers, and who acts for {organisation} here is no person."""

    code = "no-person"
    zh = "该事项须由两名工作人员办理，而 {organisation} 的此次操作未指明具体人员。"
