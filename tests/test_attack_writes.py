"""Every role on every address that is written to: nobody writes where he may not, or learns.

What is there and what is not give the same refusal, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api.examples import EXAMPLES, ON_FACT
from api.person_routes import ACTS as PERSON_ACTS
from api.writes import WRITES
from ledger.database import Database
from tests.attack import alike, attacks, is_a_problem
from tests.attacked import (
    ALL,
    OFFICE,
    OWN,
    WAYS,
    World,
    addresses,
    attacked,
    bearer,
    routes,
    rows_now,
)

DECIDERS = frozenset({"registrar", "decision_maker"})
WRITTEN_BY: dict[str, frozenset[str]] = {
    "penalties": frozenset({"registrar", "platform", "association"}),
    "complaint-outcomes": frozenset({"registrar", "platform"}),
    "rewards": frozenset({"registrar", "association"}),
    "inspections": frozenset({"registrar", "inspector"}),
    "rulebooks": frozenset({"rulebook_editor"}),
    "imports": frozenset({"registrar", "inspector", "platform", "association", "decision_maker"}),
}
OF_REGISTRARS = {
    *("providers", "breaches", "contracts", "listings", "referrals", "admission", "suspension"),
    *("resumption", "exit", "qualifications", "correction", "acceptance", "rejection"),
}
OF_DECIDERS = {
    *("suspension", "resumption", "overturning", "fulfilment", "fulfilment-revocation", "repair"),
    *("repair-revocation", "removal", "revocation", "qualification-revocation"),
    *("approval", "refusal", "withdrawal"),
}

OF_PRIVACY_OFFICERS = {"search", "erasure", "release"}


@pytest.fixture(scope="module")
def world(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with attacked(databases(), tmp_path_factory.mktemp("attack") / "keys") as world:
        yield world


def writers(path: str) -> frozenset[str]:
    """Who may write to an address."""
    last = path.rpartition("/")[2]
    if path.startswith("/v1/persons/"):
        assert last in OF_PRIVACY_OFFICERS, f"{path} has no row: who may write it?"
        return frozenset({"privacy_officer"})
    if last in WRITTEN_BY:
        return WRITTEN_BY[last]
    if "/decisions/" in path or "/proposals/" in path:
        assert last in OF_DECIDERS, f"{path} has no row: who may write it?"
        return DECIDERS
    assert last in OF_REGISTRARS, f"{path} has no row: who may write it?"
    return frozenset({"registrar"})


def body_for(path: str) -> Any:
    """A body that the address would take."""
    for write in WRITES:
        if write.path == path:
            return EXAMPLES.get(write.command.__name__, ON_FACT)
    for act in PERSON_ACTS:
        if act.path == path:
            return act.example
    return (
        {"why": "核对", "set": {"identifier": OWN}}
        if path.endswith("correction")
        else {"why": "核对"}
    )


def test_nobody_writes_where_he_may_not_and_is_not_told_what_is_there(world: World) -> None:
    served = world.served
    before, waiting = served.head(), rows_now(world)
    with attacks("existence-write") as tally:
        for path in sorted(routes(served, "POST")):
            body = body_for(path)
            for role in sorted(ALL - writers(path)):
                asked = bearer(world, role, OFFICE)
                pairs = list(addresses(world, path)) or [(path, path, {})]
                for there, absent, sent in pairs:
                    for headers in (
                        {},
                        {"Idempotency-Key": "k"},
                        {"X-HTTP-Method-Override": "PUT"},
                    ):
                        first, second = (
                            served.client.post(one, json=body, headers=asked | headers)
                            for one in (there, absent)
                        )
                        good = is_a_problem(first, 403 if role else 401)
                        good = good and alike(first, sent) == alike(second, sent)
                        tally.attack((role, there, headers), first.text, good=good)
        assert (served.head(), rows_now(world)) == (before, waiting), "something was written"


def test_another_organisations_rows_are_not_there_for_its_registrars(world: World) -> None:
    """In whatever state they are: waiting, corrected, rejected."""
    served, asked = world.served, bearer(world, "registrar")
    there, absent = world.objects["row"]
    before = rows_now(world)
    bodies: dict[str, list[Any]] = {
        "correction": [
            {"why": "x", "set": {"identifier": OWN}},
            {"why": "x", "set": {"nosuchcolumn": "1"}},
            {"why": "x", "set": {}},
        ],
        "acceptance": [{"why": "x"}, {}],
        "rejection": [{"why": "x"}, {"why": "x", "set": {}}],
    }
    with attacks("foreign-rows") as tally:
        for row in there:
            for _, method, headers, query in WAYS:
                pair = [
                    served.client.request(
                        method, f"/v1/quarantine/{one}{query}", headers=asked | headers
                    )
                    for one in (row, absent)
                ]
                sent = {row: "<sent>", absent: "<sent>"}
                same = alike(pair[0], sent) == alike(pair[1], sent)
                tally.attack((row, method, query), [one.text for one in pair], good=same)
            for what, each in bodies.items():
                for body in each:
                    pair = [
                        served.client.post(f"/v1/quarantine/{one}/{what}", json=body, headers=asked)
                        for one in (row, absent)
                    ]
                    sent = {row: "<sent>", absent: "<sent>"}
                    same = alike(pair[0], sent) == alike(pair[1], sent)
                    good = same and pair[0].status_code in (404, 422)
                    tally.attack((row, what, body), [one.text for one in pair], good=good)
        for query in ("", "?state=all", "?import=json-lines", "?import=nosuch", "?after=0&limit=1"):
            answer = served.client.get(f"/v1/quarantine{query}", headers=asked)
            tally.attack(query, answer.text, good=answer.json() == {"rows": []})
        assert rows_now(world) == before
