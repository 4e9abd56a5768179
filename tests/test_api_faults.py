"""PostgreSQL is killed or frozen while many write: 503 until it is back, then all goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import orjson
import psycopg
import pytest

from ledger.database import Database, migrate
from ledger.embedded import Embedded
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving, wait_until
from tests.test_api_feed import Stream

WRITERS = 12
RECOVERY_SECONDS = 5.0


@pytest.fixture
def served(own_server: Embedded, tmp_path: Path) -> Iterator[Served]:
    database = Database(own_server.conninfo())
    migrate(database, files("ledger") / "sql")
    with serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        for number in range(WRITERS):
            served.provide(f"HK-CR-{number}")
        yield served


def postmaster(own_server: Embedded) -> int:
    """The process id of the server."""
    with psycopg.connect(own_server.conninfo()) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
        assert row is not None
        return int(str(row[0]).splitlines()[0])


class Writer(threading.Thread):
    """Writes one request after another; each is repeated under its key until it is answered."""

    def __init__(self, served: Served, number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, int] = {}
        self.answers: Counter[int] = Counter()
        self.times: list[float] = []
        self.slowest = 0.0
        self.without_retry_after = 0
        self._served, self._number, self._over = served, number, over

    def run(self) -> None:
        served = self._served
        path = f"/v1/providers/HK-CR-{self._number}/penalties"
        with httpx2.Client(base_url=served.client.base_url, timeout=30) as client:
            sent = 0
            while not self._over.is_set():
                sent += 1
                body = given.penalty(incident=f"INC-{self._number}-{sent}")
                key = f"{self._number}-{sent}"
                self._send_until_answered(client, path, body.model_dump(mode="json"), key)

    def _send_until_answered(
        self, client: httpx2.Client, path: str, body: dict[str, Any], key: str
    ) -> None:
        headers = self._served.bearer("registrar", **{"Idempotency-Key": key})
        while not self._over.is_set():
            started = time.monotonic()
            response = client.post(path, json=body, headers=headers)
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.answers[response.status_code] += 1
            if response.status_code == 201:
                self.acknowledged[key] = response.json()["position"]
                self.times.append(time.monotonic())
                return
            self.without_retry_after += "retry-after" not in response.headers
            time.sleep(0.05)


def run_load(served: Served, fault: Callable[[], float]) -> tuple[list[Writer], float]:
    """Many writers, a fault in the middle; the writers and the seconds to the first good answer.

    `fault` returns when the database is back (monotonic).
    """
    over = threading.Event()
    writers = [Writer(served, number, over) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(1)
    back = fault()
    wait_until(lambda: any(one.times and one.times[-1] > back for one in writers), 20)
    recovered = min(time for one in writers for time in one.times if time > back) - back
    time.sleep(1)
    over.set()
    for writer in writers:
        writer.join(40)
        assert not writer.is_alive(), "a request was never answered"
    return writers, recovered


def check_nothing_is_lost(served: Served, writers: list[Writer]) -> None:
    """The clients' own lists of acknowledgements against the log."""
    stored = served.ledger.read(0, 1_000_000)
    assert [one.position for one in stored] == list(range(1, len(stored) + 1))
    incidents = {one.position: orjson.loads(one.state)["data"].get("incident") for one in stored}
    for writer in writers:
        for key, position in writer.acknowledged.items():
            assert incidents[position] == f"INC-{key}"
    recorded = Counter(incident for incident in incidents.values() if incident)
    assert set(recorded.values()) == {1}, "an event is there twice"
    assert sum(len(writer.acknowledged) for writer in writers) > 100


def check_all_lives(served: Served, stream: Stream) -> None:
    """Without a restart of the process: projections, listener, an event stream opened before."""
    served.follow()
    wait_until(lambda: served.get("/readyz").status_code == 200)
    position = served.penalise("HK-CR-0").json()["position"]
    score = served.get(f"/v1/providers/HK-CR-0/score?min_position={position}")
    assert score.status_code == 200
    while int(stream.take(1)[0]["id"]) < position:
        pass
    stream.close()


def test_a_killed_server_costs_time_and_nothing_else(own_server: Embedded, served: Served) -> None:
    stream = Stream(served, f"?after={served.head()}")

    def kill() -> float:
        os.kill(postmaster(own_server), signal.SIGKILL)
        # The keeper starts it again.
        wait_until(lambda: accepts(own_server), 30)
        return time.monotonic()

    writers, recovered = run_load(served, kill)
    check_nothing_is_lost(served, writers)
    check_all_lives(served, stream)
    assert recovered < RECOVERY_SECONDS


def test_a_server_that_is_away_is_503_until_it_is_back(
    own_server: Embedded, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long an interrupted commit is asked for; shorter here, so that the test is.
    monkeypatch.setattr("ledger.appender.SETTLE_SECONDS", 1)
    stream = Stream(served, f"?after={served.head()}")
    away: list[httpx2.Response] = []

    def stop_and_start() -> float:
        own_server.stop()
        time.sleep(4)
        away.extend(served.get(path) for path in ("/readyz", "/healthz"))
        own_server.start()
        return time.monotonic()

    writers, recovered = run_load(served, stop_and_start)
    answers = sum((writer.answers for writer in writers), Counter[int]())
    assert set(answers) == {201, 503}
    assert answers[503] >= WRITERS
    assert sum(writer.without_retry_after for writer in writers) == 0
    assert max(writer.slowest for writer in writers) < 15
    assert [response.status_code for response in away] == [503, 200]
    check_nothing_is_lost(served, writers)
    check_all_lives(served, stream)
    assert recovered < RECOVERY_SECONDS


def test_reads_come_back_after_a_long_absence(own_server: Embedded, served: Served) -> None:
    """A pool that waits longer and longer between its tries must not wait when it matters."""
    path = "/v1/providers/HK-CR-0/events"
    served.follow()
    assert served.get(path).status_code == 200
    own_server.stop()
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        started = time.monotonic()
        assert served.get(path).status_code == 503
        assert time.monotonic() - started < 10
    own_server.start()
    back = time.monotonic()
    wait_until(lambda: served.get(path).status_code == 200, 30)
    assert time.monotonic() - back < RECOVERY_SECONDS


@contextmanager
def frozen(own_server: Embedded) -> Iterator[None]:
    """Every process of the server stands still: its sockets take what is sent, nobody answers."""
    server = postmaster(own_server)
    with psycopg.connect(own_server.conninfo()) as connection:
        os.kill(server, signal.SIGSTOP)
        # From here on there are no new ones.
        others = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
        pids = [server, *(pid for (pid,) in others)]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


class Timed:
    """Requests at the same time, each with the seconds to its answer."""

    def __init__(self, served: Served, pool: ThreadPoolExecutor) -> None:
        self.seconds: list[float] = []
        self._bodies: dict[str, Any] = {}
        self._served, self._pool = served, pool

    def penalise(self, number: int, key: str) -> Future[httpx2.Response]:
        """Record a penalty for a provider under a key; the same key, the same penalty."""
        path = f"/v1/providers/HK-CR-{number}/penalties"
        body = self._bodies.setdefault(key, given.penalty(incident=key).model_dump(mode="json"))
        return self._pool.submit(
            self._timed, lambda: self._served.post(path, body, idempotency_key=key)
        )

    def get(self, path: str, role: str | None = None) -> Future[httpx2.Response]:
        """GET in a role."""
        return self._pool.submit(self._timed, lambda: self._served.get(path, role))

    def _timed(self, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        started = time.monotonic()
        try:
            return ask()
        finally:
            self.seconds.append(time.monotonic() - started)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a server that does not answer sooner than usual, so that the test is short."""
    monkeypatch.setattr("ledger.watchdog.ANSWER_SECONDS", 1.5)
    monkeypatch.setattr("ledger.watchdog.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("ledger.database.READ_SECONDS", 2)
    monkeypatch.setattr("ledger.database.CONNECT_SECONDS", 2)
    monkeypatch.setattr("api.health.READY_SECONDS", 1)
    monkeypatch.setattr("ledger.tail.REACHED_SECONDS", 0.9)
    monkeypatch.setattr("api.commands.WRITE_SECONDS", 6)


def test_a_frozen_server_is_503_in_time_and_goes_on_when_it_thaws(
    own_server: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connected, and silent: nobody waits for it without end, and nobody is told a lie."""
    hurry(monkeypatch)
    database = Database(own_server.conninfo())
    migrate(database, files("ledger") / "sql")
    with (
        serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served,
        ThreadPoolExecutor(32) as pool,
    ):
        for number in range(WRITERS):
            served.provide(f"HK-CR-{number}")
        served.follow()
        stream = Stream(served, f"?after={served.head()}")
        timed = Timed(served, pool)
        with frozen(own_server):
            first = timed.penalise(0, "first")
            asked = {
                path: timed.get(path, role)
                for path, role in (
                    ("/v1/providers/HK-CR-0/score", "auditor"),
                    ("/v1/disclosure/providers/HK-CR-0", None),
                    ("/v1/feed", "auditor"),
                    ("/", None),
                    ("/providers/HK-CR-0", None),
                    ("/readyz", None),
                )
            }
            alive = timed.get("/healthz")
            time.sleep(0.5)
            # Behind the first one: in the appender's queue, and in their provider's.
            behind = [timed.penalise(number % 3, f"behind-{number}") for number in range(9)]
            problem(first.result(), 503, "outcome-unknown")
            for write in behind:
                assert write.result().status_code == 503
            for path, one in asked.items():
                assert one.result().status_code == 503, path
                assert path == "/readyz" or "retry-after" in one.result().headers
            assert "text/html" in asked["/"].result().headers["content-type"]
            assert "database: cannot be reached" in asked["/readyz"].result().json()["reasons"]
            assert alive.result().status_code == 200
            assert max(timed.seconds) < 7
        # Without waiting: the server may find the first call in its socket after this one.
        again = [timed.penalise(0, "first").result() for _ in range(2)]
        again += [timed.penalise(n % 3, f"behind-{n}").result() for n in range(9)]
        assert {one.status_code for one in again} == {201}
        assert again[0].json() == again[1].json()
        check_all_lives(served, stream)
        for path, one in asked.items():
            role = one.result().request.headers.get("authorization") and "auditor"
            assert served.get(path, role).status_code == 200, path
        recorded = [orjson.loads(one.state)["data"] for one in served.ledger.read(0, 1_000)]
        incidents = Counter(data["incident"] for data in recorded if "incident" in data)
        assert incidents["first"] == 1
        assert all(incidents[f"behind-{number}"] == 1 for number in range(9))


def accepts(own_server: Embedded) -> bool:
    """Whether the server takes connections."""
    try:
        with psycopg.connect(own_server.conninfo()):
            return True
    except psycopg.OperationalError:
        return False
