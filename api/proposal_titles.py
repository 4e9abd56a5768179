"""What the problems of proposals are called, as in `api/titles.py`, which takes them in."""

from __future__ import annotations

from api.title import NOTHING, Title
from ledger.errors import Words


def _title(en: str, zh: str, advice: Words) -> Title:
    return Title(Words(en, zh), advice)


OF_PROPOSALS: dict[str, Title] = {
    "unknown-proposal": _title(
        "No such proposal",
        "没有该提请",
        Words("See GET /v1/proposals.", "见 GET /v1/proposals。"),
    ),
    "proposal-open": _title(
        "Already proposed",
        "已有同一提请",
        Words(
            "Another officer decides the proposal that is there.",
            "请由另一名工作人员决定已有提请。",
        ),
    ),
    "proposal-settled": _title("Proposal already decided", "提请已有结论", NOTHING),
    "proposal-lapsed": _title(
        "Proposal lapsed",
        "提请已失效",
        Words("Propose it anew, if it is still wanted.", "仍需办理的，请重新提请。"),
    ),
    "same-officer": _title(
        "Needs another person",
        "须由另一人决定",
        Words(
            "Another officer decides it: another person, not another token.",
            "请由另一名工作人员决定：须另有其人，换一枚令牌无效。",
        ),
    ),
    "not-the-proposer": _title(
        "Proposal of another person",
        "他人的提请",
        Words("Approve or refuse it instead.", "可批准或不予批准该提请。"),
    ),
    "own-record": _title(
        "Own record",
        "涉及本人登记的记录",
        Words(
            "Somebody who did not record the fact decides it.", "请由未登记该记录的工作人员决定。"
        ),
    ),
    "no-person": _title(
        "Needs a person",
        "须指明具体人员",
        Words(
            "Act under a person's reference: a token of one's own, or --ref.",
            "请以具体人员的编号办理：使用本人令牌，或写明 --ref。",
        ),
    ),
}
