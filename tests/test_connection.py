"""What a connection may be: how many, how slow, how long; and what is no request. Real sockets."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api import connection
from api.connection import Connection, Room
from api.door import MAX_HEAD_BYTES
from api.front import Front
from ledger.database import Database
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving, wait_until

HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
SOON = 0.4
STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] ")


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        yield served


@contextlib.contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=15) as one:
        yield one


def rest(one: socket.socket) -> bytes:
    """All that comes until the server closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := one.recv(65536):
            answer += piece
    return answer


def raw(served: Served, sent: bytes) -> bytes:
    with connected(served) as one:
        one.sendall(sent)
        return rest(one)


def is_closed(one: socket.socket, more: bytes) -> bool:
    try:
        one.sendall(more)
    except OSError:
        return True
    return False


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# --- too slow ------------------------------------------------------------------------------------


def test_a_head_that_trickles_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
    began = time.monotonic()
    with connected(served) as one:
        with contextlib.suppress(OSError):
            for byte in GET[:-1]:
                one.sendall(bytes([byte]))
                time.sleep(0.05)
        answer = rest(one)
    assert status(answer) == 408
    assert b'"code":"head-timeout"' in answer
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("first", [b"", b"\r\n"])
def test_silence_and_empty_lines_hold_no_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
    began = time.monotonic()
    with connected(served) as one:
        with contextlib.suppress(OSError):
            for _ in range(20 if first else 0):
                one.sendall(first)
                time.sleep(0.1)
        rest(one)
    assert time.monotonic() - began < 5


def test_a_second_head_on_a_connection_is_timed_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(served) as one:
        one.sendall(GET)
        assert status(one.recv(65536)) == 200
        monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in GET[:40]:
                one.sendall(bytes([byte]))
                time.sleep(0.05)
        assert status(rest(one)) == 408
    assert time.monotonic() - began < 10


def test_a_body_nobody_reads_holds_no_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REST_SECONDS", SOON)
    for head in (b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"):
        with connected(served) as one:
            one.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + head + b"\r\n")
            assert status(one.recv(65536)) == 200
            began = time.monotonic()
            with contextlib.suppress(OSError):
                for _ in range(60):
                    one.sendall(b"1" if b"Length" in head else b"1\r\nx\r\n")
                    time.sleep(0.1)
            rest(one)
        assert time.monotonic() - began < 8


def test_a_slow_body_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.body.BODY_SECONDS", SOON)
    token = served.token()
    head = f"POST /v1/providers HTTP/1.1\r\nAuthorization: Bearer {token}\r\n".encode() + HOST
    head += b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    with connected(served) as one:
        one.sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(30):
                one.sendall(b" ")
                time.sleep(0.05)
        answer = rest(one)
    assert status(answer) == 408
    assert b'"code":"body-timeout"' in answer


def test_who_does_not_read_an_answer_is_let_go(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many answers asked for at once and none read: what waits in memory has an end."""
    monkeypatch.setattr(connection, "READ_SECONDS", SOON)
    held: list[Connection] = []
    made = Connection.connection_made

    def noting(self: Connection, transport: Any) -> None:
        held.append(self)
        made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", noting)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(10)
        one.connect(("127.0.0.1", served.port))
        ask = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"

        def send() -> None:
            with contextlib.suppress(OSError):
                for _ in range(200):
                    one.sendall(ask)

        sending = threading.Thread(target=send)
        sending.start()
        wait_until(lambda: bool(held) and held[0].transport.is_closing(), 20)
        sending.join(15)
        assert not sending.is_alive()


def test_a_stream_outlives_all_these_deadlines(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_SECONDS", "REST_SECONDS", "READ_SECONDS"):
        monkeypatch.setattr(connection, name, 0.1)
    monkeypatch.setattr("api.feed.HEARTBEAT_SECONDS", 0.2)
    with connected(served) as one:
        token = served.token("auditor")
        head = f"GET /v1/feed HTTP/1.1\r\nAuthorization: Bearer {token}\r\n".encode() + HOST
        one.sendall(head + b"Accept: text/event-stream\r\n\r\n")
        seen = b""
        while seen.count(b": heartbeat") < 5:
            one.sendall(b"\r\n")
            piece = one.recv(65536)
            assert piece, seen
            seen += piece


# --- too large -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        b"GET /" + b"a" * 8,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"b" * 8,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n",
    ],
)
def test_a_head_without_end_is_ended(served: Served, part: bytes) -> None:
    with connected(served) as one:
        one.sendall(part)
        more = part[-6:] if part.endswith(b"\r\n") else part[-1:]
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 4 * MAX_HEAD_BYTES:
                sent += one.send(more * 1000)
        answer = rest(one)
        wait_until(lambda: is_closed(one, more))
    assert status(answer) == 431
    assert b'"code":"head-too-large"' in answer


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST, 414),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"b" * MAX_HEAD_BYTES + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100, 431),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 98, 200),
    ],
)
def test_a_head_that_is_too_large_in_one_piece(served: Served, head: bytes, expected: int) -> None:
    assert status(raw(served, head + b"Connection: close\r\n\r\n")) == expected


# --- what is no request --------------------------------------------------------------------------

POST = b"POST /v1/providers HTTP/1.1\r\n" + HOST
SMUGGLED = b"0\r\n\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"X: y\r\n folded: z\r\nContent-Length\x00: 5\r\n",
        b"X\x00Y: z\r\n",
        b"X: y\rContent-Length: 5\r\n",
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused(served: Served, head: bytes) -> None:
    answer = raw(served, POST + head + b"\r\n" + SMUGGLED)
    assert len(STATUS_LINE.findall(answer)) == 1, answer
    assert status(answer) == 400
    assert b'"status":"alive"' not in answer


@pytest.mark.parametrize(
    "body", [b"g\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n", b"1\r\nxx\r\n0\r\n\r\n", b"1;\x00\r\nx\r\n"]
)
def test_parts_that_are_none_are_refused(served: Served, body: bytes) -> None:
    token = f"Authorization: Bearer {served.token()}\r\n".encode()
    answer = raw(
        served,
        POST
        + token
        + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + body
        + GET,
    )
    assert b'"status":"alive"' not in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1 HTTP/1.1\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_what_is_no_request_is_one_clear_400(served: Served, sent: bytes) -> None:
    answer = raw(served, sent)
    assert status(answer) == 400, answer
    assert b"application/problem+json" in answer


def test_an_upgrade_is_not_taken_up(served: Served) -> None:
    for what in (b"h2c", b"websocket"):
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: " + what + b"\r\n\r\n"
        answer = raw(served, b"GET /healthz HTTP/1.1\r\n" + HOST + upgrade)
        assert status(answer) == 200
        assert b"101" not in answer.splitlines()[0]


def test_nonsense_behind_a_request_writes_into_no_answer(served: Served) -> None:
    token = served.token("auditor")
    waiting = f"GET /v1/feed?after={served.head()} HTTP/1.1\r\nPrefer: wait=30\r\n"
    waiting += f"Authorization: Bearer {token}\r\n"
    answer = raw(served, waiting.encode() + HOST + b"\r\n" + b"\x00\x01\r\n\r\n")
    assert len(STATUS_LINE.findall(answer)) <= 1
    assert served.get("/healthz").status_code == 200


# --- too many ------------------------------------------------------------------------------------


def test_a_connection_too_many_is_told(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = tmp_path_factory.mktemp("served") / "keys"
    settings: dict[str, Any] = {"max_connections": 10}
    with (
        serving(databases(), keys, Clock(), new_ledger=new_ledger, **settings) as served,
        contextlib.ExitStack() as held,
    ):
        served.client.close()
        many = [held.enter_context(connected(served)) for _ in range(10)]
        for one in many:
            one.sendall(GET)
            assert status(one.recv(65536)) == 200
        answer = raw(served, GET)
        assert status(answer) == 503
        assert b'"code":"too-many-connections"' in answer
        assert b"retry-after: " in answer
        many[0].close()
        wait_until(lambda: status(raw(served, GET[:-2] + b"Connection: close\r\n\r\n")) == 200)


def test_one_address_takes_not_all_places(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = tmp_path_factory.mktemp("served") / "keys"
    settings: dict[str, Any] = {"max_connections_per_address": 3, "unlimited_from": ""}
    with (
        serving(databases(), keys, Clock(), new_ledger=new_ledger, **settings) as served,
        contextlib.ExitStack() as held,
    ):
        many = [held.enter_context(connected(served)) for _ in range(3)]
        wait_until(lambda: status(raw(served, GET[:-2] + b"Connection: close\r\n\r\n")) == 503)
        many[0].close()
        wait_until(lambda: status(raw(served, GET[:-2] + b"Connection: close\r\n\r\n")) == 200)


def test_places_are_given_back() -> None:
    room = Room(Front(), limit=5, limit_per_address=2)
    assert room.full_for("203.0.113.7", 1) is None
    room.held["203.0.113.7"] = 2
    assert room.full_for("203.0.113.7", 3) == 2
    assert room.full_for("203.0.113.8", 3) is None
    assert room.full_for("203.0.113.8", 6) == 5
