"""The world that is attacked: a server with the objects of others, and how each is asked for.

The routes are the application's own. Of each kind of object there are some, and one that is not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from starlette.routing import Route

from api.roles import ROLES
from ledger.database import Database
from ledger.handle import Desk
from ledger.private import Agreement, Complainant, Remark
from ledger.sealing import PlainText
from tests import given
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


class World(NamedTuple):
    """A server, and by the kind of object those that are there and one that is not."""

    served: Served
    objects: dict[str, tuple[list[str], str]]
    hidden: list[str]


@contextmanager
def attacked(database: Database, keys: Path) -> Iterator[World]:
    """The server with what is in it."""
    with (
        serving(database, keys, Clock(), new_ledger=new_ledger) as served,
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


def rows_now(world: World) -> Any:
    """Every row in quarantine as it is."""
    query = b"SELECT id, state, corrections::text, problems::text FROM intake.rows ORDER BY id"
    return world.served.ledger.rows(query)
