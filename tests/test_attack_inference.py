"""What can be inferred of what officers do among themselves: nothing that is read may change by it.

A provider, and whoever else reads, asks for all that he may ask for before and after each act of
officers of which he may know nothing: a proposal, its refusal, a look at it. Whatever moved (a tag,
a length, a link, a count, a position that is not the whole log's) would tell him that it was done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, NamedTuple

import pytest

from ledger.database import Database
from tests import given
from tests.attack import alike, attacks
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, serving

OWN = given.PROVIDER
READERS = (
    *("provider", "", "subscriber", "association", "platform", "mediator", "client", "trainer"),
)
POSITION = re.compile(r'("(?:position|known_at|head)":|<dd>)(\d+)')
"""How far the log goes, which everybody is told."""


class World(NamedTuple):
    """A server, the penalty that is fought over, and how far the log went before."""

    served: Served
    penalty: str
    last: int


@pytest.fixture(scope="module")
def world(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    keys = tmp_path_factory.mktemp("inference") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        path = f"/v1/providers/{OWN}"
        penalty = served.penalise().json()["id"]
        for address, body in (
            ("contracts", given.contract()),
            ("inspections", given.inspection()),
            ("complaint-outcomes", given.complaint()),
        ):
            positioned(served.post(f"{path}/{address}", body.model_dump(mode="json")))
        served.follow()
        last = served.head()
        # The log goes on from here, whoever reads.
        assert served.get(f"/v1/events/{last}", "auditor").status_code == 200
        assert served.head() == last + 1
        yield World(served, penalty, last)


def bearer(world: World, role: str) -> dict[str, str]:
    """How a reader shows who he is; the association and the platform recorded nothing."""
    if not role:
        return {}
    organisation = OWN if role == "provider" else "CN-ELSE-1"
    return {"Authorization": f"Bearer {world.served.token(role, organisation)}"}


def questions(world: World, role: str) -> Iterator[tuple[str, str]]:
    """Whatever may be asked about the provider: method and address."""
    own = f"/v1/providers/{OWN}"
    for path in (
        *(f"{own}/score", f"{own}/case", f"{own}/score?as_of=2026-03-01"),
        *(f"{own}/events{query}" for query in ("", "?limit=1", "?limit=5", f"?after={world.last}")),
        *(f"/v1/disclosure/providers/{OWN}", f"/providers/{OWN}", "/", "/?q=示例"),
        *("/v1/disclosure/providers", "/v1/disclosure/providers?q=9199", "/v1/schemas"),
        *(f"{own}/proposals/{world.penalty}", "/v1/proposals", "/v1/quarantine"),
        *(f"/v1/events/{position}" for position in range(1, world.last + 1)),
        *(f"/v1/events/{position}/sealed" for position in (2, world.last)),
    ):
        yield "GET", path
        yield "HEAD", path
    if role:
        yield "GET", f"/v1/feed?limit={world.last}"
    yield "POST", f"{own}/penalties"
    yield "POST", f"{own}/decisions/{world.penalty}/overturning"


def seen(world: World, role: str) -> dict[tuple[str, str], Any]:
    """Every answer to a reader, but for how far the log goes."""
    world.served.follow()
    found = {}
    asked = bearer(world, role)
    for method, path in questions(world, role):
        sent: dict[str, Any] = {"json": {}} if method == "POST" else {}
        answer = world.served.client.request(method, path, headers=asked, **sent)
        status, headers, text = alike(answer, {})
        text = POSITION.sub(lambda one: one[1] + later(world, one[2]), text)
        longer = len(answer.text.encode()) - len(text.encode())
        headers = [
            (name, str(int(value) - longer) if name == "content-length" and text else value)
            for name, value in headers
            if not (name == "content-length" and method == "HEAD")
        ]
        found[method, path] = status, headers, text
    return found


def later(world: World, position: str) -> str:
    """A position that is of the provider; else only that it is none."""
    return position if int(position) <= world.last else "<later>"


def looks(world: World) -> list[Any]:
    """Who looked at its file, as the provider is told; those of the readers here aside."""
    path = f"/v1/providers/{OWN}/accesses?limit=1000"
    answer = world.served.client.get(path, headers=bearer(world, "provider"))
    return [one for one in answer.json()["accesses"] if one["role"] not in READERS]


def acts(world: World) -> Iterator[tuple[str, Callable[[], int]]]:
    """What officers do among themselves, each giving its status."""
    served, own = world.served, f"/v1/providers/{OWN}"
    made: list[str] = []

    def propose(address: str, command: Any) -> int:
        answer = served.post(
            f"{own}/{address}", command.model_dump(mode="json", exclude={"target"})
        )
        made.append(answer.headers["location"])
        return answer.status_code

    def decide(what: str, body: Any, role: str) -> int:
        return served.post(f"{made[-1]}/{what}", body, role).status_code

    def look(path: str) -> int:
        return served.get(path, "legal_reviewer").status_code

    overturning = f"decisions/{world.penalty}/overturning"
    yield "propose to overturn", lambda: propose(overturning, given.overturn(world.penalty))
    yield "look at all proposals", lambda: look("/v1/proposals")
    yield "look at one", lambda: look(made[-1])
    refusal = {"reason": "NOT_PROVEN"}
    yield "refuse it", lambda: decide("refusal", refusal, "decision_maker")
    yield "propose to list", lambda: propose("listings", given.listing())
    yield "read the proposal's event", lambda: look(f"/v1/events/{served.head()}")
    yield "read on in the file", lambda: look(f"{own}/events?after={world.last}")
    yield "read on in the feed", lambda: look(f"/v1/feed?after={world.last}&limit=1")
    yield "the same again", lambda: propose("listings", given.listing())


def test_nothing_that_is_read_moves_by_what_officers_do_among_themselves(world: World) -> None:
    before = {role: seen(world, role) for role in READERS}
    looked = looks(world)
    with attacks("inference") as tally:
        for what, act in acts(world):
            assert act() in (200, 201, 202), what
            for role in READERS:
                now = seen(world, role)
                for question, answer in now.items():
                    first = before[role][question]
                    same = [one == other for one, other in zip(first, answer, strict=True)]
                    tally.attack((what, role, question), (first, answer), good=all(same))
            tally.attack((what, "who looked"), looks(world), good=looks(world) == looked)


def test_a_copy_of_the_full_score_stays_good_whatever_officers_propose(world: World) -> None:
    served, path = world.served, f"/v1/providers/{OWN}/score"
    asked = bearer(world, "provider")
    tag = served.client.get(path, headers=asked).headers["etag"]
    listing = given.listing().model_dump(mode="json")
    assert served.post(f"/v1/providers/{OWN}/listings", listing).status_code in (202, 409)
    served.follow()
    answer = served.client.get(path, headers=asked | {"If-None-Match": tag})
    assert answer.status_code == 304


def test_the_number_of_a_request_does_not_tell_how_many_there_were(world: World) -> None:
    ids = [world.served.get("/healthz").headers["x-request-id"] for _ in range(30)]
    with attacks("request-ids") as tally:
        for one, other in combinations(ids, 2):
            tally.attack((one, other), "", good=one[:6] != other[:6])
