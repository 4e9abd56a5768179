"""`chengxin serve` and `worker` as real processes on real sockets, and what ends them.

Each test starts the same command as `make run`, in a data directory of its own.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from api.serve import Ending
from api.start import interruptible
from ledger.embedded import Embedded

ACCESS = "cn.chengxin.access.recorded.v1"
ROOT = Path(__file__).resolve().parent.parent
STARTS_SECONDS = 90.0
STOPS_SECONDS = 60.0
"""Generous: two cores may be shared with other tests. What is measured is in the assertions."""


class Process:
    """A `chengxin` process, its lines, and what it exported."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from api.start import main; main()", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"LC_ALL": "C.UTF-8", "CHENGXIN_LOG_LEVEL": "warning"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))

    def exported(self, name: str) -> str:
        """The value of an `export` line on stdout, once it is there."""
        deadline = time.monotonic() + STARTS_SECONDS
        while time.monotonic() < deadline:
            for line in list(self.out):
                if found := re.fullmatch(rf"export CHENGXIN_{name}=(\S+)\n", line):
                    return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {name}: {self.out} {self.err}")

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self) -> tuple[int, float]:
        """Wait for the end; the exit code, and how long it took."""
        began = time.monotonic()
        code = self.process.wait(STOPS_SECONDS)
        for reader in self._readers:
            reader.join(STOPS_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code, time.monotonic() - began

    def kill(self) -> None:
        """End it the hard way, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.ended()


def get(url: str, path: str, token: str | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of a GET."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            "GET", path, headers=given | ({"Authorization": f"Bearer {token}"} if token else {})
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def head_of(url: str) -> int:
    """The last position that a server knows."""
    _, body = get(url, "/readyz")
    return int(json.loads(body)["head"])


def server_is_down(data_dir: Path) -> bool:
    """Whether no server of this data directory accepts connections."""
    for path in data_dir.rglob(".s.PGSQL.5432"):
        try:
            psycopg.connect(host=str(path.parent), user="chengxin", dbname="postgres").close()
        except psycopg.OperationalError:
            continue
        return False
    return True


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory whose path is short enough for a socket; removed with all in it."""
    folder = Path(tempfile.mkdtemp(prefix="chengxin-serve-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    yield folder / "data"
    deadline = time.monotonic() + STOPS_SECONDS
    while folder.exists():
        # A keeper may still be leaving, and remove something just before us.
        shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes to end whatever happens."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.process.poll() is None:
            process.kill()


def run_demo(started: list[Process], data_dir: Path, **environment: str) -> Process:
    """`make run`, on a free port."""
    process = Process("serve", "--demo", "--port", 0, "--data-dir", data_dir, **environment)
    started.append(process)
    return process


def test_first_run_fills_second_run_keeps_and_sigterm_ends_with_streams_open(
    data_dir: Path, started: list[Process]
) -> None:
    first = run_demo(started, data_dir)
    url = first.exported("URL")
    tokens = {
        name: first.exported(f"{name}TOKEN")
        for name in ("", "AUDITOR_", "SUBSCRIBER_", "PROVIDER_")
    }
    provider = first.exported("PROVIDER")
    head = head_of(url)
    assert head > 5_000
    assert get(url, "/")[0] == 200
    status, page = get(url, f"/providers/{provider}")
    assert status == 200
    assert "演示" in page.decode()
    for name, path in (
        ("AUDITOR_", f"/v1/providers/{provider}/score?as_of=2026-01-01"),
        ("PROVIDER_", f"/v1/providers/{provider}/score?as_of=2026-01-01"),
        ("SUBSCRIBER_", "/v1/feed?limit=1"),
        ("", f"/v1/providers/{provider}/events"),
    ):
        assert get(url, path, tokens[name])[0] == 200, name
    # Who was given more than the public sees is in the log.
    assert head_of(url) == head + 3
    head += 3

    with ExitStack() as stack:
        streams = [stack.enter_context(open_stream(url, tokens["SUBSCRIBER_"])) for _ in range(3)]
        first.signal(signal.SIGTERM)
        code, seconds = first.ended()
        assert (code, first.err[-1]) == (0, "Stopped.\n")
        assert seconds < 10
        assert server_is_down(data_dir)
        for stream in streams:
            assert stream.read().endswith(b"\n\n")  # to its end, between two events

    second = run_demo(started, data_dir)
    url = second.exported("URL")
    assert head_of(url) == head
    assert not any("invented" in line for line in second.err)
    # The key is the folder's: a token outlives the process that gave it.
    assert get(url, "/v1/feed?limit=1", tokens["SUBSCRIBER_"])[0] == 200
    second.signal(signal.SIGINT)
    assert second.ended()[0] == 0
    assert server_is_down(data_dir)


@contextmanager
def open_stream(url: str, token: str) -> Iterator[http.client.HTTPResponse]:
    """An event stream whose first event has come."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
    with closing(connection):
        connection.request("GET", "/v1/feed", headers=headers)
        with connection.getresponse() as response:
            assert response.status == 200
            while not response.readline().startswith(b"data:"):
                pass
            yield response


def test_after_kill_9_the_next_start_recovers_by_itself(
    data_dir: Path, started: list[Process]
) -> None:
    # Once in the middle of the first filling, once while it serves.
    filling = run_demo(started, data_dir)
    with Embedded(data_dir) as embedded:
        wait_for_events(embedded, 1_000)
        filling.signal(signal.SIGKILL)
        assert filling.ended()[0] == -signal.SIGKILL
    serving = run_demo(started, data_dir)
    url = serving.exported("URL")
    head = head_of(url)
    assert head > 5_000
    serving.signal(signal.SIGKILL)
    assert serving.ended()[0] == -signal.SIGKILL
    again = run_demo(started, data_dir)
    url = again.exported("URL")
    assert head_of(url) == head
    assert get(url, f"/providers/{again.exported('PROVIDER')}")[0] == 200
    again.signal(signal.SIGTERM)
    assert again.ended()[0] == 0


def wait_for_events(embedded: Embedded, count: int) -> None:
    """Until so many events are recorded."""
    deadline = time.monotonic() + STARTS_SECONDS
    with psycopg.connect(embedded.conninfo(), autocommit=True) as connection:
        while time.monotonic() < deadline:
            made = connection.execute("SELECT to_regclass('ledger.chengxin_head')").fetchone()
            if made is not None and made[0] is not None:
                row = connection.execute("SELECT position FROM ledger.chengxin_head").fetchone()
                if row is not None and row[0] >= count:
                    return
            time.sleep(0.005)
    raise AssertionError("nothing was recorded")


def test_a_signal_during_the_first_filling_ends_it_in_order(
    data_dir: Path, started: list[Process]
) -> None:
    for number, events in ((signal.SIGTERM, 300), (signal.SIGINT, 3_000)):
        process = run_demo(started, data_dir)
        with Embedded(data_dir) as embedded:
            wait_for_events(embedded, events)
            process.signal(number)
            code, _ = process.ended()
        assert code == 0, process.err
        assert "Traceback" not in "".join(process.err)
    assert server_is_down(data_dir)


def test_a_signal_raises_nothing_where_a_task_runs() -> None:
    """It would between the taking of a lock and the block that releases it."""
    ending, seen = Ending(), []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append("went on")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with ending.handling(), pytest.raises(KeyboardInterrupt):
        ending.run(work())
    assert seen == ["went on", "cancelled"]


def test_a_signal_that_came_before_is_not_forgotten() -> None:
    ending, seen = Ending(), []
    with ending.handling():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with ending.by(lambda: seen.append("ended")):
            assert seen == ["ended"]
        with pytest.raises(KeyboardInterrupt):
            ending.run(asyncio.sleep(60))


def test_two_share_a_data_dir_and_the_first_may_leave(
    data_dir: Path, started: list[Process]
) -> None:
    first, second = run_demo(started, data_dir), run_demo(started, data_dir)
    urls = first.exported("URL"), second.exported("URL")
    assert urls[0] != urls[1]
    assert head_of(urls[0]) == head_of(urls[1]) > 5_000
    first.signal(signal.SIGTERM)
    assert first.ended()[0] == 0
    assert get(urls[1], "/")[0] == 200
    assert not server_is_down(data_dir)
    second.signal(signal.SIGTERM)
    assert second.ended()[0] == 0
    assert server_is_down(data_dir)


def open_test_data(data_dir: Path) -> None:
    """`chengxin open` of a ledger for test data."""
    names = ("--name", "Test", "--origin", "test.example/x", "--purpose", "test-data")
    opening = Process("open", *names, "--data-dir", data_dir)
    assert opening.ended()[0] == 0, opening.err


def has_ipv6() -> bool:
    """Whether this machine can listen on IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_test_data_are_served_on_this_machine_only(data_dir: Path, started: list[Process]) -> None:
    open_test_data(data_dir)
    keys = {"CHENGXIN_KEY_DIR": str(data_dir / "keys")}
    mine, everybodys = ["127.0.0.1", "localhost"], ["0.0.0.0"]
    if has_ipv6():
        mine, everybodys = [*mine, "::1"], [*everybodys, "::"]
    for host in everybodys:
        process = Process("serve", "--host", host, "--port", 0, "--data-dir", data_dir, **keys)
        started.append(process)
        assert process.ended()[0] == 2
        assert process.out == [], "nobody is told an address"
        assert process.err == [
            f"chengxin: this ledger holds test data and is served on this machine only, not on"
            f" {host}; use --host 127.0.0.1\n"
        ]
    for host in mine:
        named = keys | {"CHENGXIN_HOSTS": "named.example"}
        process = Process("serve", "--host", host, "--port", 0, "--data-dir", data_dir, **named)
        started.append(process)
        status, page = get(process.exported("URL"), "/")
        assert (status, "测试数据" in page.decode()) == (200, True)
        assert get(process.exported("URL"), "/", Host="named.example")[0] == 421
        process.signal(signal.SIGTERM)
        assert process.ended()[0] == 0, process.err
    assert server_is_down(data_dir)


def test_a_ledger_opened_for_test_data_while_it_is_served_to_others_ends_that(
    data_dir: Path, started: list[Process]
) -> None:
    keys = {"CHENGXIN_KEY_DIR": str(data_dir / "keys"), "LC_ALL": "zh_CN.UTF-8"}
    everybody = ("--host", "0.0.0.0", "--port", 0)
    process = Process("serve", *everybody, "--data-dir", data_dir, **keys)
    started.append(process)
    assert get(process.exported("URL"), "/")[0] == 503
    open_test_data(data_dir)
    assert process.ended()[0] == 2
    assert "本账本为测试数据账本，只可在本机提供服务，不得在 0.0.0.0 监听" in process.err[-1]
    assert server_is_down(data_dir)


def test_a_taken_port_is_told_before_anything_is_started(
    data_dir: Path, started: list[Process]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = Process("serve", "--demo", "--port", port, "--data-dir", data_dir)
        started.append(process)
        code, _ = process.ended()
    assert code == 3
    assert process.err == [
        f"chengxin: cannot listen on 127.0.0.1 port {port}: Address already in use;"
        " choose another with --port or CHENGXIN_PORT\n"
    ]
    assert not data_dir.exists()


def test_a_second_signal_ends_it_at_once(data_dir: Path, started: list[Process]) -> None:
    process = run_demo(started, data_dir)
    with open_stream(process.exported("URL"), process.exported("SUBSCRIBER_TOKEN")):
        # Both at once, so that the first one has no time to end it in order.
        process.signal(signal.SIGSTOP)
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
        code, seconds = process.ended()
    assert code == 130
    assert seconds < 5
    deadline = time.monotonic() + STOPS_SECONDS
    while not server_is_down(data_dir):
        assert time.monotonic() < deadline, "the keeper did not stop the server"
        time.sleep(0.1)


def test_other_hosts_need_a_key_on_purpose(data_dir: Path, started: list[Process]) -> None:
    process = Process("serve", "--host", "0.0.0.0", "--port", 0, "--data-dir", data_dir)
    started.append(process)
    assert process.ended()[0] == 2
    assert "CHENGXIN_KEY_DIR" in process.err[0]
    assert not data_dir.exists()


def test_without_a_ledger_it_serves_and_says_what_is_missing(
    data_dir: Path, started: list[Process]
) -> None:
    process = Process("serve", "--port", 0, "--data-dir", data_dir)
    started.append(process)
    url = process.exported("URL")
    assert get(url, "/healthz")[0] == 200
    assert any("chengxin open" in line for line in process.err)
    assert not any("TOKEN" in line for line in process.out)
    process.signal(signal.SIGTERM)
    assert process.ended()[0] == 0


def test_a_dead_database_server_comes_back_and_a_worker_does_the_following(
    data_dir: Path, started: list[Process]
) -> None:
    serving = run_demo(started, data_dir)
    url, provider = serving.exported("URL"), serving.exported("PROVIDER")
    postmaster = int((data_dir / "pg" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    deadline = time.monotonic() + STARTS_SECONDS
    while get(url, f"/v1/disclosure/providers/{provider}")[0] != 200 or not is_ready(url):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    bare = Process("serve", "--no-worker", "--port", 0, "--data-dir", data_dir)
    started.append(bare)
    other = bare.exported("URL")
    serving.signal(signal.SIGTERM)
    assert serving.ended()[0] == 0
    # Nobody follows the log now.
    complete(other, bare.exported("TOKEN"), provider, "HT-TEST-1")
    assert json.loads(get(other, "/readyz")[1])["projections"]["scores_1"]["lag"] == 1
    worker = Process("worker", "--data-dir", data_dir)
    started.append(worker)
    while not is_ready(other) or lag_of(other):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker.signal(signal.SIGTERM)
    code, seconds = worker.ended()
    assert (code, worker.err[-1]) == (0, "Stopped.\n")
    assert seconds < 10


def is_ready(url: str) -> bool:
    return get(url, "/readyz")[0] == 200


def lag_of(url: str) -> int:
    projections = json.loads(get(url, "/readyz")[1])["projections"]
    return max(int(one["lag"]) for one in projections.values())


def complete(url: str, token: str, provider: str, contract: str) -> int:
    """Record by HTTP that a contract was performed; its position."""
    parts = urlsplit(url)
    body = {
        "contract": contract,
        "counterparty": "0198c7a0-0000-4000-8000-0000000000c9",
        "on": "2026-01-05",
        "evidence": [
            {
                "sha256": "ab" * 32,
                "media_type": "application/pdf",
                "size_bytes": 1,
                "custodian": "DEMO-REGISTRY",
            }
        ],
    }
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    with closing(connection):
        connection.request("POST", f"/v1/providers/{provider}/contracts", json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 201, answer
        return int(json.loads(answer)["position"])


def test_the_log_leads_from_a_write_to_its_event_and_tells_no_secret(
    data_dir: Path, started: list[Process]
) -> None:
    filling = Process("demo", "--providers", 5, "--data-dir", data_dir)
    started.append(filling)
    assert filling.ended()[0] == 0
    serving = Process(
        "serve",
        "--port",
        0,
        "--data-dir",
        data_dir,
        CHENGXIN_LOG_FORMAT="json",
        CHENGXIN_LOG_LEVEL="info",
    )
    started.append(serving)
    url, provider = serving.exported("URL"), serving.exported("PROVIDER")
    token = serving.exported("TOKEN")
    position = complete(url, token, provider, "HT-SECRET-1")
    assert get(url, f"/v1/providers/{provider}/score?as_of=1999-09-09", token)[0] == 200
    assert (
        get(url, f"/v1/providers/{provider}/nothing?q=hidden", token, x_request_id="mine")[0] == 404
    )
    assert get(url, "/v1/feed", "not-a-token")[0] == 401
    serving.signal(signal.SIGTERM)
    assert serving.ended()[0] == 0

    lines = [json.loads(line) for line in serving.err if line.startswith("{")]
    others = {line for line in serving.err if not line.startswith("{")}
    assert others == {"\n", "stopping; once more ends it at once\n", "Stopped.\n"}
    requests = [one for one in lines if one["event"] == "request"]
    _, _, nothing, _ = requests
    assert len({one["request_id"] for one in requests}) == len(requests)
    for one in requests:
        assert one["level"] == "info"
        assert one["milliseconds"] > 0
        assert datetime.fromisoformat(one["timestamp"]).tzinfo is not None
    told = ("method", "route", "status", "organisation", "role", "position")
    registrar = ("DEMO-REGISTRY", "registrar")
    place = "/v1/providers/{identifier}"
    assert [tuple(one.get(name) for name in told) for one in requests] == [
        ("POST", f"{place}/contracts", 201, *registrar, position),
        ("GET", f"{place}/score", 200, *registrar, None),
        ("GET", None, 404, None, None, None),
        ("GET", "/v1/feed", 401, None, None, None),
    ]
    assert nothing["request_id"] == "mine"
    text = "".join(serving.err)
    for secret in (token, "not-a-token", provider, "HT-SECRET-1", "1999-09-09", "hidden"):
        assert secret not in text
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["ref"] not in text


def test_tail_goes_on_after_the_server_was_killed_and_started_again(
    data_dir: Path, started: list[Process]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serving = Process("serve", "--demo", "--port", port, "--data-dir", data_dir)
    started.append(serving)
    url, provider = serving.exported("URL"), serving.exported("PROVIDER")
    token, head = serving.exported("TOKEN"), head_of(url)
    tail = Process("tail", "--url", url, "--token", token, "--after", head - 2)
    now = Process("tail", CHENGXIN_URL=url, CHENGXIN_TOKEN=token)
    started += [tail, now]
    assert wait_for_lines(tail, 2) == [head - 1, head]
    positions: list[int] = []
    while not positions_of(now):  # where it begins is its own look at the head
        positions.append(complete(url, token, provider, f"HT-{len(positions)}"))
        time.sleep(0.2)
    assert wait_for_lines(tail, 2 + len(positions))[2:] == positions
    serving.signal(signal.SIGKILL)
    serving.ended()
    again = Process("serve", "--demo", "--port", port, "--data-dir", data_dir)
    started.append(again)
    assert again.exported("URL") == url
    positions += [complete(url, token, provider, f"HT-AGAIN-{number}") for number in (1, 2)]
    assert wait_for_lines(tail, 2 + len(positions)) == [head - 1, head, *positions]
    lines_since = positions[positions.index(wait_for_lines(now, 1)[0]) :]
    assert wait_for_lines(now, len(lines_since)) == lines_since
    # One break, told once, however often it tried.
    assert len(tail.err) == 2, tail.err
    assert tail.err[0].startswith(f"chengxin: {url}: ")
    assert tail.err[0].endswith("; trying again\n")
    assert tail.err[1] == f"chengxin: {url}: connected again\n"
    tail.signal(signal.SIGINT)
    assert tail.ended()[0] == 130
    assert "Traceback" not in "".join(tail.err)


def wait_for_lines(tail: Process, count: int) -> list[int]:
    """The positions of the lines printed, once there are so many."""
    deadline = time.monotonic() + STARTS_SECONDS
    while len(positions_of(tail)) < count:
        assert time.monotonic() < deadline, (tail.out, tail.err)
        time.sleep(0.02)
    return positions_of(tail)


def positions_of(tail: Process) -> list[int]:
    """The positions of the lines printed, but of the records that it was given them."""
    lines = [json.loads(line) for line in tail.out]
    return [int(one["sequence"]) for one in lines if one["type"] != ACCESS]


def test_tail_with_a_token_that_is_none_is_refused(data_dir: Path, started: list[Process]) -> None:
    serving = run_demo(started, data_dir)
    tail = Process("tail", "--url", serving.exported("URL"), "--token", "x")
    started.append(tail)
    assert tail.ended()[0] == 1
    assert tail.err[0].startswith("chengxin: 401: ")
    assert tail.err[0].endswith(" [token-malformed]\n")
    assert tail.out == []


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.15, 0.3, 0.5, 0.8, 1.2])
def test_an_interrupt_while_modules_are_imported_is_silent(
    data_dir: Path, started: list[Process], seconds: float
) -> None:
    process = Process("serve", "--demo", "--port", 0, "--data-dir", data_dir)
    started.append(process)
    wait_until_ours(process.process.pid)
    time.sleep(seconds)
    process.signal(signal.SIGINT)
    code, _ = process.ended()
    # By the signal itself, which a shell tells as 130; in order once there is something to end.
    assert code in (-signal.SIGINT, 130, 0)
    assert "Traceback" not in "".join(process.err)
    if code == -signal.SIGINT:
        assert process.err == []


def wait_until_ours(pid: int) -> None:
    """Until a new process leaves SIGINT to the system: Python itself is up, and `main` runs."""
    caught, deadline = False, time.monotonic() + STARTS_SECONDS
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text()
        (mask,) = re.findall(r"SigCgt:\s*([0-9a-f]+)", status)
        catches = bool(int(mask, 16) & 1 << signal.SIGINT - 1)
        if caught and not catches:
            return
        caught = caught or catches
    raise AssertionError("it never began")


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
