"""Whose person may be named: by every way in that has something sealed, seen in one place.

Who could seal under another's reference would stand in that person's copy, and could hold up their
erasure. One database for all of them: each test takes its own person.
"""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
import pytest

from ledger import vault
from ledger.access import AccessRecorded
from ledger.database import Database
from ledger.envelope import Event, decode, new_id, new_nonce
from ledger.events import Data
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.private import Agreement, Contact, Operator, Remark
from ledger.sealing import PlainText
from ledger.vault_errors import NotYourPerson
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving
from tests.test_architecture import python_files, text_of
from tests.test_quarantine import WHY
from tests.test_vault import complaint

OURS = Actor("CN-REG-1", "registrar", "0198c7a0-0000-7000-8000-00000000000a")
THEIRS = Actor("CN-REG-2", "registrar", "0198c7a0-0000-7000-8000-00000000000c")
NAME = PlainText("冒名者")
GROUPS = {
    "contact": ("ENTERPRISE", {"name": NAME.text}),
    "operator": ("INDIVIDUAL_BUSINESS", {"name": NAME.text}),
}


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("naming") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        yield served


def recorded(served: Served, command: Data, actor: Actor, provider: str = given.PROVIDER) -> Any:
    """What was recorded, at a desk of its own."""
    receipt = asyncio.run(Desk(served.ledger).record(provider, command, actor))
    return decode(served.ledger.read_at([receipt.position])[0].state).data


@pytest.fixture
def person(served: Served) -> str:
    """Somebody for whom our organisation has sealed."""
    found = recorded(served, complaint(), OURS).complainant.person
    assert isinstance(found, str)
    return found


@pytest.fixture
def untouched(served: Served, person: str) -> Iterator[None]:
    """What is tried records nothing, and makes the person nobody else's to name."""
    before = served.head()
    yield
    # Whoever looked into the quarantine is recorded.
    since = [decode(one.state).data for one in served.ledger.read(before, 100)]
    assert [one for one in since if not isinstance(one, AccessRecorded)] == []
    with pytest.raises(NotYourPerson):
        recorded(served, complaint(person), THEIRS)


def bearer(served: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.token('registrar', THEIRS.organisation)}"}


def line(group: str, person: str, identifier: str) -> bytes:
    """A line that brings a registration along, in which somebody is named."""
    kind, texts = GROUPS[group]
    registration = {"name": "示例公司", "entity_kind": kind, group: texts | {"person": person}}
    return orjson.dumps(
        {
            "key": f"{group}/{person}",
            "identifier": identifier,
            "command": "inspection",
            "data": given.inspection().model_dump(mode="json"),
            "registration": registration,
        }
    )


def deliver(served: Served, content: bytes) -> Any:
    """What is answered to one line."""
    headers = bearer(served) | {"Content-Type": "application/jsonl"}
    answered = served.client.post("/v1/imports", content=content, headers=headers)
    assert answered.status_code == 200, answered.text
    return orjson.loads(answered.content.splitlines()[0])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("group", GROUPS)
def test_a_registration_that_a_line_brings_along_names_nobody_elses(
    served: Served, person: str, group: str
) -> None:
    answer = deliver(served, line(group, person, "US-DE-1"))
    assert answer["state"] == "refused"
    assert answer["problem"]["code"] == "not-your-person"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("group", GROUPS)
def test_nor_does_one_that_is_accepted_from_quarantine(
    served: Served, person: str, group: str
) -> None:
    wrong, right = given.OTHER[:-1] + "J", given.OTHER
    assert deliver(served, line(group, person, wrong))["state"] == "quarantined"
    [row] = served.client.get("/v1/quarantine", headers=bearer(served)).json()["rows"]
    path, headers = f"/v1/quarantine/{row['id']}", bearer(served)

    def decide(what: str, **more: Any) -> Any:
        body = {"why": WHY} | more
        return served.client.post(f"{path}/{what}", json=body, headers=headers)

    mended = decide("correction", set={"identifier": right})
    assert (mended.status_code, mended.json()["problems"]) == (200, [])
    told = problem(decide("acceptance"), 409, "row-not-understood")
    assert person in told["detail"]
    assert decide("rejection").status_code == 200


@pytest.mark.usefixtures("untouched")
def test_of_what_belongs_together_nothing_is_begun(served: Served, person: str) -> None:
    contact = Contact(person=person, name=NAME)
    together = [given.register(contact=contact), given.inspection(), given.penalty()]
    with pytest.raises(NotYourPerson):
        asyncio.run(Desk(served.ledger).rehearse("US-DE-2", together, THEIRS))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "of",
    [
        lambda person: given.register(contact=Contact(person=person, name=NAME)),
        lambda person: given.register(operator=Operator(person=person, name=NAME)),
        lambda person: given.penalty(remark=Remark(person=person, text=NAME)),
        complaint,
        lambda person: given.contract(
            counterparty=person, agreement=Agreement(person=person, terms=NAME)
        ),
    ],
)
def test_whoever_has_something_sealed_is_asked_whose_it_is(
    served: Served, person: str, of: Callable[[str], Data]
) -> None:
    """Also by a way in that is yet to be built: there is no box but from here."""
    ledger = served.ledger
    event = Event(
        id=new_id(ledger.clock(), ledger.random(10)),
        stream="provider-US-DE-3",
        version=1,
        data=of(person),
        actor=THEIRS,
        nonce=new_nonce(ledger.random(16)),
        subject="US-DE-3",
    )
    with pytest.raises(NotYourPerson):
        asyncio.run(ledger.vault.seal([event]))


def test_only_the_vault_makes_boxes() -> None:
    makers = {
        name
        for name in python_files("ledger/", "api/", "projections/")
        for node in ast.walk(ast.parse(text_of(name)))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Box"
    }
    assert makers == {"ledger/vault.py"}


# --- clients -------------------------------------------------------------------------------------


def contract(client: str, counterparty: str | None = None) -> Data:
    agreement = Agreement(client=PlainText(client), terms=PlainText("三个月"))
    return given.contract(counterparty=counterparty, agreement=agreement)


def test_a_client_is_named_by_who_tells_the_name(served: Served) -> None:
    """Whoever recorded it before, and whether or not the reference stands beside the name."""
    first = recorded(served, contract("甲a示例店"), OURS).counterparty
    for told in (contract("乙示例店", first), complaint(first)):
        with pytest.raises(NotYourPerson):
            recorded(served, told, THEIRS)
    for told in (contract("甲a示例店"), contract("甲A示例店", first)):
        assert recorded(served, told, THEIRS).counterparty == first
    # Under whom an organisation has sealed it may name.
    assert recorded(served, complaint(first), THEIRS).complainant.person == first


def test_a_look_before_anybody_sealed_holds_for_nobody_later(served: Served) -> None:
    """Whoever was told that a reference is free is not told so for ever."""
    free = str(UUID(int=77))
    together = [given.register(contact=Contact(person=free, name=NAME))]
    asyncio.run(Desk(served.ledger).rehearse("US-DE-4", together, THEIRS))
    recorded(served, complaint(free), OURS)
    with pytest.raises(NotYourPerson):
        recorded(served, complaint(free), THEIRS)


# --- what is remembered --------------------------------------------------------------------------


class Met(dict[tuple[str, str], None]):
    """What is remembered; two who look for the oldest in it at once find the same one."""

    meeting = threading.Barrier(2)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        oldest = next(super().__iter__())
        # Broken where nobody else may come.
        with suppress(threading.BrokenBarrierError):
            self.meeting.wait(0.3)
        return iter([oldest])


def test_many_threads_may_let_go_of_the_same_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(str(UUID(int=n + 1)), OURS.organisation) for n in range(12)]
    kept = served.ledger.vault
    monkeypatch.setattr(vault, "MAX_KEYS", 8)
    monkeypatch.setattr(kept, "_named", Met(dict.fromkeys(asked[:8])))
    with ThreadPoolExecutor(2) as threads:
        for one in [threads.submit(kept.check_named, asked[n : n + 2]) for n in (8, 10)]:
            one.result()
    assert len(kept._named) == 8
    assert kept.named(asked[8:])
