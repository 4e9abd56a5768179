"""Every role on every route, with the objects of others: no read, no write, no sign that there are.

For whoever may not have a thing, one that is there and one that is not give the same answer: the
same status, headers, length and text, but for the request id and what he sent himself. The routes
are the application's own; one that stands in no table here fails.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import pytest
from starlette.routing import Route

from api.examples import EXAMPLES, ON_FACT
from api.person_routes import ACTS as PERSON_ACTS
from api.roles import ROLES
from api.writes import WRITES
from ledger.database import Database
from ledger.handle import Desk
from ledger.private import Agreement, Complainant, Remark
from ledger.sealing import PlainText
from tests import given
from tests.attack import Tally, alike, attacks, is_a_problem
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving

OWN, OTHER, ABSENT = given.PROVIDER, given.OTHER, given.PROVIDERS[2]
OFFICE, STRANGER = "CN-REG-1", "CN-ELSE-1"
NO_ID = "0198c7a0-0000-7000-8000-00000000ffff"
NAME, CLIENT, REMARK = "投诉人张三丰", "委托方甲餐饮店", "当面送达备注"
SECRETS = (NAME, CLIENT, REMARK)

ALL = frozenset(ROLES) | {""}
CASEWORK = frozenset(
    {*("registrar", "inspector", "case_officer", "legal_reviewer", "decision_maker", "auditor")}
)
OPENERS = CASEWORK - {"inspector"} | {"mediator"}
DECIDERS = frozenset({"registrar", "decision_maker"})
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


class World(NamedTuple):
    """A server, and by the kind of object those that are there and one that is not."""

    served: Served
    objects: dict[str, tuple[list[str], str]]
    hidden: list[str]


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


@pytest.fixture(scope="module")
def world(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    keys = tmp_path_factory.mktemp("attack") / "keys"
    with (
        serving(databases(), keys, Clock(), new_ledger=new_ledger) as served,
        asyncio.Runner() as runner,
    ):
        desk = Desk(served.ledger)

        def record(command: Any, provider: str = OWN) -> tuple[int, str]:
            receipt = runner.run(desk.record(provider, command, given.REGISTRAR))
            return receipt.position, receipt.id

        remark = Remark(text=PlainText(REMARK))
        minor = {"family": "LATE_RESPONSE", "category": "COMPLAINT", "severity": "S1"}
        agreement = Agreement(client=PlainText(CLIENT))
        hidden = []
        for provider, name in ((OWN, "示例文化传媒有限公司"), (OTHER, "示例传媒有限公司")):
            record(given.register(name=name), provider)
            record(given.penalty(), provider)
            hidden += [
                record(given.penalty(**minor), provider),
                record(given.penalty(**minor, remark=remark), provider),
                record(given.inspection(), provider),
                record(given.contract(counterparty=None, agreement=agreement), provider),
                record(
                    given.complaint(
                        outcome="UNSUBSTANTIATED", complainant=Complainant(name=PlainText(NAME))
                    ),
                    provider,
                ),
            ]
        # Of OTHER nothing stands behind what the public sees; of OWN there is more.
        proposed, listing = (record(given.listing(), one)[1] for one in (OWN, OWN))
        rows = quarantined(served)
        served.follow()
        head = str(served.head() + 1000)
        stored = b"".join(one.state for one in served.ledger.read(0, 100))
        persons = sorted(
            {one.decode() for one in re.findall(rb'"person":"([0-9a-f-]{36})"', stored)}
        )
        yield World(
            served,
            {
                "identifier": ([OWN, OTHER], ABSENT),
                "position": ([str(at) for at, _ in hidden], head),
                "row": (rows, "9"),
                "decision": ([id for _, id in hidden], NO_ID),
                "person": (persons, NO_ID),
                "proposal": ([proposed, listing], NO_ID),
            },
            [id for _, id in hidden] + [proposed, listing],
        )


def quarantined(served: Served) -> list[str]:
    """Rows of the office: one that waits, one that was corrected, one rejected."""
    lines = b"".join(
        orjson.dumps(
            {
                "key": f"Q{n}",
                "identifier": "91999999MA00TEXT0X",
                "command": "inspection",
                "data": given.inspection().model_dump(mode="json"),
            }
        )
        + b"\n"
        for n in range(3)
    )
    headers = served.bearer("registrar") | {"Content-Type": "application/x-ndjson"}
    answer = served.client.post("/v1/imports", content=lines, headers=headers)
    found = [orjson.loads(line)["quarantine"] for line in answer.text.splitlines()[:3]]
    said = {"why": "核对"}
    corrected = {"set": {"identifier": "91999999MA00TEXT0Y"}}
    path = f"/v1/quarantine/{found[1]}/correction"
    assert served.post(path, said | corrected).status_code == 200
    assert served.post(f"/v1/quarantine/{found[2]}/rejection", said).status_code == 200
    return [str(one) for one in found]


def routes(served: Served, method: str) -> list[str]:
    """The addresses of the application that take a method."""
    return [
        route.path
        for route in served.app.routes
        if isinstance(route, Route) and method in (route.methods or set())
    ]


def kinds(path: str) -> dict[str, str]:
    """Of each place in an address, which kind of object stands there."""
    of_id = {"/quarantine/": "row", "/decisions/": "decision", "/proposals/": "proposal"}
    found = {name: name for name in ("identifier", "position", "person") if f"{{{name}}}" in path}
    if "{id}" in path:
        found["id"] = next(kind for part, kind in of_id.items() if part in path)
    return found


def addresses(world: World, path: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """An address with an object that is there, the same with none, and what the asker sent."""
    places = kinds(path)
    for place, kind in places.items():
        there, absent = world.objects[kind]
        others = {one: world.objects[other][0][0] for one, other in places.items() if one != place}
        for one in there:
            sent = {one: "<sent>", absent: "<sent>"}
            yield (
                path.format(**others | {place: one}),
                path.format(**others | {place: absent}),
                sent,
            )


def bearer(world: World, role: str, organisation: str = STRANGER) -> dict[str, str]:
    """How a reader of another organisation shows who he is; without a role, not at all."""
    if not role:
        return {}
    if role == "provider" and organisation == STRANGER:
        organisation = given.PROVIDERS[3]
    return {"Authorization": f"Bearer {world.served.token(role, organisation)}"}


WAYS: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("plain", "GET", {}, ""),
    ("head", "HEAD", {}, ""),
    ("if-none-match", "GET", {"If-None-Match": "*"}, ""),
    ("if-match", "GET", {"If-Match": '"x"', "If-Modified-Since": "Mon, 02 Mar 2026"}, ""),
    ("range", "GET", {"Range": "bytes=0-0"}, ""),
    ("html", "GET", {"Accept": "text/html"}, ""),
    ("stream", "GET", {"Accept": "text/event-stream"}, ""),
    ("english", "GET", {"Accept-Language": "en"}, ""),
    ("min-position", "GET", {}, "?min_position=1"),
    ("past", "GET", {}, "?as_of=2026-03-01"),
    ("limit", "GET", {}, "?limit=1"),
    ("nonsense", "GET", {}, "?limit=x&after=x"),
    ("options", "OPTIONS", {}, ""),
    ("delete", "DELETE", {}, ""),
)
"""Ways of asking that might tell what a plain question does not."""
MAY_SEE_PUBLIC = {"/v1/providers/{identifier}/score", "/v1/providers/{identifier}/events"}
"""Who is registered is public: there the answers to what is there and what is not may differ."""


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


def rows_now(world: World) -> Any:
    """Every row in quarantine as it is."""
    query = b"SELECT id, state, corrections::text, problems::text FROM intake.rows ORDER BY id"
    return world.served.ledger.rows(query)


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
