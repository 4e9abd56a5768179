"""Erasing somebody of the demonstration: the log and all scores as they were, and no text anywhere.

Every table of every schema, real dumps, and every door are searched for each text in every writing
that a program might have made of it. That the search finds what is there is shown first.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from api.demo.ledger import Plan, demonstrate
from ledger.binaries import wheel_installation
from ledger.database import Database
from ledger.envelope import decode
from ledger.events import ComplaintOutcomeRecorded, ProviderRegistered
from ledger.keyring import FileKeyring
from ledger.marks import Marks, fields
from ledger.private import Private
from ledger.store import Ledger
from projections.decisions import PENALTY
from tests.conftest import Clock, drop, new_ledger
from tests.serving import Served, serving
from tests.test_erasing import environment
from tests.test_export import exported
from tests.test_persons_api import ask
from tests.test_vault import all_rows, whole_database

LAST = date(2026, 11, 20)
PROVIDERS = 24


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The demonstration, served."""
    database, keys = databases(), tmp_path_factory.mktemp("demo") / "keys"
    plan = Plan(LAST, PROVIDERS)
    asyncio.run(demonstrate(database, plan, keyring=FileKeyring(keys)))
    clock = Clock()
    clock.set(2026, 11, 20, 12)

    def ledger_of(database: Database, clock: Callable[[], Any]) -> Ledger:
        return new_ledger(database, clock, keys)

    with serving(database, keys, clock, new_ledger=ledger_of, opened=False) as served:
        while Marks(served.ledger).follow():
            pass
        served.follow()
        yield served
    drop(database)


def writings(text: str) -> set[bytes]:
    """What may stand somewhere of a text: in every encoding and writing."""
    plain = {text.encode(code) for code in ("utf-8", "gb18030", "utf-16-le", "utf-16-be")}
    found = {json.dumps(text)[1:-1].encode(), quote(text).encode(), *plain}
    for one in plain:
        found |= {one.hex().encode(), one.hex().upper().encode()}
        for shift in range(3):
            # The characters that do not depend on what stands before and after.
            before = b64encode(bytes(shift) + one)
            found.add(before[-(-4 * shift // 3) : len(before) - (4 if before[-1:] == b"=" else 0)])
    return found


def found_in(content: bytes, texts: set[str]) -> set[tuple[str, bytes]]:
    return {(text, one) for text in texts for one in writings(text) if one in content}


def dumped(database: Database, *options: str) -> bytes:
    """What the real `pg_dump` makes of it."""
    command = [str(wheel_installation() / "bin" / "pg_dump"), *options]
    env = environment(conninfo_to_dict(database.conninfo))
    return subprocess.run(command, env=env, capture_output=True, check=True).stdout


def everything(served: Served) -> dict[str, bytes]:
    """All that anybody can get: the tables, dumps, and what every door says to every reader."""
    database = served.ledger.database
    found = {
        "tables": whole_database(database),
        "plain dump": dumped(database, "--format=plain"),
        "dump by inserts": dumped(database, "--format=plain", "--inserts"),
        "custom dump": dumped(database, "--format=custom", "--compress=0"),
    }
    providers = [
        decode(row.state).stream.removeprefix("provider-")
        for row in served.ledger.read(0, 10_000)
        if isinstance(decode(row.state).data, ProviderRegistered)
    ]
    assert len(providers) == PROVIDERS
    said = b""
    for role in (None, "subscriber", "provider", "registrar", "privacy_officer", "auditor"):
        after, page = 0, b""
        while after == 0 or page:
            answer = served.get(f"/v1/feed?after={after}&limit=1000", role)
            page = answer.content if answer.status_code == 200 else b""
            said += answer.content
            after += page.count(b"\n") or 1
    found["feed"] = said
    pages = b""
    for one in providers:
        for path in (
            f"/providers/{one}",
            f"/v1/disclosure/providers/{one}",
            f"/v1/providers/{one}/score",
            f"/v1/providers/{one}/case",
        ):
            for role in (None, "auditor"):
                pages += served.get(path, role).content
    found["pages"] = pages
    with asyncio.Runner() as runner:
        for today in (None, LAST):
            for encoding in ("utf-8", "gb18030"):
                whole = exported(served.ledger, runner.run, PENALTY, today=today, encoding=encoding)
                found[f"export of {today}, {encoding}"] = whole
    return found


def erase(served: Served, person: str) -> set[str]:
    """Erase somebody; the texts that there were of them."""
    query = "SELECT event_id FROM :schema_vault.:app_sealed WHERE person = %s"
    ids = [str(row[0]) for row in all_rows(served.ledger.database, query, person)]
    opened = served.ledger.vault.open(ids)
    texts = {one.text for of in opened.values() for one in of if one.person == person}
    answer = ask(served, person)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "erased"
    served.follow()
    return texts


def test_the_search_finds_whatever_is_there(served: Served) -> None:
    """In a table of any schema, and so in each dump, in every writing."""
    database, texts = served.ledger.database, {"赵某禾甲", "000-0123-0000"}
    for text in texts:
        for before in (b"", b"x", b"xy", b"xyz"):
            assert found_in(b64encode(before + text.encode() + b"and more"), {text})
        assert found_in(json.dumps([text]).encode(), {text})
    with database.connect(role=None) as connection:
        connection.execute(b"CREATE SCHEMA elsewhere")
        connection.execute(b"CREATE TABLE elsewhere.kept (content bytea, said text)")
        for text in texts:
            for one in writings(text):
                connection.execute(
                    b"INSERT INTO elsewhere.kept VALUES (%s, %s)", [b"\xff" + one, text]
                )
        try:
            wanted = {(text, one) for text in texts for one in writings(text)}
            assert found_in(whole_database(database), texts) == wanted
            for options in (("--format=plain",), ("--format=custom", "--compress=0")):
                # A dump writes bytes as hexadecimal digits: what is found of them is those.
                dump = dumped(database, *options)
                assert {text for text, _ in found_in(dump, texts)} == texts
                assert all((b"\xff" + one).hex().encode() in dump for _, one in wanted)
        finally:
            connection.execute(b"DROP SCHEMA elsewhere CASCADE")


def test_of_the_erased_no_text_is_anywhere_and_nothing_else_has_changed(served: Served) -> None:
    ledger, database = served.ledger, served.ledger.database
    before = [row.state for row in ledger.read(0, 10_000)]
    scores = all_rows(database, "SELECT * FROM scores_1.scores ORDER BY 1")
    assert len(scores) == PROVIDERS
    events = [decode(one).data for one in before]
    registered = [one.contact for one in events if isinstance(one, ProviderRegistered)]
    people: list[Private | None] = [
        *(one.complainant for one in events if isinstance(one, ComplaintOutcomeRecorded)),
        *registered[:2],
    ]
    assert len(people) > 2
    erased = {one.person or "" for one in people if one is not None}
    assert len(erased) == len(people)
    texts = {text for person in sorted(erased) for text in erase(served, person)}
    assert len(texts) >= 2 * len(people)
    for where, content in everything(served).items():
        assert len(content) > 2_000, where
        assert found_in(content, texts) == set(), where
    after = [row.state for row in ledger.read(0, 10_000)]
    assert [sha256(one).digest() for one in after[: len(before)]] == [
        sha256(one).digest() for one in before
    ]
    told = [json.loads(one)["type"] for one in after[len(before) :]]
    assert told.count("cn.chengxin.person.erased.v1") == len(people)
    assert all_rows(database, "SELECT * FROM scores_1.scores ORDER BY 1") == scores
    # Nor does a search find anybody, by whatever field; of others everything is still there.
    marks = Marks(ledger)
    assert not any(erased & set(marks.find(text, fields()).persons) for text in texts)
    [[left]] = all_rows(database, "SELECT count(*) FROM :schema_vault.:app_sealed")
    opened = ledger.vault.open([decode(one).id for one in before])
    assert left > 50
    assert {one.person for of in opened.values() for one in of}.isdisjoint(erased)


def test_the_keys_of_the_erased_are_in_no_file(served: Served) -> None:
    """What lies beside the database names nobody either."""
    said = b"".join(one.read_bytes() for one in Path(served.keys).iterdir() if one.is_file())
    assert b"person" in said
    assert "某".encode() not in said
    assert b"000-" not in said
