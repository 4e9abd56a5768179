"""What a provider learns of who looked at its file: by every door, in every role, and no more.

Of each provider there are events that everybody sees, that it sees itself, and one for officers
only, a proposal, of which it must not learn. The records name it where something was opened that it
may see; what it is told of them gives no position that it could not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import orjson
import pytest

from api.accesses import parts_of
from api.answers import FileAccesses
from api.roles import ROLES
from ledger.access import MAX_FILES, AccessRecorded
from ledger.appender import Entry
from ledger.database import Database
from ledger.envelope import Event, new_id, new_nonce
from projections.look import Look, Opened
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, serving
from tests.test_api_feed import Stream

OWN, OTHER = given.PROVIDER, given.OTHER
CASEWORK = {
    *("registrar", "inspector", "case_officer", "legal_reviewer", "decision_maker", "auditor"),
}
OPENED_BY = {
    "public": set[str](),
    "complaint": CASEWORK | {"mediator", "provider"},
    "contract": CASEWORK | {"mediator", "provider"},
    "inspection": CASEWORK | {"provider"},
    "proposal": set[str](),
}
"""By kind of event: the roles in which whoever reads it has looked at the file of its provider."""


class World(NamedTuple):
    """A server, and where the events of each provider stand, by kind."""

    served: Served
    at: dict[str, dict[str, int]]
    last: int


@pytest.fixture(scope="module")
def world(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    keys = tmp_path_factory.mktemp("looks") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        at = {one: filled(served, one) for one in (OWN, OTHER)}
        served.follow()
        yield World(served, at, served.head())


def filled(served: Served, provider: str) -> dict[str, int]:
    """A provider with an event of each kind; the proposal stands last."""
    path = f"/v1/providers/{provider}"
    found = {"public": served.provide(provider)}
    sealed = {"complainant": {"name": "王某某"}, "outcome": "UNSUBSTANTIATED"}
    complaint = given.complaint(outcome="UNSUBSTANTIATED").model_dump(mode="json") | sealed
    for kind, address, body in (
        ("complaint", "complaint-outcomes", complaint),
        ("contract", "contracts", given.contract().model_dump(mode="json")),
        ("inspection", "inspections", given.inspection().model_dump(mode="json")),
    ):
        found[kind] = positioned(served.post(f"{path}/{address}", body))
    listing = given.listing().model_dump(mode="json")
    assert served.post(f"{path}/listings", listing).status_code == 202
    return found | {"proposal": served.head()}


def bearer(world: World, role: str) -> dict[str, str]:
    """Somebody of an organisation that has recorded nothing, and of the provider itself."""
    organisation = OWN if role == "provider" else "CN-ELSE-1"
    return {"Authorization": f"Bearer {world.served.token(role, organisation)}"}


def as_itself(world: World, path: str, provider: str = OWN) -> Any:
    """What a provider reads."""
    token = world.served.token("provider", provider)
    answer = world.served.client.get(path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return answer


def looks(world: World, after: int, provider: str = OWN) -> list[dict[str, Any]]:
    """What a provider is told of looks at its file since a position."""
    world.served.follow()
    path = f"/v1/providers/{provider}/accesses?limit=1000&after={after}"
    answer = as_itself(world, path, provider).json()
    FileAccesses.model_validate(answer)
    found: list[dict[str, Any]] = answer["accesses"]
    return found


def doors(world: World) -> Iterator[tuple[str, str, set[str]]]:
    """Each door with an address of it, and which kinds of OWN's events it gives out."""
    own = world.at[OWN]
    for kind, position in own.items():
        yield "EVENT", f"/v1/events/{position}", {kind}
    yield "EVENTS", f"/v1/providers/{OWN}/events", set(own)
    yield "EVENTS", f"/v1/providers/{OWN}/events?after={own['inspection']}", {"proposal"}
    yield "FEED", f"/v1/feed?limit={world.last}", set(own)
    yield "FEED", f"/v1/feed?after={own['inspection']}&limit=1", {"proposal"}
    yield "FEED", f"/v1/feed?after={own['contract']}&limit=2", {"inspection", "proposal"}
    yield "FEED", f"/v1/feed?after={own['proposal']}&limit={world.last}", set()
    yield "SEALED", f"/v1/events/{own['complaint']}/sealed", {"sealed"}
    yield "SCORE", f"/v1/providers/{OWN}/score", {"file"}
    yield "CASE", f"/v1/providers/{OWN}/case", {"file"}
    yield "PROPOSALS", "/v1/proposals", {"proposal"}


def due(role: str, kinds: set[str]) -> bool:
    """Whether OWN is to be told that a role was given these."""
    opened = OPENED_BY | {
        "sealed": CASEWORK - {"inspector"} | {"mediator"},
        "file": CASEWORK | {"provider"},
    }
    return any(role in opened[one] for one in kinds)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_provider_is_told_of_what_it_may_know_and_of_nothing_else(
    world: World, role: str
) -> None:
    served, before = world.served, world.served.head()
    wanted = []
    for door, path, kinds in doors(world):
        answer = served.client.get(path, headers=bearer(world, role))
        if answer.status_code == 200 and due(role, kinds):
            wanted.append(door)
    organisation = OWN if role == "provider" else "CN-ELSE-1"
    with closing(Stream(served, "", role, organisation)) as stream:
        stream.take(world.last)
    wanted += ["STREAM"] * due(role, set(world.at[OWN]))
    found = looks(world, before)
    assert [one["door"] for one in found] == wanted
    for one in found:
        assert (one["organisation"], one["role"]) == (organisation, role)
        # Where its record stands, and nothing of where something is that was read.
        assert set(one) == {
            *("position", "time", "door", "as_of", "organisation", "role", "ref"),
        }
        assert one["position"] > before
    # In the whole feed the records are what everything else is that it may not see.
    told = map(orjson.loads, as_itself(world, f"/v1/feed?after={before}").content.splitlines())
    assert {(*one, one["withheld"]) for one in told} <= {("sequence", "withheld", "not-public")}
    if role == "provider":
        assert looks(world, before, OTHER) == []


def test_what_is_for_officers_only_is_recorded_all_the_same(world: World) -> None:
    served, position = world.served, world.at[OWN]["proposal"]
    before = served.head()
    served.get(f"/v1/events/{position}", "auditor")
    [record] = [orjson.loads(one.state) for one in served.ledger.read(before, 10)]
    assert (record["data"]["first"], record["data"]["last"]) == (position, position)
    assert record["data"]["files"] == []
    assert looks(world, before) == []


def early_record(world: World, first: int, last: int) -> int:
    """Where a record of the first kind stands: the provider's own, which names no files."""
    ledger = world.served.ledger
    id = new_id(ledger.clock(), ledger.random(10))
    event = Event(
        id=id,
        stream=f"access-{OWN}-{id}",
        version=1,
        data=AccessRecorded(door="EVENTS", first=first, last=last),
        actor=given.REGISTRAR,
        nonce=new_nonce(ledger.random(16)),
        subject=OWN,
    )
    envelope = orjson.loads(event.encode()[0])
    envelope["visibility"] = "party"
    del envelope["data"]["files"]
    state = orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS)
    entry = Entry(event.stream, 1, id, event.type, state, state.rindex(b'"time":"') + 8)
    return ledger.appender.append([entry]).first_position


def test_an_early_record_is_for_officers_too(world: World) -> None:
    served, proposal = world.served, world.at[OWN]["proposal"]
    position = early_record(world, proposal, proposal)
    served.follow()
    stub = {"sequence": f"{position:020d}", "withheld": "not-public"}
    assert as_itself(world, f"/v1/events/{position}").json() == stub
    fed = as_itself(world, f"/v1/feed?after={position - 1}&limit=1").content
    assert orjson.loads(fed) == stub
    # Whoever may read it leaves no record by that, nor a look at the provider's file.
    before = served.head()
    read = served.get(f"/v1/events/{position}", "auditor").json()
    assert (read["type"], read["subject"]) == ("cn.chengxin.access.recorded.v1", OWN)
    assert served.get(f"/v1/feed?after={position - 1}&limit=1", "auditor").status_code == 200
    assert served.head() == before
    assert looks(world, position - 1) == []


def test_whoever_sees_a_whole_file_reads_who_looked_at_it(world: World) -> None:
    before = world.served.head()
    world.served.get(f"/v1/providers/{OWN}/score", "inspector")
    world.served.follow()
    path = f"/v1/providers/{OWN}/accesses?after={before}"
    wanted = as_itself(world, path).json()
    assert [one["role"] for one in wanted["accesses"]] == ["inspector"]
    for role in CASEWORK:
        assert world.served.get(path, role).json() == wanted


def test_a_stream_tells_of_each_file_once_a_day(world: World) -> None:
    served, before = world.served, world.served.head()
    contract = f"/v1/providers/{OTHER}/contracts"
    with closing(Stream(served, f"?after={before - 1}", "auditor", "CN-ELSE-1")) as stream:

        def recorded(provider: str) -> None:
            body = given.contract().model_dump(mode="json")
            path = contract.replace(OTHER, provider)
            position = positioned(served.post(path, body))
            while int(stream.take(1)[0]["id"]) < position:
                pass

        recorded(OTHER)
        recorded(OTHER)
        recorded(OWN)
        recorded(OTHER)
    for provider in (OWN, OTHER):
        assert [one["door"] for one in looks(world, before, provider)] == ["STREAM"]


def test_a_page_that_opens_more_files_than_a_record_names_is_recorded_in_parts() -> None:
    count = 2 * MAX_FILES + 1
    lines = [(at, b"") for at in range(10, 10 + 2 * count)]
    # Each file twice in a row, so that a part must not end between the two.
    opened = [Opened(at, f"HK-CR-{(at - 10) // 2}") for at, _ in lines]
    parts = parts_of(Look(lines, opened))
    assert [len(files) for _, _, files in parts] == [MAX_FILES, MAX_FILES, 1]
    assert (parts[0][0], parts[-1][1]) == (10, lines[-1][0])
    assert [last + 1 for _, last, _ in parts[:-1]] == [first for first, _, _ in parts[1:]]
    for first, last, files in parts:
        assert set(files) == {one.file for one in opened if first <= one.position <= last}
    assert parts_of(Look(lines, [Opened(10, None)])) == [(10, lines[-1][0], [])]
