"""Two officers over HTTP and among processes: what one proposes, another decides, once.

The rules themselves are in `tests/test_proposals.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx2
import pytest

from api.proposals import OpenProposals, ProposalInFull
from ledger import proposal_errors
from ledger.appender import Key
from ledger.database import Database
from ledger.envelope import decode
from ledger.errors import LedgerError
from ledger.events import Data, provider_stream
from ledger.handle import Desk, Receipt
from ledger.identity import Actor
from ledger.proposal import ProposalMade
from ledger.second_officer import EVENTS_OF_TWO, breaches
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.serving import Served, problem, serving
from tests.test_contract import with_check_character

THREADS = 16


def ref_of(name: str) -> str:
    """The reference of a person of the tests."""
    return str(uuid5(NAMESPACE_URL, name))


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        yield served


numbers = iter(range(10**6))


@pytest.fixture
def provider(served: Served) -> str:
    """A new provider."""
    identifier = with_check_character(f"91999999MC{next(numbers):07}")
    served.provide(identifier)
    return identifier


class Person:
    """Somebody with a reference of their own, whatever the token."""

    def __init__(self, served: Served, name: str) -> None:
        self.served, self.ref = served, ref_of(name)

    def post(
        self, path: str, body: Any, *, role: str = "registrar", **headers: str
    ) -> httpx2.Response:
        token = self.served.tokens.issue(role=role, organisation="CN-REG-1", ref=self.ref)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": f"Bearer {token}"} | more
        return self.served.client.post(path, json=body, headers=headers)

    def propose(self, provider: str, command: Data | None = None, **headers: str) -> str:
        """Propose a list entry; where the proposal is."""
        body = (command or given.listing()).model_dump(mode="json")
        response = self.post(f"/v1/providers/{provider}/listings", body, **headers)
        assert response.status_code == 202, response.text
        return response.headers["location"]


@pytest.fixture
def first(served: Served) -> Person:
    return Person(served, "first")


@pytest.fixture
def second(served: Served) -> Person:
    return Person(served, "second")


def seen(served: Served, path: str, role: str = "auditor") -> dict[str, Any]:
    response = served.get(path, role)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    ProposalInFull.model_validate(found)
    return found


def listed(served: Served) -> list[str]:
    """The ids of all open proposals, page by page."""
    served.follow()
    found: list[str] = []
    path = "/v1/proposals?limit=2"
    while path:
        response = served.get(path, "auditor")
        page = OpenProposals.model_validate(response.json()).proposals
        found += [one.id for one in page]
        path = response.links.get("next", {}).get("url", "")
    return found


# --- one after the other --------------------------------------------------------------------------


def test_a_list_entry_takes_two_persons(
    served: Served, provider: str, first: Person, second: Person
) -> None:
    body = given.listing().model_dump(mode="json", exclude_none=True)
    body["evidence"] = [given.evidence().model_dump(mode="json", exclude_none=True)]
    response = first.post(f"/v1/providers/{provider}/listings", body)
    receipt = response.json()
    path = f"/v1/providers/{provider}/proposals/{receipt['id']}"
    assert (response.status_code, response.headers["location"]) == (202, path)
    proposal = seen(served, path)
    assert (proposal["state"], proposal["verdict"], proposal["data"]) == ("open", None, body)
    assert (proposal["command"], proposal["by"]["ref"]) == ("LISTING", first.ref)
    assert proposal["position"] == receipt["position"]
    assert proposal["lapses_on"] == "2026-04-01"
    assert receipt["id"] in listed(served)
    assert served.get(f"/v1/providers/{provider}/score", "auditor").json()["grade"] != "X"

    response = second.post(f"{path}/approval", {}, role="decision_maker")
    assert response.status_code == 201, response.text
    position = response.json()["position"]
    assert response.headers["location"] == f"/v1/events/{position}"
    event = served.get(f"/v1/events/{position}", "auditor").json()
    assert event["type"] == "cn.chengxin.severe_list.entered.v1"
    assert (event["causationid"], event["data"]) == (receipt["id"], body)
    assert (event["actorref"], event["actorrole"]) == (second.ref, "decision_maker")
    proposal = seen(served, path)
    assert proposal["state"] == "approved"
    assert proposal["verdict"]["position"] == position
    assert receipt["id"] not in listed(served)
    assert served.get(f"/v1/providers/{provider}/score", "auditor").json()["grade"] == "X"


def test_an_overturning_takes_two_persons_and_not_who_recorded_the_fact(
    served: Served, provider: str, first: Person, second: Person
) -> None:
    penalty = given.penalty().model_dump(mode="json")
    recorder = Person(served, "recorder")
    fact = recorder.post(f"/v1/providers/{provider}/penalties", penalty).json()
    body = given.overturn(fact["id"]).model_dump(mode="json", exclude={"target"})
    path = f"/v1/providers/{provider}/decisions/{fact['id']}/overturning"
    response = first.post(path, body)
    assert response.status_code == 202
    proposal = response.headers["location"]
    problem(recorder.post(f"{proposal}/approval", {}), 409, "own-record")
    problem(recorder.post(f"{proposal}/refusal", {"reason": "PROCEDURE"}), 409, "own-record")
    again = problem(second.post(path, body), 409, "proposal-open")
    assert again["facts"]["proposal"] == response.json()["id"]
    assert second.post(f"{proposal}/approval", {}).status_code == 201
    served.follow()
    sheet = served.get(f"/v1/disclosure/providers/{provider}").json()
    assert sheet["items"] == []


def test_another_token_is_not_another_person(served: Served, provider: str, first: Person) -> None:
    path = first.propose(provider)
    for role in ("registrar", "decision_maker"):
        for end, body in (("approval", {}), ("refusal", {"reason": "PROCEDURE"})):
            told = problem(first.post(f"{path}/{end}", body, role=role), 409, "same-officer")
            assert "同一人" in told["detail"]
            english = first.post(f"{path}/{end}", body, role=role, accept_language="en")
            assert "same person" in english.json()["detail"]


def test_a_refusal_and_a_withdrawal_end_it(
    served: Served, provider: str, first: Person, second: Person
) -> None:
    refused, withdrawn = first.propose(provider), first.propose(provider)
    problem(second.post(f"{withdrawn}/withdrawal", {}), 409, "not-the-proposer")
    assert second.post(f"{refused}/refusal", {"reason": "NO_LEGAL_BASIS"}).status_code == 201
    assert first.post(f"{withdrawn}/withdrawal", {}).status_code == 201
    told = seen(served, refused)
    assert (told["state"], told["verdict"]["reason"]) == ("refused", "NO_LEGAL_BASIS")
    assert (seen(served, withdrawn)["state"], told["verdict"]["by"]["ref"]) == (
        "withdrawn",
        second.ref,
    )
    for path in (refused, withdrawn):
        settled = problem(second.post(f"{path}/approval", {}), 409, "proposal-settled")
        assert settled["facts"]["how"] in ("未获批准", "已撤回")


def test_keys_work_on_all_of_it(
    served: Served, provider: str, first: Person, second: Person
) -> None:
    path, body = f"/v1/providers/{provider}/listings", given.listing().model_dump(mode="json")
    made = first.post(path, body, idempotency_key="k-1")
    again = first.post(path, body, idempotency_key="k-1")
    assert (again.status_code, again.json()) == (202, made.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == made.headers["location"]
    address = made.headers["location"]
    content: dict[str, str] = {}
    for end, who in (("approval", second), ("withdrawal", first)):
        address = made.headers["location"] if end == "approval" else first.propose(provider)
        done = who.post(f"{address}/{end}", content, idempotency_key=f"k-{end}")
        repeated = who.post(f"{address}/{end}", content, idempotency_key=f"k-{end}")
        assert (done.status_code, repeated.json()) == (201, done.json())
        assert repeated.headers["idempotent-replayed"] == "true"
    # The first answer stands, whatever became of the proposal.
    assert first.post(path, body, idempotency_key="k-1").json() == made.json()
    other = first.propose(provider)
    problem(second.post(f"{other}/approval", {}, idempotency_key="k-approval"), 409, "key-reused")


def test_there_must_be_a_proposal_of_this_provider(
    served: Served, provider: str, first: Person, second: Person
) -> None:
    path = first.propose(provider)
    id = path.rpartition("/")[2]
    served.provide(other := with_check_character(f"91999999MC{next(numbers):07}"))
    wrong = f"/v1/providers/{other}/proposals/{id}"
    problem(second.post(f"{wrong}/approval", {}), 404, "unknown-proposal")
    problem(served.get(wrong, "auditor"), 404, "unknown-proposal")
    for name in ("nonsense", given.CLIENT):
        problem(
            served.get(f"/v1/providers/{provider}/proposals/{name}", "auditor"),
            404,
            "unknown-proposal",
        )
    problem(second.post(f"{path}/approval", {"proposal": id}), 422, "schema-broken")
    problem(second.post(f"{path}/refusal", {"reason": "MOOD"}), 422, "schema-broken")
    problem(second.post(f"{path}/refusal", {}), 422, "schema-broken")


# --- who sees it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, "provider", "subscriber", "platform", "client", "public"])
def test_only_officers_and_auditors_see_a_proposal(
    served: Served, provider: str, first: Person, role: str | None
) -> None:
    path = first.propose(provider)
    missing = f"/v1/providers/{provider}/proposals/{given.CLIENT}"
    status, code = (401, "token-missing") if role is None else (403, "not-allowed")
    answers = [problem(served.get(one, role), status, code) for one in (path, missing)]
    for one in answers:
        one.pop("request_id")
    assert answers[0] == answers[1], "nothing tells whether there is such a proposal"
    problem(served.get("/v1/proposals", role), status, code)


def test_neither_the_public_nor_the_provider_learns_of_it(
    served: Served, provider: str, first: Person, second: Person
) -> None:
    served.follow()
    before = served.get(f"/v1/disclosure/providers/{provider}").json()
    path = first.propose(provider)
    second.post(f"{path}/refusal", {"reason": "NOT_PROVEN"})
    first.propose(provider)
    served.follow()
    made = seen(served, path)
    own = served.tokens.issue(role="provider", organisation=provider)
    bearer = {"Authorization": f"Bearer {own}"}
    for headers in ({}, bearer):
        events = served.client.get(
            f"/v1/providers/{provider}/events",
            headers=headers | {"Accept": "application/cloudevents-batch+json"},
        ).json()
        assert [one["type"] for one in events] == ["cn.chengxin.provider.registered.v1"]
        for position in (made["position"], made["verdict"]["position"]):
            stub = served.client.get(f"/v1/events/{position}", headers=headers).json()
            assert stub == {"sequence": f"{position:020}", "withheld": "not-public"}
    after = served.get(f"/v1/disclosure/providers/{provider}").json()
    assert after | {"position": before["position"]} == before
    pages = served.get(f"/providers/{provider}")
    assert "提请" not in pages.text
    line = served.get(f"/v1/feed?after={made['position'] - 1}&limit=1", "subscriber").json()
    assert line == {"sequence": f"{made['position']:020}", "withheld": "not-public"}


# --- many at once, and others between ------------------------------------------------------------


def test_of_sixteen_officers_at_once_one_decides(
    served: Served, provider: str, first: Person
) -> None:
    path = first.propose(provider)
    people = [Person(served, f"officer {number}") for number in range(THREADS)]

    def decide(number: int) -> tuple[int, str]:
        end, body = ("refusal", {"reason": "PROCEDURE"}) if number % 4 == 3 else ("approval", {})
        response = people[number].post(f"{path}/{end}", body)
        return response.status_code, response.json().get("code", "")

    with ThreadPoolExecutor(THREADS) as pool:
        answers = Counter(pool.map(decide, range(THREADS)))
    assert answers == {(201, ""): 1, (409, "proposal-settled"): THREADS - 1}
    log = [decode(one.state) for one in served.ledger.read_stream(provider_stream(provider))]
    assert len(log) == 3
    assert log[2].causation == log[1].id
    assert list(breaches(log)) == []


def key(name: str) -> Key:
    return Key("CN-REG-1", given.PROVIDER, name, sha256(name.encode()).digest())


def test_two_processes_and_a_restart_in_between(
    database: Database, opened: Ledger, record: Record, run: Run, clock: Clock
) -> None:
    record(given.register())
    penalty = record(given.penalty())
    with new_ledger(database, clock) as one, new_ledger(database, clock) as other:
        desks = [Desk(one), Desk(other)]
        for desk in desks:
            run(desk.preload([given.PROVIDER]))

        async def both(*what: Callable[[Desk], Any]) -> list[Receipt | BaseException]:
            asked = [make(desk) for make, desk in zip(what, desks, strict=True)]
            found: list[Receipt | BaseException] = await asyncio.gather(
                *asked, return_exceptions=True
            )
            return found

        def give(command: Data, actor: Actor) -> Callable[[Desk], Any]:
            return lambda desk: desk.record(given.PROVIDER, command, actor)

        command = given.overturn(penalty.id)
        made = run(both(give(command, given.SECOND), give(command, given.REGISTRAR)))
        [proposal] = [one for one in made if isinstance(one, Receipt)]
        [refusal] = [one for one in made if isinstance(one, LedgerError)]
        assert isinstance(refusal, proposal_errors.ProposalOpen)
        assert refusal.facts == {"proposal": proposal.id}
    # All who knew it are gone; a process that starts now finds the proposal in the log.
    with new_ledger(database, clock) as one, new_ledger(database, clock) as other:
        desks = [Desk(one), Desk(other)]
        approve = give(given.approve(proposal.id), given.THIRD)
        decided = run(both(approve, give(given.refuse(proposal.id), given.THIRD)))
        [done] = [one for one in decided if isinstance(one, Receipt)]
        [late] = [one for one in decided if isinstance(one, LedgerError)]
        assert isinstance(late, proposal_errors.ProposalSettled)
    log = [decode(one.state) for one in opened.read_stream(provider_stream(given.PROVIDER))]
    assert [one.id for one in log if one.causation == proposal.id] == [done.id]
    assert sum(isinstance(one.data, ProposalMade) for one in log) == 1


def test_an_approval_repeated_after_a_restart_is_answered_and_not_done_again(
    database: Database, opened: Ledger, record: Record, run: Run, clock: Clock
) -> None:
    record(given.register())
    proposal = record(given.listing(), key=key("made"))
    done = record(given.approve(proposal.id), given.SECOND, key=key("approved"))
    with new_ledger(database, clock) as ledger:
        desk = Desk(ledger)
        again = run(
            desk.record(
                given.PROVIDER, given.approve(proposal.id), given.SECOND, key=key("approved")
            )
        )
        made = run(desk.record(given.PROVIDER, given.listing(), given.REGISTRAR, key=key("made")))
    assert (again.id, again.repeated) == (done.id, True)
    assert (made.id, made.repeated) == (proposal.id, True)
    log = [decode(one.state) for one in opened.read_stream(provider_stream(given.PROVIDER))]
    assert sum(type(one.data) in EVENTS_OF_TWO for one in log) == 1


def test_the_worker_and_the_operator_decide_nothing_at_the_desk(
    tmp_path: Path, record: Record
) -> None:
    from api.worker import SYSTEM

    record(given.register())
    proposal = record(given.listing())
    for actor in (SYSTEM, Actor("CN-REG-1", "registrar", SYSTEM.ref)):
        with pytest.raises(LedgerError):
            record(given.approve(proposal.id), actor)
