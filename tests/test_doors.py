"""No door gets at an event but through the judgement: what `api/` reads, by its syntax tree.

A check from one file to its offences, as in `tests/test_architecture.py`. An exception stands in
EXCEPTIONS by file and by what it reads, with its reason; one that nothing needs any more fails too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.test_architecture import python_files, text_of

EVENTS = {
    *("read_at", "read_ids", "read_stream", "read_stream_after", "read_streams"),
    *("read_types_after", "recorder", "repository"),
    *("notification_log", "datastore", "select_events", "select_notifications"),
}
"""What gives events, or all that leads to them, whatever it is called on."""
OF_LEDGER = {"read", "stream", "rows", "registered"}
UNJUDGED = {
    "vault": {"open"},
    "scores": {"explain", "sources", "facts"},
    "disclosure": {"items", "items_now", "shown", "ending"},
    "decisions": {"every"},
}
"""What gives of events, sealed texts or what is computed from them without asking who reads."""
TABLES = re.compile(
    r"\b(?:FROM|JOIN) \S*events\b|events (?:WHERE|ON|ORDER|JOIN)\b|notification_id|originator_id"
    r"|_[0-9]+\.(?:items|facts|looks)\b"
)
MADE_BY_RIGHTS = {"File", "Look"}
"""What only the judgement itself may make."""

EXCEPTIONS = {
    ("api/apikeys/store.py", "datastore"): "the table of API keys; no event",
    ("api/sealed.py", "open"): "asks `Disclosure.may_open` first, and records what it opens",
    ("api/demo/ledger.py", "read"): "fills an empty ledger with invented facts; no door",
    ("api/demo/ledger.py", "rows"): "finds how far an interrupted filling came; no door",
    ("api/demo/ledger.py", "datastore"): "finds the ids of what it invented itself; no door",
    ("api/demo/ledger.py", "events ON"): "the same",
    ("api/health.py", "rows"): "asks whether the database is read-only; no event",
    ("api/importing.py", "registered"): "names of providers, which are public, to know them again",
    ("api/person_copy.py", "open"): "somebody's own data, for who may (`Rights.persons`)",
    ("api/preview.py", "registered"): "names of providers, which are public, to know them again",
    (
        "api/intake/holding.py",
        "rows",
    ): "rows in quarantine: `Reader.sees_rows_of` is asked for them",
    ("api/intake/quarantine.py", "rows"): "the same",
    ("api/intake/sought.py", "rows"): "rows of persons, for who may (`Rights.persons`)",
    ("api/intake/rejections.py", "rows"): "keys of rows that were rejected; nothing leaves",
    ("api/intake/backlog.py", "rows"): "how many rows wait; nothing of any of them",
    (
        "api/intake/verdict.py",
        "read_stream_after",
    ): "where what was just recorded stands: a receipt",
    ("api/intake/verdict.py", "read_at"): "the same",
    ("api/outgoing.py", "every"): "the operator's own command on his own machine, no door",
    ("api/survey.py", "rows"): "numbers of the whole; no event",
    ("api/worker.py", "ending"): "the worker records that a period is over; it shows nothing",
}


def readings(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Each place where a file reads events, or hides what it reads from: line, and what."""
    tree = ast.parse(text)
    explained = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=receiver, attr=attr):
                last = ast.unparse(receiver).lower().rpartition(".")[2].lstrip("_")
                if attr in EVENTS or (attr in OF_LEDGER and last.endswith("ledger")):
                    yield node.lineno, attr
                yield from (
                    (node.lineno, attr)
                    for owner, attrs in UNJUDGED.items()
                    if last.endswith(owner) and attr in attrs
                )
            case ast.Call(func=ast.Name(id="getattr" | "vars"), args=[ast.expr() as of, *_]):
                if ast.unparse(of).endswith(("ledger", "scores", "disclosure", "decisions")):
                    yield node.lineno, "getattr"
            case ast.Call(func=ast.Name(id=made)) if made in MADE_BY_RIGHTS:
                yield node.lineno, made
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
            ):
                for owner in ("ledger", "scores", "disclosure", "decisions"):
                    under = ast.unparse(target).lower()
                    if ast.unparse(value).endswith(owner) and not under.endswith(owner):
                        yield node.lineno, f"{owner} under another name"
            case ast.Constant(value=str() | bytes() as value) if id(node) not in explained:
                told = value.decode("latin-1") if isinstance(value, bytes) else value
                if found := TABLES.search(told):
                    yield node.lineno, found[0]


def test_whoever_erases_settles_rows_in_quarantine_too() -> None:
    """Made any other way, an erasure would leave the row of the erased waiting."""
    making = {
        name
        for name in python_files("api/")
        for node in ast.walk(ast.parse(text_of(name)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Erasures"
    }
    assert making == {"api/intake/sought.py"}


def test_no_door_reads_events_but_through_the_judgement() -> None:
    found = {
        (name, what) for name in python_files("api/") for _, what in readings(name, text_of(name))
    }
    assert found - set(EXCEPTIONS) == set(), "ask projections/disclosure.py, or say why not"
    assert set(EXCEPTIONS) - found == set(), "nothing needs these exceptions any more"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("self._ledger.read(0, 1)", "read"),
        ("ledger.rows(b'SELECT 1')", "rows"),
        ("await reading(self._desk.ledger.stream, 0, 10)", "stream"),
        ("house.ledger.read_at([1])", "read_at"),
        ("anything.read_stream_after('provider-X', 0, 1)", "read_stream_after"),
        ("app.recorder.select_events('x')", "recorder"),
        ("log = self._ledger", "ledger under another name"),
        ("log: Any = desk.ledger", "ledger under another name"),
        ("getattr(ledger, name)(0, 1)", "getattr"),
        ("scores.explain('X', as_of=day, today=day)", "explain"),
        ("self._disclosure.items('X')", "items"),
        ("File(subject, reader)", "File"),
        ("query = b'SELECT state FROM ledger.chengxin_events'", "FROM ledger.chengxin_events"),
        ("query = f'SELECT fact FROM {schema} WHERE notification_id = 1'", "notification_id"),
        ("query = 'SELECT fact FROM scores_1.facts'", "_1.facts"),
    ],
)
def test_the_check_finds_every_way_round(text: str, what: str) -> None:
    assert what in [found for _, found in readings("a.py", text)]


@pytest.mark.parametrize(
    "text",
    [
        "self._disclosure.look(0, 1, reader, today=day)",
        "file.read(10); held.rows; connection.stream(query)",
        "self._ledger = ledger; disclosure = house.disclosure",
        "scores.case(file, as_of=day, known_at=day)",
        "ledger.head()",
    ],
)
def test_the_check_lets_pass_what_is_right(text: str) -> None:
    assert not list(readings("a.py", text))
