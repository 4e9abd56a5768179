"""Nothing acknowledged is lost and nothing is doubled, whoever is killed with SIGKILL, and when.

`CHAOS_ROUNDS` and `CHAOS_SEED` say how often and when to kill; `make chaos` kills 200 times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
import pytest

from ledger.cluster import find_place
from ledger.database import Database, migrate
from ledger.embedded import Embedded
from ledger.envelope import decode
from ledger.handle import Desk
from ledger.store import Ledger
from tests import given
from tests.chaos_load import (
    ROUNDS_PER_GROUP,
    TASKS,
    Job,
    ask,
    key_of,
    key_of_event,
    providers_of,
)
from tests.conftest import Run

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "20260302"))
SERVER_KILLS = 4
WAIT_SECONDS = 30
BACK_SECONDS = 15
ROOT = Path(__file__).resolve().parent.parent

T = TypeVar("T")

seeded = pytest.mark.parametrize(
    "seed", [pytest.param(SEED, id=f"CHAOS_SEED={SEED}-CHAOS_ROUNDS={ROUNDS}")]
)


class Stand(NamedTuple):
    """Where an acknowledged command's event stands."""

    position: int
    id: str
    stream: str
    version: int


@dataclass
class Told:
    """What one process told until it was killed, by key."""

    lines: list[dict[str, Any]]
    answers: dict[str, Stand] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for line in self.lines:
            assert "failed" not in line, line
            if "refused" in line:
                assert line["refused"] == "provider-exists", line
                self.refused.add(line["key"])
            elif "receipt" in line:
                stand = Stand(*(line["receipt"][name] for name in Stand._fields))
                assert self.answers.setdefault(line["key"], stand) == stand, line

    @property
    def resolved(self) -> set[str]:
        """The keys that have their last answer."""
        return self.refused | self.answers.keys()

    def unsettled(self, round: int) -> set[str]:
        """Of each task the key answered last and the one it was then in flight with."""
        keys: set[str] = set()
        for task in range(TASKS):
            number = 0
            while key_of(round, task, number) in self.resolved:
                number += 1
            keys |= {key_of(round, task, one) for one in (number - 1, number) if one >= 0}
        return keys


class Loads:
    """The process that forks the loads, and the load that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0
        self.file = folder
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos_load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(self, database: Database, round: int, repeat: set[str]) -> None:
        """Start a load; its file is new."""
        assert self._forker.stdin is not None
        self.file = self.folder / f"round-{round}.jsonl"
        self._forker.stdin.write(
            Job(database.conninfo, str(self.file), round, sorted(repeat)).line()
        )
        self._forker.stdin.flush()
        self.pid = self._said()

    def kill(self) -> Told:
        """Kill the running load, which must be alive; what it told."""
        os.kill(self.pid, signal.SIGKILL)
        self.pid = 0
        assert self._said() == -signal.SIGKILL, "the load ended by itself"
        return self.told()

    def told(self) -> Told:
        """What the load told so far; of a line that is not ended nothing."""
        text = self.file.read_bytes() if self.file.exists() else b""
        return Told([json.loads(line) for line in text.split(b"\n")[:-1]])

    def close(self) -> None:
        """End both processes."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self._forker.communicate(timeout=WAIT_SECONDS)

    def _said(self) -> int:
        assert self._forker.stdout is not None
        return int(self._forker.stdout.readline())


@pytest.fixture
def loads(tmp_path: Path) -> Iterator[Loads]:
    """Runs loads in processes of their own."""
    loads = Loads(tmp_path)
    yield loads
    loads.close()


def tell(text: str) -> None:
    """A figure, for who runs pytest with -s."""
    sys.stdout.write(f"\n{text}\n")


def wait_for(what: Callable[[], T | None], *, seconds: float = WAIT_SECONDS) -> T:
    """What the function gives once it gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.01)
    return found


class Book:
    """All that was ever acknowledged, and how the log bears it out."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._acknowledged: dict[str, Stand] = {}
        self._refused: set[str] = set()
        self._recorded: dict[str, int] = {}
        with database.connect() as connection:
            (self._checked,) = _one(connection, "SELECT position FROM ledger.chengxin_head")

    def enter(self, told: Told) -> None:
        """Take on what a process told; who repeats a request gets the first answer."""
        for key, stand in told.answers.items():
            assert self._acknowledged.setdefault(key, stand) == stand, key
        self._refused |= told.refused

    def check(self) -> None:
        """Compare with one consistent view of the log."""
        with self._database.connect(role=None) as connection:
            connection.execute(
                "CREATE TEMP TABLE told (position bigint, id uuid, s text, v bigint)"
            )
            with connection.cursor().copy("COPY told FROM STDIN") as copy:
                for stand in self._acknowledged.values():
                    copy.write_row(stand)
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                self._check_log(connection)
                self._check_keys(connection)

    def _check_log(self, connection: psycopg.Connection) -> None:
        events = "ledger.chengxin_events"
        lost = connection.execute(
            f"SELECT t.*, e.event_id, e.originator_id, e.originator_version FROM told t"
            f" LEFT JOIN {events} e ON notification_id = position"
            f" WHERE (event_id, originator_id, originator_version) IS DISTINCT FROM (id, s, v)"
        ).fetchall()
        assert lost == [], "acknowledged, and not so in the log"
        dense = _one(
            connection,
            f"SELECT position, count(*), min(notification_id), max(notification_id)"
            f" FROM ledger.chengxin_head, {events} GROUP BY position",
        )
        assert dense == (dense[0], dense[0], 1, dense[0]), "positions are not 1 to head"
        gaps = connection.execute(
            f"SELECT originator_id, count(*), min(originator_version), max(originator_version)"
            f" FROM {events} GROUP BY 1"
            f" HAVING min(originator_version) <> 1 OR max(originator_version) <> count(*)"
        ).fetchall()
        assert gaps == [], "versions of a stream are not 1 to its length"

    def _check_keys(self, connection: psycopg.Connection) -> None:
        rows = connection.execute(
            "SELECT notification_id, state FROM ledger.chengxin_events WHERE notification_id > %s",
            [self._checked],
        ).fetchall()
        recorded = {key_of_event(decode(state).data): position for position, state in rows}
        assert len(recorded) == len(rows), "a command was recorded twice"
        assert not recorded.keys() & self._recorded.keys(), "a command was recorded again"
        keys = connection.execute(
            "SELECT key, first_position FROM ledger.chengxin_keys"
            " WHERE first_position > %s AND events = 1",
            [self._checked],
        ).fetchall()
        assert len(keys) == len(recorded), "not as many keys as events"
        assert dict(keys) == recorded, "keys and events do not belong together"
        self._recorded |= recorded
        self._checked = max(self._recorded.values(), default=self._checked)
        (count,) = _one(connection, "SELECT count(*) FROM ledger.chengxin_keys")
        assert count == len(self._recorded), "not as many keys as events"
        assert not self._refused & self._recorded.keys(), "refused, and yet recorded"

    def unanswered(self) -> set[str]:
        """The keys that were recorded, and nobody has the answer so far."""
        return self._recorded.keys() - self._acknowledged.keys()

    def tally(self) -> str:
        """How much was checked."""
        recorded, answered = len(self._recorded), len(self._acknowledged)
        return f"{answered} acknowledged, {recorded} recorded, {len(self._refused)} refused"


def _one(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def open_with_providers(database: Database, run: Run, rounds: int) -> None:
    """An opened ledger with all providers that so many rounds write to."""
    providers = {p for n in range(0, rounds + 1, ROUNDS_PER_GROUP) for p in providers_of(n)}

    async def all_of_it(desk: Desk) -> None:
        await desk.open_ledger(given.opening(), given.REGISTRAR)
        for provider in sorted(providers):
            await desk.record(provider, given.register(), given.REGISTRAR)

    with Ledger(database) as ledger:
        run(all_of_it(Desk(ledger)))


def settle(book: Book, loads: Loads, database: Database, round: int, pending: set[str]) -> None:
    """Repeat what is pending to its end: every key gets its last answer, the same as before."""
    loads.start(database, round, pending)
    wait_for(lambda: pending <= loads.told().resolved)
    told = loads.kill()
    book.enter(told)
    book.check()
    assert book.unanswered() <= told.unsettled(round), "recorded, and never repeated"


@seeded
def test_a_killed_process_loses_nothing_and_doubles_nothing(
    database: Database, run: Run, loads: Loads, seed: int
) -> None:
    open_with_providers(database, run, ROUNDS)
    book = Book(database)
    pending: set[str] = set()
    unanswered = 0
    for round in range(ROUNDS):
        moments = random.Random(f"{seed} {round}")
        loads.start(database, round, pending)
        wait_for(lambda: loads.file.exists() and loads.file.stat().st_size)
        # One in four dies with its first answers still on their way.
        time.sleep(moments.choice([0.005, 0.5, 0.5, 0.5]) * moments.random())
        told = loads.kill()
        book.enter(told)
        book.check()
        unanswered += len(pending - told.resolved)
        pending = (pending - told.resolved) | told.unsettled(round)
    settle(book, loads, database, ROUNDS, pending)
    tell(f"{ROUNDS} kills: {book.tally()}; {unanswered} repeats were cut off by the next kill")


def postmaster_of(server: Embedded) -> int | None:
    """The pid in the server's own pid file; None while there is none."""
    try:
        text = (find_place(server.data_dir).pgdata / "postmaster.pid").read_text()
    except FileNotFoundError:
        return None
    return int(text.split("\n")[0]) if text else None


def kill_server(server: Embedded, loads: Loads) -> float:
    """Kill the postmaster; the seconds until a command was answered by its successor.

    Backends of the killed one may answer for a moment yet: the first answer of the new server is
    the one after the longest silence.
    """
    old = wait_for(lambda: postmaster_of(server))
    killed_at = time.monotonic()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: postmaster_of(server) not in {None, old})
    restarted_at = time.monotonic()

    def answered() -> list[float]:
        lines = loads.told().lines
        late = [one for one in lines if "receipt" in one and one["asked_at"] > restarted_at]
        told = [one["told_at"] for one in lines if "receipt" in one]
        return sorted(at for at in told if at > killed_at) if len(late) > 5 * TASKS else []

    times = [killed_at, *wait_for(answered)]
    silences = [(after - before, after) for before, after in pairwise(times)]
    return max(silences)[1] - killed_at


@seeded
def test_a_killed_server_comes_back_and_the_desk_goes_on(
    own_server: Embedded, run: Run, loads: Loads, seed: int
) -> None:
    with psycopg.connect(own_server.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE chaos")
    database = Database(own_server.conninfo(dbname="chaos"))
    migrate(database, files("ledger") / "sql")
    open_with_providers(database, run, 1)
    book = Book(database)
    moments = random.Random(f"{seed} server")
    loads.start(database, 0, set())
    wait_for(lambda: loads.told().answers)
    seconds = []
    for _ in range(SERVER_KILLS):
        time.sleep(0.5 * moments.random())
        seconds.append(kill_server(own_server, loads))
        book.enter(loads.told())
        book.check()
    told = loads.kill()
    book.enter(told)
    settle(book, loads, database, 1, told.unsettled(0))
    again = Counter(line["again"] for line in told.lines if "again" in line)
    back = ", ".join(f"{one:.2f}" for one in seconds)
    tell(f"{SERVER_KILLS} server kills: {book.tally()}; asked again: {dict(again)}")
    tell(f"seconds from the kill to the first new acknowledgement: {back}")
    assert max(seconds) < BACK_SECONDS


def test_an_answer_that_changes_or_fails_is_noticed() -> None:
    stand = {"position": 5, "id": "a", "stream": "s", "version": 2, "repeated": False}
    line = {"key": "R0-T0-N0", "receipt": stand}
    assert Told([line, line]).unsettled(0) == {"R0-T0-N0", "R0-T0-N1"} | {
        key_of(0, task, 0) for task in range(1, TASKS)
    }
    for other in ({"receipt": stand | {"position": 6}}, {"failed": "x"}, {"refused": "key-reused"}):
        with pytest.raises(AssertionError):
            Told([line, {"key": "R0-T0-N0"} | other])


LAST = "notification_id = (SELECT position FROM ledger.chengxin_head)"


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (f"DELETE FROM ledger.chengxin_events WHERE {LAST}", "not so in the log"),
        (
            f"UPDATE ledger.chengxin_events SET event_id = gen_random_uuid() WHERE {LAST}",
            "not so in the log",
        ),
        ("UPDATE ledger.chengxin_head SET position = position + 1", "positions are not"),
        (
            f"UPDATE ledger.chengxin_events SET originator_version = 9 WHERE {LAST}",
            "not so in the log",
        ),
        (
            "INSERT INTO ledger.chengxin_events SELECT notification_id + 1, originator_id,"
            " originator_version + 1, gen_random_uuid(), topic, recorded_at, state"
            f" FROM ledger.chengxin_events WHERE {LAST};"
            "UPDATE ledger.chengxin_head SET position = position + 1",
            "recorded again",
        ),
        (
            "DELETE FROM ledger.chengxin_keys"
            " WHERE first_position = (SELECT position FROM ledger.chengxin_head)",
            "as many keys",
        ),
    ],
)
def test_a_log_that_was_tampered_with_does_not_pass(
    database: Database, run: Run, tmp_path: Path, tamper: str, complaint: str
) -> None:
    open_with_providers(database, run, 0)
    book = Book(database)
    file = os.open(tmp_path / "told", os.O_RDWR | os.O_CREAT)

    async def ask_some(desk: Desk) -> None:
        for number in range(3):
            await ask(desk, key_of(0, 0, number), file)

    with Ledger(database) as ledger:
        run(ask_some(Desk(ledger)))
    os.close(file)
    lines = (tmp_path / "told").read_text().splitlines()
    book.enter(Told([json.loads(line) for line in lines]))
    book.check()
    with database.connect(role=None) as connection:
        connection.execute("SET session_replication_role = replica")  # no triggers
        for statement in tamper.split(";"):
            connection.execute(statement.encode())
    with pytest.raises(AssertionError, match=complaint):
        book.check()
