"""A provider's record as rules: given what was recorded, when this is asked for, then that.

Everything runs without a database. `History.when` also checks what holds for every decision: the
state stays as it was, an accepted event's bytes are read back the same, a refusal can be told in
Chinese.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ledger import acts, errors, events, provider, rulebook
from ledger.envelope import Event, decode, new_id
from ledger.errors import LedgerError
from ledger.events import Data
from ledger.findings import Bench, ComplaintFinding
from ledger.identity import Actor
from ledger.proposal import ProposalMade
from ledger.provider import Provider
from ledger.qualification import QualificationRevoked
from ledger.rulebook import Rulebooks
from ledger.second_officer import Proposal
from ledger.withdrawals import NamedDecision, NamedQualification, WithdrawQualification
from tests import given
from tests.conftest import Clock

DAY = timedelta(days=1)
TODAY = given.TODAY


def rules(*books: dict[str, Any]) -> Rulebooks:
    """The rulebooks of a ledger opened with the first of `books` (or the shipped one)."""
    first, *others = books or (given.rulebook("RB-2026.1", "2024-01-01"),)
    data: list[Data] = [given.opening(rulebook=first)]
    data += [
        events.RulebookPublished(
            version=book["version"],
            in_force_from=date.fromisoformat(book["in_force_from"]),
            rulebook=book,
        )
        for book in others
    ]
    state = Rulebooks()
    for version, one in enumerate(data, 1):
        state = rulebook.evolve(state, Event("", "rulebook", version, one, given.REGISTRAR, ""))
    return state


SHIPPED = rules()


class History:
    """One provider's stream and the day on which the next command comes."""

    def __init__(self, books: Rulebooks = SHIPPED, today: date = TODAY) -> None:
        self.books = books
        self.today = today
        self.state = Provider(given.PROVIDER)
        self.clock = Clock()

    def when(self, command: Data) -> Data:
        """The one event a command leads to, by two officers if need be. Raises LedgerError."""
        before = copy.deepcopy(self.state)
        try:
            (data,) = provider.decide(self.state, command, self.bench())
        except LedgerError as error:
            told = error.chinese()
            assert told
            assert "{" not in told
            raise
        finally:
            assert self.state == before, "deciding changes nothing"
        return self.approved(data) if isinstance(data, ProposalMade) else data

    def bench(self, actor: Actor = given.REGISTRAR) -> Bench:
        """What is decided on today, by somebody."""
        return Bench(self.today, self.books, actor)

    def approved(self, made: ProposalMade) -> Data:
        """The event of a proposal, once another officer approves it."""
        id = new_id(self.clock(), b"approved--")
        state = copy.deepcopy(self.state)
        state.proposals[id] = Proposal(made.proposed, given.REGISTRAR.ref, made.lapses_on)
        (data,) = provider.decide(state, given.approve(id), self.bench(given.THIRD))
        return data

    def all_of(self, command: Data) -> list[Any]:
        """Every event that a command leads to, by two officers if need be."""
        found = provider.decide(self.state, command, self.bench())
        return [self.approved(one) if isinstance(one, ProposalMade) else one for one in found]

    def given(self, *commands: Data) -> str:
        """Record the commands; the last event's id."""
        id = ""
        for command in commands:
            id = new_id(self.clock(), (self.state.version + 1).to_bytes(10))
            event = Event(
                id=id,
                stream=events.provider_stream(given.PROVIDER),
                version=self.state.version + 1,
                data=self.when(command),
                actor=given.REGISTRAR,
                nonce="AAECAwQFBgcICQoLDA0ODw",
                subject=given.PROVIDER,
                time=self.clock(),
            )
            read = decode(event.encode()[0])
            assert read == event
            self.state = provider.evolve(self.state, read)
        return id

    def refuses(self, error: type[LedgerError], command: Data, *told: str) -> None:
        """The command is refused with this error, whose message or facts say all of `told`."""
        with pytest.raises(error) as caught:
            self.when(command)
        assert type(caught.value) is error
        for fact in told:
            assert fact in str(caught.value) or fact in caught.value.facts.values()


@pytest.fixture
def history() -> History:
    """A registered provider under the shipped rulebook, on 2 March 2026."""
    history = History()
    history.given(given.register())
    return history


def day(text: str) -> date:
    return date.fromisoformat(text)


# --- the provider itself -------------------------------------------------------------------------

EVERY_FACT: dict[str, Callable[..., Data]] = {
    "penalty": given.penalty,
    "complaint": given.complaint,
    "breach": given.breach,
    "reward": given.reward,
    "contract": given.contract,
    "inspection": given.inspection,
    "listing": given.listing,
    "referral": given.referral,
    "qualification": given.qualification,
}
STATUS = {
    "admit": given.admit,
    "suspend": given.suspend_provider,
    "resume": given.resume_provider,
    "exit": given.exit_provider,
}


@pytest.mark.parametrize("name", [*EVERY_FACT, *STATUS])
def test_nothing_is_recorded_of_an_unknown_provider(name: str) -> None:
    command = (EVERY_FACT | STATUS)[name]()
    History().refuses(errors.UnknownProvider, command, given.PROVIDER)


@pytest.mark.parametrize(
    "command", [given.overturn(given.CLIENT), given.end_publicity(given.CLIENT)]
)
def test_no_act_on_an_unknown_provider(command: Data) -> None:
    History().refuses(errors.UnknownProvider, command, given.PROVIDER)


def test_a_provider_is_registered_once(history: History) -> None:
    history.refuses(errors.ProviderExists, given.register(), given.PROVIDER, "registered")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ([], "registered"),
        (["admit"], "admitted"),
        (["admit", "suspend"], "suspended"),
        (["admit", "suspend", "resume"], "admitted"),
        (["exit"], "exited"),
        (["admit", "exit"], "exited"),
        (["admit", "suspend", "exit"], "exited"),
    ],
)
def test_which_step_follows_which(history: History, path: list[str], status: str) -> None:
    follows = {
        "registered": {"admit", "exit"},
        "admitted": {"suspend", "exit"},
        "suspended": {"resume", "exit"},
        "exited": set(),
    }
    for step in path:
        history.given(STATUS[step]())
    assert history.state.status == status
    for step, command in STATUS.items():
        if step in follows[status]:
            history.when(command())
        else:
            history.refuses(errors.WrongStatus, command(), given.PROVIDER, status)


@pytest.mark.parametrize("name", EVERY_FACT)
@pytest.mark.parametrize("path", [["admit"], ["admit", "suspend"], ["exit"]])
def test_facts_are_recorded_in_every_status(history: History, name: str, path: list[str]) -> None:
    for step in path:
        history.given(STATUS[step]())
    history.given(EVERY_FACT[name]())


@pytest.mark.parametrize("step", ["admit", "exit"])
def test_a_status_is_not_decided_tomorrow(history: History, step: str) -> None:
    history.refuses(
        errors.DateInFuture, STATUS[step](decided_on=TODAY + DAY), "decided_on is 2026-03-03"
    )


# --- the days of a finding -----------------------------------------------------------------------

FINDINGS: dict[str, Callable[..., Data]] = {
    "penalty": given.penalty,
    "breach": given.breach,
    "complaint": lambda **changes: given.complaint(finding=given.finding(**changes)),
}
every_finding = pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS)


@every_finding
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"occurred_on": day("2026-02-11")},
            "decided_on (2026-02-10) must not be before occurred_on (2026-02-11)",
        ),
        (
            {"served_on": day("2026-02-09")},
            "served_on (2026-02-09) must not be before decided_on (2026-02-10)",
        ),
        (
            {"ended_on": day("2026-01-04")},
            "ended_on (2026-01-04) must not be before occurred_on (2026-01-05)",
        ),
    ],
)
def test_a_finding_comes_in_the_order_of_its_days(
    history: History, finding: Callable[..., Data], changes: dict[str, Any], told: str
) -> None:
    history.refuses(errors.DateOrder, finding(**changes), told)


@every_finding
def test_everything_may_happen_on_one_day(history: History, finding: Callable[..., Data]) -> None:
    days = dict.fromkeys(("occurred_on", "ended_on", "decided_on", "served_on"), TODAY)
    history.given(finding(**days))


@every_finding
def test_an_act_may_end_after_its_decision(history: History, finding: Callable[..., Data]) -> None:
    history.given(finding(ended_on=day("2026-03-01")))


@every_finding
@pytest.mark.parametrize(
    "changes",
    [{"decided_on": TODAY + DAY, "served_on": TODAY + DAY}, {"ended_on": TODAY + DAY}],
)
def test_a_finding_is_not_decided_tomorrow(
    history: History, finding: Callable[..., Data], changes: dict[str, Any]
) -> None:
    history.refuses(errors.DateInFuture, finding(**changes), "2026-03-03", "2026-03-02")


@every_finding
def test_service_by_public_notice_is_service(
    history: History, finding: Callable[..., Data]
) -> None:
    history.given(finding(served_on=TODAY + 60 * DAY))
    history.refuses(
        errors.DateInFuture,
        finding(served_on=TODAY + 61 * DAY),
        "served_on is 2026-05-02, after 2026-05-01",
    )


@every_finding
@pytest.mark.parametrize(("days", "late"), [(0, False), (30, False), (31, True)])
def test_what_is_recorded_after_30_days_is_a_late_entry(
    history: History, finding: Callable[..., Data], days: int, late: bool
) -> None:
    decided = TODAY - days * DAY
    data = history.when(finding(decided_on=decided, served_on=decided))
    if isinstance(data, events.ComplaintOutcomeRecorded):
        assert data.finding is not None
        data = data.finding
    assert isinstance(data, events.Finding)
    assert data.late_entry is late


# --- codes and the days on which they hold -------------------------------------------------------


@every_finding
@pytest.mark.parametrize(
    ("field", "changes", "value"),
    [
        ("severity", {"severity": "S9"}, "S9"),
        ("issuer.kind", {"issuer": given.issuer("NEWSPAPER")}, "NEWSPAPER"),
        ("family", {"family": "RUDENESS"}, "RUDENESS"),
        ("mitigation", {"mitigation": ["COMPENSATED", "TEARS"]}, "TEARS"),
    ],
)
def test_a_code_that_no_rulebook_has(
    history: History,
    finding: Callable[..., Data],
    field: str,
    changes: dict[str, Any],
    value: str,
) -> None:
    if finding is given.breach and field == "issuer.kind":
        history.refuses(errors.IssuerNotEntitled, finding(**changes), value)
    else:
        history.refuses(
            errors.CodeNotInForce, finding(**changes), f"{field} {value!r}", "RB-2026.1"
        )


def changed_book() -> dict[str, Any]:
    """From 1 January 2026 on: some codes are retired, others new, one family moved."""
    book = given.rulebook("RB-2026.2", "2026-01-01")
    scoring, items = book["scoring"], book["items"]
    for old, new in (("PLATFORM", "MARKETPLACE"),):
        scoring["issuer_weight"][new] = scoring["issuer_weight"].pop(old)
        items["issuers"][new] = items["issuers"].pop(old)
    scoring["mitigation"]["APOLOGISED"] = scoring["mitigation"].pop("COMPENSATED")
    items["mitigations"]["APOLOGISED"] = items["mitigations"].pop("COMPENSATED")
    scoring["merit"]["MENTORING"] = scoring["merit"].pop("SOCIAL")
    items["merits"]["MENTORING"] = items["merits"].pop("SOCIAL")
    del scoring["merit"]["INSPECTION_CLEAN"], items["merits"]["INSPECTION_CLEAN"]
    items["families"]["GHOST_FOLLOWERS"] = items["families"].pop("FAKE_TRAFFIC")
    items["families"]["UNFAIR_TERM"]["category"] = "DISCLOSURE"
    return book


@pytest.fixture
def two_books() -> History:
    """A provider in a ledger whose rules changed on 1 January 2026."""
    history = History(rules(given.rulebook("RB-2026.1", "2024-01-01"), changed_book()))
    history.given(given.register())
    return history


OLD = {"occurred_on": day("2025-12-01"), "decided_on": day("2025-12-31")}
ACROSS = {"occurred_on": day("2025-12-31"), "decided_on": day("2026-01-01")}
NEW = {"occurred_on": day("2026-01-01"), "decided_on": day("2026-01-02")}


@pytest.mark.parametrize(
    ("retired", "new"),
    [
        ({"issuer": given.issuer("PLATFORM")}, {"issuer": given.issuer("MARKETPLACE")}),
        ({"mitigation": ["COMPENSATED"]}, {"mitigation": ["APOLOGISED"]}),
        (
            {"family": "FAKE_TRAFFIC", "severity": "S3"},
            {"family": "GHOST_FOLLOWERS", "severity": "S3"},
        ),
    ],
    ids=["issuer", "mitigation", "family"],
)
def test_a_finding_needs_codes_of_the_day_of_the_act_and_of_the_decision(
    two_books: History, retired: dict[str, Any], new: dict[str, Any]
) -> None:
    two_books.given(given.penalty(**OLD | retired), given.penalty(**NEW | new))
    two_books.refuses(errors.CodeNotInForce, given.penalty(**OLD | new), "RB-2026.1, in force on")
    two_books.refuses(errors.CodeNotInForce, given.penalty(**NEW | retired), "RB-2026.2")
    two_books.refuses(errors.CodeNotInForce, given.penalty(**ACROSS | retired), "on 2026-01-01")
    two_books.refuses(errors.CodeNotInForce, given.penalty(**ACROSS | new), "on 2025-12-31")


def test_a_family_that_changed_its_category_is_not_decided_across_the_change(
    two_books: History,
) -> None:
    moved = {"family": "UNFAIR_TERM"}
    two_books.given(given.penalty(**OLD, **moved, category="CONTRACT"))
    two_books.given(given.penalty(**NEW, **moved, category="DISCLOSURE"))
    for category in ("CONTRACT", "DISCLOSURE"):
        two_books.refuses(
            errors.WrongCategory,
            given.penalty(**ACROSS, **moved, category=category),
            "Family UNFAIR_TERM",
        )


@pytest.mark.parametrize(
    ("item", "on", "valid"),
    [
        ("SOCIAL", "2025-12-31", True),
        ("SOCIAL", "2026-01-01", False),
        ("MENTORING", "2026-01-01", True),
        ("MENTORING", "2025-12-31", False),
        ("HEROISM", "2026-01-01", False),
    ],
)
def test_a_merit_item_holds_on_its_own_day(
    two_books: History, item: str, on: str, valid: bool
) -> None:
    command = given.reward(item=item, on=day(on))
    if valid:
        two_books.given(command)
    else:
        two_books.refuses(errors.CodeNotInForce, command, f"item {item!r}", on)


def test_a_clean_inspection_is_a_merit_where_the_rulebook_of_its_day_has_it(
    two_books: History,
) -> None:
    for on, merit in (("2025-12-31", "INSPECTION_CLEAN"), ("2026-01-01", None)):
        data = two_books.when(given.inspection(on=day(on)))
        assert isinstance(data, events.InspectionRecorded)
        assert data.merit == merit


def test_before_the_first_rulebook_the_first_holds(two_books: History) -> None:
    long_ago = {"occurred_on": day("2020-01-01"), "decided_on": day("2020-02-01")}
    two_books.given(given.penalty(**long_ago, issuer=given.issuer("PLATFORM")))
    two_books.given(given.reward(item="SOCIAL", on=day("2020-01-01")))


# --- categories, gravity, who may decide ---------------------------------------------------------


@every_finding
def test_a_finding_bears_the_category_of_its_family(
    history: History, finding: Callable[..., Data]
) -> None:
    history.refuses(errors.WrongCategory, finding(category="SECURITY"), "not SECURITY")


def test_an_incident_has_one_category(history: History) -> None:
    id = history.given(given.penalty(incident="INC-A"))
    history.given(given.penalty(incident="INC-A", family="AD_UNMARKED"))
    other = {
        "incident": "INC-A",
        "category": "PRIVACY",
        "family": "DATA_LEAK",
        "severity": "S2",
    }
    told = "Incident INC-A is recorded in another category than PRIVACY"
    complaint = given.complaint(finding=given.finding(**other))
    history.refuses(errors.IncidentCategory, given.penalty(**other), told)
    history.refuses(errors.IncidentCategory, complaint, told)
    history.given(given.overturn(id))
    history.refuses(errors.IncidentCategory, given.penalty(**other), told)


@pytest.mark.parametrize(
    ("family", "category", "allowed"),
    [
        ("LATE_DELIVERY", "CONTRACT", {"S1", "S2"}),
        ("AD_FALSE_CLAIM", "ADVERT", {"S2", "S3"}),
        ("BANNED_GOODS_AD", "ADVERT", {"S3", "S4"}),
        ("DATA_SALE", "PRIVACY", {"S4"}),
        ("OTHER_LAW_BREACH", "COMPLIANCE", {"S1", "S2", "S3"}),
        ("LATE_RESPONSE", "COMPLAINT", {"S1"}),
    ],
)
def test_a_severity_lies_in_the_range_of_its_family(
    history: History, family: str, category: str, allowed: set[str]
) -> None:
    for severity in ("S0", "S1", "S2", "S3", "S4"):
        command = given.penalty(
            family=family,
            category=category,
            severity=severity,
            severity_reason=given.evidence(),
        )
        if severity in allowed:
            history.when(command)
        else:
            history.refuses(
                errors.SeverityOutOfRange,
                command,
                f"{family} allows severity {min(allowed)} to {max(allowed)}, not {severity}",
            )


def test_another_severity_than_the_default_needs_its_written_reason(history: History) -> None:
    history.refuses(
        errors.SeverityReasonMissing, given.penalty(severity="S3"), "default severity S2; S3"
    )
    history.given(given.penalty(severity="S3", severity_reason=given.evidence()))
    history.given(given.penalty(severity="S2"))


@pytest.mark.parametrize(
    ("kind", "gravest"),
    [
        ("REGULATOR", "S4"),
        ("COURT", "S4"),
        ("ARBITRATION", "S3"),
        ("PLATFORM", "S3"),
        ("ASSOCIATION", "S3"),
    ],
)
def test_who_may_decide_how_gravely(history: History, kind: str, gravest: str) -> None:
    grave = {
        "S3": given.penalty(family="FAKE_TRAFFIC", severity="S3", issuer=given.issuer(kind)),
        "S4": given.penalty(
            family="DATA_SALE", category="PRIVACY", severity="S4", issuer=given.issuer(kind)
        ),
    }
    history.when(grave["S3"])
    if gravest == "S4":
        history.when(grave["S4"])
    else:
        history.refuses(errors.IssuerNotEntitled, grave["S4"], f"kind {kind} may not decide S4")


def test_a_finding_needs_evidence() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        given.penalty(evidence=[])
    with pytest.raises(ValidationError, match="at most 20 items"):
        given.penalty(evidence=[given.evidence()] * 21)


# --- what is recorded once -----------------------------------------------------------------------


def test_one_finding_of_one_document_is_recorded_once(history: History) -> None:
    command = given.penalty()
    id = history.given(command)
    history.refuses(errors.DuplicateFact, command, id, command.document_no)
    moved = command.model_copy(update={"occurred_on": day("2026-01-06")})
    history.refuses(errors.DuplicateFact, moved, id)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": given.regulator("另一市场监督管理局")},
        {"document_no": "市监处〔2026〕999号"},
        {"incident": "INC-OTHER"},
        {"family": "AD_UNMARKED"},
    ],
)
def test_what_makes_another_finding(history: History, changes: dict[str, Any]) -> None:
    command = given.penalty()
    history.given(command, command.model_copy(update=changes))


def test_one_document_may_be_a_penalty_or_a_complaints_finding_not_both(history: History) -> None:
    penalty = given.penalty(family="LATE_RESPONSE", category="COMPLAINT", severity="S1")
    id = history.given(penalty)
    fields = penalty.model_dump(exclude={"public_until"})
    finding = given.finding(**{name: getattr(penalty, name) for name in fields})
    history.refuses(errors.DuplicateFact, given.complaint(finding=finding), id)


AGAIN: dict[str, Callable[[], Data]] = {
    "penalty": lambda: given.penalty(incident="INC-A", document_no="号1"),
    "complaint": lambda: given.complaint(complaint="TS-A"),
    "breach": lambda: given.breach(incident="INC-A", contract="HT-A"),
    "reward": lambda: given.reward(document_no="号1"),
    "contract": lambda: given.contract(contract="HT-A"),
    "inspection": lambda: given.inspection(inspection="JC-A"),
    "listing": lambda: given.listing(document_no="号1"),
    "referral": lambda: given.referral(referral="YS-A"),
    "qualification": lambda: given.qualification(document_no="号1", certificate_no="X1"),
}


ENDS_IT: dict[str, Callable[..., Data]] = {"qualification": given.revoke_qualification}


@pytest.mark.parametrize("name", AGAIN)
def test_the_same_fact_comes_again_only_after_it_was_overturned(
    history: History, name: str
) -> None:
    again = AGAIN[name]
    for _ in range(2):
        id = history.given(again())
        history.refuses(errors.DuplicateFact, again(), id)
        end: Callable[..., Data] = ENDS_IT.get(name, given.overturn)
        history.given(end(id))
    history.given(again())


def test_an_unfounded_complaint_is_recorded_once_for_ever(history: History) -> None:
    id = history.given(given.complaint(complaint="TS-A", outcome="UNSUBSTANTIATED"))
    history.refuses(errors.DuplicateFact, given.complaint(complaint="TS-A"), id, "TS-A")
    history.refuses(errors.UnknownTarget, given.overturn(id), id)


# --- how long it is shown ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "publicity", "earliest", "latest"),
    [
        (
            {"category": "COMPLAINT", "family": "LATE_RESPONSE", "severity": "S1"},
            *("AGGREGATE", "2026-05-10", "2026-05-10"),
        ),
        ({"severity": "S2"}, *("SINGLY", "2026-05-10", "2027-02-10")),
        ({"family": "FAKE_TRAFFIC", "severity": "S3"}, *("SINGLY", "2027-02-10", "2029-02-10")),
        (
            {"category": "PRIVACY", "family": "DATA_SALE", "severity": "S4"},
            *("SINGLY", "2027-02-10", "2029-02-10"),
        ),
    ],
    ids=["S1", "S2", "S3", "S4"],
)
def test_a_finding_is_shown_within_the_limits_of_its_severity(
    history: History, changes: dict[str, Any], publicity: str, earliest: str, latest: str
) -> None:
    for asked, shown in ((None, latest), (latest, latest), (earliest, earliest)):
        until = None if asked is None else day(asked)
        data = history.when(given.penalty(**changes, public_until=until))
        assert isinstance(data, events.PenaltyImposed)
        assert (data.publicity, data.public_until) == (publicity, day(shown))
    for wrong in (day(earliest) - DAY, day(latest) + DAY):
        history.refuses(
            errors.PublicityOutOfRange,
            given.penalty(**changes, public_until=wrong),
            f"public_until {wrong} must lie between {earliest} and {latest}",
        )


def test_a_warning_only_is_never_shown() -> None:
    book = given.rulebook("RB-2026.1", "2024-01-01")
    book["items"]["families"]["STALE_ITEM"]["least"] = "S0"
    history = History(rules(book))
    history.given(given.register())
    warning = {
        "category": "DISCLOSURE",
        "family": "STALE_ITEM",
        "severity": "S0",
        "severity_reason": given.evidence(),
    }
    data = history.when(given.penalty(**warning))
    assert isinstance(data, events.PenaltyImposed)
    assert data.publicity == "NEVER"
    assert data.public_until == data.decided_on
    assert data.visibility() == "party"


# --- complaints, breaches ------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["SUBSTANTIATED", "PARTLY"])
def test_a_substantiated_complaint_needs_its_finding(history: History, outcome: str) -> None:
    history.refuses(
        errors.FindingMismatch, given.complaint(outcome=outcome, finding=None), "with its finding"
    )
    data = history.when(given.complaint(outcome=outcome))
    assert isinstance(data, events.ComplaintOutcomeRecorded)
    assert data.finding is not None


def test_an_unfounded_complaint_has_no_finding(history: History) -> None:
    history.refuses(
        errors.FindingMismatch,
        given.complaint(outcome="UNSUBSTANTIATED", finding=given.finding()),
        "without a finding",
    )
    data = history.when(given.complaint(outcome="UNSUBSTANTIATED"))
    assert isinstance(data, events.ComplaintOutcomeRecorded)
    assert data.finding is None
    assert history.state.facts == {}


def test_a_complaint_is_not_decided_tomorrow(history: History) -> None:
    history.refuses(errors.DateInFuture, given.complaint(decided_on=TODAY + DAY), "decided_on")


@pytest.mark.parametrize("command", [given.penalty, given.finding])
def test_what_the_parties_confirm_is_a_breach_and_no_penalty(
    history: History, command: Callable[..., Any]
) -> None:
    """`CONFIRMED` is no authority (domain.md §3: who imposes penalties)."""
    given_by = command(issuer=given.issuer("CONFIRMED"))
    if isinstance(given_by, ComplaintFinding):
        given_by = given.complaint(finding=given_by)
    history.refuses(errors.IssuerNotEntitled, given_by, "CONFIRMED")


@pytest.mark.parametrize(
    ("ground", "kind"),
    [
        ("JUDGMENT", "COURT"),
        ("AWARD", "ARBITRATION"),
        ("SIGNED_MEDIATION", "CONFIRMED"),
        ("ADMISSION", "CONFIRMED"),
        ("UNANSWERED_NOTICE", "CONFIRMED"),
    ],
)
def test_a_breach_rests_on_its_ground(history: History, ground: str, kind: str) -> None:
    for other in SHIPPED.books[0].items.issuers:
        command = given.breach(ground=ground, issuer=given.issuer(other))
        if other == kind:
            history.given(command)
        else:
            history.refuses(
                errors.IssuerNotEntitled, command, f"kind {other} may not decide {ground}"
            )


def test_early_termination_is_no_ground() -> None:
    with pytest.raises(ValidationError, match="ground"):
        given.breach(ground="TERMINATED_EARLY")


# --- merits, inspections, listings ---------------------------------------------------------------


def test_only_a_regulator_honours(history: History) -> None:
    history.refuses(
        errors.IssuerNotEntitled,
        given.reward(issuer=given.issuer("ASSOCIATION")),
        "ASSOCIATION may not decide REGULATOR_HONOUR",
    )
    history.given(given.reward(item="TRAINING", issuer=given.issuer("ASSOCIATION")))


@pytest.mark.parametrize("command", [given.reward, given.inspection])
def test_a_body_of_an_unknown_kind(history: History, command: Callable[..., Data]) -> None:
    history.refuses(
        errors.CodeNotInForce, command(issuer=given.issuer("NEWSPAPER")), "'NEWSPAPER'", "RB-2026.1"
    )


def test_a_completed_contract_names_its_counterparty(history: History) -> None:
    history.refuses(
        errors.CounterpartyMissing, given.reward(item="CONTRACT_COMPLETED"), "CONTRACT_COMPLETED"
    )
    history.given(given.reward(item="CONTRACT_COMPLETED", counterparty=given.CLIENT))
    history.refuses(
        errors.CounterpartyMissing, given.contract(counterparty=None), "CONTRACT_COMPLETED"
    )
    with pytest.raises(ValidationError, match="counterparty"):
        given.contract(counterparty=given.OTHER)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (given.reward(on=TODAY + DAY), "on is 2026-03-03"),
        (given.contract(on=TODAY + DAY), "on is 2026-03-03"),
        (given.inspection(on=TODAY + DAY), "on is 2026-03-03"),
        (given.listing(listed_on=TODAY + DAY), "listed_on is 2026-03-03"),
        (given.referral(referred_on=TODAY + DAY), "referred_on is 2026-03-03"),
        (given.referral(referred_on=None, shown_from=TODAY + DAY), "shown_from is 2026-03-03"),
    ],
    ids=["reward", "contract", "inspection", "listing", "referred", "shown"],
)
def test_nothing_happens_tomorrow(history: History, command: Data, told: str) -> None:
    history.refuses(errors.DateInFuture, command, told)


@pytest.mark.parametrize(
    ("result", "merit"),
    [("CLEAN", "INSPECTION_CLEAN"), ("MINOR", None), ("FINDING", None), ("OBSTRUCTED", None)],
)
def test_only_a_clean_inspection_is_a_merit(
    history: History, result: str, merit: str | None
) -> None:
    data = history.when(given.inspection(result=result))
    assert isinstance(data, events.InspectionRecorded)
    assert data.merit == merit


@pytest.mark.parametrize("kind", ["ARBITRATION", "PLATFORM", "ASSOCIATION", "CONFIRMED", "NOBODY"])
def test_only_regulators_and_courts_list(history: History, kind: str) -> None:
    history.refuses(
        errors.IssuerNotEntitled, given.listing(issuer=given.issuer(kind)), f"kind {kind} may not"
    )
    history.given(given.listing(issuer=given.issuer("COURT")))
    history.given(given.listing(issuer=given.issuer("REGULATOR")))


@pytest.mark.parametrize("kind", ["ARBITRATION", "PLATFORM", "ASSOCIATION", "CONFIRMED"])
def test_only_authorities_refer_to_prosecutors(history: History, kind: str) -> None:
    issuer = given.issuer(kind)
    history.refuses(errors.IssuerNotEntitled, given.referral(issuer=issuer), f"kind {kind} may not")
    history.refuses(
        errors.CodeNotInForce, given.referral(issuer=given.issuer("NOBODY")), "'NOBODY'"
    )
    history.given(given.referral(issuer=given.issuer("REGULATOR")))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"referred_on": day("2026-02-25")}, "shown_from (2026-02-24)"),
        ({"public_until": day("2026-02-24")}, "the day after shown_from (2026-02-25)"),
        ({"public_until": day("2026-02-01")}, "public_until (2026-02-01)"),
    ],
    ids=["shown before it was made", "never shown", "over before it begins"],
)
def test_a_referral_is_made_then_shown_then_gone(
    history: History, changes: dict[str, Any], told: str
) -> None:
    history.refuses(errors.DateOrder, given.referral(**changes), told)
    history.given(
        given.referral(
            referred_on=day("2026-02-24"),
            shown_from=day("2026-02-24"),
            public_until=day("2026-02-25"),
        )
    )


def test_a_referral_over_long_ago_is_still_recorded(history: History) -> None:
    """A register is read years later too: the record is whole, and nothing of it is shown."""
    days = {"shown_from": day("2017-03-15"), "public_until": day("2017-06-02")}
    history.given(given.referral(referred_on=None, **days))


# --- later acts: on what --------------------------------------------------------------------------

ACTS: dict[str, Callable[..., Data]] = {
    "suspended": given.suspend,
    "resumed": given.resume,
    "overturned": given.overturn,
    "fulfilled": given.fulfil,
    "fulfilment_revoked": given.revoke_fulfilment,
    "repaired": given.repair,
    "repair_revoked": given.revoke_repair,
    "reward revoked": given.revoke_reward,
    "removed": given.delist,
    "qualification revoked": given.revoke_qualification,
}
ALLOWED = {
    "demerit": {
        *("suspended", "resumed", "overturned", "fulfilled", "fulfilment_revoked"),
        *("repaired", "repair_revoked"),
    },
    "merit": {"overturned", "reward revoked"},
    "inspection": {"overturned"},
    "listing": {"overturned", "removed"},
    "referral": {"overturned"},
    "qualification": {"qualification revoked"},
}
KINDS: dict[str, str] = {
    "penalty": "demerit",
    "complaint": "demerit",
    "breach": "demerit",
    "reward": "merit",
    "contract": "merit",
    "inspection": "inspection",
    "listing": "listing",
    "referral": "referral",
    "qualification": "qualification",
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("fact", KINDS)
def test_each_act_has_its_kinds_of_fact(history: History, fact: str, act: str) -> None:
    id = history.given(EVERY_FACT[fact]())
    kind = KINDS[fact]
    if act in ALLOWED[kind]:
        try:
            history.when(ACTS[act](id))
        except (errors.ActConflict, errors.RepairTooEarly) as right_kind_wrong_moment:
            assert id in str(right_kind_wrong_moment)  # noqa: PT017
    else:
        history.refuses(errors.WrongTarget, ACTS[act](id), id, f"is a {kind}")


@pytest.mark.parametrize("act", [*ACTS, "publicity_ended"])
def test_an_act_on_what_is_not_there(history: History, act: str) -> None:
    command = (ACTS | {"publicity_ended": given.end_publicity})[act]
    history.given(given.penalty())
    history.refuses(errors.UnknownTarget, command(given.CLIENT), given.PROVIDER, given.CLIENT)


def test_an_act_on_another_providers_fact(history: History) -> None:
    elsewhere = History()
    id = elsewhere.given(given.register(), given.penalty())
    history.refuses(errors.UnknownTarget, given.overturn(id), id)


def test_an_act_says_which_scoring_facts_it_works_on(history: History) -> None:
    clean = history.given(given.inspection())
    minor = history.given(given.inspection(result="MINOR"))
    penalty = history.given(given.penalty())
    referral = history.given(given.referral())
    for id, parts in (
        (clean, [clean, f"{clean}/merit"]),
        (minor, [minor]),
        (penalty, [penalty]),
        (referral, []),
    ):
        data = history.when(given.overturn(id))
        assert isinstance(data, events.DecisionOverturned)
        assert data.target_facts == parts


@pytest.mark.parametrize(
    ("command", "public"),
    [
        (given.penalty(), True),
        (given.complaint(), False),
        (given.reward(), True),
        (given.contract(), False),
        (given.inspection(), False),
        (given.listing(), True),
        (given.referral(), True),
    ],
    ids=["penalty S2", "complaint S1", "reward", "contract", "inspection", "listing", "referral"],
)
def test_an_act_may_be_seen_as_widely_as_its_target(
    history: History, command: Data, public: bool
) -> None:
    data = history.when(given.overturn(history.given(command)))
    assert data.visibility() == ("public" if public else "party")


# --- later acts: when -----------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS)
def test_no_act_before_its_fact_or_after_today(history: History, act: str) -> None:
    commands: dict[str, Data] = {
        "demerit": given.penalty(decided_on=TODAY, served_on=TODAY),
        "merit": given.reward(on=TODAY),
        "listing": given.listing(listed_on=TODAY),
        "qualification": given.qualification(decided_on=TODAY),
    }
    kind = next(kind for kind, allowed in ALLOWED.items() if act in allowed and kind in commands)
    if act in ("fulfilled", "fulfilment_revoked"):
        commands["demerit"] = given.penalty(obligation=True, decided_on=TODAY, served_on=TODAY)
    id = history.given(commands[kind])
    entering = {
        "resumed": given.suspend,
        "fulfilment_revoked": given.fulfil,
    }
    if act in entering:
        history.given(entering[act](id))
    history.refuses(errors.DateOrder, ACTS[act](id, on=TODAY - DAY), "2026-03-01", "2026-03-02")
    if act not in ("repaired", "repair_revoked"):
        history.refuses(
            errors.DateInFuture, ACTS[act](id, on=TODAY + DAY), "on is 2026-03-03, after 2026-03-02"
        )


def test_a_judgment_that_arrives_late_is_recorded_with_its_true_day(history: History) -> None:
    """The pairs do not wait for each other, and what was void from the start not for any."""
    id = history.given(given.penalty(obligation=True))
    history.given(given.suspend(id, on=TODAY - 2 * DAY))
    history.given(given.fulfil(id, on=TODAY - 3 * DAY))
    history.refuses(
        errors.ActConflict, given.resume(id, on=TODAY - 3 * DAY), "in force from 2026-02-28 on"
    )
    history.given(given.resume(id, on=TODAY - 2 * DAY))
    history.given(given.overturn(id, on=TODAY - 4 * DAY))


def test_a_repair_needs_the_duty_done_on_its_own_day(history: History) -> None:
    long_ago = dict.fromkeys(("occurred_on", "decided_on", "served_on"), day("2025-07-01"))
    id = history.given(given.penalty(**long_ago, obligation=True))
    history.given(given.fulfil(id, on=TODAY))
    history.refuses(errors.ObligationOpen, given.repair(id, on=TODAY - DAY), id)
    history.given(given.repair(id, on=TODAY))


def test_the_status_changes_in_the_order_of_the_decisions(history: History) -> None:
    history.given(given.admit(decided_on=TODAY - DAY))
    early = given.suspend_provider(decided_on=TODAY - 2 * DAY)
    history.refuses(errors.DateOrder, early, "2026-02-28", "the last change of status (2026-03-01)")
    history.given(given.suspend_provider(decided_on=TODAY - DAY))
    history.refuses(errors.DateOrder, given.resume_provider(decided_on=TODAY - 2 * DAY))


def test_a_complaint_is_not_concluded_before_its_finding(history: History) -> None:
    finding = given.finding()
    early = finding.decided_on - DAY
    told = f"decided_on ({early}) must not be before finding.decided_on ({finding.decided_on})"
    history.refuses(errors.DateOrder, given.complaint(decided_on=early, finding=finding), told)
    history.given(given.complaint(decided_on=finding.decided_on, finding=finding))


PAIRS = {
    "suspension": (given.suspend, given.resume),
    "fulfilment": (given.fulfil, given.revoke_fulfilment),
    "repair": (given.repair, given.revoke_repair),
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[Callable[..., Data], Callable[..., Data]]:
    return PAIRS[request.param]


@pytest.fixture
def target(history: History, pair: tuple[Callable[..., Data], Callable[..., Data]]) -> str:
    """A decision of long ago that every pair of acts may work on today and some days before."""
    id = history.given(
        given.penalty(
            occurred_on=day("2025-06-01"),
            decided_on=day("2025-07-01"),
            served_on=day("2025-07-01"),
            obligation=pair[0] is given.fulfil,
        )
    )
    return id


def test_leaving_needs_entering(
    history: History, pair: tuple[Callable[..., Data], Callable[..., Data]], target: str
) -> None:
    enter, leave = pair
    history.refuses(errors.ActConflict, leave(target), "is in force")
    history.given(enter(target, on=TODAY - DAY), leave(target))
    history.refuses(errors.ActConflict, leave(target), "is in force")


def test_entering_twice_needs_leaving_between(
    history: History, pair: tuple[Callable[..., Data], Callable[..., Data]], target: str
) -> None:
    enter, leave = pair
    history.given(enter(target, on=TODAY - 3 * DAY))
    history.refuses(errors.ActConflict, enter(target), "already in force")
    history.given(leave(target, on=TODAY - 2 * DAY), enter(target, on=TODAY - DAY))
    history.refuses(errors.ActConflict, enter(target), "already in force")


def test_on_one_day_the_leaving_act_wins(
    history: History, pair: tuple[Callable[..., Data], Callable[..., Data]], target: str
) -> None:
    enter, leave = pair
    history.given(enter(target, on=TODAY - DAY), leave(target, on=TODAY - DAY))
    history.refuses(errors.ActConflict, leave(target, on=TODAY - DAY), "is in force")
    history.refuses(
        errors.ActConflict, enter(target, on=TODAY - DAY), "on one day the leaving act (2026-03-01)"
    )
    history.given(enter(target, on=TODAY))


def test_overturning_is_final(
    history: History, pair: tuple[Callable[..., Data], Callable[..., Data]], target: str
) -> None:
    enter, leave = pair
    history.given(enter(target, on=TODAY - DAY), given.overturn(target))
    for command in (enter(target), leave(target), given.overturn(target)):
        history.refuses(errors.ActConflict, command, "was overturned, which is final")


@pytest.mark.parametrize("name", [name for name in EVERY_FACT if name not in ENDS_IT])
def test_every_kind_of_fact_is_overturned_once(history: History, name: str) -> None:
    id = history.given(EVERY_FACT[name]())
    history.given(given.overturn(id))
    history.refuses(errors.ActConflict, given.overturn(id), "which is final")


def test_a_reward_is_revoked_once_by_either_act(history: History) -> None:
    id = history.given(given.reward())
    assert isinstance(history.when(given.revoke_reward(id)), events.RewardRevoked)
    history.given(given.revoke_reward(id))
    history.refuses(errors.ActConflict, given.revoke_reward(id), "which is final")
    history.refuses(errors.ActConflict, given.overturn(id), "which is final")


def test_only_an_obligation_can_be_fulfilled(history: History) -> None:
    id = history.given(given.penalty(obligation=False))
    history.refuses(errors.ActConflict, given.fulfil(id), "carries no obligation")


def test_the_pairs_do_not_disturb_each_other(history: History) -> None:
    id = history.given(
        given.penalty(
            occurred_on=day("2025-06-01"),
            decided_on=day("2025-07-01"),
            served_on=day("2025-07-01"),
            obligation=True,
        )
    )
    history.given(given.suspend(id), given.fulfil(id), given.repair(id))
    history.refuses(errors.ActConflict, given.suspend(id), "already in force")
    history.given(given.resume(id), given.revoke_repair(id), given.revoke_fulfilment(id))


# --- repair, backdating ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "earliest"),
    [
        ({"severity": "S2"}, "2025-12-15"),
        ({"family": "FAKE_TRAFFIC", "severity": "S3"}, "2026-09-15"),
        (
            {"family": "LATE_RESPONSE", "category": "COMPLAINT", "severity": "S1"},
            "2025-12-15",
        ),
    ],
    ids=["general", "serious", "minor"],
)
def test_a_repair_waits_for_the_shortest_publicity_period(
    history: History, changes: dict[str, Any], earliest: str
) -> None:
    decided = day("2025-09-15")
    id = history.given(
        given.penalty(
            occurred_on=day("2025-09-01"),
            decided_on=decided,
            served_on=day("2025-10-15"),
            **changes,
        )
    )
    first = day(earliest)
    history.today = first
    history.refuses(
        errors.RepairTooEarly, given.repair(id, on=first - DAY), f"repaired from {earliest} on"
    )
    history.given(given.repair(id, on=first))


def test_the_shortest_period_is_that_of_the_rulebook_of_the_decision() -> None:
    longer = given.rulebook("RB-2026.2", "2026-01-01")
    longer["items"]["severities"]["S2"]["shortest_months"] = 6
    history = History(rules(given.rulebook("RB-2026.1", "2024-01-01"), longer), day("2026-05-01"))
    history.given(given.register())
    old = history.given(given.penalty(**OLD, served_on=OLD["decided_on"]))
    new = history.given(given.penalty(**NEW, served_on=NEW["decided_on"]))
    history.when(given.repair(old, on=history.today))
    history.refuses(errors.RepairTooEarly, given.repair(new, on=history.today), "2026-07-02")


def test_a_repair_needs_the_duty_fulfilled(history: History) -> None:
    id = history.given(
        given.penalty(
            occurred_on=day("2025-06-01"),
            decided_on=day("2025-07-01"),
            served_on=day("2025-07-01"),
            obligation=True,
        )
    )
    history.refuses(errors.ObligationOpen, given.repair(id), id, "2026-03-02")
    history.given(given.fulfil(id, on=TODAY - 2 * DAY))
    history.when(given.repair(id))
    history.given(given.revoke_fulfilment(id, on=TODAY - DAY))
    history.refuses(errors.ObligationOpen, given.repair(id), id)
    history.given(given.fulfil(id, on=TODAY), given.repair(id, on=TODAY))


@pytest.mark.parametrize(
    ("act", "limited"),
    [
        ("repaired", True),
        ("fulfilled", True),
        ("removed", True),
        ("suspended", False),
        ("overturned", False),
    ],
)
def test_how_far_back_one_officer_may_date_an_act(
    history: History, act: str, limited: bool
) -> None:
    if act == "removed":
        id = history.given(given.listing(listed_on=day("2025-06-01")))
    else:
        id = history.given(
            given.penalty(
                occurred_on=day("2025-06-01"),
                decided_on=day("2025-07-01"),
                served_on=day("2025-07-01"),
                obligation=act == "fulfilled",
            )
        )
    history.when(ACTS[act](id, on=TODAY - 30 * DAY))
    command = ACTS[act](id, on=TODAY - 31 * DAY)
    if limited:
        history.refuses(errors.Backdated, command, f"{act} is dated 2026-01-30", "30 days")
    else:
        history.when(command)


def test_the_limit_of_backdating_is_that_of_the_rulebook_of_the_recording_day() -> None:
    stricter = given.rulebook("RB-2026.2", "2026-02-20")
    stricter["clocks"]["backdating"]["count"] = 5
    history = History(rules(given.rulebook("RB-2026.1", "2024-01-01"), stricter))
    history.given(given.register())
    id = history.given(given.listing())
    history.when(given.delist(id, on=TODAY - 5 * DAY))
    history.refuses(errors.Backdated, given.delist(id, on=TODAY - 6 * DAY), "5 days")


# --- listings end, publicity ends -----------------------------------------------------------------


def test_a_listing_is_removed_once_and_not_before_it_began(history: History) -> None:
    id = history.given(given.listing(listed_on=TODAY - DAY))
    history.refuses(errors.DateOrder, given.delist(id, on=TODAY - 2 * DAY), "2026-02-28")
    history.given(given.delist(id, on=TODAY - DAY))
    history.refuses(errors.ActConflict, given.delist(id), "already removed")
    history.given(given.overturn(id))


def test_an_overturned_listing_is_not_removed(history: History) -> None:
    id = history.given(given.listing())
    history.given(given.overturn(id))
    history.refuses(errors.ActConflict, given.delist(id), "which is final")


def test_publicity_ends_on_its_last_day_and_once(history: History) -> None:
    id = history.given(given.penalty(public_until=day("2026-05-10")))
    history.today = day("2026-05-09")
    history.refuses(errors.DateInFuture, given.end_publicity(id), "public_until is 2026-05-10")
    history.today = day("2026-05-20")
    data = history.when(given.end_publicity(id))
    assert isinstance(data, events.PublicityEnded)
    assert data.on == day("2026-05-10"), "the day it ended, not the day somebody noticed"
    history.given(given.end_publicity(id))
    history.refuses(errors.ActConflict, given.end_publicity(id), "already ended")


def test_a_referral_ends_on_the_day_its_issuer_takes_it_away(history: History) -> None:
    id = history.given(given.referral(public_until=day("2026-05-10")))
    history.today = day("2026-05-09")
    history.refuses(errors.DateInFuture, given.end_publicity(id), "public_until is 2026-05-10")
    history.today = day("2026-05-20")
    data = history.when(given.end_publicity(id))
    assert isinstance(data, events.PublicityEnded)
    assert data.on == day("2026-05-10")
    history.given(given.end_publicity(id), given.overturn(id, on=history.today))


def test_the_end_of_publicity_hinders_no_later_act(history: History) -> None:
    id = history.given(given.penalty(public_until=day("2026-05-10")))
    history.today = day("2026-06-01")
    history.given(given.end_publicity(id))
    history.given(given.suspend(id, on=day("2026-05-01")), given.overturn(id, on=day("2026-05-02")))


@pytest.mark.parametrize("end", [given.overturn, given.repair])
def test_what_is_not_shown_any_more_has_no_publicity_to_end(
    history: History, end: Callable[..., Data]
) -> None:
    id = history.given(given.penalty(public_until=day("2026-05-10")))
    history.today = day("2026-05-10")
    history.given(end(id, on=history.today))
    history.refuses(errors.ActConflict, given.end_publicity(id), id)


@pytest.mark.parametrize("name", ["complaint", "reward", "contract", "inspection", "listing"])
def test_what_is_not_shown_singly_has_no_publicity_to_end(history: History, name: str) -> None:
    id = history.given(EVERY_FACT[name]())
    history.today = day("2036-01-01")
    history.refuses(errors.WrongTarget, given.end_publicity(id), "publicity_ended")


# --- withdrawals by authority and document number ------------------------------------------------


def test_a_withdrawal_overturns_every_finding_of_the_document(history: History) -> None:
    issued = {"document_no": "号1", "incident": "INC-A"}
    first = history.given(given.penalty(**issued))
    second = history.given(given.penalty(**issued, family="AD_ABSOLUTE"))
    history.given(given.penalty(document_no="号2"))
    events_of = history.all_of(given.withdraw(given.penalty(document_no="号1")))
    assert [one.target for one in events_of] == [first, second]
    assert {one.on for one in events_of} == {history.today}, "the row tells no day"


def test_a_withdrawal_may_name_one_finding_alone(history: History) -> None:
    issued = {"document_no": "号1", "incident": "INC-A"}
    history.given(given.penalty(**issued))
    second = history.given(given.penalty(**issued, family="AD_ABSOLUTE"))
    named = NamedDecision(
        issuer_name=given.regulator().name, document_no="号1", family="AD_ABSOLUTE"
    )
    command = given.withdraw(given.penalty(document_no="号1"), withdrawn=named)
    assert [one.target for one in history.all_of(command)] == [second]


def test_a_withdrawal_of_what_nobody_recorded_is_refused(history: History) -> None:
    history.given(given.penalty(document_no="号1"))
    for other in (
        given.penalty(document_no="号2"),
        given.penalty(document_no="号1", issuer=given.issuer("COURT")),
    ):
        history.refuses(errors.UnknownDecision, given.withdraw(other), other.document_no)


def test_a_second_withdrawal_is_refused_as_any_second_overturning(history: History) -> None:
    id = history.given(given.penalty(document_no="号1"))
    command = given.withdraw(given.penalty(document_no="号1"))
    history.given(command)
    history.refuses(errors.ActConflict, command, id)


def test_a_licence_is_withdrawn_by_its_document_too(history: History) -> None:
    licence = given.qualification(document_no="号1")
    id = history.given(licence)
    named = NamedQualification(issuer_name=licence.issuer.name, document_no="号1")
    fields = {name: getattr(licence, name) for name in events.Decision.model_fields}
    command = WithdrawQualification(**fields, withdrawn=named, on=day("2026-02-20"))
    [revoked] = history.all_of(command)
    assert (type(revoked), revoked.target) == (QualificationRevoked, id)
    assert revoked.on == day("2026-02-20")
    history.given(command)
    history.refuses(errors.ActConflict, command, id)
    history.given(licence)


def test_a_licence_holds_for_a_time_that_has_an_order(history: History) -> None:
    ends_first = given.qualification(valid_until=day("2026-01-31"))
    history.refuses(errors.DateOrder, ends_first, "valid_until (2026-01-31)", "valid_from")
    tomorrow = given.qualification(decided_on=history.today + DAY)
    history.refuses(errors.DateInFuture, tomorrow, "decided_on")
    nobody = given.qualification(issuer=given.issuer("NOBODY"))
    history.refuses(errors.CodeNotInForce, nobody, "'NOBODY'")
    history.given(given.qualification(valid_from=history.today + DAY, valid_until=None))


# --- the rules above are all there are ------------------------------------------------------------


def test_every_command_is_tried_here() -> None:
    tried = {
        type(command(given.CLIENT) if command in ACTS.values() else command())
        for command in (*EVERY_FACT.values(), *STATUS.values(), given.register, *ACTS.values())
    }
    known = {*provider.DECIDERS, *acts.ACTS, events.ProviderRegistered}
    assert tried == known
