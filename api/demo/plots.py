"""What kinds of providers there are in the demonstration, and how often.

A plot tells one story from its first day. The first providers take one plot after another with one
variant after another, so that every kind of fact and act occurs however few there are (from about
sixty on, each); the others are drawn with weights that give a believable mix of grades.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

from api.demo.step import Found
from api.demo.story import Story
from ledger import acts
from ledger.proposal import RefuseProposal, WithdrawProposal

PENALTIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("REGULATOR", "S1"): ("AD_UNMARKED", "AD_ABSOLUTE", "STALE_ITEM"),
    ("REGULATOR", "S2"): ("AD_FALSE_CLAIM", "UNFAIR_TERM", "RECTIFY_FAILED", "ABNORMAL_LIST"),
    ("REGULATOR", "S3"): ("AD_FALSE_CLAIM", "FAKE_TRAFFIC", "OBSTRUCTION", "QUAL_FORGED"),
    ("REGULATOR", "S4"): ("BANNED_GOODS_AD", "DATA_SALE"),
    ("COURT", "S1"): ("OTHER_LAW_BREACH",),
    ("COURT", "S2"): ("OTHER_LAW_BREACH",),
    ("COURT", "S3"): ("JUDGMENT_UNPAID", "LEDGER_FRAUD"),
    ("COURT", "S4"): ("DATA_SALE",),
    ("ARBITRATION", "S1"): ("GOAL_MISSED",),
    ("ARBITRATION", "S2"): ("NO_REFUND", "UNFAIR_TERM"),
    ("ARBITRATION", "S3"): ("FEE_FRAUD",),
    ("PLATFORM", "S1"): ("AD_UNMARKED", "LATE_RESPONSE"),
    ("PLATFORM", "S2"): (
        "AD_ABSOLUTE",
        "NO_ACCESS_CONTROL",
        "LATE_INCIDENT_REPORT",
        "QUAL_EXPIRED_IN_USE",
    ),
    ("PLATFORM", "S3"): ("FAKE_TRAFFIC", "ACCOUNT_WITHHELD", "DATA_LEAK", "INCIDENT_CONCEALED"),
    ("ASSOCIATION", "S1"): ("STALE_ITEM", "LATE_RESPONSE", "LATE_DELIVERY"),
    ("ASSOCIATION", "S2"): (
        "STAFF_UNQUALIFIED",
        "PLEDGE_BROKEN",
        "SCORE_MISUSE",
        "FALSE_ITEM",
        "NDA_BREACH",
    ),
    ("ASSOCIATION", "S3"): ("BUYING_WITHDRAWAL",),
}
"""Which families a kind of body finds at a severity; every kind and severity that may be."""
VARIANTS = 6
"""How many variants of each plot there are before any is told again; half the minor findings."""
MINOR = [one for one in PENALTIES if one[1] in ("S1", "S2")]
GRAVE = [one for one in PENALTIES if one[1] == "S3"]
GRAVEST = [one for one in PENALTIES if one[1] == "S4"]
BREACHES = (
    ("JUDGMENT", "ABANDONED", "S3"),
    ("AWARD", "LATE_DELIVERY", "S2"),
    ("SIGNED_MEDIATION", "GOAL_MISSED", "S1"),
    ("ADMISSION", "LATE_DELIVERY", "S2"),
    ("UNANSWERED_NOTICE", "NO_REFUND", "S2"),
)
COMPLAINTS = (
    ("UNSUBSTANTIATED", "LATE_RESPONSE", "ASSOCIATION"),
    ("SUBSTANTIATED", "IGNORED_COMPLAINT", "REGULATOR"),
    ("PARTLY", "LATE_RESPONSE", "PLATFORM"),
    ("SUBSTANTIATED", "RETALIATION", "REGULATOR"),
)
MITIGATIONS = ((), ("CORRECTED_PROMPTLY",), ("SELF_REPORTED", "COMPENSATED"), ("COMPENSATED",))
SUSPENSIONS = ("QUALIFICATION_EXPIRED", "INVESTIGATION", "PENALTY", "OWN_REQUEST")
EXITS = ("VOLUNTARY", "DEREGISTERED", "EXPELLED")
MERITS = (
    ("TRAINING", "ASSOCIATION"),
    ("SOCIAL", "REGULATOR"),
    ("SELF_DISCIPLINE", "ASSOCIATION"),
    ("INNOVATION", "PLATFORM"),
)


class Plot(NamedTuple):
    """A kind of story: how it is told, how often, and how long before the last day it begins."""

    tell: Callable[[Story, date, int], None]
    weight: int
    begins_days_ago: tuple[int, int] = (500, 1090)


def after(on: date, days: int) -> date:
    """The day so many days later."""
    return on + timedelta(days=days)


def business(story: Story, start: date, *, every: tuple[int, int], clean: int = 8) -> date:
    """What every provider does: contracts, inspections, training. The day it is admitted."""
    admitted = story.register(start)
    for on in story.days(after(admitted, 20), *every):
        story.contract(on, regular=story.random.random() < 0.2)
    for on in story.days(after(admitted, 60), 150, 260):
        result = "CLEAN" if story.random.randrange(10) < clean else "MINOR"
        story.inspection(on, result)
    for on in story.days(after(admitted, 90), 200, 420):
        story.reward(on, *story.random.choice(MERITS))
    return admitted


def minor_finding(story: Story, since: date, turn: int) -> None:
    """A minor finding some time, which goes out of sight by itself."""
    kind, severity = MINOR[turn % len(MINOR)]
    days = (story.last - since).days
    decided = after(since, story.random.randint(0, max(days, 1)))
    story.penalty(
        decided,
        story.random.choice(PENALTIES[kind, severity]),
        severity,
        kind,
        mitigation=MITIGATIONS[turn % len(MITIGATIONS)],
        shortest=turn % 3 == 0,
        late=turn % 7 == 0,
    )


def exemplary(story: Story, start: date, turn: int) -> None:
    """Many clients, clean inspections, honours."""
    admitted = business(story, start, every=(14, 30), clean=10)
    for on in story.days(after(admitted, 100), 300, 360):
        story.reward(on, "DISCLOSURE_COMPLETE", "REGULATOR")
        story.reward(after(on, 12), "TRAINING", "ASSOCIATION")
    if turn % 2:
        honour = story.reward(story.ago(60, 500), "REGULATOR_HONOUR", "REGULATOR")
        if turn % 6 == 5:
            story.act(acts.RevokeReward, honour, after(honour.decided, 45), "撤销表彰")


def steady(story: Story, start: date, turn: int) -> None:
    """Ordinary business with a minor finding or a complaint now and then."""
    admitted = business(story, start, every=(30, 60))
    for offset in range(turn % 3):
        minor_finding(story, after(admitted, 40), turn + offset)
    if turn % 2:
        decided = after(admitted, story.random.randint(30, 300))
        outcome, family, kind = COMPLAINTS[turn // 2 % len(COMPLAINTS)]
        story.complaint(decided, outcome, family, kind)


def breaching(story: Story, start: date, turn: int) -> None:
    """Breaches of contract, on every ground in turn, with the duty to make good."""
    admitted = business(story, start, every=(30, 55))
    ground, family, severity = BREACHES[turn % len(BREACHES)]
    story.breach(story.ago(40, 330), ground, family, severity)
    found = owing(story, after(admitted, story.random.randint(30, 200)), turn)
    if turn % 3 == 0:
        story.act(acts.RevokeFulfilment, found, after(found.decided, 110), "撤销履行")


def owing(story: Story, decided: date, turn: int) -> Found:
    """A finding with a duty that is done after some weeks."""
    kind, severity = MINOR[(turn + VARIANTS) % len(MINOR)]
    families = PENALTIES[kind, severity]
    found = story.penalty(decided, families[0], severity, kind, obligation=True)
    story.act(acts.FulfilObligation, found, after(decided, 40), "履行")
    return found


def repaired(story: Story, start: date, turn: int) -> None:
    """Findings that were repaired; now and then the repair is withdrawn."""
    admitted = business(story, start, every=(25, 50))
    kind, severity = GRAVE[turn % len(GRAVE)] if turn % 2 else ("REGULATOR", "S2")
    decided = after(admitted, story.random.randint(20, 90))
    family = story.random.choice(PENALTIES[kind, severity])
    found = story.penalty(decided, family, severity, kind, obligation=True)
    story.act(acts.FulfilObligation, found, after(decided, 50), "履行")
    granted = story.repair(found, after_days=story.random.randint(5, 60))
    if turn % 4 == 3:
        story.act(acts.RevokeRepair, found, after(granted, 70), "撤销修复")


def contested(story: Story, start: date, turn: int) -> None:
    """A decision under review: pending (who would overturn it is alone), upheld, or overturned."""
    business(story, start, every=(25, 55))
    kind, severity = ("REGULATOR", "S3") if turn % 2 else ("PLATFORM", "S2")
    pending = turn % 3 == 0
    decided = story.ago(40, 90) if pending else story.ago(200, 420)
    family = story.random.choice(PENALTIES[kind, severity])
    found = story.penalty(decided, family, severity, kind)
    suspended = story.act(acts.SuspendDecision, found, after(decided, 20), "复议停止执行")
    if turn % 3 == 1:
        story.act(acts.ResumeDecision, found, after(suspended, 60), "复议维持")
    elif not pending:
        story.act(acts.OverturnDecision, found, after(suspended, 60), "复议撤销")
    else:
        verdict = WithdrawProposal if turn % 2 else RefuseProposal
        story.in_vain(found, after(suspended, 5), "拟撤销", verdict)


def stumbling(story: Story, start: date, turn: int) -> None:
    """A serious finding within the last year, sometimes by two bodies for one incident."""
    business(story, start, every=(25, 60), clean=5)
    story.inspection(story.ago(100, 400), "FINDING" if turn % 4 else "OBSTRUCTED")
    kind, severity = GRAVE[turn % len(GRAVE)]
    decided = story.ago(30, 300)
    family = story.random.choice(PENALTIES[kind, severity])
    incident = f"SJ{story.number:05d}-A"
    story.penalty(decided, family, severity, kind, incident=incident, obligation=turn % 2 == 0)
    if kind in ("PLATFORM", "ASSOCIATION"):
        story.penalty(after(decided, 20), "FAKE_TRAFFIC", "S3", "REGULATOR")
    else:
        story.penalty(after(decided, 14), family, severity, "PLATFORM", incident=incident)


def grave(story: Story, start: date, turn: int) -> None:
    """The gravest finding there is."""
    business(story, start, every=(40, 90), clean=3)
    kind, severity = GRAVEST[turn % len(GRAVEST)]
    families = PENALTIES[kind, severity]
    story.penalty(story.ago(60, 400), families[turn % len(families)], severity, kind)
    if turn % 2:
        story.suspend(story.ago(25, 50), "PENALTY")


def listed(story: Story, start: date, turn: int) -> None:
    """In the severe list; of three, one is out of it again, and one entry was overturned."""
    business(story, start, every=(50, 110), clean=3)
    decided = story.ago(420, 470)
    story.penalty(decided, "FAKE_TRAFFIC", "S3", "REGULATOR")
    found = story.listing(after(decided, 30))
    if turn % 4 == 1:
        story.act(acts.RemoveFromSevereList, found, after(found.decided, 366), "移严")
    elif turn % 4 == 3:
        story.act(acts.OverturnDecision, found, after(found.decided, 60), "撤销列严")


def newcomer(story: Story, start: date, turn: int) -> None:
    """Just begun: too little is known."""
    admitted = story.register(start, admitted=turn % 4 != 0)
    if turn % 3:
        story.contract(after(admitted, 25))


def idle(story: Story, start: date, turn: int) -> None:
    """Some business long ago, none since."""
    admitted = story.register(start)
    for days in range(30, 30 + 40 * (turn % 4), 40):
        story.contract(after(admitted, days))


def interrupted(story: Story, start: date, turn: int) -> None:
    """Suspended for each reason in turn; mostly resumed, sometimes gone for good."""
    admitted = business(story, start, every=(25, 60))
    minor_finding(story, after(admitted, 40), turn)
    decided = after(admitted, story.random.randint(150, 300))
    story.suspend(decided, SUSPENSIONS[turn % len(SUSPENSIONS)])
    if turn % 3:
        story.resume(after(decided, 75))
    if turn % 2:
        story.exit(story.ago(15, 60), EXITS[turn // 2 % len(EXITS)])


PLOTS = (
    Plot(exemplary, 22),
    Plot(steady, 30),
    Plot(newcomer, 12, (20, 110)),
    Plot(stumbling, 10),
    Plot(contested, 5, (700, 1090)),
    Plot(repaired, 6, (800, 1090)),
    Plot(breaching, 5),
    Plot(grave, 3),
    Plot(listed, 3, (700, 1090)),
    Plot(interrupted, 4, (600, 1090)),
    Plot(idle, 4, (900, 1090)),
)
