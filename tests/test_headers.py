"""Every answer of every door carries the headers that protect its reader: a walk over them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from api import headers
from api.lines import STREAM
from api.origins import PATHS
from ledger.database import Database
from projections.sheet import Sheets
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving

DAY = 86_400
PLACES = {
    "identifier": given.PROVIDER,
    "position": "1",
    "type": "penalty.imposed.v1",
    "code": "behind",
}
ANY_UUID = "0198c7a0-0000-7000-8000-00000000002a"
MAY_BE_KEPT = {"no-cache", "private, no-store", "no-store", "public, max-age=31536000, immutable"}


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    settings: dict[str, Any] = {
        "hsts_seconds": DAY,
        "trusted_proxies": "127.0.0.1",
        "hosts": "x, credit.example",
    }
    with serving(databases(), keys, Clock(), new_ledger=new_ledger, **settings) as served:
        served.provide()
        served.penalise()
        served.follow()
        yield served


def addresses(served: Served) -> list[tuple[str, str]]:
    """Method and an address of every route there is, pages and static files included."""
    found = []
    for route in served.app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{(\w+)\}", lambda name: PLACES.get(name[1], ANY_UUID), route.path)
        found += [(method, path) for method in sorted(route.methods or ())]
    return found


def guarded(found: httpx2.Response, path: str = "/nix") -> None:
    """The answer has every header, once, and no other than its kind may have."""
    told = found.headers
    names = [name.lower() for name, _ in told.multi_items()]
    for name, value in headers.ALWAYS:
        header = name.decode()
        assert names.count(header) == 1, (header, path)
        if header == "content-security-policy":
            page = found.headers.get("content-type", "").startswith(("text/html", "text/css"))
            page = page or path.startswith("/static/")
            page = page or found.status_code in (304, 308)
            assert told[header] in ((headers.PAGE, headers.NOTHING) if page else (headers.NOTHING,))
        elif header == "cache-control":
            assert told[header] in MAY_BE_KEPT
        elif header == "cross-origin-resource-policy":
            shared = PATHS.fullmatch(path) is not None
            assert told[header] == ("cross-origin" if shared else "same-origin"), path
        else:
            assert told[header] == value.decode()
    assert names.count("x-request-id") == 1
    assert "server" not in told
    assert "x-powered-by" not in told
    assert "set-cookie" not in told


def test_every_address_answers_every_reader_with_the_headers(served: Served) -> None:
    walked = addresses(served)
    assert len(walked) > 40
    for method, path in walked:
        for role in (None, "registrar", "auditor"):
            asked = served.bearer(role)
            if method == "POST":
                answer = served.client.post(path, headers=asked, json={})
            else:
                answer = served.client.request(method, path, headers=asked)
            guarded(answer, path)
            if answer.status_code in (200, 201) and role and "vary" in answer.headers:
                shared = PATHS.fullmatch(path) is not None
                own = path.startswith("/v1/") and not shared
                assert not own or "no-store" in answer.headers["cache-control"], path


def test_copies_methods_redirects_and_streams_have_them(served: Served) -> None:
    for path in ("/", f"/providers/{given.PROVIDER}", "/openapi.json", "/v1/ledger"):
        again = served.get(path, if_none_match=served.get(path).headers["etag"])
        assert again.status_code == 304
        guarded(again, path)
    moved = served.client.get(f"/providers/{given.PROVIDER.lower()}", follow_redirects=False)
    assert moved.status_code == 308
    guarded(moved, "/providers")
    for method in ("OPTIONS", "DELETE", "HEAD", "PROPFIND"):
        guarded(served.client.request(method, "/v1/ledger"), "/v1/ledger")
    with served.client.stream(
        "GET", "/v1/feed", headers=served.bearer("auditor", Accept=STREAM)
    ) as stream:
        guarded(stream, "/v1/feed")


def test_every_kind_of_error_has_them_and_tells_nothing_of_the_inside(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2 SELECT * FROM ledger.chengxin_events")

    token = served.bearer("registrar")
    failures = [
        (served.get("/nix"), 404),
        (served.get("/%2e%2e/%2e%2e/etc/passwd"), 404),
        (served.get("/v1/feed"), 401),
        (served.get("/v1/feed", authorization="Bearer x"), 401),
        (served.post(f"/v1/providers/{given.PROVIDER}/penalties", {}, "auditor"), 403),
        (served.client.delete("/v1/ledger"), 405),
        (served.get("/v1/feed", "auditor", accept="image/png"), 406),
        (served.post("/v1/providers", {"identifier": given.PROVIDER}), 422),
        (served.client.post("/v1/providers", content=b"x" * 300_000, headers=token), 413),
        (served.client.post("/v1/providers", content=b"{", headers=token), 415),
        (served.get("/v1/ledger", host="evil.example"), 421),
        (served.get("/?" + "&".join(["q=1"] * 60)), 400),
        (served.get("/?q=" + "x" * 9000), 414),
        (served.get("/", **{f"x_{n}": "y" for n in range(120)}), 431),
    ]
    monkeypatch.setattr(type(served.scores), "rulebooks", fail)
    monkeypatch.setattr(Sheets, "search", fail)
    failures += [(served.get("/v1/ledger"), 500), (served.get("/"), 500)]
    for answer, status in failures:
        assert answer.status_code == status, (answer.request.url, answer.text)
        guarded(answer, answer.request.url.path)
        for inside in ("hunter2", "Traceback", "RuntimeError", "SELECT", "chengxin_events", ".py"):
            assert inside not in answer.text


def test_what_is_no_request_has_them_too(served: Served) -> None:
    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"NIX\r\n\r\n"):
        answer = raw(served, sent)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), sent
        head, _, body = answer.partition(b"\r\n\r\n")
        for name, value in headers.ALWAYS:
            assert head.count(b"\r\n%b: %b\r\n" % (name, value)) == 1
        assert b"server:" not in head.lower()
        assert b'"code":"malformed"' in body


def raw(served: Served, sent: bytes) -> bytes:
    """What is answered to bytes until the server closes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(sent)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_tls_only_is_said_behind_tls_only(served: Served) -> None:
    name = "strict-transport-security"
    assert name not in served.get("/").headers
    assert name not in served.get("/", x_forwarded_proto="http").headers
    for path in ("/", "/v1/ledger", "/nix"):
        answer = served.get(path, x_forwarded_proto="https")
        assert answer.headers[name] == f"max-age={DAY}"
    assert name not in served.get("/", forwarded="proto=https").headers, "not this proxy's header"


def test_a_caller_cannot_say_that_he_came_by_tls(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger, hsts_seconds=DAY) as served:
        answer = served.get("/", x_forwarded_proto="https")
        assert "strict-transport-security" not in answer.headers


# --- the host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"),
        *("credit.example", "Credit.Example:443"),
    ],
)
def test_the_hosts_that_are_answered(served: Served, host: str) -> None:
    assert served.get("/v1/ledger", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("credit.example.evil.example", "xcredit.example", "10.0.0.1", "[::2]", "credit.example."),
    ],
)
def test_a_name_that_was_led_here_is_refused_everywhere(served: Served, host: str) -> None:
    for path in ("/", "/v1/ledger", "/healthz", "/metrics", "/nix", "/openapi.json"):
        told = problem(served.get(path, host=host), 421, "misdirected")
        assert told["facts"]["host"] == host.partition(":8000")[0]
    head = served.head()
    problem(served.post("/v1/providers", {}, host=host), 421, "misdirected")
    assert served.head() == head


@pytest.mark.parametrize(
    "host", ["", "a b", "user@localhost", "localhost/x", "[::1", "localhost:x"]
)
def test_what_names_no_host_is_refused(served: Served, host: str) -> None:
    problem(served.get("/v1/ledger", host=host), 400, "host-missing")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.0\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n",
    ],
)
def test_a_host_is_named_once(served: Served, head: bytes) -> None:
    answer = raw(served, head + b"Connection: close\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]
    assert b'"code":"host-missing"' in answer


def test_an_address_with_a_host_overrules_the_header(served: Served) -> None:
    tail = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 421 " in raw(served, b"GET http://evil.example/healthz" + tail).splitlines()[0]
    assert b" 200 " in raw(served, b"GET http://localhost:80/healthz" + tail).splitlines()[0]
