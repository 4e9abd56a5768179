"""What may happen to a recorded fact afterwards: the acts of scoring.md, and their order.

Acts come in pairs: an entering act (suspended, repaired, fulfilled) and the act that leaves it.
On one day the leaving act wins, therefore an entering act must be later than the last leaving
one, and a leaving act not before the one it leaves. The pairs are independent: a judgment that
arrives late is recorded with its true day. Overturning is final. This module knows facts, not
providers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Literal, NamedTuple

from ledger import errors, events
from ledger.errors import Words
from ledger.events import Later, PublicityEnded, TargetFields
from ledger.qualification import QualificationRevoked

if TYPE_CHECKING:
    # At run time the vocabulary rests on this module, and the rulebook on the vocabulary.
    from ledger.rulebook import Rulebook

Kind = Literal["demerit", "merit", "inspection", "listing", "referral", "qualification"]


@dataclass(slots=True)
class Fact:
    """What the stream's state keeps of one recorded fact.

    `since`: the first day a later act may carry. `parts`: the ids of the scoring facts it gave.
    `by`: the reference of who recorded it.
    """

    id: str
    kind: Kind
    since: date
    public: bool
    parts: Sequence[str]
    severity: str = ""
    decided_on: date = date.min
    public_until: date = date.max
    obligation: bool = False
    acts: dict[str, date] = field(default_factory=dict)
    by: str = ""

    def in_force(self, entering: str) -> bool:
        """Whether the pair that `entering` opens is in force after all recorded acts."""
        entered = self.acts.get(entering)
        left = self.acts.get(LEAVES[entering])
        return entered is not None and (left is None or entered > left)


LEAVES = {"suspended": "resumed", "repaired": "repair_revoked", "fulfilled": "fulfilment_revoked"}
"""Each entering act and the act that leaves it."""
ENTERS = {leaving: entering for entering, leaving in LEAVES.items()}


KINDS: dict[Kind, Words] = {
    "demerit": Words("demerit", "失信事项"),
    "merit": Words("merit", "守信事项"),
    "inspection": Words("inspection", "检查"),
    "listing": Words("listing", "列入名单"),
    "referral": Words("referral", "移送司法机关"),
    "qualification": Words("qualification", "资质"),
}
ACT_NAMES: dict[str, Words] = {
    "suspended": Words("suspended", "中止执行"),
    "resumed": Words("resumed", "恢复执行"),
    "overturned": Words("overturned", "撤销"),
    "fulfilled": Words("fulfilled", "义务履行"),
    "fulfilment_revoked": Words("fulfilment_revoked", "撤回义务履行"),
    "repaired": Words("repaired", "信用修复"),
    "repair_revoked": Words("repair_revoked", "撤回信用修复"),
    "removed": Words("removed", "移出名单"),
    "revoked": Words("revoked", "撤销资质"),
    "publicity_ended": Words("publicity_ended", "公示期满"),
}


class Rule(NamedTuple):
    """One command's act: the event it becomes, and the kinds of fact it applies to."""

    act: str
    event: type[Later]
    kinds: tuple[Kind, ...]
    backdating_limited: bool = False


class SuspendDecision(TargetFields):
    """Suspend a decision's effect during review."""


class ResumeDecision(TargetFields):
    """End the suspension of a decision."""


class OverturnDecision(TargetFields):
    """Declare a decision void from the start."""


class FulfilObligation(TargetFields):
    """Record that the duty which came with a decision is done."""


class RevokeFulfilment(TargetFields):
    """Record that the duty turned out not to be done."""


class GrantRepair(TargetFields):
    """Grant credit repair (信用修复)."""


class RevokeRepair(TargetFields):
    """Withdraw a credit repair."""


class RevokeReward(TargetFields):
    """Declare a reward void from the start."""


class RemoveFromSevereList(TargetFields):
    """Record the removal from the severe list."""


class RevokeQualification(TargetFields):
    """Record that a licence was withdrawn before its time."""


ACTS: dict[type[events.Data], Rule] = {
    SuspendDecision: Rule("suspended", events.DecisionSuspended, ("demerit",)),
    ResumeDecision: Rule("resumed", events.DecisionResumed, ("demerit",)),
    OverturnDecision: Rule(
        "overturned",
        events.DecisionOverturned,
        ("demerit", "merit", "inspection", "listing", "referral"),
    ),
    FulfilObligation: Rule("fulfilled", events.ObligationFulfilled, ("demerit",), True),
    RevokeFulfilment: Rule("fulfilment_revoked", events.FulfilmentRevoked, ("demerit",)),
    GrantRepair: Rule("repaired", events.RepairGranted, ("demerit",), True),
    RevokeRepair: Rule("repair_revoked", events.RepairRevoked, ("demerit",)),
    RevokeReward: Rule("overturned", events.RewardRevoked, ("merit",)),
    RemoveFromSevereList: Rule("removed", events.SevereListRemoved, ("listing",), True),
    RevokeQualification: Rule("revoked", QualificationRevoked, ("qualification",)),
}

ENDING: tuple[Kind, ...] = ("demerit", "referral")
"""What is shown for a period that ends by itself."""
ACT_OF_EVENT: dict[type[events.Data], str] = {rule.event: rule.act for rule in ACTS.values()}
ACT_OF_EVENT[PublicityEnded] = "publicity_ended"


def decide_act(
    fact: Fact, command: TargetFields, *, rulebook_of_decision: Rulebook, today: date, days: int
) -> Later:
    """The act event of `command` on `fact`.

    `days`: how far back an act may be dated without a second officer (rulebook `backdating`).
    Raises WrongTarget, ActConflict, DateInFuture, DateOrder, Backdated, RepairTooEarly,
    ObligationOpen.
    """
    rule = ACTS[type(command)]
    if fact.kind not in rule.kinds:
        raise errors.WrongTarget(
            target=fact.id,
            kind=KINDS[fact.kind],
            act=ACT_NAMES[rule.act],
            needed=_either(rule.kinds),
        )
    _check_order(fact, rule.act, command.on)
    if command.on > today:
        raise errors.DateInFuture(field="on", on=command.on, limit=today, today=today)
    if rule.backdating_limited and (today - command.on).days > days:
        raise errors.Backdated(act=ACT_NAMES[rule.act], on=command.on, days=days, today=today)
    if rule.act == "repaired":
        _check_repair(fact, command.on, rulebook_of_decision)
    return rule.event(
        **{name: getattr(command, name) for name in TargetFields.model_fields},
        target_facts=list(fact.parts),
        target_public=fact.public,
    )


def _either(kinds: tuple[Kind, ...]) -> Words:
    return Words(", ".join(kinds), "、".join(KINDS[kind].zh for kind in kinds))


def decide_end_of_publicity(fact: Fact, *, today: date) -> PublicityEnded:
    """The end of an item's publicity period. Raises WrongTarget, ActConflict or DateInFuture.

    What is overturned or repaired is not shown already: nothing ends. If the repair is revoked,
    the end may be recorded then.
    """
    if fact.kind not in ENDING or not fact.public:
        raise errors.WrongTarget(
            target=fact.id,
            kind=KINDS[fact.kind],
            act=ACT_NAMES["publicity_ended"],
            needed=_either(ENDING),
        )
    why: Words | None = None
    if "publicity_ended" in fact.acts:
        why = Words("it has already ended", "公示已经结束")
    elif "overturned" in fact.acts:
        why = Words("it was overturned, which is final", "该记录已被撤销，撤销为终局")
    elif fact.in_force("repaired"):
        why = Words("it is repaired and not shown", "该记录已完成信用修复，不再公示")
    if why is not None:
        named = ACT_NAMES["publicity_ended"]
        raise errors.ActConflict(act=named, on=today, target=fact.id, why=why)
    if today < fact.public_until:
        raise errors.DateInFuture(
            field="public_until", on=fact.public_until, limit=today, today=today
        )
    return PublicityEnded(target=fact.id, on=fact.public_until)


def _check_order(fact: Fact, act: str, on: date) -> None:
    if on < fact.since:
        raise errors.DateOrder(
            later=ACT_NAMES[act],
            later_on=on,
            earlier=Words(f"fact {fact.id}", f"记录 {fact.id}"),
            earlier_on=fact.since,
        )
    why: Words | None = None
    if "overturned" in fact.acts:
        why = Words("it was overturned, which is final", "该记录已被撤销，撤销为终局")
    elif act in LEAVES:
        left = fact.acts.get(LEAVES[act])
        if fact.in_force(act):
            why = Words("it is already in force", "已处于该状态")
        elif left is not None and on <= left:
            why = Words(
                f"on one day the leaving act ({left}) wins", f"同日（{left}）以终止行为为准"
            )
        elif act == "fulfilled" and not fact.obligation:
            why = Words("the decision carries no obligation", "该决定未附义务")
    elif act in ENTERS and not fact.in_force(ENTERS[act]):
        why = Words(f"no {ENTERS[act]} is in force", "没有可终止的状态")
    elif act in ENTERS and on < (entered := fact.acts[ENTERS[act]]):
        why = Words(f"{ENTERS[act]} is in force from {entered} on", f"该状态自 {entered} 起成立")
    elif act == "removed" and "removed" in fact.acts:
        why = Words("it was already removed", "已移出名单")
    elif act == "revoked" and "revoked" in fact.acts:
        why = Words("it was already revoked", "已被撤销")
    if why is not None:
        raise errors.ActConflict(act=ACT_NAMES[act], on=on, target=fact.id, why=why)


def _check_repair(fact: Fact, on: date, rulebook: Rulebook) -> None:
    """Domain.md §5: after the shortest publicity period, duties fulfilled."""
    earliest, _ = rulebook.publicity_ends(fact.severity, fact.decided_on)
    if on < earliest:
        raise errors.RepairTooEarly(target=fact.id, earliest=earliest, on=on)
    if fact.obligation and not (fact.in_force("fulfilled") and fact.acts["fulfilled"] <= on):
        raise errors.ObligationOpen(target=fact.id, on=on)
