"""Every role on every address that reads, with the objects of others: no read, no sign of any.

For whoever may not have a thing, one that is there and one that is not give the same answer: the
same status, headers, length and text, but for the request id and what he sent himself. The routes
are the application's own; one that stands in no table here fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest

from ledger.database import Database
from tests.attack import Tally, alike, attacks
from tests.attacked import (
    ALL,
    CASEWORK,
    OTHER,
    OWN,
    SECRETS,
    WAYS,
    World,
    addresses,
    attacked,
    bearer,
    routes,
)

OPENERS = CASEWORK - {"inspector"} | {"mediator"}
READ_BY: dict[str, frozenset[str]] = {
    "/v1/providers/{identifier}/case": CASEWORK,
    "/v1/providers/{identifier}/accesses": CASEWORK,
    "/v1/providers/{identifier}/proposals/{id}": CASEWORK,
    "/v1/proposals": CASEWORK,
    "/v1/persons/{person}/copy": frozenset({"privacy_officer"}),
    "/v1/events/{position}/sealed": OPENERS,
    "/v1/quarantine": frozenset({"registrar", "auditor"}),
    "/v1/quarantine/{id}": frozenset({"auditor"}),
    "/v1/events/{position}": CASEWORK,
    "/v1/providers/{identifier}/events": CASEWORK,
    "/v1/providers/{identifier}/score": CASEWORK,
    "/v1/feed": ALL - {""},
}
"""What is read by whom, of another organisation's objects: written down a second time."""
EVERYBODYS = {
    *("/", "/about", "/docs", "/openapi.json", "/problems/{code}", "/providers/{identifier}"),
    *("/.well-known/oauth-protected-resource", "/healthz", "/readyz", "/metrics", "/v1/ledger"),
    *("/v1/disclosure/providers", "/v1/disclosure/providers/{identifier}"),
    *("/v1/schemas", "/v1/schemas/{type}"),
}
"""What everybody reads alike: its text is searched for what is hidden."""
MAY_SEE_PUBLIC = {"/v1/providers/{identifier}/score", "/v1/providers/{identifier}/events"}
"""Who is registered is public: there the answers to what is there and what is not may differ."""


@pytest.fixture(scope="module")
def world(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with attacked(databases(), tmp_path_factory.mktemp("attack") / "keys") as world:
        yield world


def test_a_thing_that_is_there_and_none_read_the_same_for_whom_it_is_not(world: World) -> None:
    with attacks("existence-read") as tally:
        for path in sorted(set(routes(world.served, "GET")) - EVERYBODYS - MAY_SEE_PUBLIC):
            if path.startswith("/static/"):
                continue
            assert path in READ_BY, f"{path} has no row: who may read it?"
            for role in sorted(ALL - READ_BY[path]):
                if path == "/v1/events/{position}":
                    stubs(world, role, tally)
                else:
                    nothing = [(path, path, dict[str, str]())]
                    for there, absent, sent in list(addresses(world, path)) or nothing:
                        compare(world, role, (there, absent), sent, tally)


def compare(
    world: World, role: str, pair: tuple[str, str], sent: dict[str, str], tally: Tally
) -> None:
    """Ask for both in every way; the answers must be alike and hold nothing."""
    client, asked = world.served.client, bearer(world, role)
    before = world.served.head()
    for way, method, headers, query in WAYS:
        there, absent = (
            client.request(method, one + query, headers=asked | headers) for one in pair
        )
        first, second = alike(there, sent), alike(absent, sent)
        if len(pair[0]) != len(pair[1]):
            # An address that is said again is as long as it was sent.
            for one in (first, second):
                one[1][:] = [header for header in one[1] if header[0] != "content-length"]
        same = first == second
        refused = there.status_code >= 400 or method == "OPTIONS"
        hidden = (word for word in (*SECRETS, *world.hidden) if word not in pair[0])
        silent = not any(word in there.text for word in hidden)
        tally.attack(
            (role, way, *pair), (there.text, absent.text), good=same and refused and silent
        )
    tally.attack((role, "left a record", pair), "", good=world.served.head() == before)


def stubs(world: World, role: str, tally: Tally) -> None:
    """Of what a reader may not see all stubs are alike, whatever is behind them."""
    asked, (there, _) = bearer(world, role), world.objects["position"]
    wanted = None
    for position in there:
        for way, method, headers, _ in WAYS[:8]:
            answer = world.served.client.request(
                method, f"/v1/events/{position}", headers=asked | headers
            )
            found = alike(answer, {position.zfill(20): "<sent>"})
            if way == "plain":
                event = orjson.loads(answer.content)
                seen = "withheld" not in event
                if seen and role == "mediator":
                    # Complaints and contracts are his to see.
                    kind = event["type"].removeprefix("cn.chengxin.")
                    assert kind.startswith(("complaint", "contract"))
                    break
                wanted = wanted or found
                tally.attack((role, position, way), found, good=found == wanted and not seen)
            else:
                tally.attack((role, position, way), found, good='"data"' not in answer.text)


def test_what_everybody_reads_holds_nothing_that_is_hidden(world: World) -> None:
    places = {"identifier": OWN, "type": "penalty.imposed.v1", "code": "behind"}
    asked = [f"{path}{{query}}".format(**places, query="") for path in sorted(EVERYBODYS)]
    asked += [f"/v1/disclosure/providers?q={word}" for word in (*SECRETS, *world.hidden, "%", "_")]
    asked += [f"/?q={word}" for word in (*SECRETS, *world.hidden)]
    with attacks("public-text") as tally:
        for path in [*asked, f"/v1/providers/{OWN}/score", f"/v1/providers/{OWN}/events"]:
            answer = world.served.client.get(path)
            # What was asked for may be said again; nothing else of what is hidden may be there.
            leaked = [
                word
                for word in (*SECRETS, *world.hidden)
                if word in answer.text and word not in path
            ]
            tally.attack(path, leaked, good=not leaked and answer.status_code == 200)


def test_behind_what_the_public_sees_nothing_tells_of_more(world: World) -> None:
    """OWN has hidden events behind its last public one, OTHER has fewer; both end alike."""
    with attacks("pages-end") as tally:
        for role in sorted(ALL - CASEWORK - {"mediator", "platform", "association"}):
            for limit in (1, 2, 1000):
                ends = []
                for provider in (OWN, OTHER):
                    path, last = f"/v1/providers/{provider}/events", 0
                    while True:
                        answer = world.served.client.get(
                            f"{path}?after={last}&limit={limit}", headers=bearer(world, role)
                        )
                        if not (lines := answer.text.splitlines()):
                            break
                        last = int(orjson.loads(lines[-1])["sequence"])
                    ends.append(alike(answer, {provider: "<sent>"}))
                tally.attack((role, limit), ends, good=ends[0] == ends[1])
