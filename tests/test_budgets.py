"""How often one caller may ask: a row for every door, a budget for every caller, a bound."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import ceil
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.routing import Route

from api import budgets
from api.budgets import (
    BUDGETS,
    COMPLAINT,
    FREE,
    IMPORT,
    PAGE,
    READ,
    WRITE,
    Budget,
    Kind,
    Purse,
    kind_of,
)
from api.front import Front, networks_of
from api.person_routes import ACTS as OF_PERSONS
from api.quarantine_routes import ACTS
from api.settings import Settings
from api.writes import WRITES
from ledger.database import Database
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving

DOORS: dict[str, Kind] = {
    "GET /": PAGE,
    "GET /.well-known/oauth-protected-resource": PAGE,
    "GET /about": PAGE,
    "GET /docs": PAGE,
    "GET /openapi.json": PAGE,
    "GET /problems/{code}": PAGE,
    "GET /providers/{identifier}": PAGE,
    "GET /static/icon": PAGE,
    "GET /static/style": PAGE,
    "GET /healthz": FREE,
    "GET /readyz": PAGE,
    "GET /metrics": PAGE,
    "GET /v1/disclosure/providers": READ,
    "GET /v1/disclosure/providers/{identifier}": READ,
    "GET /v1/events/{position}": READ,
    "GET /v1/events/{position}/sealed": READ,
    "GET /v1/feed": READ,
    "GET /v1/ledger": READ,
    "GET /v1/providers/{identifier}/accesses": READ,
    "GET /v1/providers/{identifier}/case": READ,
    "GET /v1/providers/{identifier}/events": READ,
    "GET /v1/providers/{identifier}/score": READ,
    "GET /v1/quarantine": READ,
    "GET /v1/quarantine/{id}": READ,
    "GET /v1/schemas": READ,
    "GET /v1/schemas/{type}": READ,
    "GET /v1/persons/{person}/copy": READ,
    "GET /v1/proposals": READ,
    "GET /v1/providers/{identifier}/proposals/{id}": READ,
    "POST /v1/imports": IMPORT,
    **{f"POST {one.path}": WRITE for one in (*WRITES, *ACTS, *OF_PERSONS)},
}
"""Each door and what it takes from, written down a second time."""


class Ticks:
    """A clock of seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Start = Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def start(databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Serves with budgets that hold for this machine too."""

    def serve(**settings: Any) -> AbstractContextManager[Served]:
        keys = tmp_path_factory.mktemp("served") / "keys"
        settings = {"unlimited_from": ""} | settings
        return serving(databases(), keys, Clock(), new_ledger=new_ledger, **settings)

    return serve


# --- the tables ----------------------------------------------------------------------------------


def test_every_door_has_its_row_and_no_row_is_without_a_door(start: Start) -> None:
    with start() as served:
        found = set()
        for route in served.app.routes:
            assert isinstance(route, Route)
            path = re.sub(r"\.[0-9a-f]{16}\..*", "", route.path)
            for method in (route.methods or set()) - {"HEAD"}:
                door = f"{method} {path}"
                found.add(door)
                example = re.sub(r"\{\w+\}", "x", route.path)
                assert door in DOORS, f"{door} has no row: which budget is it?"
                assert kind_of(method, example) == DOORS[door], door
    assert set(DOORS) <= found


def test_the_doors_that_are_not_there_yet_have_their_row() -> None:
    assert kind_of("POST", "/v1/complaints") == COMPLAINT
    assert BUDGETS["complaints"].per == "address"
    assert BUDGETS["complaints"].requests < 60


def test_every_budget_is_named_by_a_kind_and_every_kind_names_one() -> None:
    named = {
        name
        for kind in (FREE, PAGE, READ, WRITE, IMPORT, COMPLAINT)
        for name in kind
        if name is not None
    }
    assert named | {budgets.REFUSED} == set(BUDGETS)
    assert FREE.stranger is FREE.bearer is None
    for kind in (PAGE, READ, WRITE, IMPORT, COMPLAINT):
        assert kind.stranger is not None
        assert BUDGETS[kind.stranger].per == "address"
        assert kind.bearer is None or BUDGETS[kind.bearer].per == "key"


@pytest.mark.parametrize(
    "text", ["x=1/1", "public", "public=0/60", "public=5/0", "public=-1/60", "public=1.5/60"]
)
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ValidationError, match="is no budget"):
        Settings(budgets=text)


def test_the_settings_change_what_they_name() -> None:
    found = budgets.budgets_of(" public=7/60 , imports = 5/3600,")
    assert found["public"][:2] == (7, 60)
    assert found["imports"][:2] == (5, 3600)
    assert found["reads"] == BUDGETS["reads"]


# --- one purse -----------------------------------------------------------------------------------


def purse(requests: int, seconds: int) -> tuple[budgets.Purse, Ticks]:
    ticks = Ticks()
    return budgets.Purse(
        "public", BUDGETS["public"]._replace(requests=requests, seconds=seconds), ticks
    ), ticks


def test_a_budget_is_spent_and_fills_up_evenly() -> None:
    one, ticks = purse(10, 60)
    assert [one.spend("a") for _ in range(10)] == [None] * 10
    refused = one.spend("a")
    assert refused is not None
    assert refused.facts["wait"] == 6
    assert one.spend("b") is None, "another caller has his own"
    ticks.now += 5.9
    assert one.spend("a") is not None
    ticks.now += 0.1
    assert one.spend("a") is None
    assert one.spend("a") is not None
    ticks.now += 3600
    assert [one.spend("a") for _ in range(11)].count(None) == 10, "nobody saves more than a budget"


@pytest.mark.parametrize(("requests", "seconds"), [(1, 1), (3, 7), (30, 60), (1200, 60), (7, 3600)])
def test_no_rounding_takes_a_request(requests: int, seconds: int) -> None:
    one, ticks = purse(requests, seconds)
    ticks.now = 123456.789
    for _ in range(3):
        assert [one.spend("a") for _ in range(requests + 1)].count(None) == requests
        ticks.now += seconds


def test_a_refusal_costs_nothing_and_asking_neither() -> None:
    one, ticks = purse(2, 10)
    one.spend("a")
    assert one.spent("a") is None
    one.spend("a")
    assert one.spent("a") is not None
    for _ in range(100):
        assert one.spend("a") is not None
    ticks.now += 5
    assert one.spend("a") is None
    one.give_back("a")
    assert one.spend("a") is None


def test_memory_has_a_bound_and_forgets_who_has_been_quiet_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets, "MAX_CALLERS", 100)
    one, _ = purse(1, 3600)
    for n in range(100_000):
        one.spend(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
        if n % 50 == 0:
            one.spend("attacker")
    assert len(one) == 100
    assert budgets.MAX_CALLERS == 100
    one.spend("attacker")
    for n in range(99):
        one.spend(f"other {n}")
        assert one.spent("attacker") is not None
    assert len(one) == 100


# --- who calls -----------------------------------------------------------------------------------


def scope(peer: str, *headers: tuple[str, str]) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return {"type": "http", "client": (peer, 4711), "scheme": "http", "headers": raw}


def address(front: Front, peer: str, *headers: tuple[str, str]) -> str:
    return front.caller(scope(peer, *headers), passed_on=bool(headers)).address


XFF, FWD = "X-Forwarded-For", "Forwarded"


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", [(XFF, "1.1.1.1")], "203.0.113.7"),
        ("10.0.0.1", [(XFF, "198.51.100.4")], "198.51.100.4"),
        ("10.0.0.1", [(XFF, "6.6.6.6, 198.51.100.4")], "198.51.100.4"),
        ("10.0.0.1", [(XFF, "6.6.6.6, 198.51.100.4, 10.0.0.9")], "198.51.100.4"),
        ("10.0.0.1", [(XFF, "6.6.6.6"), (XFF, "198.51.100.4")], "198.51.100.4"),
        ("10.0.0.1", [(XFF, "198.51.100.4:1234")], "198.51.100.4"),
        ("10.0.0.1", [(XFF, "10.0.0.9, 10.0.0.8")], "10.0.0.9"),
        ("10.0.0.1", [(XFF, "nonsense")], "10.0.0.1"),
        ("10.0.0.1", [(XFF, "6.6.6.6, <script>")], "10.0.0.1"),
        ("10.0.0.1", [(XFF, "")], "10.0.0.1"),
        ("10.0.0.1", [(FWD, "for=6.6.6.6")], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", [(XFF, "198.51.100.4")], "198.51.100.4"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", [], "2001:db8:1:3::/64"),
        ("10.0.0.1", [(XFF, "2001:db8:1:2::9")], "2001:db8:1:2::/64"),
        ("10.0.0.1", [(XFF, "[2001:db8:1:2::9]:443")], "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.4", [], "198.51.100.4"),
        ("unix", [], "unknown"),
    ],
)
def test_the_address_that_is_counted(
    peer: str, headers: list[tuple[str, str]], expected: str
) -> None:
    assert address(Front(proxies=networks_of("10.0.0.0/8")), peer, *headers) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=198.51.100.4", "198.51.100.4"),
        ('for="[2001:db8:1:2::9]:443";proto=https', "2001:db8:1:2::/64"),
        ("for=6.6.6.6, proto=https; FOR = 198.51.100.4", "10.0.0.1"),
        ("for=6.6.6.6, proto=https;for=198.51.100.4", "198.51.100.4"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("by=1.1.1.1", "10.0.0.1"),
    ],
)
def test_the_address_in_forwarded(value: str, expected: str) -> None:
    front = Front(proxies=networks_of("10.0.0.0/8"), proxy_header="forwarded")
    assert address(front, "10.0.0.1", (FWD, value), (XFF, "6.6.6.6")) == expected


def test_this_machine_is_free_and_what_it_passes_on_is_not() -> None:
    front = Front(unlimited=networks_of("127.0.0.0/8, ::1/128"))
    assert front.caller(scope("127.0.0.1"), passed_on=False).free
    assert front.caller(scope("::1"), passed_on=False).free
    assert not front.caller(scope("127.0.0.1", (XFF, "127.0.0.1")), passed_on=True).free
    assert not front.caller(scope("10.0.0.1"), passed_on=False).free


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def few(start: Start) -> Iterator[Served]:
    """A server with little patience, before which a named proxy stands."""
    with start(
        budgets="public=5/60, reads=7/60, writes=3/60, imports=2/60, refused-tokens=4/60",
        trusted_proxies="127.0.0.1",
    ) as served:
        yield served


def test_strangers_are_counted_by_their_address(few: Served) -> None:
    for path in ("/", "/v1/ledger", "/nix", "/openapi.json", "/v1/feed"):
        assert few.get(path, x_forwarded_for="198.51.100.4").status_code != 429
    answer = few.get("/v1/ledger", x_forwarded_for="198.51.100.4", accept_language="en")
    told = problem(answer, 429, "too-many-requests")
    assert told["facts"] == {
        "what": "requests without a token",
        "budget": "public",
        "requests": 5,
        "seconds": 60,
        "wait": told["facts"]["wait"],
    }
    wait = told["facts"]["wait"]
    assert 10 <= wait <= 12
    assert answer.headers["retry-after"] == str(wait)
    assert answer.headers["ratelimit-policy"] == '"public";q=5;w=60'
    assert answer.headers["ratelimit"] == f'"public";r=0;t={wait}'
    assert few.get("/healthz", x_forwarded_for="198.51.100.4").status_code == 200
    assert few.get("/v1/ledger", x_forwarded_for="198.51.100.5").status_code == 200
    assert few.get("/v1/ledger").status_code == 200


def test_every_answer_that_is_counted_says_what_is_left(
    start: Callable[..., AbstractContextManager[Served]],
) -> None:
    """Also an error, a copy that is still good, and whoever shows a token."""
    caller = {"X-Forwarded-For": "198.51.100.77"}
    # So slow to fill up that nothing of it comes back meanwhile.
    slow = "public=5/99999, reads=7/99999"
    with start(budgets=slow, trusted_proxies="127.0.0.1") as served:

        def left(path: str, by: str = "public", **headers: str) -> int:
            answer = served.client.get(path, headers=caller | headers)
            quota = {"public": 5, "reads": 7}[by]
            assert answer.headers["ratelimit-policy"] == f'"{by}";q={quota};w=99999'
            told = answer.headers["ratelimit"]
            found = re.fullmatch(rf'"{by}";r=([0-9]+);t=[1-9][0-9]*', told)
            assert found is not None, told
            return int(found[1])

        assert left("/v1/ledger") == 4
        tag = served.get("/v1/ledger").headers["etag"]
        assert left("/v1/ledger", **{"If-None-Match": tag}) == 3
        assert left("/nix") == 2
        token = served.bearer("auditor")
        path = f"/v1/providers/{given.PROVIDER}/score"
        assert [left(path, "reads", **token) for _ in range(2)] == [6, 5]
        # Strangers of the same address have what they had.
        assert left("/v1/ledger") == 1
        # What is not counted says nothing.
        assert "ratelimit" not in served.client.get("/healthz", headers=caller).headers


def test_what_is_left_is_what_can_be_spent() -> None:
    ticks = 100.0
    purse = Purse("public", Budget(7, 60, "address", BUDGETS["public"].what), lambda: ticks)
    assert purse.left("x") == (7, 0)
    for spent in range(1, 8):
        assert purse.spend("x") is None
        assert purse.left("x") == (7 - spent, ceil(spent * 60 / 7 - 1e-9))
    assert purse.spend("x") is not None
    assert purse.left("x") == (0, 60)
    ticks += 9
    assert purse.left("x")[0] == 1
    assert purse.spend("x") is None
    assert purse.spend("x") is not None


def test_a_slash_64_is_one_caller(few: Served) -> None:
    for n in range(5):
        assert few.get("/v1/ledger", x_forwarded_for=f"2001:db8::{n}").status_code == 200
    assert few.get("/v1/ledger", x_forwarded_for="2001:db8::ffff").status_code == 429
    assert few.get("/v1/ledger", x_forwarded_for="2001:db8:0:1::1").status_code == 200


def test_a_bearer_is_counted_by_his_reference_wherever_he_is(few: Served) -> None:
    token = few.bearer("auditor")
    for n in range(7):
        answer = few.client.get(
            f"/v1/providers/{given.PROVIDER}/score",
            headers=token | {"X-Forwarded-For": f"198.51.100.{n}"},
        )
        assert answer.status_code == 404
    answer = few.client.get(
        f"/v1/providers/{given.PROVIDER}/score", headers=token | {"X-Forwarded-For": "6.6.6.6"}
    )
    assert problem(answer, 429, "too-many-requests")["facts"]["budget"] == "reads"
    assert few.get("/v1/feed", "auditor").status_code == 200, "another bearer"


def test_writes_and_imports_have_their_own(few: Served) -> None:
    token = few.bearer("registrar")
    spent: dict[str, int] = {}
    for path, most in (("/v1/providers", 3), ("/v1/imports", 2)):
        for _ in range(most + 1):
            answer = few.client.post(path, headers=token, json={})
            spent[path] = spent.get(path, 0) + (answer.status_code != 429)
        assert spent[path] == most
    assert few.client.get("/v1/feed", headers=token).status_code == 200


def test_what_a_bearer_asks_costs_strangers_of_his_address_nothing(few: Served) -> None:
    token = few.bearer("auditor")
    for _ in range(7):
        assert few.client.get("/v1/feed", headers=token).status_code == 200
    for _ in range(5):
        assert few.get("/v1/ledger").status_code == 200
    assert few.get("/v1/ledger").status_code == 429
    assert few.get("/v1/feed", "subscriber").status_code == 200


def test_a_token_that_is_none_opens_no_second_budget_for_long(few: Served) -> None:
    """Where nobody asks for a token, showing one counts as much as showing none."""
    for path in ("/v1/ledger", "/"):
        asked = [few.get(path, authorization=f"Bearer {n}").status_code for n in range(20)]
        assert asked.count(200) <= 5, path


def test_tokens_that_are_refused_are_braked(few: Served) -> None:
    def guess(n: int, address: str = "198.51.100.4") -> int:
        answer = few.get("/v1/feed", authorization=f"Bearer {n}", x_forwarded_for=address)
        return answer.status_code

    assert [guess(n) for n in range(8)] == [401] * 4 + [429] * 4
    answer = few.get("/v1/feed", "auditor", x_forwarded_for="198.51.100.4")
    assert problem(answer, 429, "too-many-requests")["facts"]["budget"] == "refused-tokens"
    assert few.get("/v1/ledger", x_forwarded_for="198.51.100.4").status_code == 200
    assert guess(9, "198.51.100.5") == 401


def test_nobody_writes_his_own_address(start: Start) -> None:
    with start(budgets="public=5/60") as served:
        asked = [
            served.get("/v1/ledger", x_forwarded_for=f"198.51.100.{n}").status_code
            for n in range(20)
        ]
        assert asked == [200] * 5 + [429] * 15


def test_by_default_this_machine_is_held_to_nothing(start: Start) -> None:
    with start(
        unlimited_from=Settings.model_fields["unlimited_from"].default, budgets="public=5/60"
    ) as served:
        assert {served.get("/v1/ledger").status_code for _ in range(20)} == {200}
        through = [served.get("/v1/ledger", via="1.1 proxy").status_code for _ in range(20)]
        assert through == [200] * 5 + [429] * 15
