"""What a line of the log is about: its request, its write, its projection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from api.journal import RENDERERS
from ledger.database import Database
from projections.scores import Scores
from tests import given
from tests.conftest import Clock, Run, new_ledger
from tests.serving import Served, serving, wait_until
from tests.test_deliveries import answers_of, deliver, inspection
from tests.test_quarantine import WHY
from tests.test_quarantine_api import ROWS, decide, take
from tests.test_runner import append_raw


@pytest.fixture
def served(databases: Callable[[], Database], tmp_path: Path) -> Iterator[Served]:
    with serving(
        databases(), tmp_path / "keys", Clock(), new_ledger=new_ledger, access_log=True
    ) as served:
        served.provide()
        served.follow()
        yield served


@pytest.mark.parametrize("form", RENDERERS)
def test_no_value_keeps_a_line_from_being_written(form: str) -> None:
    """Whoever logs what went wrong (a follower, the tail) would end by it."""
    for value, written in (("x\ud800\ny", b"x\\ud800\\ny"), (2**70, b"1180591620717411303424")):
        text = RENDERERS[form](None, "error", {"event": "waits", "reason": value})
        assert written in text
        assert b"\n" not in text


def test_every_line_of_a_request_names_it_in_threads_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Scores.current

    def telling(self: Scores, subject: str) -> object:
        structlog.get_logger().info("looked")
        return read(self, subject)

    monkeypatch.setattr(Scores, "current", telling)
    with capture_logs([merge_contextvars]) as logged:
        for id in ("first", "second"):
            path = f"/v1/providers/{given.PROVIDER}/score"
            assert served.get(path, "auditor", x_request_id=id).status_code == 200
    lines = [(one["event"], one["request_id"], one["role"]) for one in logged]
    assert {one for one in lines if one[1] == "first"} == {
        ("looked", "first", "auditor"),
        ("request", "first", "auditor"),
    }
    assert {id for _, id, _ in lines} == {"first", "second"}


def test_requests_on_one_connection_are_not_mixed_up(served: Served) -> None:
    """Sent at once, the second is begun from within the first one's answer."""
    token = served.token("auditor")
    first = f"GET /v1/ledger HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    named = f"GET /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with (
        capture_logs([merge_contextvars]) as logged,
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection,
    ):
        connection.sendall((first + named + last).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    wait_until(lambda: len(logged) == 3)
    assert [(one["route"], one.get("organisation")) for one in logged] == [
        ("/v1/ledger", None),
        ("/v1/feed", "CN-REG-1"),
        ("/healthz", None),
    ]
    assert len({one["request_id"] for one in logged}) == 3


def test_a_write_is_logged_with_its_position_and_a_refusal_without(served: Served) -> None:
    with capture_logs([merge_contextvars]) as logged:
        key = {"idempotency_key": "once"}
        body = given.penalty().model_dump(mode="json")
        path = f"/v1/providers/{given.PROVIDER}/penalties"
        answers = [served.post(path, body, **key) for _ in range(2)]
        answers.append(served.post(path, body | {"incident": "INC-X"}, **key))
        wait_until(lambda: len(logged) == 3)
    assert [one.status_code for one in answers] == [201, 201, 409]
    position = answers[0].json()["position"]
    assert [one.get("position") for one in logged] == [position, position, None]
    assert answers[2].json()["request_id"] == logged[2]["request_id"]


def test_an_import_is_logged_with_the_first_and_the_last_position(served: Served) -> None:
    body = b"\n".join(inspection(number) for number in (1, 2, 3))
    with capture_logs([merge_contextvars]) as logged:
        answers = [deliver(served, body) for _ in range(2)]
        wait_until(lambda: len(logged) == 2)
    lines, _ = answers_of(answers[0])
    positions = [lines[0]["position"], lines[-1]["position"]]
    assert positions[0] < positions[1] == served.head()
    assert [(one["route"], one["lines"], one["positions"]) for one in logged] == [
        ("/v1/imports", 3, positions),
        ("/v1/imports", 3, []),
    ]


def test_an_accepted_row_is_logged_with_its_positions(served: Served, run: Run) -> None:
    take(served, run)
    id = served.get(ROWS, "registrar").json()["rows"][0]["id"]
    decide(served, id, "correction", set={"code": given.PROVIDER})
    with capture_logs([merge_contextvars]) as logged:
        accepted = decide(served, id, "acceptance")
        wait_until(lambda: len(logged) == 1)
    assert accepted.status_code == 201, accepted.text
    assert logged[0]["route"] == "/v1/quarantine/{id}/acceptance"
    assert logged[0]["positions"] == [one["position"] for one in accepted.json()["receipts"]]
    assert WHY not in str(logged)


def test_a_projection_that_stops_says_where(served: Served) -> None:
    with capture_logs([merge_contextvars]) as logged:
        poison = append_raw(served.ledger, "pledge.made.v1", {"on": "2026-03-02"})
        wait_until(lambda: all(one.error for one in served.follower.status().values()))
        wait_until(
            lambda: len([one for one in logged if one["event"] == "projection stopped"]) == 2
        )
    stopped = [one for one in logged if one["event"] == "projection stopped"]
    assert {(one["projection"], one["position"]) for one in stopped} == {
        ("scores_1", poison),
        ("disclosure_1", poison),
    }
    assert all("request_id" not in one for one in stopped)
