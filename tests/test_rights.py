"""Who reads what, by every door of the running application: a matrix against a table of its own.

Every type of event, with each visibility it may have, in every state of disclosure, is read in
every role, for whoever it concerns and for strangers, by every door. What must come is worked out
here from plain tables and the parsed events, by none of the code that decides it. A new type, role
or address fails until somebody has said here who may see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from starlette.routing import Route

from api.roles import ROLES
from ledger.access import AccessRecorded, access_stream
from ledger.appender import Entry
from ledger.database import Database
from ledger.envelope import Event, new_id
from ledger.erasure import PersonErasure, PersonHold, PersonRelease
from ledger.events import Data
from ledger.handle import Desk, Receipt
from ledger.identity import Actor
from ledger.private import Description
from ledger.provider import RecordComplaintOutcome
from ledger.sealing import PlainText
from ledger.vocabulary import EVENT_TYPES
from projections.outline import outline_of
from projections.rights import RIGHTS, Reach, Whose
from tests import given
from tests.conftest import Clock, Run, new_ledger
from tests.officers import decided
from tests.serving import Served, problem, serving
from tests.test_api_feed import Stream
from tests.test_disclosure import STATES, Case, record_case

# --- The second implementation: tables ------------------------------------------------------------

TABLE: dict[str, tuple[str, str]] = {
    "registrar": ("all all all", "always"),
    "inspector": ("all all all", "always"),
    "case_officer": ("all all all", "always"),
    "legal_reviewer": ("all all all", "always"),
    "decision_maker": ("all all all", "always"),
    "auditor": ("all all all", "always"),
    "mediator": ("disputes disputes -", "always"),
    "privacy_officer": ("persons persons persons", "always"),
    "platform": ("all all -", "recorder"),
    "association": ("all all -", "recorder"),
    "provider": ("all all -", "subject"),
    "trainer": ("- - -", "always"),
    "client": ("- - -", "always"),
    "public": ("- - -", "always"),
    "subscriber": ("- - -", "always"),
    "rulebook_editor": ("- - -", "always"),
}
"""By role: what it sees of events that are public but not shown today, for the parties, and for
officers; and whose: the reader's organisation must be the recorder, or the subject."""
DISPUTES = {
    *("complaint_outcome.recorded.v1", "contract_breach.confirmed.v1", "contract.completed.v1"),
}
PERSONS = {
    *("access.recorded.v1", "person.erased.v1", "person.held.v1", "person.released.v1"),
}
WHOLE_FILE = {role for role, (sees, _) in TABLE.items() if sees.startswith("all all")} - {
    *("platform", "association"),
}
"""Roles that may have all of a provider's file: for a provider, its own."""
SEALED = {
    **dict.fromkeys(("registrar", "case_officer", "legal_reviewer"), "all"),
    **dict.fromkeys(("decision_maker", "auditor"), "all"),
    "mediator": "disputes",
}
"""Roles that may have the sealed text of what they see."""
QUARANTINE = {"registrar": "own", "auditor": "all"}
VISIBILITIES: dict[str, str] = {
    "access.recorded.v1": "officers",
    "complaint_outcome.recorded.v1": "public party",
    "contract.completed.v1": "party officers",
    "contract_breach.confirmed.v1": "public party",
    "decision.overturned.v1": "public party",
    "decision.resumed.v1": "public party",
    "decision.suspended.v1": "public party",
    "inspection.recorded.v1": "party",
    "ledger.opened.v1": "public",
    "obligation.fulfilled.v1": "public party",
    "obligation.fulfilment_revoked.v1": "public party",
    "penalty.imposed.v1": "public party",
    "person.erased.v1": "public",
    "person.held.v1": "officers",
    "person.released.v1": "officers",
    "proposal.made.v1": "officers",
    "proposal.refused.v1": "officers",
    "proposal.withdrawn.v1": "officers",
    "provider.admitted.v1": "public",
    "provider.exited.v1": "public",
    "provider.registered.v1": "public",
    "provider.resumed.v1": "public party",
    "provider.suspended.v1": "public party",
    "publicity.ended.v1": "public",
    "qualification.revoked.v1": "public",
    "qualification.verified.v1": "public",
    "referral.recorded.v1": "public",
    "repair.granted.v1": "public party",
    "repair.revoked.v1": "public party",
    "reward.granted.v1": "public party",
    "reward.revoked.v1": "public party",
    "rulebook.published.v1": "public",
    "severe_list.entered.v1": "public",
    "severe_list.removed.v1": "public",
}
"""Every type with each visibility it may have; none is `officers` yet, so one is made up here."""
REASONS = {
    "not served yet": "not-yet-served",
    "overturned": "overturned",
    "overturned before service": "overturned",
    "repaired": "repaired",
    "publicity ended by event": "publicity-ended",
    "publicity ended by date": "publicity-ended",
    "removed": "removed",
    "revoked": "overturned",
    "licence revoked": "removed",
}
RETRACTING = {
    *("repair.granted.v1", "decision.overturned.v1", "reward.revoked.v1"),
    *("severe_list.removed.v1", "qualification.revoked.v1", "publicity.ended.v1"),
}
LINES = {
    *("/v1/events/{position}", "/v1/providers/{identifier}/events"),
    *("/v1/events/{position}/sealed", "/v1/feed"),
}
COMPUTED = {
    *("/v1/providers/{identifier}/score", "/v1/providers/{identifier}/case"),
    "/v1/providers/{identifier}/accesses",
}
ROWS = {"/v1/quarantine", "/v1/quarantine/{id}"}
PROPOSALS = {"/v1/proposals", "/v1/providers/{identifier}/proposals/{id}"}
"""For who sees everything; held to it in `tests/test_second_officer.py`."""
SAME_FOR_ALL = {
    "/v1/disclosure/providers": "?q=示例",
    "/v1/disclosure/providers/{identifier}": "",
    "/v1/schemas": "",
    "/v1/schemas/{type}": "",
    "/problems/{code}": "",
    "/": "?q=示例",
    "/about": "",
    "/providers/{identifier}": "",
    "/docs": "",
    "/openapi.json": "",
    "/.well-known/oauth-protected-resource": "",
}
"""What every reader gets alike, and so may tell nothing that the public does not see."""
OF_PERSONS = {"/v1/persons/{person}/copy"}
"""What is answered to privacy officers: `tests/test_persons_api.py`."""
NO_EVENTS = {"/v1/ledger", "/healthz", "/readyz", "/metrics"}
"""What tells of the whole only; its figures move from one request to the next."""

OWN, OTHER, OFFICE, STRANGER = given.PROVIDER, given.OTHER, "CN-REG-1", "CN-ELSE-1"


class Who(NamedTuple):
    """A reader; without a role nobody has shown who he is."""

    role: str
    organisation: str


def readers() -> list[Who]:
    """Every role, for each organisation that could make a difference, and somebody unknown."""
    found = [Who("", "")]
    for role, (_, whose) in TABLE.items():
        organisations = [OFFICE, OWN, STRANGER]
        if role == "provider":
            organisations = [OWN, OTHER]
        elif whose == "always":
            organisations = [STRANGER] if role in WHOLE_FILE else [OFFICE, OWN]
        found += [Who(role, one) for one in organisations]
    return found


class Told(NamedTuple):
    """One event of the world: its bytes, parsed; in which state it is for the public."""

    line: bytes
    envelope: Mapping[str, Any]
    shown: bool
    state: str
    item: int
    on: Mapping[str, Any] | None

    @property
    def type(self) -> str:
        """The short name of its type."""
        return str(self.envelope["type"]).removeprefix("cn.chengxin.")

    @property
    def types(self) -> set[str]:
        """Its type, and that of what it works on."""
        either = [one for one in (self.envelope, self.on) if one is not None]
        return {one["type"].removeprefix("cn.chengxin.") for one in either}

    def due(self, who: Who) -> dict[str, str] | None:
        """What this reader must get in its place; None for the event itself."""
        sees, whose = TABLE.get(who.role, ("- - -", "always"))
        visibility = self.envelope["visibility"]
        word = sees.split()[("public", "party", "officers").index(visibility)]
        either = [one for one in (self.envelope, self.on) if one is not None]
        types = self.types
        of_matter = {
            "-": False,
            "all": True,
            "disputes": bool(types & DISPUTES),
            "persons": bool(types & PERSONS),
        }[word]
        of_whom = {
            "always": True,
            "subject": self.envelope.get("subject") == who.organisation,
            "recorder": who.organisation in {one["actororg"] for one in either},
        }[whose]
        if (of_matter and of_whom) or (visibility == "public" and self.shown):
            return None
        if visibility != "public":
            return {"withheld": "not-public"}
        if self.type in RETRACTING:
            return {"withheld": self.type, "retracts": f"{self.item:020d}"}
        return {"withheld": REASONS[self.state]}

    def line_for(self, who: Who) -> bytes:
        """The line that this reader must get."""
        due = self.due(who)
        return (
            self.line
            if due is None
            else orjson.dumps({"sequence": self.line[13:33].decode(), **due})
        )

    def beyond_public(self, who: Who) -> bool:
        """Whether the reader gets what the public does not, and no record of access."""
        mine = self.due(who) is None and self.due(Who("", "")) is not None
        return mine and self.type != "access.recorded.v1"


class Whole(NamedTuple):
    """The running application, every event in it by position, and the words that must not leak."""

    served: Served
    told: dict[int, Told]
    hidden: list[str]

    def headers(self, who: Who) -> dict[str, str]:
        """How a reader shows who he is."""
        if not who.role:
            return {}
        return {"Authorization": f"Bearer {self.served.token(who.role, who.organisation)}"}

    def get(self, path: str, who: Who, **headers: str) -> Any:
        """An answer, and how many records of access it left."""
        before = self.served.head()
        answer = self.served.client.get(path, headers=self.headers(who) | headers)
        return answer, len(self.records(before))

    def records(self, after: int) -> list[dict[str, Any]]:
        """What the records of access beyond a position say; there is nothing else."""
        left = [orjson.loads(one.state) for one in self.served.ledger.read(after, 100)]
        assert all(one["type"] == "cn.chengxin.access.recorded.v1" for one in left)
        assert not [one for one in left if "subject" in one]
        return [one["data"] for one in left]

    def files(self, opened: Iterable[Told], who: Who) -> list[str]:
        """The providers in whose file this reader is given what they may see themselves."""
        found: dict[str, None] = {}
        for one in opened:
            subject = one.envelope.get("subject")
            itself = Who("provider", subject or "")
            if subject is not None and one.beyond_public(who) and one.due(itself) is None:
                found[subject] = None
        return list(found)


# --- The world ------------------------------------------------------------------------------------


class Author:
    """Records what the matrix needs; `world` of `record_case`."""

    def __init__(self, served: Served, runner: asyncio.Runner) -> None:
        self.run: Run = runner.run
        self.desk = Desk(served.ledger)

    def record(self, command: Data, provider: str = OWN, actor: Actor = given.REGISTRAR) -> Receipt:
        """Record a command, of two officers if need be."""
        return self.run(decided(self.desk, provider, command, actor))


def about_the_provider(author: Author) -> None:
    """What is no item: the provider's own way, its investigation among it, and another's."""
    author.record(given.register())
    author.record(given.register(name="示例传媒有限公司"), OTHER)
    author.record(given.admit())
    for reason in ("OWN_REQUEST", "INVESTIGATION"):
        author.record(given.suspend_provider(reason=reason))
        author.record(given.resume_provider())
    author.record(given.admit(), OTHER)
    author.record(given.exit_provider(), OTHER)
    author.run(author.desk.publish_rulebook(given.publish(), given.REGISTRAR))


def proposed_in_vain(author: Author) -> None:
    """What one officer asked for and another refused, or he himself took back."""

    def give(command: Data, actor: Actor) -> Receipt:
        return author.run(author.desk.record(OWN, command, actor))

    for make, actor in ((given.refuse, given.SECOND), (given.take_back, given.REGISTRAR)):
        give(make(give(given.listing(), given.REGISTRAR).id), actor)


def recorded_by_others(author: Author) -> list[Case]:
    """A minor penalty that a platform recorded, and another's that it did not, later overturned."""
    minor = {"family": "LATE_RESPONSE", "category": "COMPLAINT", "severity": "S1"}
    found = []
    described = [given.evidence(described=Description(text=PlainText(COMPLAINANT)))]
    for provider in (OWN, OTHER):
        issuer = given.issuer("PLATFORM", "抖音")
        item = author.record(given.penalty(issuer=issuer, **minor), provider, given.PLATFORM)
        act = author.record(given.overturn(item.id, evidence=described), provider)
        found.append(Case("S1 penalty, overturned", False, item.position, [act.position], []))
    return found


COMPLAINANT = "王某某"


def complained(author: Author) -> Case:
    """A complaint for the parties, with who complained sealed, also in what was done about it."""
    receipt = author.record(
        RecordComplaintOutcome.model_validate(
            given.complaint().model_dump(exclude={"complainant"})
            | {"complainant": {"name": COMPLAINANT}}
        )
    )
    described = [given.evidence(described=Description(text=PlainText(COMPLAINANT)))]
    act = author.record(given.suspend(receipt.id, evidence=described))
    acts = [act.position, author.record(given.resume(receipt.id)).position]
    return Case("complaint with minor finding, as recorded", False, receipt.position, acts, [])


def looked_at(served: Served) -> None:
    """Records of access: by strangers and by the office, of each provider's file and of none."""
    actors = [given.PLATFORM, Actor(STRANGER, "auditor", given.REGISTRAR.ref), given.REGISTRAR]
    for subject in (OWN, OTHER, None):
        for actor in actors:
            files = [] if subject is None else [subject]
            append(served, None, actor, LOOK.model_copy(update={"files": files}))
    append(served, OWN, given.REGISTRAR, given.contract(), visibility="officers")
    ground = {"person": given.CLIENT, "ground": "CONSENT_WITHDRAWN"}
    for data in (
        PersonHold(**ground, until=given.TODAY, basis="TRANSACTION_RECORDS"),
        PersonRelease(**ground, erased=True),
        PersonErasure(**ground, through=7),
    ):
        append(served, None, given.REGISTRAR, data)


LOOK = AccessRecorded(door="CASE", first=1, last=2)


def append(
    served: Served,
    subject: str | None,
    actor: Actor,
    data: Data,
    *,
    visibility: str | None = None,
) -> None:
    """Put an event into the log that no desk writes, on a stream of its own."""
    ledger = served.ledger
    id = new_id(ledger.clock(), ledger.random(10))
    event = Event(
        id=id,
        stream=access_stream(id),
        version=1,
        data=data,
        actor=actor,
        nonce="AAECAwQFBgcICQoLDA0ODw",
        subject=subject,
    )
    state, at = event.encode()
    if visibility is not None:
        made = f'"visibility":"{data.visibility()}"'
        state = state.replace(made.encode(), b'"visibility":"%b"' % visibility.encode())
    ledger.appender.append([Entry(event.stream, 1, id, event.type, state, at)])


@pytest.fixture(scope="module")
def whole(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Whole]:
    keys, clock = tmp_path_factory.mktemp("rights") / "keys", Clock()
    book = given.rulebook("RB-2026.1", "2024-01-01")
    book["items"]["families"]["LATE_RESPONSE"]["least"] = "S0"
    with (
        serving(
            databases(), keys, clock, new_ledger=new_ledger, opened=False, max_streams=100
        ) as served,
        asyncio.Runner() as runner,
    ):
        author = Author(served, runner)
        runner.run(author.desk.open_ledger(given.opening(rulebook=book), given.REGISTRAR))
        about_the_provider(author)
        every = [(kind, state) for kind, states in STATES.items() for state in states]
        cases = [record_case(author, *one, n) for n, one in enumerate(every, 1)]
        proposed_in_vain(author)
        cases += [*recorded_by_others(author), complained(author)]
        # Six days on: what ends by date on the fifth has ended.
        clock.set(2026, 3, 5, 2)
        for one in cases:
            if one.name.endswith("publicity ended by event"):
                one.acts.append(author.record(given.end_publicity(one.words[-1])).position)
        looked_at(served)
        served.follow()
        hidden = [word for one in cases if not one.shown for word in one.words]
        yield Whole(served, told_of(served, cases), [*hidden, COMPLAINANT])


def told_of(served: Served, cases: list[Case]) -> dict[int, Told]:
    """Every event, with its state: what is of no case is everybody's where it is public."""
    stored = {one.position: one.state for one in served.ledger.read(0, 100_000)}
    envelopes = {position: orjson.loads(state) for position, state in stored.items()}
    by_id = {one["id"]: one for one in envelopes.values()}
    case_of = {at: one for one in cases for at in (one.position, *one.acts)}
    found = {}
    for position, state in stored.items():
        case, envelope = case_of.get(position), envelopes[position]
        found[position] = Told(
            b'{"sequence":"%020d",' % position + state[1:],
            envelope,
            shown=case is None or case.shown,
            state="" if case is None else case.name.partition(", ")[2],
            item=0 if case is None else case.position,
            on=by_id.get(envelope["data"].get("target", "")),
        )
    return found


# --- Nothing is left out --------------------------------------------------------------------------


def test_every_role_type_visibility_state_and_reason_is_in_the_matrix(whole: Whole) -> None:
    assert set(TABLE) == set(ROLES) == set(RIGHTS)
    assert set(VISIBILITIES) == set(EVENT_TYPES)
    met = {(one.type, one.envelope["visibility"]) for one in whole.told.values()}
    assert met == {(type, one) for type, all in VISIBILITIES.items() for one in all.split()}
    states = {one.state for one in whole.told.values()} - {""}
    assert states == {state for states in STATES.values() for state in states}
    stubs = [one.due(Who("", "")) for one in whole.told.values()]
    reasons = {stub["withheld"] for stub in stubs if stub is not None}
    assert reasons == RETRACTING | set(REASONS.values()) | {"not-public"}


def test_every_address_is_in_the_matrix(whole: Whole) -> None:
    read = {
        route.path
        for route in whole.served.app.routes
        if isinstance(route, Route)
        and "GET" in (route.methods or set())
        and not route.path.startswith("/static/")
    }
    computed = COMPUTED | ROWS | PROPOSALS | OF_PERSONS
    assert read == LINES | computed | set(SAME_FOR_ALL) | NO_EVENTS
    written = {
        route.path
        for route in whole.served.app.routes
        if isinstance(route, Route) and "POST" in (route.methods or set())
    }
    # What is written answers where it stands, and tells of other events in its refusals only.
    assert {path for path in written if not path.startswith("/v1/")} == set()


def test_the_outline_of_an_event_is_what_parsing_it_gives(whole: Whole) -> None:
    for one in whole.told.values():
        envelope = one.envelope
        for text in (one.line, b"{" + one.line[35:]):
            outline = outline_of(text)
            assert outline.type == one.type
            assert outline.visibility == envelope["visibility"]
            assert outline.subject == envelope.get("subject")
            assert outline.recorder == envelope["actororg"]
            proposed = envelope["data"].get("proposed", envelope)["data"]
            assert outline.target == envelope["data"].get("target", proposed.get("target"))


# --- The matrix -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", readers(), ids=lambda who: f"{who.role}-{who.organisation}")
def test_what_a_reader_gets_by_every_door(whole: Whole, who: Who) -> None:
    told = whole.told
    check_feed(whole, who)
    for provider in (OWN, OTHER):
        check_stream(whole, who, provider)
        check_file(whole, who, provider)
    one_of_each = {
        (
            *(one.type, one.envelope["visibility"], one.state, one.envelope["actororg"]),
            b'"sealed":{' in one.line,
        ): position
        for position, one in told.items()
    }
    for position in one_of_each.values():
        before = whole.served.head()
        answer, left = whole.get(f"/v1/events/{position}", who)
        assert answer.content == told[position].line_for(who), (who, position)
        assert left == told[position].beyond_public(who)
        for record in whole.records(before):
            assert record["files"] == whole.files([told[position]], who)
    sealed_of_each = {
        (*sorted(one.types), b'"sealed":{' in one.line): position for position, one in told.items()
    }
    for position in sealed_of_each.values():
        check_sealed(whole, who, position)


def check_sealed(whole: Whole, who: Who, position: int) -> None:
    """What is sealed in an event: only where the reader has its role's right to it."""
    one = whole.told[position]
    may = {"all": True, "disputes": bool(one.types & DISPUTES)}.get(SEALED.get(who.role, ""), False)
    answer, left = whole.get(f"/v1/events/{position}/sealed", who)
    if not may:
        problem(answer, *REFUSED[bool(who.role)])
        assert (COMPLAINANT in answer.text, left) == (False, 0)
        return
    is_sealed = b'"sealed":{' in one.line
    assert (COMPLAINANT in answer.text, left) == (is_sealed, is_sealed)


def check_feed(whole: Whole, who: Who) -> None:
    """The feed, as lines, as a batch, and as a stream."""
    told, last = whole.told, max(whole.told)
    path = f"/v1/feed?limit={last}"
    if not who.role:
        problem(whole.get(path, who)[0], 401, "token-missing")
        return
    lines = [one.line_for(who) for one in told.values()]
    opened = any(one.beyond_public(who) for one in told.values())
    before = whole.served.head()
    answer, left = whole.get(path, who)
    assert answer.content.splitlines() == lines
    assert left == opened
    for record in whole.records(before):
        assert (record["first"], record["last"]) == (1, last)
        assert record["files"] == whole.files(told.values(), who)
    batch, left = whole.get(path, who, Accept="application/cloudevents-batch+json")
    assert batch.content == b"[" + b",".join(lines) + b"]"
    assert left == opened
    before = whole.served.head()
    with closing(Stream(whole.served, "", who.role, organisation=who.organisation)) as stream:
        assert [event["data"] for event in stream.take(last)] == lines
    records = whole.records(before)
    assert [one["last"] for one in records] == [None] * len(records)
    assert bool(records) == opened
    named = [file for one in records for file in one["files"]]
    assert sorted(named) == sorted(whole.files(told.values(), who))


def check_stream(whole: Whole, who: Who, provider: str) -> None:
    """The events of a provider, and who looked at its file."""
    source = f"/streams/provider-{provider}"
    of_file = [one for one in whole.told.values() if one.envelope["source"] == source]
    of_stream = [one for one in of_file if one.due(who) is None]
    before = whole.served.head()
    answer, left = whole.get(f"/v1/providers/{provider}/events?limit=1000", who)
    assert answer.content.splitlines() == [one.line for one in of_stream]
    assert left == any(one.beyond_public(who) for one in of_stream)
    for record in whole.records(before):
        assert record["files"] == whole.files(of_stream, who)
    path = f"/v1/providers/{provider}/accesses?limit=1000"
    answer, left = whole.get(path, who)
    assert left == 0
    if not has_file(who, provider):
        problem(answer, *REFUSED[bool(who.role)])
        return
    looks = [
        (position, one.envelope["actororg"])
        for position, one in whole.told.items()
        if provider in one.envelope["data"].get("files", ())
    ]
    found = [(one["position"], one["organisation"]) for one in answer.json()["accesses"]]
    assert found[: len(looks)] == looks
    assert len(looks) == 3


REFUSED = {False: (401, "token-missing"), True: (403, "not-allowed")}


def has_file(who: Who, provider: str) -> bool:
    """Whether a reader may have all of a provider's file."""
    return who.role in WHOLE_FILE and (who.role != "provider" or who.organisation == provider)


def check_file(whole: Whole, who: Who, provider: str) -> None:
    """What is computed from all events of a provider."""
    full = has_file(who, provider)
    answer, left = whole.get(f"/v1/providers/{provider}/score", who)
    assert answer.json()["audience"] == ("full" if full else "public")
    assert left == full
    again, left = whole.get(
        f"/v1/providers/{provider}/score", who, **{"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, left) == (304, 0)
    past, left = whole.get(f"/v1/providers/{provider}/score?as_of=2026-03-02", who)
    assert left == full
    case, left = whole.get(f"/v1/providers/{provider}/case", who)
    assert left == full
    if full:
        assert (past.status_code, case.status_code) == (200, 200)
        return
    problem(past, 403, "day-not-public")
    problem(case, *REFUSED[bool(who.role)])
    assert not [word for word in whole.hidden if word in answer.text]


@pytest.mark.parametrize("path", SAME_FOR_ALL)
def test_what_is_the_same_for_all_tells_nothing_that_is_hidden(whole: Whole, path: str) -> None:
    asked = path.format(identifier=OWN, type="penalty.imposed.v1", code="unavailable")
    asked += SAME_FOR_ALL[path]
    nobody, left = whole.get(asked, Who("", ""))
    assert (nobody.status_code, left) == (200, 0)
    assert not [word for word in whole.hidden if word in nobody.text]
    for who in readers():
        answer, left = whole.get(asked, who)
        mine, everybodys = (without_position(one) for one in (answer, nobody))
        assert (mine, left) == (everybodys, 0), who


def without_position(answer: Any) -> Any:
    """An answer without how far the log goes, which records of access move on."""
    if "json" not in answer.headers["content-type"]:
        return answer.content
    found = answer.json()
    found.pop("position", None)
    return found


@pytest.mark.parametrize("path", sorted(NO_EVENTS))
def test_what_tells_of_the_whole_names_nothing_that_is_hidden(whole: Whole, path: str) -> None:
    for who in readers():
        answer, left = whole.get(path, who)
        assert (answer.status_code, left) == (200, 0)
        assert not [word for word in whole.hidden if word in answer.text]


def test_rows_in_quarantine_are_seen_by_whom_they_concern(whole: Whole) -> None:
    line = {"key": "Q1", "identifier": "91999999MA00TEXT0X", "command": "inspection"}
    fields = given.inspection().model_dump(mode="json")
    body = orjson.dumps(line | {"data": fields}) + b"\n"
    headers = whole.headers(Who("registrar", OFFICE)) | {"Content-Type": "application/x-ndjson"}
    answer = whole.served.client.post("/v1/imports", content=body, headers=headers)
    number = orjson.loads(answer.text.splitlines()[0]).get("quarantine")
    assert number, answer.text
    for who in [*readers(), Who("registrar", OFFICE)]:
        sees = QUARANTINE.get(who.role)
        listed, left_by_list = whole.get("/v1/quarantine", who)
        row, left_by_row = whole.get(f"/v1/quarantine/{number}", who)
        if sees is None:
            problem(listed, *REFUSED[bool(who.role)])
            problem(row, *REFUSED[bool(who.role)])
        elif sees == "own" and who.organisation != OFFICE:
            assert listed.json() == {"rows": []}
            problem(row, 404, "unknown-row")
        else:
            assert [one["id"] for one in listed.json()["rows"]] == [number]
            assert row.json()["id"] == number
            assert (left_by_list, left_by_row) == (1, 1)
            continue
        assert (left_by_list, left_by_row) == (0, 0)


@pytest.mark.parametrize("role", ["registrar", "platform", "association"])
def test_a_refusal_names_the_earlier_event_to_whom_may_see_it(whole: Whole, role: str) -> None:
    kind = {"registrar": "REGULATOR"}.get(role, role.upper())
    body = given.penalty(issuer=given.issuer(kind)).model_dump(mode="json")
    who = Who(role, OFFICE)
    path = f"/v1/providers/{OTHER}/penalties"
    first = whole.served.client.post(path, json=body, headers=whole.headers(who))
    assert first.status_code == 201, first.text
    told = problem(
        whole.served.client.post(path, json=body, headers=whole.headers(who)), 409, "duplicate-fact"
    )
    assert ("target" in told["facts"]) == has_file(who, OTHER)
    assert (first.json()["id"] in str(told)) == has_file(who, OTHER)


def reach_in_words(reach: Reach) -> str:
    """A cell of the table in `docs/access.md`."""
    if reach.whose is Whose.NOBODYS:
        return "–"
    matters = ", ".join(one.removesuffix(".") for one in reach.matters)
    return f"{reach.whose.value}: {matters}" if matters else reach.whose.value


def test_the_table_in_the_document_is_the_table() -> None:
    text = (Path(__file__).parent.parent / "docs" / "access.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| "
        + " | ".join(
            [
                f"`{role}`",
                ROLES[role],
                *map(reach_in_words, (one.public, one.party, one.officers, one.sealed)),
                "–" if one.quarantine is Whose.NOBODYS else one.quarantine.value,
                "decides" if one.persons else "–",
            ]
        )
        + " |"
        for role, one in RIGHTS.items()
    ]


def test_the_rights_to_more_than_events_are_those_of_the_table() -> None:
    own = {role for role, one in RIGHTS.items() if one.quarantine is Whose.OWN_RECORD}
    everybodys = {role for role, one in RIGHTS.items() if one.quarantine is Whose.EVERYBODYS}
    assert own == {role for role, sees in QUARANTINE.items() if sees == "own"}
    assert everybodys == {role for role, sees in QUARANTINE.items() if sees == "all"}
    opening = {role for role, one in RIGHTS.items() if one.sealed.whose is not Whose.NOBODYS}
    assert opening == {
        *("registrar", "case_officer", "legal_reviewer", "decision_maker", "mediator", "auditor"),
    }
    assert [role for role, one in RIGHTS.items() if one.persons] == ["privacy_officer"]
