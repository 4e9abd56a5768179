"""Requests that are too long, too many, crooked, or two things at once: raw bytes on real sockets.

A good answer is one clear refusal (or the same as the plain request would get), nothing of the
inside, and a server that goes on. Slow requests and places are in `tests/test_connection.py`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from ledger.database import Database
from tests import given
from tests.attack import attacks, raw, statuses
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving

HOST = b"Host: localhost\r\nConnection: close\r\n"
INSIDE = (
    b"Traceback",
    b"psycopg",
    b"SELECT ",
    b"root:",
    str(Path(__file__).parent.parent).encode(),
    b"Error:",
)
PATHS = (
    *("/../../etc/passwd", "/static/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"),
    *("/static/%2e%2e/%2e%2e/settings.py", "/static/..%2f..%2fsettings.py"),
    *("/static/%252e%252e%252fsettings.py", "/static/..%5c..%5csettings.py", "/static//etc/passwd"),
    *("//etc/passwd", "/static/%00", "/static/icon.svg%00.css", "/%c0%ae%c0%ae/etc/passwd"),
    *("/%e0%80%ae%e0%80%ae/etc/passwd", "/%ff%fe", "/.git/config", "/.env", "/static/."),
    *(
        "/static/..",
        "/static/",
        "/api/settings.py",
        "/file:///etc/passwd",
        "/\\..\\..\\etc\\passwd",
    ),
    *("/keys/token_signing_key", "/problems/../../keys", "/problems/%2e%2e%2f", "/problems/{code}"),
    *("/problems/__class__", "/v1/schemas/__proto__", "/v1/schemas/%2e%2e%2fledger"),
    *("/v1/schemas/..%2f..%2f..%2fetc%2fpasswd", "/v1/schemas/penalty.imposed.v1%00"),
    *("/V1/LEDGER", "/v1/ledger/", "/v1/ledger.", "/v1//ledger", "/v1/./ledger/x", "/v1/ledger%20"),
    *("/v1/ledger;x=1", "/v1/ledger%2f", "/v1%2fledger", "/v1/x/../quarantine", "/v1/quarantine/"),
    *(
        "/v1/ledger/../quarantine",
        "/healthz/../v1/feed",
        "/v1/feed%3fafter=0",
        "/v1/FEED",
        "/V1/feed",
    ),
    *("/v1/feed;/healthz", "/healthz/..;/v1/feed", "/v1/%66eed", "/v1/fee%64", "/%76%31/feed"),
    *("/v1/events/1%2fsealed", "/v1/events/1/sealed/", "/v1/events/-1", "/v1/events/0"),
    *("/v1/events/1e1", "/v1/events/0x1", "/v1/events/１", "/v1/events/99999999999999999999"),
    *("/v1/events/1%00", "/v1/events/1;DROP", "/v1/events/ 1", "/v1/events/%201", "/v1/events/+1"),
)
"""Paths that try to be another one."""
MAY_BE_FOUND = {
    **dict.fromkeys(("/v1/%66eed", "/v1/fee%64", "/%76%31/feed"), 401),
    **dict.fromkeys(("/v1/events/%201", "/v1/events/+1"), 200),
}
"""What is only another spelling of an address gets what that address gives."""


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("attack") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.follow()
        yield served


def refused(answer: bytes, *allowed: int) -> bool:
    """One refusal, of one of these statuses, that tells nothing of the inside."""
    found = statuses(answer)
    return len(found) == 1 and found[0] in allowed and not any(one in answer for one in INSIDE)


def get(target: bytes, more: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A request with a target as it is written here."""
    return b"GET " + target + b" " + version + b"\r\n" + HOST + more + b"\r\n"


def test_paths_lead_nowhere_but_where_they_say(served: Served) -> None:
    with attacks("paths") as tally:
        for path in PATHS:
            for method in (b"GET", b"HEAD", b"POST"):
                target = path.encode()
                sent = (
                    method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
                )
                answer = raw(served, sent)
                good = refused(answer, 400, 401, 404, 405, 422)
                if path in MAY_BE_FOUND and method != b"POST":
                    good = refused(answer, MAY_BE_FOUND[path])
                tally.attack((method, path), answer, good=good)


def test_methods_are_what_they_are(served: Served) -> None:
    head = served.head()
    path = f"/v1/providers/{given.PROVIDER}/penalties".encode()
    token = f"Authorization: Bearer {served.token()}\r\n".encode()
    with attacks("methods") as tally:
        for method in (
            *(b"TRACE", b"CONNECT", b"PUT", b"PATCH", b"DELETE", b"PROPFIND", b"MOVE", b"COPY"),
            *(b"MKCOL", b"LOCK", b"PURGE", b"get", b"Get", b"GE", b"GETT", b"DEBUG", b"QUERY"),
            *(b"POST\x00", b"X" * 300, b"TRACK"),
        ):
            for target in (b"/", b"/v1/ledger", path, b"/v1/feed", b"*", b"/healthz"):
                sent = method + b" " + target + b" HTTP/1.1\r\n" + HOST + token + b"\r\n"
                answer = raw(served, sent)
                echoed = token[22:60] in answer
                good = refused(answer, 400, 404, 405, 501) and not echoed
                tally.attack((method, target), answer, good=good)
        for name in (b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"):
            for method in (b"DELETE", b"POST", b"PUT"):
                answer = raw(served, get(path, name + b": " + method + b"\r\n" + token))
                tally.attack((name, method), answer, good=refused(answer, 405))
                answer = raw(served, get(path + b"?_method=" + method, token))
                tally.attack((b"_method", method), answer, good=refused(answer, 405))
        assert served.head() == head


def test_a_header_changes_neither_who_asks_nor_what_is_asked(served: Served) -> None:
    """Headers by which proxies and frameworks are led astray: the answer is that without them."""
    plain = {
        path: statuses(raw(served, get(path)))
        for path in (b"/v1/quarantine", b"/v1/feed", b"/v1/ledger", b"/metrics")
    }
    with attacks("headers") as tally:
        for line in (
            *(b"X-Original-URL: /healthz", b"X-Rewrite-URL: /healthz", b"X-Forwarded-Prefix: /x"),
            *(b"X-Forwarded-Host: evil.example", b"X-Host: evil.example", b"X-Forwarded-Server: e"),
            *(b"X-Forwarded-Proto: https", b"X-Forwarded-Scheme: https", b"Front-End-Https: on"),
            *(b"X-Forwarded-Port: 1", b"Forwarded: host=evil.example;proto=https;for=127.0.0.1"),
            *(b"X-Forwarded-User: admin", b"X-Remote-User: admin", b"Remote-User: admin"),
            *(b"X-Role: auditor", b"X-Actor: auditor", b"Cookie: token=auditor; role=auditor"),
            *(b"X-SSL-Client-S-DN: CN=auditor", b"X-Client-Cert: x", b"X-Api-Key: cxk_x"),
            *(b"Proxy-Authorization: Bearer x", b"Authentication: Bearer x", b"From: auditor"),
            *(b"X-Request-Id: a b", b"X-Request-Id: <script>", b"X-Request-Id: " + b"x" * 65),
            *(b"Accept-Language: ../../etc", b"Accept: ../../../etc/passwd", b"Origin: null"),
            *(
                b"Origin: https://evil.example",
                b"Referer: javascript:alert(1)",
                b"User-Agent: ${7*7}",
            ),
            *(b"User-Agent: ${jndi:ldap://x}", b"Range: bytes=0-,0-,0-,0-", b"Expect: 200-ok"),
            *(b"If-None-Match: " + b'"a",' * 500, b"TE: trailers", b"Transfer-Encoding2: chunked"),
            *(
                b"Upgrade: websocket",
                b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
                b"Max-Forwards: 0",
            ),
        ):
            for path, wanted in plain.items():
                answer = raw(served, get(path, line + b"\r\n"))
                good = b"evil.example" not in answer and b"javascript:" not in answer
                if path != b"/metrics":
                    good = good and not any(one in answer for one in INSIDE)
                good = good and b"${" not in answer
                found = statuses(answer)
                # Whoever says that a proxy passed it on is not this machine: no metrics.
                fewer = path == b"/metrics" and found and found[0] >= 400
                tally.attack((line, path), answer, good=good and (found == wanted or bool(fewer)))


def test_what_is_too_long_is_refused(served: Served) -> None:
    long = b"x" * 70_000
    token = f"Authorization: Bearer {served.token()}\r\n".encode()
    post = b"POST /v1/providers HTTP/1.1\r\n" + HOST + token + b"Content-Type: application/json\r\n"
    with attacks("oversized") as tally:
        for what, sent, allowed in (
            ("a long path", get(b"/" + long), (400, 414, 431)),
            ("a long query", get(b"/?q=" + long), (400, 414, 431)),
            ("many parameters", get(b"/?" + b"&".join([b"q=1"] * 1000)), (400,)),
            ("a long header", get(b"/", b"X: " + long + b"\r\n"), (431,)),
            ("a long name", get(b"/", long + b": x\r\n"), (400, 431)),
            ("many headers", get(b"/", b"".join(b"X%d: y\r\n" % n for n in range(3000))), (431,)),
            ("a long token", get(b"/v1/feed", b"Authorization: Bearer " + long + b"\r\n"), (431,)),
            ("a long cookie", get(b"/", b"Cookie: " + long + b"\r\n"), (431,)),
            ("a body said to be huge", post + b"Content-Length: 99999999999\r\n\r\n", (413,)),
            (
                "a body beyond all numbers",
                post + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
                (400, 413),
            ),
            (
                "parts without an end",
                post
                + b"Transfer-Encoding: chunked\r\n\r\n"
                + b"fff\r\n" * 0
                + b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(100)),
                (413,),
            ),
            (
                "a part's size beyond all numbers",
                post + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
                (400, 413),
            ),
            (
                "a long extension of a part",
                post + b"Transfer-Encoding: chunked\r\n\r\n1;" + long * 10 + b"\r\nx\r\n0\r\n\r\n",
                (400, 413, 415, 431),
            ),
            (
                "trailers",
                post + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
                (400, 413, 431),
            ),
        ):
            answer = raw(served, sent)
            tally.attack(what, answer, good=refused(answer, *allowed))
        assert served.get("/healthz").status_code == 200


def test_no_second_request_hides_in_the_first(served: Served) -> None:
    """However a length is told: what follows is refused, or is the sender's own second request."""
    inner = b"GET /v1/ledger HTTP/1.1\r\nHost: localhost\r\n\r\n"
    size = b"%d" % len(inner)
    with attacks("smuggling") as tally:
        for line in (
            b"Content-Length: 0\r\nContent-Length: " + size,
            b"Content-Length: " + size + b"\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: " + size,
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: identity, chunked, identity",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding:\tchunked, x",
            b"Transfer-Encoding: chunk",
            b"Transfer-Encoding: chunked\x00",
            b"Transfer_Encoding: chunked\r\nContent-Length: +0",
            b"Content-Length: 0, " + size,
            b"Content-Length: 0x2d",
            b"Content-Length: -1",
            b"Content-Length:\r\n " + size,
            b"Content-Length: 1_0",
            b"Content-Length: \xb2",
            b" Content-Length: 5",
            b"X: y\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            b"X: y\r\rContent-Length: 5",
            b"Foo\r\nTransfer-Encoding: chunked, chunked",
        ):
            sent = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n\r\n"
            answer = raw(served, sent + b"0\r\n\r\n" + inner, seconds=3)
            good = len(statuses(answer)) <= 1 and b'"head"' not in answer
            tally.attack(line, answer, good=good and b" 200 " not in answer[:20])


def test_targets_and_versions_of_other_kinds(served: Served) -> None:
    with attacks("targets") as tally:
        for target, version, allowed in (
            (b"http://evil.example/v1/ledger", b"HTTP/1.1", (400, 421)),
            (b"https://localhost:1/v1/feed", b"HTTP/1.1", (400, 401, 421)),
            (b"http://localhost@evil.example/v1/ledger", b"HTTP/1.1", (400, 421)),
            (b"ftp://localhost/v1/feed", b"HTTP/1.1", (400, 401, 421)),
            (b"file:///etc/passwd", b"HTTP/1.1", (400, 404, 421)),
            (b"http://169.254.169.254/latest/meta-data", b"HTTP/1.1", (400, 421)),
            (b"*", b"HTTP/1.1", (400, 404)),
            (b"localhost:443", b"HTTP/1.1", (400, 404, 421)),
            (b"v1/ledger", b"HTTP/1.1", (400, 404)),
            (b"?q=x", b"HTTP/1.1", (400, 404)),
            (b"#", b"HTTP/1.1", (400, 404)),
            (b"/v1/feed", b"HTTP/1.0", (400, 401)),
            (b"/v1/feed", b"HTTP/2.0", (400, 401, 505)),
            (b"/v1/feed", b"HTTP/0.9", (400, 401, 505)),
            (b"/v1/feed", b"HTTP/1.9", (400, 401, 505)),
            (b"/v1/feed", b"HTTP/11.1", (400,)),
            (b"/v1/feed", b"ICY/1.1", (400,)),
            (b"/v1/feed", b"http/1.1", (400,)),
            (b"/v1/feed", b"", (400,)),
            (b"/v1/\xffeed", b"HTTP/1.1", (400, 404)),
            (b"/v1/ledger\x00", b"HTTP/1.1", (400, 404)),
            (b"/v1/ledger\x7f", b"HTTP/1.1", (400, 404)),
            (b"/v1\\ledger", b"HTTP/1.1", (400, 404)),
        ):
            answer = raw(served, get(target, version=version))
            tally.attack((target, version), answer, good=refused(answer, *allowed))
        for host in (
            *(b"evil.example", b"localhost.evil.example", b"localhost:80:80", b"localhost\tx"),
            *(b"localhost, evil.example", b"127.1", b"0", b"0x7f000001", b"2130706433", b"[::]"),
            *(
                b"localhost%00.evil.example",
                b"LOCALHOST.",
                b"169.254.169.254",
                b"\xff",
                b"[::1%25lo]",
            ),
        ):
            sent = b"GET /v1/ledger HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
            answer = raw(served, sent)
            tally.attack(host, answer, good=refused(answer, 400, 421))


def test_nonsense_is_no_reason_to_stop(served: Served) -> None:
    """Bytes of other protocols, closed in the middle; afterwards the server answers as before."""
    with attacks("nonsense") as tally:
        for sent in (
            *(b"\x00" * 1000, b"\xff" * 1000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            *(b"SSH-2.0-x\r\n", b"EHLO x\r\n", b"*1\r\n$4\r\nPING\r\n", b"\r\n" * 500),
            *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
            *(
                b"GET",
                b"GET / HTTP/1.1\r\nHost",
                b"POST /v1/imports HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            ),
        ):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", served.port), timeout=5) as one,
            ):
                one.sendall(sent)
            answer = served.get("/v1/ledger")
            good = (
                answer.status_code == 200 and orjson.loads(answer.content)["head"] == served.head()
            )
            tally.attack(sent[:30], answer.text, good=good)
