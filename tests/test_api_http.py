"""How the API keeps to HTTP at every address: methods, queries, copies, ranges, pages, origins."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request

from api import lines, reads
from api.body import is_json
from api.openapi import READS
from api.origins import PATHS, PREFLIGHT, SHARED
from api.refusals import NotJson
from api.replies import is_fresh
from ledger.database import Database
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, problem, serving, wait_until
from tests.test_api_feed import open_streams

numbers = itertools.count(1)
PLACES = {
    "{identifier}": given.PROVIDER,
    "{position}": "1",
    "{person}": "0198c7a0-0000-4000-8000-0000000000c1",
    "{type}": "penalty.imposed.v1",
    "{code}": "behind",
    "{id}": "0198c7a0-0000-7000-8000-00000000002a",
}
COPIES = [path for path, read in READS.items() if read.may_be_unchanged]
SHARING = [path for path, read in READS.items() if read.shared]


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.penalise()
        served.follow()
        yield served


def address(path: str) -> str:
    """An address that is there, of a template."""
    for place, value in PLACES.items():
        path = path.replace(place, value)
    assert "{" not in path
    return path


def operations(served: Served) -> Iterator[tuple[str, str]]:
    """Method and address of every published operation."""
    for path, methods in served.get("/openapi.json").json()["paths"].items():
        for method in methods:
            yield method.upper(), address(path)


# --- methods -------------------------------------------------------------------------------------


def test_head_is_get_without_the_body_at_every_address(served: Served) -> None:
    paths = [path for method, path in operations(served) if method == "GET"]
    assert len(paths) >= len(READS)
    for path in (*paths, "/", "/about", "/docs", "/openapi.json", f"/providers/{given.PROVIDER}"):
        headers = served.bearer("auditor")
        whole, head = (served.client.request(m, path, headers=headers) for m in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        ignored = {"x-request-id", "date", "content-length"}
        assert {name: v for name, v in head.headers.items() if name not in ignored} == {
            name: v for name, v in whole.headers.items() if name not in ignored
        }


def test_the_head_of_the_endless_stream_ends(served: Served) -> None:
    headers = served.bearer("auditor", Accept=lines.STREAM)
    head = served.client.head("/v1/feed", headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith(lines.STREAM)
    wait_until(lambda: open_streams(served) == 0)
    assert served.client.head("/v1/feed").status_code == 401


def test_every_address_tells_its_methods(served: Served) -> None:
    for method, path in operations(served):
        response = served.client.options(path)
        expected = "GET, HEAD, OPTIONS" if method == "GET" else "OPTIONS, POST"
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["allow"] == expected, path
    problem(served.client.options("/nix"), 404, "not-found")


# --- queries -------------------------------------------------------------------------------------


def test_no_operation_passes_an_unknown_parameter_over(served: Served) -> None:
    for method, path in operations(served):
        headers = served.bearer("auditor")
        response = served.client.request(method, f"{path}?limt=5&q%00=", headers=headers)
        told = problem(response, 422, "schema-broken")
        assert [one["loc"] for one in told["errors"]] == [["query", "limt"], ["query", "q\0"]]


def test_a_parameter_that_is_there_twice_is_refused(served: Served) -> None:
    response = served.get("/v1/feed?after=0&after=1&limit=1", "auditor", accept_language="en")
    told = problem(response, 422, "schema-broken")
    assert told["errors"] == [{"loc": ["query", "after"], "msg": "a parameter may be given once"}]


def test_pages_take_what_is_added_to_a_link(served: Served) -> None:
    for path in ("/", "/about", f"/providers/{given.PROVIDER}"):
        assert served.get(f"{path}?from=mail&from=again").status_code == 200


@pytest.mark.parametrize(
    ("content_type", "good"),
    [
        ("application/json", True),
        ("application/json;charset=UTF-8", True),
        ('Application/JSON ; profile=x ; Charset="utf-8"', True),
        ("application/vnd.chengxin+json; charset=utf-8", True),
        ("application/json; charset=gb18030", False),
        ("application/json; charset=utf-16", False),
        ("application/json; charset=utf-8; charset=latin-1", False),
        ("application/json; charset=", False),
        ("text/json", False),
        ("", False),
    ],
)
def test_json_is_utf_8(content_type: str, good: bool) -> None:
    assert is_json(content_type) == good


def test_two_content_types_are_none(served: Served) -> None:
    headers = [("Authorization", f"Bearer {served.token()}")]
    headers += [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    response = served.client.post("/v1/providers", content=b"{}", headers=headers)
    problem(response, NotJson.status, "not-json")


# --- copies and ranges ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "fresh"),
    [
        ([], False),
        ([""], False),
        (["*"], True),
        (['"tag"'], True),
        (['W/"tag"'], True),
        (['"a", "tag"'], True),
        (['W/"a" ,W/"tag"'], True),
        (['"a"', '"tag"'], True),
        (['"a", "b"'], False),
        (["tag"], False),
        (['w/"tag"'], False),
        (['"TAG"'], False),
    ],
)
def test_a_copy_is_good_by_the_weak_comparison(sent: list[str], fresh: bool) -> None:
    headers = [(b"if-none-match", value.encode()) for value in sent]
    assert is_fresh(Request({"type": "http", "headers": headers}), '"tag"') == fresh


@pytest.mark.parametrize("path", [*COPIES, "/openapi.json"])
def test_every_copy_is_told_to_be_good(served: Served, path: str) -> None:
    first = served.get(address(path))
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', "*"):
        for language in ("zh", "en"):
            again = served.get(address(path), if_none_match=known, accept_language=language)
            assert (again.status_code, again.content) == (304, b"")
            for name in ("etag", "cache-control", "vary"):
                assert again.headers[name] == first.headers[name]
    assert served.get(address(path), if_none_match='"other"').content == first.content


def test_the_page_and_the_document_of_a_problem_are_different_copies(served: Served) -> None:
    path = "/problems/behind"
    document, page = served.get(path), served.get(path, accept="text/html")
    assert document.headers["vary"] == page.headers["vary"] == "Accept"
    assert page.headers.get("etag") != document.headers["etag"]
    problem(served.get(path, accept="image/png"), 406, "not-acceptable")


def test_no_parts_are_served(served: Served) -> None:
    """A server may ignore `Range` (RFC 9110 §14.2); this one does, at every address."""
    for path in ("/openapi.json", "/v1/feed", f"/v1/disclosure/providers/{given.PROVIDER}", "/"):
        whole = served.get(path, "auditor")
        part = served.get(
            path, "auditor", range="bytes=0-9", if_range=whole.headers.get("etag", "x")
        )
        assert (part.status_code, part.content) == (200, whole.content)
        assert "content-range" not in part.headers


# --- positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/providers/{}/score", "/v1/disclosure/providers/{}"])
def test_min_position(served: Served, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(reads, "CATCH_UP_SECONDS", 0.05)
    path = path.format(given.PROVIDER)
    served.follow()
    head = served.head()
    assert served.get(f"{path}?min_position={head}").json()["position"] == head
    assert served.get(f"{path}?min_position=1").status_code == 200
    for beyond in (head + 1, 2**53 - 1):
        response = served.get(f"{path}?min_position={beyond}")
        told = problem(response, 409, "behind")
        assert told["facts"] == {"wanted": beyond, "position": head, "lag": beyond - head}
        assert int(response.headers["retry-after"]) > 0
    for wrong in ("-1", "0", "1.5", "", "x", "1e3", str(2**53), "9" * 400):
        told = problem(served.get(f"{path}?min_position={wrong}"), 422, "schema-broken")
        assert told["errors"][0]["loc"] == ["query", "min_position"]


def test_a_log_that_was_set_back_is_told(served: Served) -> None:
    """Whoever goes on after a position that was never given would miss what comes up to it."""
    head = served.head()
    events = f"/v1/providers/{given.PROVIDER}/events"
    for path in ("/v1/feed", events):
        response = served.get(f"{path}?after={head + 1}", "auditor")
        assert problem(response, 404, "unknown-position")["facts"] == {
            "position": head + 1,
            "head": head,
        }
        assert served.get(f"{path}?after={head}", "auditor").content == b""
    for way in (f"/v1/feed?after={head + 1}", "/v1/feed"):
        headers = {"accept": lines.STREAM, "last_event_id": str(head + 1)}
        problem(served.get(way, "auditor", **headers), 404, "unknown-position")


def test_a_position_in_a_receipt_can_be_followed_at_once(served: Served) -> None:
    """Also where this process has not heard of the event yet."""
    for _ in range(20):
        position = positioned(served.penalise())
        response = served.get(f"/v1/feed?after={position}", "auditor")
        assert (response.status_code, response.content) == (200, b"")


# --- pages ---------------------------------------------------------------------------------------


def walk(served: Served, path: str, meanwhile: Callable[[], object], most: int) -> Iterator[Any]:
    """The answers of all pages; something happens between any two of them, `most` times."""
    following: str | None = path
    while following is not None:
        response = served.get(following, "auditor")
        assert response.status_code == 200, response.text
        if not response.content:
            return
        yield response
        following = response.links.get("next", {}).get("url")
        if following is not None and most > 0:
            most -= 1
            meanwhile()


@pytest.mark.parametrize("path", ["/v1/feed?limit=2", "/v1/providers/{}/events?limit=2"])
def test_pages_hold_every_event_once_while_others_are_written(served: Served, path: str) -> None:
    identifier = f"HK-CR-{next(numbers)}"
    served.provide(identifier)
    for _ in range(4):
        served.penalise(identifier)
    path = path.format(identifier)
    pages = list(walk(served, path, lambda: served.penalise(identifier), most=5))
    found = [line for page in pages for line in page.content.splitlines()]
    whole = served.get(path.replace("limit=2", "limit=1000"), "auditor").content.splitlines()
    assert found == whole
    assert len(set(found)) == len(found) >= 9
    assert all(len(page.content.splitlines()) <= 2 for page in pages)


def test_pages_hold_every_provider_once_while_others_are_registered(served: Served) -> None:
    there = [f"MO-SR-{n:03}" for n in range(0, 70, 10)]
    for identifier in there:
        served.provide(identifier, name=f"海峡{identifier}")
    served.follow()
    between = iter([5, 15, 55, 65, 75])

    def register() -> None:
        identifier = f"MO-SR-{next(between):03}"
        served.provide(identifier, name=f"海峡{identifier}")
        served.follow()

    pages = walk(served, "/v1/disclosure/providers?q=海峡&limit=2", register, most=5)
    found = [row["provider"] for page in pages for row in page.json()["providers"]]
    assert found == sorted(set(found))
    assert set(there) <= set(found)


# --- other origins -------------------------------------------------------------------------------

ORIGIN = {"origin": "https://news.example"}
OF_ORIGINS = ("access-control-allow-origin", "access-control-allow-methods")


@pytest.mark.parametrize("path", [*SHARING, "/openapi.json"])
def test_what_is_the_same_for_everybody_is_read_from_any_origin(served: Served, path: str) -> None:
    path = address(path)
    for headers in (ORIGIN, {}, ORIGIN | {"if_none_match": "*"}):
        response = served.get(path, **headers)
        assert response.status_code in (200, 304)
        for name, value in SHARED:
            assert response.headers[name.decode()] == value.decode()
        assert "access-control-allow-credentials" not in response.headers
        assert "access-control-allow-methods" not in response.headers
    asking = {"access_control_request_method": "GET"}
    asked = served.client.options(path, headers=ORIGIN | asking)
    assert asked.status_code == 204
    for name, value in PREFLIGHT:
        assert asked.headers[name.decode()] == value.decode()


def test_a_page_of_another_origin_reads_why_it_got_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, status in (
        ("/v1/schemas/nix", 404),
        ("/problems/nix", 404),
        ("/v1/disclosure/providers?grade=!", 422),
        ("/v1/ledger?x=1", 422),
    ):
        response = served.get(path, **ORIGIN)
        assert (response.status_code, response.headers[OF_ORIGINS[0]]) == (status, "*")
    assert served.client.delete("/v1/ledger", headers=ORIGIN).headers[OF_ORIGINS[0]] == "*"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(type(served.scores), "rulebooks", fail)
    response = served.get("/v1/ledger", **ORIGIN)
    assert (response.status_code, response.headers[OF_ORIGINS[0]]) == (500, "*")


def test_what_depends_on_the_reader_is_closed_to_other_origins(served: Served) -> None:
    closed = [path for method, path in operations(served) if PATHS.fullmatch(path) is None]
    assert "/v1/providers" in closed
    assert "/v1/feed" in closed
    assert f"/v1/providers/{given.PROVIDER}/score" in closed
    for path in (*closed, "/", f"/providers/{given.PROVIDER}", "/v1/disclosure", "/nix"):
        for method in ("GET", "POST", "OPTIONS"):
            response = served.client.request(
                method, path, headers=served.bearer("auditor", **ORIGIN)
            )
            assert not any(name in response.headers for name in OF_ORIGINS), path
