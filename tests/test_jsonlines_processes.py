"""JSON Lines by file, on standard input and over HTTP, with real processes, some of them killed."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import orjson
import pytest

from ledger.database import Database
from ledger.store import Ledger
from projections.runner import migrate_projections
from tests import given
from tests.conftest import Run
from tests.serving import wait_until
from tests.test_deliveries import JSON_LINES, PATH, inspection, inspections, parsed
from tests.test_imports import chengxin
from tests.test_serve import Process

RESIDENT = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@pytest.fixture
def ledger_of_today(ledger: Ledger, desk: object, run: Run, database: Database) -> Ledger:
    """An opened ledger, as a process with the real clock finds it."""
    run(desk.open_ledger(given.opening(), given.REGISTRAR))  # type: ignore[attr-defined]
    migrate_projections(database)
    return ledger


@pytest.fixture
def command(database: Database, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs a command with what it reads on stdin."""

    def run_it(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        process = chengxin(database, tmp_path / "keys", *arguments)
        out, err = process.communicate(stdin, timeout=120)
        return process.returncode, out.decode(), err.decode()

    return run_it


def body(count: int, subjects: int = 9, begin: int = 0) -> bytes:
    return b"".join(
        inspection(n, f"HK-CR-{n % subjects}") + b"\n" for n in range(begin, begin + count)
    )


# --- The command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.txt"])
def test_a_file_needs_no_mapping(
    ledger_of_today: Ledger,
    command: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    name: str,
) -> None:
    path = tmp_path / name
    content = b"\xef\xbb\xbf" + body(20)
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    code, out, err = command("import", path, "--json")
    assert code == 0, err
    assert json.loads(out)["recorded"] == 20


def test_lines_on_standard_input(
    ledger_of_today: Ledger, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    lines = body(600) + b"{\n" + inspection(3, "HK-CR-3")
    report = tmp_path / "issues.jsonl"
    assert "600 would be recorded" in command("import", "-", "--dry-run", stdin=lines)[2]
    assert ledger_of_today.head() == 1
    code, out, err = command("import", "-", "--json", "--report", report, stdin=lines)
    assert code == 1
    tally = json.loads(out)
    assert (tally["recorded"], tally["registered"], tally["refused"]) == (600, 9, 1)
    assert tally["repeated"] == 1
    assert "-:601: line: What was sent is not the JSON it should be" in err
    assert [orjson.loads(one)["code"] for one in report.read_bytes().splitlines()] == [
        "unparsable",
        "repeated",
    ]
    assert command("import", "-", stdin=gzip.compress(lines))[2].count("600 recorded before") == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["rows.csv"], "name its --mapping, or say --format jsonl"),
        (["rows.csv", "--format", "csv"], "name its --mapping"),
        (["rows.csv", "--format", "xml"], "--format xml: csv or jsonl"),
        (
            ["rows.csv", "--format", "jsonl", "--mapping", "rows.csv"],
            "JSON Lines take no --mapping",
        ),
    ],
)
def test_what_nothing_tells_how_to_read(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: list[str], word: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    named = [str(path) if one == "rows.csv" else one for one in arguments]
    code, _, err = command("import", *named)
    assert code == 2
    assert word in err


def test_killed_in_the_middle_the_same_file_completes_the_work(
    ledger_of_today: Ledger, database: Database, tmp_path: Path
) -> None:
    count = 4_000
    path = tmp_path / "rows.jsonl"
    path.write_bytes(body(count, subjects=300))
    killed = chengxin(database, tmp_path / "keys", "import", path)
    wait_until(lambda: ledger_of_today.head() > count / 3, 60)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "it ended before it could be killed"
    left = chengxin(database, tmp_path / "keys", "import", path, "--json")
    out, err = left.communicate(timeout=120)
    assert left.returncode == 0, err.decode()
    tally = orjson.loads(out)
    assert tally["recorded"] + tally["already_recorded"] == count
    assert tally["already_recorded"] > count / 5
    assert Counter(inspections(ledger_of_today)) == Counter(f"JC-{n}" for n in range(count))


# --- A served ledger -----------------------------------------------------------------------------


@pytest.fixture
def serve(
    ledger_of_today: Ledger, database: Database, tmp_path: Path
) -> Iterator[Callable[[], tuple[Process, str]]]:
    """Starts `chengxin serve` on the test's database; the process and its address."""
    processes: list[Process] = []

    def start() -> tuple[Process, str]:
        process = Process(
            "serve", "--port", 0, "--no-worker",
            CHENGXIN_DATABASE_URL=database.conninfo,
            CHENGXIN_KEY_DIR=str(tmp_path / "keys"),
        )  # fmt: skip
        processes.append(process)
        return process, process.exported("URL")

    yield start
    for process in processes:
        process.kill()


@pytest.fixture
def token(database: Database, tmp_path: Path) -> str:
    arguments = ("token", "--role", "registrar", "--org", "CN-REG-1")
    process = chengxin(database, tmp_path / "keys", *arguments)
    return process.communicate(timeout=60)[0].decode().strip()


def deliver(url: str, token: str, content: bytes | Iterator[bytes]) -> httpx2.Response:
    headers = JSON_LINES | {"Authorization": f"Bearer {token}", "Accept-Language": "en"}
    return httpx2.post(url + PATH, content=content, headers=headers, timeout=300)


def appenders(ledger: Ledger) -> set[int]:
    """The backends through which events are being appended, of whichever process."""
    with ledger.database.connect() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'chengxin appender %'"
        ).fetchall()
    return {pid for (pid,) in rows}


def test_a_server_killed_in_the_middle_loses_nothing_that_it_recorded(
    serve: Callable[[], tuple[Process, str]], token: str, ledger_of_today: Ledger
) -> None:
    count = 3_000
    lines = body(count, subjects=200)
    before = appenders(ledger_of_today)
    process, url = serve()

    def parts() -> Iterator[bytes]:
        half = lines.index(b"\n", len(lines) // 2) + 1
        yield lines[:half]
        wait_until(lambda: ledger_of_today.head() > count / 3, 60)
        process.signal(signal.SIGKILL)
        process.process.wait(30)
        yield lines[half:]

    with pytest.raises(httpx2.TransportError):
        deliver(url, token, parts())
    # What the server had sent before it died is still being committed.
    wait_until(lambda: appenders(ledger_of_today) <= before)
    recorded = set(inspections(ledger_of_today))
    assert len(recorded) > 500
    _, url = serve()
    answers, last = parsed(deliver(url, token, lines).content)
    assert last["complete"]
    assert last["recorded_before"] == len(recorded)
    assert last["recorded"] == count - len(recorded)
    earlier = {f"JC-{one['line'] - 1}" for one in answers if one["state"] == "recorded-before"}
    assert earlier == recorded
    assert Counter(inspections(ledger_of_today)) == Counter(f"JC-{n}" for n in range(count))


def test_a_file_and_a_request_of_one_organisation_share_their_keys(
    serve: Callable[[], tuple[Process, str]],
    token: str,
    command: Callable[..., tuple[int, str, str]],
) -> None:
    lines = body(50)
    code, _, err = command("import", "-", "--org", "CN-REG-1", stdin=lines)
    assert code == 0, err
    _, url = serve()
    _, last = parsed(deliver(url, token, lines).content)
    assert (last["recorded"], last["recorded_before"]) == (0, 50)
    assert command("import", "-", "--org", "CN-REG-2", stdin=lines)[2].count("50 refused") == 1


def test_a_hundred_thousand_lines_take_no_more_memory_than_ten_thousand(
    serve: Callable[[], tuple[Process, str]], token: str
) -> None:
    process, url = serve()

    def resident_mebibytes() -> int:
        status = Path(f"/proc/{process.process.pid}/status").read_text()
        found = RESIDENT.search(status)
        assert found is not None
        return int(found[1]) // 1024

    def many(count: int) -> Iterator[bytes]:
        """Every tenth line is recorded; the others are refused, which costs an answer too."""
        wrong = inspection(1, "X") + b"\n"
        for number in range(0, count, 10):
            yield inspection(number, f"HK-CR-{number % 99}") + b"\n" + 9 * wrong

    answers, _ = parsed(deliver(url, token, many(10_000)).content)
    assert len(answers) == 10_000
    before = resident_mebibytes()
    answers, last = parsed(deliver(url, token, many(100_000)).content)
    assert (last["lines"], last["complete"]) == (100_000, True)
    assert last["recorded"] + last["recorded_before"] == 10_000
    assert resident_mebibytes() - before < 48


def test_nothing_waits_for_a_reader_who_never_comes(
    serve: Callable[[], tuple[Process, str]], token: str
) -> None:
    """A server that is stopped ends, whatever its clients do."""
    process, url = serve()
    host, port = url.removeprefix("http://").split(":")
    script = (
        "import socket,sys,time;s=socket.create_connection((sys.argv[1],int(sys.argv[2])));"
        "s.sendall(sys.argv[3].encode());s.sendall(b'5\\r\\n\\n\\n\\n\\n\\n\\r\\n');time.sleep(60)"
    )
    request = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with subprocess.Popen(["python3", "-c", script, host, port, request]) as client:
        time.sleep(1)
        process.signal(signal.SIGTERM)
        code, _ = process.ended()
        client.kill()
    assert code == 0
