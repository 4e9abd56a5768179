"""Bad input: a clear problem document, nothing stored, nothing leaked."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from api.body import MAX_DEPTH, check_exact, parse_json
from api.refusals import SchemaBroken, Unparsable
from ledger.database import Database
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving

LIMIT = 256 * 1024
PENALTIES = f"/v1/providers/{given.PROVIDER}/penalties"


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        yield served


@pytest.fixture(autouse=True)
def nothing_stored(served: Served) -> Iterator[None]:
    """No test of this module leaves an event."""
    head = served.head()
    yield
    assert served.head() == head


def penalty(**changes: Any) -> dict[str, Any]:
    body = given.penalty().model_dump(mode="json") | changes
    return {name: value for name, value in body.items() if value is not ...}


def send(served: Served, content: bytes, path: str = PENALTIES, **headers: str) -> httpx2.Response:
    given_headers = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return served.client.post(path, content=content, headers=served.bearer() | given_headers)


# --- not JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"{",
        b'{"a":1,}',
        b"{'a':1}",
        b"null null",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"a":"\xc3\x28"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":"\x00"}',
        b'{"a":"\t"}',
        b'{"a":"\\x00"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":01}',
        b"\x1f\x8b\x08\x00",
        b"[" * 100_000,
        b"[" * 500 + b"]" * 500,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_unparsable(served: Served, content: bytes) -> None:
    told = problem(send(served, content), 400, "unparsable")
    assert told["detail"].startswith("内容不是合格的 JSON：")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"severity":"S2","severity":"S3"}', "severity"),
        ('{"issuer":{"kind":"COURT","kind":"REGULATOR"}}', "kind"),
        ('{"a":1,"\\u0061":2}', "a"),
        ('[{"b":1,"b":1}]', "b"),
    ],
)
def test_a_key_may_not_be_there_twice(served: Served, text: str, name: str) -> None:
    told = problem(send(served, text.encode(), accept_language="en"), 400, "unparsable")
    assert f"the key '{name}' is there twice" in told["detail"]


def test_the_place_of_the_fault_is_told(served: Served) -> None:
    told = problem(send(served, b'{\n "a": x}', accept_language="en"), 400, "unparsable")
    assert "(2:7)" in told["detail"]
    told = problem(send(served, b'{\n "a": x}'), 400, "unparsable")
    assert "第 2 行第 7 列" in told["detail"]


def test_depth_is_bounded_and_no_less_is_refused() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(Unparsable, match=f"more than {MAX_DEPTH} levels"):
        parse_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert parse_json(b"[" + b"[]," * 1000 + b"[]]")


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/xml", 415),
        ("", 415),
        ("application/json; charset=utf-8", 400),
        ("Application/JSON", 400),
        ("application/vnd.chengxin+json", 400),
    ],
)
def test_json_is_said_to_be_json(served: Served, media_type: str, status: int) -> None:
    response = send(served, b"{", content_type=media_type)
    problem(response, status, "not-json" if status == 415 else "unparsable")


# --- not by the schema ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"[]", b'"x"', b"1", b"null", b"true", b"{}"])
def test_a_body_that_is_no_command_is_told_field_by_field(served: Served, content: bytes) -> None:
    told = problem(send(served, content), 422, "schema-broken")
    assert told["errors"]


@pytest.mark.parametrize(
    ("changes", "loc", "zh", "en"),
    [
        ({"severity": ...}, ["severity"], "缺少必填字段", "Field required"),
        ({"colour": "red"}, ["colour"], "没有该字段", "Extra inputs"),
        ({"severity": 2}, ["severity"], "应为文本", "valid string"),
        ({"severity": None}, ["severity"], "应为文本", "valid string"),
        ({"severity": "s2"}, ["severity"], "应符合格式", "match pattern"),
        ({"obligation": "false"}, ["obligation"], "应为 true 或 false", "valid boolean"),
        ({"obligation": 0}, ["obligation"], "应为 true 或 false", "valid boolean"),
        ({"mitigation": "SELF_REPORTED"}, ["mitigation"], "应为数组", "valid list"),
        ({"mitigation": {}}, ["mitigation"], "应为数组", "valid list"),
        ({"evidence": []}, ["evidence"], "至少 1 项", "at least 1"),
        ({"document_no": ""}, ["document_no"], "至少 1 个字符", "at least 1"),
        ({"document_no": "文" * 121}, ["document_no"], "至多 120 个字符", "at most 120"),
        ({"document_no": "a\u0000b"}, ["document_no"], "不允许控制字符", "control"),
        ({"document_no": "a\u202eb"}, ["document_no"], "不允许控制字符", "control"),
        ({"document_no": " 7"}, ["document_no"], "首尾不得有空格", "no space"),
        ({"issuer": "COURT"}, ["issuer"], "应为对象", "valid dictionary"),
        ({"issuer": {"kind": "COURT"}}, ["issuer", "name"], "缺少必填字段", "Field required"),
        ({"decided_on": "2026-2-1"}, ["decided_on"], "日期写作", "YYYY-MM-DD"),
        ({"decided_on": "2026-02-30"}, ["decided_on"], "应为存在的日期", "a day that exists"),
        ({"decided_on": "2026-W07-2"}, ["decided_on"], "日期写作", "YYYY-MM-DD"),
        ({"decided_on": "2026-02-10T00:00"}, ["decided_on"], "日期写作", "YYYY-MM-DD"),
        ({"decided_on": 1770681600}, ["decided_on"], "应为存在的日期", "valid date"),
        ({"decided_on": None}, ["decided_on"], "应为存在的日期", "valid date"),
    ],
)
def test_a_broken_field_is_named_in_the_readers_language(
    served: Served, changes: dict[str, Any], loc: list[str], zh: str, en: str
) -> None:
    content = json.dumps(penalty(**changes)).encode()
    for language, message in (("zh-CN", zh), ("en", en)):
        response = send(served, content, accept_language=language)
        told = problem(response, 422, "schema-broken")
        assert [one["loc"] for one in told["errors"]] == [["body", *loc]]
        assert message in told["errors"][0]["msg"]


def test_every_broken_field_is_named_at_once(served: Served) -> None:
    content = json.dumps(penalty(severity=..., colour=1, obligation="no")).encode()
    told = problem(send(served, content), 422, "schema-broken")
    assert told["facts"]["count"] == len(told["errors"]) == 3


def test_a_thousand_faults_are_told_in_part(served: Served) -> None:
    content = json.dumps({f"field{n}": n for n in range(1000)}).encode()
    told = problem(send(served, content), 422, "schema-broken")
    assert told["facts"]["count"] > 1000
    assert len(told["errors"]) == 50


def test_what_was_refused_is_not_repeated(served: Served) -> None:
    secret = "SECRET-" + "x" * 200
    content = json.dumps(penalty(severity=secret, document_no=secret, decided_on=secret)).encode()
    assert secret not in send(served, content).text


@pytest.mark.parametrize("number", ["2.5", "1e3.5", "-1", "9007199254740992", "1e400"])
def test_a_size_is_a_whole_number_in_range(served: Served, number: str) -> None:
    text = json.dumps(penalty()).replace("24816", number)
    assert send(served, text.encode()).status_code in (400, 422)


def test_a_target_stands_in_the_address_alone(served: Served) -> None:
    body = given.overturn("0198c7a0-0000-4000-8000-000000000001").model_dump(mode="json")
    path = f"/v1/providers/{given.PROVIDER}/decisions/0198c7a0-0000-4000-8000-000000000001"
    told = problem(served.post(f"{path}/overturning", body), 422, "schema-broken")
    assert told["errors"][0]["loc"] == ["body", "target"]
    del body["target"]
    problem(served.post(f"{path}/overturning", body), 409, "unknown-target")
    path = f"/v1/providers/{given.PROVIDER}/decisions/nonsense/overturning"
    told = problem(served.post(path, body), 422, "schema-broken")
    assert told["errors"][0]["loc"] == ["path", "id"]


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        (lambda book: book.update({"note": 2.5}), ["note"]),
        (lambda book: book.update({"note": 2**53}), ["note"]),
        (lambda book: book.update({"note": [{"a": "x\0y"}]}), ["note", 0, "a"]),
        (lambda book: book["scoring"].update({"分": "1"}), ["scoring"]),
        (lambda book: book["scoring"].update({"a\nb": "1"}), ["scoring"]),
    ],
)
def test_a_rulebook_holds_only_what_canonical_json_can_carry(
    served: Served, change: Callable[[dict[str, Any]], None], loc: list[str | int]
) -> None:
    book = given.rulebook("RB-BAD")
    change(book)
    response = served.post("/v1/rulebooks", {"rulebook": book}, "rulebook_editor")
    told = problem(response, 422, "schema-broken")
    assert told["errors"][0]["loc"] == ["body", "rulebook", *loc]


def test_whole_numbers_written_as_decimals_are_whole() -> None:
    assert parse_json(b'{"a":2.0,"b":1e3}') == {"a": 2, "b": 1000}
    with pytest.raises(SchemaBroken):
        check_exact(parse_json(b"[9007199254740993.0]"), ())


# --- too long, too slow --------------------------------------------------------------------------


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(served: Served) -> None:
    exact = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert len(exact) == LIMIT
    problem(send(served, exact), 422, "schema-broken")
    problem(send(served, exact + b" "), 413, "body-too-large")


def raw_request(served: Served, *lines: str) -> socket.socket:
    """A connection on which the head of a POST has been sent."""
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    head = [
        f"POST {PENALTIES} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {served.token()}",
        "Content-Type: application/json",
        *lines,
    ]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def read_answer(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def pour(connection: socket.socket, total: int, *, chunked: bool) -> int:
    """Send a body until it is all sent or the server has closed; the bytes sent."""
    block = b"x" * 65536
    framed = b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
    sent = 0
    try:
        while sent < total:
            connection.sendall(framed)
            sent += len(block)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


@pytest.mark.parametrize("chunked", [False, True])
def test_twenty_megabytes_are_refused_without_being_read(served: Served, chunked: bool) -> None:
    total = 20 * 1024 * 1024
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total}"
    with raw_request(served, how) as connection:
        sent = pour(connection, total, chunked=chunked)
        answer = read_answer(connection)
    assert sent < total / 2
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["code"] == "body-too-large"


def test_a_client_that_waits_for_100_continue_sends_nothing(served: Served) -> None:
    with raw_request(served, "Content-Length: 20971520", "Expect: 100-continue") as connection:
        started = time.monotonic()
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    assert time.monotonic() - started < 5


def test_a_long_body_is_refused_at_every_address(served: Served) -> None:
    for method, path in (("GET", "/healthz"), ("POST", "/nix"), ("PUT", "/v1/feed")):
        content = b"x" * (LIMIT + 1)
        response = served.client.request(method, path, content=content)
        problem(response, 413, "body-too-large")


def test_a_body_that_never_comes_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.body.BODY_SECONDS", 0.2)
    with raw_request(served, "Content-Length: 100") as connection:
        connection.sendall(b'{"sev')
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body-timeout"' in answer


def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(served: Served) -> None:
    for _ in range(5):
        with raw_request(served, "Content-Length: 100") as connection:
            connection.sendall(b'{"sev')
    assert served.get("/healthz").status_code == 200


# --- addresses and queries -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "loc"),
    [
        ("/v1/feed?after=-1", ["query", "after"]),
        ("/v1/feed?after=x", ["query", "after"]),
        ("/v1/feed?after=99999999999999999999", ["query", "after"]),
        ("/v1/feed?limit=0", ["query", "limit"]),
        ("/v1/feed?limit=10001", ["query", "limit"]),
        ("/v1/events/0", ["path", "position"]),
        ("/v1/events/x", ["path", "position"]),
        ("/v1/disclosure/providers?grade=a", ["query", "grade"]),
        ("/v1/disclosure/providers?q=%00", ["query", "q"]),
        ("/v1/disclosure/providers?q=" + "x" * 101, ["query", "q"]),
        ("/v1/disclosure/providers?after=%27", ["query", "after"]),
        (f"/v1/providers/{given.PROVIDER}/score?as_of=2026-02-30", ["query", "as_of"]),
        (f"/v1/providers/{given.PROVIDER}/score?as_of=2026-2-3", ["query", "as_of"]),
        (f"/v1/providers/{given.PROVIDER}/score?as_of=1899-12-31", ["query", "as_of"]),
        (f"/v1/providers/{given.PROVIDER}/score?as_of=2201-01-01", ["query", "as_of"]),
        (f"/v1/providers/{given.PROVIDER}/score?as_of=", ["query", "as_of"]),
        (f"/v1/providers/{given.PROVIDER}/score?min_position=0", ["query", "min_position"]),
        (f"/v1/providers/{given.PROVIDER}/events?limit=1001", ["query", "limit"]),
    ],
)
def test_a_query_out_of_range_is_told(served: Served, path: str, loc: list[str]) -> None:
    told = problem(served.get(path, "auditor"), 422, "schema-broken")
    assert told["errors"][0]["loc"] == loc


@pytest.mark.parametrize(
    "path",
    [
        "/v1/providers/%00/score",
        "/v1/disclosure/providers/%FF%FE",
        "/v1/providers/%ED%A0%80/events",
    ],
)
def test_strange_bytes_in_an_address_are_no_identifier(served: Served, path: str) -> None:
    problem(served.get(path), 409, "invalid-identifier")


def test_sql_in_a_search_is_text(served: Served) -> None:
    response = served.client.get("/v1/disclosure/providers", params={"q": "' OR 1=1 --"})
    assert response.json() == {"providers": []}
