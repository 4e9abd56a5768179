"""Who opened what is recorded: what a record says, and that nothing leaves without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import psycopg
import pytest

from ledger.database import Database
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, problem, serving, wait_until
from tests.test_api_feed import Stream, open_streams

PROVIDER = f"/v1/providers/{given.PROVIDER}"
OPENING = (
    "/v1/feed",
    "/v1/events/4",
    f"{PROVIDER}/events",
    f"{PROVIDER}/score",
    f"{PROVIDER}/case",
)
"""What opens something for an auditor: the fourth event is for the parties."""


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    """A provider with a public penalty and a contract, which is for the parties."""
    with serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.penalise()
        contract = given.contract().model_dump(mode="json")
        assert positioned(served.post(f"{PROVIDER}/contracts", contract)) == 4
        served.follow()
        yield served


def records(served: Served, after: int = 0) -> list[dict[str, Any]]:
    """The records of access beyond a position, parsed."""
    found = [orjson.loads(one.state) for one in served.ledger.read(after, 10_000)]
    return [one for one in found if one["type"] == "cn.chengxin.access.recorded.v1"]


def as_provider(served: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.token('provider', given.PROVIDER)}"}


# --- What a record says ---------------------------------------------------------------------------


def test_a_record_says_who_looked_at_whose_file_by_which_door_and_how_far(served: Served) -> None:
    day = given.TODAY.isoformat()
    past = "2026-02-01"
    for path in (*OPENING, f"{PROVIDER}/score?as_of={past}"):
        assert served.get(path, "auditor").status_code == 200
    whole = {"first": 1, "last": 4, "as_of": None}
    said = [
        {"door": "FEED", **whole},
        {"door": "EVENT", "first": 4, "last": 4, "as_of": None},
        {"door": "EVENTS", "first": 2, "last": 4, "as_of": None},
        {"door": "SCORE", "first": 1, "as_of": day},
        {"door": "CASE", "first": 1, "as_of": day},
        {"door": "SCORE", "first": 1, "as_of": past},
    ]
    found = records(served)
    for one, told in zip(found, said, strict=True):
        assert one["data"] | told == one["data"]
        assert one["data"]["last"] >= 4
        assert (one["data"]["files"], one["visibility"]) == ([given.PROVIDER], "officers")
        assert (one["actorrole"], one["actororg"]) == ("auditor", "CN-REG-1")
        assert (one["source"], "subject" in one) == (f"/streams/access-{one['id']}", False)
        assert one["streamversion"] == 1


def test_a_provider_reads_who_looked_at_its_file_page_by_page(served: Served) -> None:
    for role in ("auditor", "registrar", "inspector"):
        served.get(f"{PROVIDER}/score", role)
    served.client.get(f"{PROVIDER}/score", headers=as_provider(served))
    served.follow()
    found: list[dict[str, Any]] = []
    path: str | None = f"{PROVIDER}/accesses?limit=3"
    while path:
        answer = served.client.get(path, headers=as_provider(served))
        found += answer.json()["accesses"]
        path = answer.links.get("next", {}).get("url")
    roles = [one["role"] for one in found]
    assert roles == ["auditor", "registrar", "inspector", "provider"]
    other = {"Authorization": f"Bearer {served.token('provider', given.OTHER)}"}
    problem(served.client.get(f"{PROVIDER}/accesses", headers=other), 403, "not-allowed")


# --- Nothing leaves without one -------------------------------------------------------------------


@contextmanager
def without_appends(served: Served) -> Iterator[None]:
    """Meanwhile the service may not append."""
    function = "FUNCTION ledger.chengxin_append"
    with psycopg.connect(served.ledger.database.conninfo, autocommit=True) as owner:
        owner.execute(f"REVOKE EXECUTE ON {function} FROM chengxin_service".encode())
        try:
            yield
        finally:
            owner.execute(f"GRANT EXECUTE ON {function} TO chengxin_service".encode())


def test_what_cannot_be_recorded_is_not_given_out(served: Served) -> None:
    head = served.head()
    with without_appends(served):
        for path in OPENING:
            told = problem(served.get(path, "auditor"), 503, "unavailable")
            assert "HT-" not in str(told)
        problem(
            served.client.get(f"{PROVIDER}/score", headers=as_provider(served)), 503, "unavailable"
        )
        # Whatever is the public's goes on.
        for path in ("/v1/events/3", f"{PROVIDER}/events", f"{PROVIDER}/score", "/v1/ledger"):
            assert served.get(path).status_code == 200
        assert served.get("/v1/feed", "subscriber").status_code == 200
        assert served.get("/v1/events/3", "auditor").status_code == 200
    assert served.head() == head
    assert served.get("/v1/events/4", "auditor").status_code == 200


def test_a_stream_gives_out_nothing_until_it_can_be_recorded(served: Served) -> None:
    with without_appends(served):
        with closing(Stream(served)) as stream:
            first = [next(stream.events) for _ in range(3)]
            assert not [event for event in first if "data" in event]
        wait_until(lambda: open_streams(served) == 0)
        assert served.head() == 4
    with closing(Stream(served)) as stream:
        assert [int(event["id"]) for event in stream.take(5)] == [1, 2, 3, 4, 5]
    [record] = records(served)
    said = {"as_of": None, "door": "STREAM", "files": [given.PROVIDER], "first": 1, "last": None}
    assert record["data"] == said


def test_an_answer_waits_for_its_record(served: Served) -> None:
    answers: list[httpx2.Response] = []

    def ask() -> None:
        answers.append(served.get("/v1/events/4", "auditor"))

    with psycopg.connect(served.ledger.database.conninfo) as other:
        other.execute("SELECT FROM ledger.chengxin_head FOR UPDATE")
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(0.7)
        assert not answers
    thread.join()
    assert answers[0].status_code == 200
    assert len(records(served)) == 1


def test_readers_who_come_together_share_a_transaction(served: Served) -> None:
    figures = served.ledger.appender.figures
    with psycopg.connect(served.ledger.database.conninfo) as other:
        other.execute("SELECT FROM ledger.chengxin_head FOR UPDATE")
        with ThreadPoolExecutor(24) as pool:
            asked = [pool.submit(served.get, "/v1/events/4", "auditor") for _ in range(24)]
            wait_until(lambda: len(figures._queue) >= 20)
            other.rollback()
            assert {one.result().status_code for one in asked} == {200}
    found = records(served)
    assert len(found) == 24
    assert len({one["time"] for one in found}) <= 4


# --- It comes to rest, and changes nothing --------------------------------------------------------


def test_whoever_follows_the_log_does_not_run_after_himself(served: Served) -> None:
    head = 0
    for limit in (1, 3, 100):
        after = 0
        for _ in range(100):
            path = f"/v1/feed?after={after}&limit={limit}"
            lines = served.get(path, "auditor").content.splitlines()
            if not lines:
                break
            after += len(lines)
        head = served.head()
        assert after == head
        for role in ("auditor", "registrar", "auditor"):
            assert served.get(f"/v1/feed?after={head - 1}", role).status_code == 200
        assert served.head() == head
    with closing(Stream(served)) as one, closing(Stream(served, role="registrar")) as two:
        wait_until(lambda: served.head() == head + 2)
        for stream in (one, two):
            stream.take(head + 2)
        time.sleep(0.3)
        assert served.head() == head + 2


def tables(served: Served) -> Any:
    """All rows of what is computed from the log."""
    names = ("scores_1.scores", "scores_1.facts", "disclosure_1.items")
    with psycopg.connect(served.ledger.database.conninfo) as connection:
        return [
            sorted(connection.execute(f"SELECT * FROM {name}".encode()).fetchall(), key=repr)
            for name in names
        ]


def test_a_record_moves_no_score_no_row_and_no_tag(served: Served) -> None:
    kept = (
        (f"{PROVIDER}/score", None),
        (f"{PROVIDER}/score", "auditor"),
        (f"/v1/disclosure/providers/{given.PROVIDER}", None),
        (f"/providers/{given.PROVIDER}", None),
        ("/", None),
    )
    tags = [served.get(path, role).headers["etag"] for path, role in kept]
    before = tables(served)
    for _ in range(5):
        for path in OPENING:
            served.get(path, "registrar")
    assert len(records(served)) >= 25
    served.follow()
    assert tables(served) == before
    for (path, role), tag in zip(kept, tags, strict=True):
        head = served.head()
        assert served.get(path, role, if_none_match=tag).status_code == 304, path
        assert served.head() == head
    full = served.get(f"{PROVIDER}/score", "auditor").json()
    assert full["position"] > 25
    assert {one["position"] for one in full["facts"].values()} == {3, 4}
