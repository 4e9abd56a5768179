"""Why time tells nothing: for what is there and what is not the database is asked the same.

Times are measured by `python -m bench timing` and stand in `docs/security.md`; no test hangs on a
time. What a test can hold is their reason: the same statements, as many, in the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from ledger.database import Database
from ledger.marks import Marks, fields
from tests import given
from tests.attack import attacks
from tests.attacked import quarantined
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, serving
from tests.test_vault import NAME, complaint


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("attack") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        yield served


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every statement that an answer asks of the database, in order, without its values."""
    asked: list[str] = []
    sync, background = psycopg.Cursor.execute, psycopg.AsyncCursor.execute

    def note(query: Any) -> None:
        name = threading.current_thread().name
        if name.startswith(("AnyIO", "MainThread")) or "asyncio" in name:
            asked.append(" ".join(str(query).split()))

    def execute(self: Any, query: Any, *values: Any, **more: Any) -> Any:
        note(query)
        return sync(self, query, *values, **more)

    async def execute_async(self: Any, query: Any, *values: Any, **more: Any) -> Any:
        asked.append(" ".join(str(query).split()))
        return await background(self, query, *values, **more)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", execute)
        patch.setattr(psycopg.AsyncCursor, "execute", execute_async)
        yield asked


def test_the_database_is_asked_the_same_whether_a_thing_is_there_or_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/providers/{given.PROVIDER}/complaint-outcomes"
    position = positioned(served.post(path, complaint().model_dump(mode="json")))
    rows = quarantined(served)
    served.follow()
    marks, refer = Marks(served.ledger), served.ledger.vault.reference
    while marks.follow():
        pass
    assert marks.find(NAME, fields()).persons
    refer("client", "x", "known")
    stranger = {"Authorization": f"Bearer {served.token('registrar', 'CN-ELSE-1')}"}

    def ask(role: str) -> Callable[[str], Any]:
        return lambda path: served.get(path, role)

    def post(path: str) -> Any:
        return served.client.post(path, json={"why": "x"}, headers=stranger)

    def as_stranger(path: str) -> Any:
        return served.client.get(path, headers=stranger)

    cases: list[tuple[str, Callable[[str], Any], str, str]] = [
        ("search", lambda text: marks.find(text, fields()), NAME, "王五不在"),
        ("reference", lambda text: refer("client", "x", text), "known", "other"),
    ]
    for role in ("subscriber", "provider", "platform", "inspector", "privacy_officer"):
        sealed = f"/v1/events/{position}/sealed"
        cases.append((f"sealed, {role}", ask(role), sealed, "/v1/events/999/sealed"))
    case = "/v1/providers/{}/case"
    there, absent = case.format(given.PROVIDER), case.format(given.OTHER)
    cases += [(f"case, {role}", ask(role), there, absent) for role in ("subscriber", "platform")]
    for row in rows:
        here, nowhere = f"/v1/quarantine/{row}", "/v1/quarantine/9"
        cases.append(("a row", as_stranger, here, nowhere))
        for act in ("acceptance", "rejection"):
            cases.append((f"a row, {act}", post, f"{here}/{act}", f"{nowhere}/{act}"))
    with attacks("same-work") as tally:
        for what, look, present, missing in cases:
            found = []
            # Once before, so that nothing is prepared for the first of them alone.
            look(missing)
            for one in (present, missing):
                with statements(monkeypatch) as asked:
                    look(one)
                found.append(asked)
            tally.attack((what, present), found, good=found[0] == found[1])
            if what in ("search", "reference", "a row"):
                assert found[0], f"nothing was seen to be asked for {what}"


def test_a_difference_would_be_seen(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever may see a row, one that is there takes more than one that is not."""
    found = []
    for row in (quarantined(served)[0], "999"):
        with statements(monkeypatch) as asked:
            served.get(f"/v1/quarantine/{row}", "auditor")
        found.append(asked)
    assert len(found[0]) > len(found[1]) > 0
