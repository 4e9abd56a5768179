"""Golden scripts: `tests/goldens/*.http` read as documentation, and every answer is held to them.

A script is played from its top against a server of its own, on a ledger that was just opened; the
clock stands at 2026-03-02 09:30 in Shanghai. Its form, which REST clients of editors know as well:

    # What the script shows.

    ### What happens next
    POST /v1/providers
    Authorization: Bearer {{token.registrar}}

    {"identifier": "91999999MA00TEXT0H", ...}

    HTTP/1.1 201 Created
    Location: /v1/events/{{position.registered}}
    -Link:

    {"position": {{position.registered}}, "id": "{{id.registered}}", ...}

* The request: a line with method and path, headers, an empty line and a body (the last two if any).
* The answer: status, then headers that must be there with just this value (`-Name:` must not be
  there; those that are not named may be anything), then the whole body. A body of JSON is compared
  as data, so that it may be written to be read; JSON Lines line by line; no body must be none.
* `{{kind.name}}` stands for a value of a kind (`KINDS`): where it is met first in an answer it
  takes the value that is there, and wherever it stands again it means the same. `{{any}}` means
  anything; in a request `{{token.ROLE}}` is a token of that role and of another person each time,
  `{{officer.NAME}}` one of a registrar, always the same person, `{{provider.IDENTIFIER}}` one of a
  provider, and `{{long.N}}` N letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import orjson
import pytest

from api.lines import JSON_LINES, JSON_LINES_TOO
from ledger.database import Database
from ledger.marks import Marks
from ledger.store import Ledger
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving

URL = "https://ledger.example"
GOLDENS = Path(__file__).parent / "goldens"
SCRIPTS = sorted(GOLDENS.glob("*.http"))
KINDS = {
    "position": "[0-9]+",
    "sequence": "[0-9]{20}",
    "id": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "time": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z",
    "tag": '(?:W/)?"[0-9a-f]{32}"',
    "digest": "[0-9a-f]{64}",
}
PLACEHOLDER = re.compile(r"\{\{([a-z]+)(?:\.([A-Za-z_0-9]+))?\}\}")
BARE = re.compile(r"(?:^|(?<=[:\[,] ))\{\{([A-Za-z.0-9_]+)\}\}(?=\s*(?:[,\]}]|$))")
"""A placeholder of a number, or of anything, in JSON: it stands in no text."""
MARK = "{{"


class Step(NamedTuple):
    """One request and the answer it must get. `absent` are names of headers in lower case."""

    title: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    expected: dict[str, str]
    absent: list[str]
    answer: str


def steps_of(script: str) -> list[Step]:
    """The steps of a script."""
    return [step_of(block) for block in re.split(r"^### ", script, flags=re.MULTILINE)[1:]]


def step_of(block: str) -> Step:
    """One step, from its title on."""
    asked, answered = re.split(r"^HTTP/1\.1 ", block, flags=re.MULTILINE)
    title, request = asked.split("\n", 1)
    head, _, body = request.strip().partition("\n\n")
    first, *headers = head.split("\n")
    method, path = first.split(" ")
    told, _, answer = answered.strip().partition("\n\n")
    line, *expected = told.split("\n")
    return Step(
        title,
        method,
        path,
        dict(header(one) for one in headers),
        body.strip(),
        int(line.split(" ")[0]),
        dict(header(one) for one in expected if not one.startswith("-")),
        [header(one)[0].removeprefix("-") for one in expected if one.startswith("-")],
        answer.strip(),
    )


def header(line: str) -> tuple[str, str]:
    """Name, in lower case, and value."""
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


class Values:
    """What the placeholders of a script stand for."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._known: dict[str, str] = {}

    def fill(self, text: str) -> str:
        """A text of a request, with all its values."""

        def value(match: re.Match[str]) -> str:
            kind, name = match.groups()
            if kind == "token":
                return self._served.token(name)
            if kind == "provider":
                return self._served.token(kind, name)
            if kind == "officer":
                ref = str(uuid5(NAMESPACE_URL, name))
                return self._served.tokens.issue(role="registrar", organisation="CN-REG-1", ref=ref)
            return (
                "x" * int(name) if kind == "long" else self._known.get(f"{kind}.{name}", match[0])
            )

        return PLACEHOLDER.sub(value, text)

    def fits(self, text: str, actual: str) -> bool:
        """Whether an answer says what the script says; then its new placeholders have values."""
        new: list[str] = []
        pattern, end = "", 0
        for match in PLACEHOLDER.finditer(text):
            kind, name = match.groups()
            pattern += re.escape(text[end : match.start()])
            end = match.end()
            if kind == "any":
                pattern += ".*"
            elif (key := f"{kind}.{name}") in self._known:
                pattern += re.escape(self._known[key])
            elif key in new:
                pattern += f"(?P=v{new.index(key)})"
            else:
                pattern += f"(?P<v{len(new)}>{KINDS[kind]})"
                new.append(key)
        found = re.fullmatch(pattern + re.escape(text[end:]), actual, re.DOTALL)
        if found is None:
            return False
        self._known |= {key: found[f"v{number}"] for number, key in enumerate(new)}
        return True

    def differences(self, expected: Any, actual: Any, where: str = "body") -> Iterator[str]:
        """Where JSON says something else than the script."""
        if isinstance(expected, dict) and expected.keys() == {MARK}:
            text = f"{{{{{expected[MARK]}}}}}"
            number = type(actual) is int or expected[MARK] == "any"
            if not (number and self.fits(text, str(actual))):
                yield f"{where}: {actual!r} is not {text}"
        elif isinstance(expected, dict) and isinstance(actual, dict):
            for name in expected.keys() | actual.keys():
                if name not in expected or name not in actual:
                    yield f"{where}.{name}: {'missing' if name in expected else 'too much'}"
            for name in [name for name in expected if name in actual]:
                yield from self.differences(expected[name], actual[name], f"{where}.{name}")
        elif isinstance(expected, list) and isinstance(actual, list):
            if len(expected) != len(actual):
                yield f"{where}: {len(actual)} elements, not {len(expected)}"
            for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
                yield from self.differences(one, other, f"{where}[{index}]")
        elif isinstance(expected, str) and isinstance(actual, str):
            if not self.fits(expected, actual):
                yield f"{where}: {actual!r} is not {expected!r}"
        elif type(expected) is not type(actual) or expected != actual:
            yield f"{where}: {actual!r} is not {expected!r}"


def parsed(text: str) -> Any:
    """JSON of a script; placeholders that stand in no text become objects of their own."""
    return orjson.loads(BARE.sub(rf'{{"{MARK}": "\1"}}', text))


def play(served: Served, script: str) -> Iterator[str]:
    """Play a script; tells every difference."""
    values = Values(served)
    for step in steps_of(script):
        served.follow()  # reads follow writes in moments; a script does not wait for them
        while Marks(served.ledger).follow():
            pass
        response = served.client.request(
            step.method,
            values.fill(step.path),
            headers={name: values.fill(value) for name, value in step.headers.items()},
            content=values.fill(step.body).encode() if step.body else None,
        )
        where = f"{step.title}: "
        if response.status_code != step.status:
            yield f"{where}status {response.status_code}, not {step.status}: {response.text}"
            continue
        for name, expected in step.expected.items():
            actual = response.headers.get(name, "(missing)")
            if not values.fits(expected, actual):
                yield f"{where}{name}: {actual} is not {expected}"
        for name in step.absent:
            if name in response.headers:
                yield f"{where}{name} is there: {response.headers[name]}"
        media_type = response.headers.get("content-type", "")
        wanted = read(step.answer, media_type, parsed)
        got = read(response.text, media_type, orjson.loads)
        yield from (where + one for one in values.differences(wanted, got))


def read(text: str, media_type: str, parse: Callable[[str], Any]) -> Any:
    """A body as its media type says: data where it is JSON."""
    if text and media_type in (JSON_LINES, JSON_LINES_TOO):
        return [parse(line) for line in text.strip().split("\n")]
    return parse(text) if text and "json" in media_type else text.strip()


Start = Callable[[], AbstractContextManager[Served]]


@pytest.fixture
def start(databases: Callable[[], Database], tmp_path: Path) -> Start:
    """Starts a server on a ledger that was just opened."""
    keys = tmp_path / "keys"

    def ledger_of(database: Database, clock: Callable[[], datetime]) -> Ledger:
        return new_ledger(database, clock, keys)

    return lambda: serving(databases(), keys, Clock(), new_ledger=ledger_of, public_url=URL)


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        yield served


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_answer_is_the_one_in_the_script(start: Start, path: Path) -> None:
    with start() as served:
        different = list(play(served, path.read_text(encoding="utf-8")))
    assert not different, "\n".join([path.name, *different])


def test_the_scripts_show_every_kind_of_answer() -> None:
    steps = [step for path in SCRIPTS for step in steps_of(path.read_text(encoding="utf-8"))]
    statuses = {step.status for step in steps}
    assert statuses >= {200, 201, 204, 304, 400, 401, 403, 404, 405, 406, 409, 413, 415, 422}
    languages = {step.headers.get("accept-language", "zh") for step in steps if step.status >= 400}
    assert languages == {"zh", "en"}


TRUE = """\
### The process answers
GET /healthz

HTTP/1.1 200 OK
Content-Type: application/json
-Link:

{"status": "alive"}

### The ledger
GET /v1/ledger

HTTP/1.1 200 OK

{
  "name": "示例省诚信账本",
  "origin": "{{any}}",
  "purpose": "demonstration",
  "head": {{position.head}},
  "rulebooks": [{"version": "RB-2026.1", "in_force_from": "2024-01-01", "position": 1}]
}

### Its last event, for nobody
GET /v1/feed?after={{position.head}}

HTTP/1.1 401 Unauthorized

{{any}}
"""


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("200 OK\nContent-Type", "201 Created\nContent-Type"),
        ("application/json", "application/xml"),
        ("-Link:", "-ETag:\n-Content-Type:"),
        ('"alive"', '"dead"'),
        ('{"status": "alive"}', ""),
        ('{"status": "alive"}', '{"status": "alive", "since": "today"}'),
        ('  "purpose": "demonstration",\n', ""),
        ('"head": {{position.head}}', '"head": "{{position.head}}"'),
        ('"name": "示例省诚信账本"', '"name": {{position.head}}'),
        ('"position": 1}]', '"position": 1}, {}]'),
        ('"position": 1}]', '"position": true}]'),
        ('"{{any}}"', '"{{id.origin}}"'),
    ],
)
def test_a_script_that_is_wrong_is_found_out(served: Served, true: str, false: str) -> None:
    assert TRUE.count(true) == 1
    assert not list(play(served, TRUE))
    assert len(list(play(served, TRUE.replace(true, false)))) >= 1
