"""PostgreSQL is killed while many write: 503 until it is back, then all goes on, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
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
from tests.serving import Served, serving, wait_until
from tests.test_api_feed import Stream

WRITERS = 12
RECOVERY_SECONDS = 5.0


@pytest.fixture
def own() -> Iterator[Embedded]:
    """An embedded server of this test alone, which may be killed."""
    folder = Path(tempfile.mkdtemp(prefix="chengxin-fault-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with Embedded(folder / "server") as embedded:
            yield embedded
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def served(own: Embedded, tmp_path: Path) -> Iterator[Served]:
    database = Database(own.conninfo())
    migrate(database, files("ledger") / "sql")
    with serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        for number in range(WRITERS):
            served.provide(f"HK-CR-{number}")
        yield served


def postmaster(own: Embedded) -> int:
    """The process id of the server."""
    with psycopg.connect(own.conninfo()) as connection:
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


def test_a_killed_server_costs_time_and_nothing_else(own: Embedded, served: Served) -> None:
    stream = Stream(served, f"?after={served.head()}")

    def kill() -> float:
        os.kill(postmaster(own), signal.SIGKILL)
        # The keeper starts it again.
        wait_until(lambda: accepts(own), 30)
        return time.monotonic()

    writers, recovered = run_load(served, kill)
    check_nothing_is_lost(served, writers)
    check_all_lives(served, stream)
    assert recovered < RECOVERY_SECONDS


def test_a_server_that_is_away_is_503_until_it_is_back(
    own: Embedded, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long an interrupted commit is asked for; shorter here, so that the test is.
    monkeypatch.setattr("ledger.appender.SETTLE_SECONDS", 1)
    stream = Stream(served, f"?after={served.head()}")
    away: list[httpx2.Response] = []

    def stop_and_start() -> float:
        own.stop()
        time.sleep(4)
        away.extend(served.get(path) for path in ("/readyz", "/healthz"))
        own.start()
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


def test_reads_come_back_after_a_long_absence(own: Embedded, served: Served) -> None:
    """A pool that waits longer and longer between its tries must not wait when it matters."""
    path = "/v1/providers/HK-CR-0/events"
    served.follow()
    assert served.get(path).status_code == 200
    own.stop()
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        started = time.monotonic()
        assert served.get(path).status_code == 503
        assert time.monotonic() - started < 10
    own.start()
    back = time.monotonic()
    wait_until(lambda: served.get(path).status_code == 200, 30)
    assert time.monotonic() - back < RECOVERY_SECONDS


def accepts(own: Embedded) -> bool:
    """Whether the server takes connections."""
    try:
        with psycopg.connect(own.conninfo()):
            return True
    except psycopg.OperationalError:
        return False
