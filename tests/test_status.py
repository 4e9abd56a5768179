"""`chengxin status` and `chengxin pg`: the verdict, from a server and from the database itself."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.status import Samples, State, lines, reasons
from api.upkeep import environment_of
from ledger.database import Database, migrate
from ledger.embedded import Embedded
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving, wait_until
from tests.test_api_faults import frozen
from tests.test_cli import COMMAND, ROOT, environment
from tests.test_database import OURS
from tests.test_metrics import hold, stop_following
from tests.test_runner import append_raw

Chengxin = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def chengxin(tmp_path: Path) -> Chengxin:
    """Runs the command line; settings may be given by name."""

    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env=environment(**{"CHENGXIN_DATA_DIR": str(tmp_path / "data")} | settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def served(databases: Callable[[], Database], tmp_path: Path) -> Iterator[Served]:
    with serving(databases(), tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.penalise()
        served.follow()
        yield served


def url_of(served: Served) -> str:
    """Where it serves."""
    return f"http://127.0.0.1:{served.port}"


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `--json` said."""
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


# --- from a server -------------------------------------------------------------------------------


def test_a_server_that_is_well_says_so_first(served: Served, chengxin: Chengxin) -> None:
    wait_until(lambda: "chengxin_append_requests_total" in served.get("/metrics").text)
    hold(served.ledger.database, 2)
    done = chengxin("status", "--url", url_of(served))
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == "Well: 示例省诚信账本 (demonstration)"
    text = "\n".join(rest)
    for words in (
        f"asked: {url_of(served)}, version ",
        "log: head 3, last event 2026-03-02 09:30:00+08:00",
        "rulebook in force: RB-2026.1",
        "scores: position 3, 0 behind, followers 1",
        "disclosure: position 3, 0 behind, followers 1",
        "writes: 3 since the start, half within ",
        " of 8 connections, 0 reads waiting",
        "streams open: 0",
        "quarantine: 1 waiting for a person",
        " MiB on disk",
    ):
        assert words in text
    # By the environment, as `serve` prints it, and in Chinese.
    done = chengxin("status", CHENGXIN_URL=url_of(served), LC_ALL="zh_CN.UTF-8")
    assert done.returncode == 0
    assert done.stdout.startswith("正常：示例省诚信账本（演示）\n")
    for words in ("日志：末位 3", "现行规则：RB-2026.1", "评分：位置 3，落后 0，跟随进程 1 个"):
        assert words in done.stdout
    assert "待核：1 行待人工处理" in done.stdout
    found = told(chengxin("status", "--url", url_of(served), "--json"))
    assert (found["well"], found["reasons"], found["head"]) == (True, [], 3)
    assert found["recorded_at"] == "2026-03-02T01:30:00+00:00"
    assert found["projections"]["scores_1"] == {
        "position": 3,
        "lag": 0,
        "error": None,
        "followers": 1,
    }
    assert found["figures"]["appends"] == 3
    assert 0 < found["figures"]["append_p50"] <= found["figures"]["append_p99"] <= 30


def test_what_is_not_well_is_named(served: Served, chengxin: Chengxin) -> None:
    poison = append_raw(served.ledger, "pledge.made.v1", {"on": "2026-03-02"})
    wait_until(lambda: all(one.error for one in served.follower.status().values()))
    stop_following(served)
    done = chengxin("status", "--url", url_of(served))
    assert done.returncode == 1
    first = done.stdout.splitlines()[0]
    assert first.startswith("NOT WELL: 示例省诚信账本 (demonstration): scores: stopped at position")
    assert f"disclosure: stopped at position {poison}" in first
    assert "pledge" not in done.stdout, "everybody may ask a server, and what is hidden stays so"
    assert "scores: nobody follows the log; disclosure: stopped" in first
    chinese = chengxin("status", "--url", url_of(served), LC_ALL="zh_CN.UTF-8").stdout
    assert chinese.startswith("异常：示例省诚信账本（演示）：评分：停在 position")
    assert "公示：没有进程在跟随日志" in chinese.splitlines()[0]
    assert told(chengxin("status", "--url", url_of(served), "--json"))["well"] is False


def test_a_server_whose_clock_is_ahead_is_not_well(
    databases: Callable[[], Database], tmp_path: Path, chengxin: Chengxin
) -> None:
    clock = Clock()
    with serving(databases(), tmp_path / "keys", clock, new_ledger=new_ledger) as served:
        served.provide()
        served.follow()
        clock.now = datetime.now(UTC) + timedelta(minutes=4)
        assert served.get("/readyz").status_code == 200
        clock.advance(minutes=2)
        ready = served.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["clock: more than 5 minutes ahead of the database's"]
        problem(served.penalise(), 503, "clock-ahead")
        done = chengxin("status", "--url", url_of(served))
        assert done.returncode == 1
        assert done.stdout.splitlines()[0].endswith(
            ": the server's clock is ahead of the database's: its writes are refused"
        )
        chinese = chengxin("status", "--url", url_of(served), LC_ALL="zh_CN.UTF-8").stdout
        assert "服务端时钟快于数据库时钟" in chinese.splitlines()[0]


def test_a_database_that_is_read_only_is_not_well(served: Served, chengxin: Chengxin) -> None:
    """As after a failover that left us with the standby."""
    database = served.ledger.database
    with database.connect(role=None) as owner:
        name = owner.info.dbname
        owner.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: served.get("/readyz").json()["reasons"] == ["database: read-only"])
        # Of the first it is not known whether the connection was lost before or after its commit.
        assert served.penalise().status_code == 503
        problem(served.penalise(), 503, "unavailable")
        for arguments, settings in (
            (("status", "--url", url_of(served)), {}),
            (("status",), {"CHENGXIN_DATABASE_URL": database.conninfo}),
        ):
            done = chengxin(*arguments, **settings)
            assert done.returncode == 1
            assert "the database is read-only: every write is refused" in done.stdout
            chinese = chengxin(*arguments, LC_ALL="zh_CN.UTF-8", **settings).stdout
            assert "数据库处于只读状态，写入均被拒绝" in chinese.splitlines()[0]
        owner.execute("SET transaction_read_only = off")
        owner.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: served.get("/readyz").status_code == 200)
        assert served.penalise().status_code == 201


def test_a_server_that_was_started_before_its_migration_is_not_well(
    served: Served, chengxin: Chengxin
) -> None:
    with served.ledger.database.connect(role=None) as owner:
        owner.execute("ALTER SCHEMA intake RENAME TO later")
        ready = served.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (
            503,
            ["database: no schema of this version"],
        )
        assert "chengxin_database_up 0.0" in served.get("/metrics").text
        done = chengxin("status", "--url", url_of(served))
        assert done.returncode == 1
        assert "no schema of this version; run `chengxin migrate`" in done.stdout.splitlines()[0]
        owner.execute("ALTER SCHEMA later RENAME TO intake")
        wait_until(lambda: served.get("/readyz").status_code == 200)


def test_who_may_not_read_the_figures_still_gets_the_verdict(
    databases: Callable[[], Database], tmp_path: Path, chengxin: Chengxin
) -> None:
    with serving(
        databases(),
        tmp_path / "keys",
        Clock(),
        new_ledger=new_ledger,
        metrics_from="10.0.0.0/8",
    ) as served:
        done = chengxin("status", "--url", url_of(served))
        assert done.returncode == 0
        assert "figures: not given to this machine (CHENGXIN_METRICS_FROM)" in done.stdout
        assert "scores: position 1, 0 behind\n" in done.stdout


def test_a_server_whose_database_is_frozen_is_not_well(
    own_server: Embedded, tmp_path: Path, chengxin: Chengxin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.health.READY_SECONDS", 0.5)
    monkeypatch.setattr("api.metrics.LOOK_SECONDS", 0.5)
    monkeypatch.setattr("ledger.database.READ_SECONDS", 1)
    database = Database(own_server.conninfo())
    migrate(database, OURS)
    with serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        with frozen(own_server):
            done = chengxin("status", "--url", url_of(served))
        assert done.returncode == 1
        assert done.stdout.startswith("NOT WELL: ledger: the database does not answer")
        # What the process knows by itself is there all the same.
        assert "writes: 1 since the start" in done.stdout


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("http://127.0.0.1:9", 3, "chengxin: http://127.0.0.1:9: Connection refused\n"),
        ("ftp://x", 2, "chengxin: 'ftp://x' is no http or https URL\n"),
    ],
)
def test_nobody_there(chengxin: Chengxin, url: str, code: int, words: str) -> None:
    done = chengxin("status", "--url", url)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", words)


def test_something_else_that_answers_is_no_ledger(served: Served, chengxin: Chengxin) -> None:
    done = chengxin("status", "--url", f"{url_of(served)}/v1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "404" in done.stderr


def test_a_page_that_answers_everything_is_no_ledger(chengxin: Chengxin) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = chengxin("status", "--url", url)
        server.shutdown()
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"chengxin: {url}: what answers there is no ledger\n"


# --- from the database ---------------------------------------------------------------------------


def test_without_a_server_the_database_is_asked(served: Served, chengxin: Chengxin) -> None:
    on = {"CHENGXIN_DATABASE_URL": served.ledger.database.conninfo}
    done = chengxin("status", **on)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Well: 示例省诚信账本 (demonstration)\n  asked: the database, ")
    assert "scores: position 3, 0 behind, followers 1" in done.stdout
    assert "writes" not in done.stdout
    stop_following(served)
    done = chengxin("status", **on)
    assert done.returncode == 1
    assert "scores: nobody follows the log; disclosure: nobody follows the log" in done.stdout


def test_a_database_that_is_not_there_or_not_migrated(
    own_server: Embedded, chengxin: Chengxin
) -> None:
    # Looking makes nothing: neither a cluster, nor a schema.
    done = chengxin("status")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("chengxin: there is no ledger in ")
    on = {"CHENGXIN_DATABASE_URL": own_server.conninfo()}
    for _ in range(2):
        done = chengxin("status", **on)
        assert (done.returncode, done.stdout) == (3, "")
        assert "run `chengxin migrate`" in done.stderr
    assert chengxin("migrate", **on).returncode == 0
    done = chengxin("status", **on)
    assert done.returncode == 1
    assert done.stdout.startswith("NOT WELL: ledger: no ledger is opened here; scores: nobody")
    own_server.stop()
    done = chengxin("status", **on)
    assert (done.returncode, done.stdout) == (3, "")


# --- the verdict ---------------------------------------------------------------------------------


def test_what_is_not_known_is_no_reason() -> None:
    state = State(place=None, version="1", ledger="x", purpose="production", head=0)
    assert reasons(state, lag_limit=10) == []
    assert [one.en for one in lines(state, [])] == [
        "Well: x (production)",
        "  asked: the database, version 1",
        "  log: head 0",
    ]
    late = replace(state, overdue=2)
    assert lines(late, [])[-1].en == "  erasure: 2 held though the day is over"
    assert "2 件" in lines(late, [])[-1].zh
    # A reason that only the server knows is told in its words.
    own = State(place="http://x", version="1", ledger="x", purpose="production", reasons=("why",))
    assert [one.zh for one in reasons(own, lag_limit=10)] == ["why"]


def test_of_a_histogram_the_bound_is_told() -> None:
    rows = [
        f'chengxin_append_seconds_bucket{{le="{bound}"}} {count}'
        for bound, count in (("0.001", 0), ("0.0025", 50), ("0.01", 98), ("+Inf", 100))
    ]
    text = "# TYPE chengxin_append_seconds histogram\n" + "\n".join(rows) + "\n"
    samples = Samples(text)
    assert [samples.quantile("append_seconds", share) for share in (0.5, 0.51, 0.98, 0.99)] == [
        0.0025,
        0.01,
        0.01,
        float("inf"),
    ]
    assert samples.quantile("other_seconds", 0.5) is None
    assert samples.one("append_seconds_count") is None


# --- PostgreSQL's own tools ----------------------------------------------------------------------


def test_the_tools_find_the_ledgers_database(served: Served, chengxin: Chengxin) -> None:
    on = {"CHENGXIN_DATABASE_URL": served.ledger.database.conninfo}
    count = "SELECT count(*) FROM ledger.chengxin_events"
    done = chengxin("pg", "psql", "-h", "127.0.0.2", "--version", **on)
    assert done.stdout.startswith("psql (PostgreSQL) 18")
    done = chengxin("pg", "psql", "-tAc", count, **on)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
    done = chengxin("pg", "pg_dump", "--schema-only", "--schema=ledger", **on)
    assert "CREATE TABLE ledger.chengxin_events" in done.stdout
    done = chengxin("pg", "psql", "-c", "SELECT nothing", **on)
    assert done.returncode == 1
    assert 'column "nothing" does not exist' in done.stderr
    done = chengxin("pg", "rm", "-rf", **on)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "chengxin: 'rm' is none of pg_dump, pg_restore, psql\n"


def test_an_embedded_server_is_made_for_the_tools_and_not_migrated(
    own_server: Embedded, chengxin: Chengxin
) -> None:
    data_dir = own_server.data_dir.parent / "another"
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'ledger'"
    done = chengxin("pg", "--data-dir", data_dir, "psql", "-tAc", schemas)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    done = chengxin("status", "--data-dir", data_dir)
    assert done.returncode == 3
    assert "run `chengxin migrate`" in done.stderr


def test_a_password_is_in_no_command_line() -> None:
    url = "postgresql://me:secret@db.example:5433/ledger?sslmode=require&connect_timeout=3"
    assert environment_of(url) == {
        "PGUSER": "me",
        "PGPASSWORD": "secret",
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGDATABASE": "ledger",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "3",
    }
