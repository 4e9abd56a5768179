"""The quarantine over HTTP and on the command line: who sees a row, who decides it, and how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import orjson
import psycopg
import pytest
from structlog.testing import capture_logs

from api import readiness
from api.intake.backlog import waiting_of
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.mapping import mapping_of
from api.intake.quarantine import Quarantine
from api.intake.tally import Account
from api.quarantine_json import QuarantinedRowInFull, QuarantinedRows, RowAccepted
from ledger.database import Database
from ledger.envelope import decode
from ledger.events import PenaltyImposed
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.store import Ledger
from tests import given
from tests.conftest import FOLDER, Clock, Run, new_ledger
from tests.serving import Served, problem, serving, wait_until
from tests.test_imports import csv_file
from tests.test_quarantine import (
    FILE,
    HEADER,
    PENALTIES,
    UNKNOWN_TYPE,
    WHY,
    WRONG_CHECK,
)

ROOT = Path(__file__).resolve().parent.parent
REF = "0198c7a0-0000-7000-8000-0000000000a1"
ROWS = "/v1/quarantine"
ENDED = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        yield served


def take(served: Served, run: Run, content: str = FILE, organisation: str = "CN-REG-1") -> None:
    """Import a file as another process would."""
    importing = mapping_of(PENALTIES)
    actor = Actor(organisation, "registrar", REF)
    work = Import(
        Desk(served.ledger),
        actor,
        name=importing.name,
        purpose=None,
        digest=served.tokens.digest,
        account=Account(),
        holding=Holding(
            Quarantine(served.ledger), actor, importing.name, "rows.csv", importing.recipe
        ),
    )
    run(work.run(importing.rows(csv_file(content))))


@pytest.fixture
def two(served: Served, run: Run) -> tuple[int, int]:
    """A row with a wrong check character, and one of an unknown type."""
    take(served, run)
    first, second = served.get(ROWS, "registrar").json()["rows"]
    return first["id"], second["id"]


def decide(served: Served, id: int, what: str, **body: Any) -> httpx2.Response:
    """A registrar's verdict."""
    return served.post(f"{ROWS}/{id}/{what}", {"why": WHY} | body)


# --- HTTP ----------------------------------------------------------------------------------------


def test_an_officer_sees_corrects_and_accepts_a_row(served: Served, two: tuple[int, int]) -> None:
    listed = served.get(ROWS, "registrar")
    QuarantinedRows.model_validate_json(listed.content)
    assert listed.headers["cache-control"] == "private, no-store"
    row = served.get(f"{ROWS}/{two[0]}", "registrar").json()
    QuarantinedRowInFull.model_validate_json(orjson.dumps(row))
    assert row["cells"]["code"] == given.PROVIDER[:-1] + "J"
    assert row["problems"][0]["code"] == "invalid-identifier"
    assert "penalty.family" in row["fields"]

    told = problem(decide(served, two[0], "acceptance"), 409, "row-not-understood")
    assert told["errors"][0]["loc"] == ["row", "identifier"]
    assert "校验码应为 H" in told["detail"]
    mended = decide(served, two[0], "correction", set={"code": given.PROVIDER})
    assert (mended.status_code, mended.json()["problems"]) == (200, [])
    first = decide(served, two[0], "acceptance")
    assert first.status_code == 201
    RowAccepted.model_validate_json(first.content)
    [receipt] = first.json()["receipts"]
    assert first.headers["location"] == f"/v1/events/{receipt['position']}"
    assert "idempotent-replayed" not in first.headers
    again = decide(served, two[0], "acceptance", why="noch einmal")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    told = problem(decide(served, two[0], "rejection"), 409, "row-settled")
    assert "已核准入账" in told["detail"]
    row = served.get(f"{ROWS}/{two[0]}", "auditor").json()
    assert (row["state"], row["positions"]) == ("accepted", [receipt["position"]])
    assert [(one["what"], one["why"]) for one in row["steps"]] == [
        ("quarantined", ""),
        ("corrected", WHY),
        ("accepting", WHY),
        ("accepted", WHY),
    ]


def test_a_row_is_rejected_and_then_no_more_listed(served: Served, two: tuple[int, int]) -> None:
    for _ in range(2):
        assert decide(served, two[1], "rejection").json()["state"] == "rejected"
    assert [one["id"] for one in served.get(ROWS, "registrar").json()["rows"]] == [two[0]]
    for state, found in (("rejected", [two[1]]), ("all", list(two)), ("accepted", [])):
        rows = served.get(f"{ROWS}?state={state}&import=penalties", "registrar").json()["rows"]
        assert [one["id"] for one in rows] == found
    assert served.get(f"{ROWS}?import=others", "registrar").json() == {"rows": []}


def test_pages_follow_each_other(served: Served, two: tuple[int, int]) -> None:
    first = served.get(f"{ROWS}?limit=1", "auditor")
    assert [one["id"] for one in first.json()["rows"]] == [two[0]]
    following = first.links["next"]["url"]
    second = served.get(following, "auditor")
    assert [one["id"] for one in second.json()["rows"]] == [two[1]]
    assert "link" not in second.headers


@pytest.mark.parametrize(
    "role", ["inspector", "case_officer", "platform", "provider", "public", "privacy_officer"]
)
def test_nobody_else_sees_or_decides_anything(
    served: Served, two: tuple[int, int], role: str
) -> None:
    for path in (ROWS, f"{ROWS}/{two[0]}", f"{ROWS}/999"):
        problem(served.get(path, role), 403, "not-allowed")
    for what in ("correction", "acceptance", "rejection"):
        refused = served.post(f"{ROWS}/{two[0]}/{what}", {"why": WHY}, role)
        problem(refused, 403, "not-allowed")


def test_an_auditor_decides_nothing_and_without_a_token_there_is_nothing(
    served: Served, two: tuple[int, int]
) -> None:
    problem(served.post(f"{ROWS}/{two[0]}/acceptance", {"why": WHY}, "auditor"), 403, "not-allowed")
    problem(served.post(f"{ROWS}/{two[0]}/acceptance", {"why": WHY}, None), 401, "token-missing")
    problem(served.get(ROWS), 401, "token-missing")


def test_another_organisations_row_is_as_one_that_is_not_there(
    served: Served, two: tuple[int, int]
) -> None:
    token = served.token("registrar", "CN-REG-2")
    headers = {"Authorization": f"Bearer {token}"}
    assert served.client.get(ROWS, headers=headers).json() == {"rows": []}
    bodies = {"correction": {"set": {"x": "y"}}, "acceptance": {}, "rejection": {}}
    told: list[str] = []
    for id in (two[0], 999):
        path = f"{ROWS}/{id}"
        answered = [served.client.get(path, headers=headers)]
        for what, body in bodies.items():
            sent = {"why": WHY} | body
            answered.append(served.client.post(f"{path}/{what}", json=sent, headers=headers))
        told += [
            problem(one, 404, "unknown-row")["detail"].replace(str(id), "N") for one in answered
        ]
    assert told[:4] == told[4:]


def test_nobody_waits_for_anothers_row_or_keeps_it_from_its_officers(
    served: Served, two: tuple[int, int]
) -> None:
    headers = {"Authorization": f"Bearer {served.token('registrar', 'CN-REG-2')}"}
    lock = f"chengxin quarantine {two[0]}"
    with psycopg.connect(served.ledger.database.conninfo, autocommit=True) as other:
        # Its officer is at work on it.
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [lock])
        for what, more in (
            ("correction", {"set": {"x": "y"}}),
            ("acceptance", {}),
            ("rejection", {}),
        ):
            sent = {"why": WHY} | more
            answer = served.client.post(f"{ROWS}/{two[0]}/{what}", json=sent, headers=headers)
            problem(answer, 404, "unknown-row")


@pytest.mark.parametrize(
    ("what", "body", "status", "code"),
    [
        ("rejection", {}, 422, "schema-broken"),
        ("rejection", {"why": ""}, 422, "schema-broken"),
        ("rejection", {"why": "a\u202eb"}, 422, "schema-broken"),
        ("rejection", {"why": "x" * 501}, 422, "schema-broken"),
        ("rejection", {"why": WHY, "set": {}}, 422, "schema-broken"),
        ("correction", {"why": WHY}, 422, "schema-broken"),
        ("correction", {"why": WHY, "set": {}}, 422, "schema-broken"),
        ("correction", {"why": WHY, "set": {"code": 1}}, 422, "schema-broken"),
        ("correction", {"why": WHY, "set": {"code": "a\0b"}}, 422, "schema-broken"),
        ("correction", {"why": WHY, "set": {"nothing": "x"}}, 422, "unknown-column"),
        ("correction", {"why": WHY, "set": {"penalty.x\0": "x"}}, 422, "unknown-column"),
        ("acceptance", [], 422, "schema-broken"),
    ],
)
def test_what_breaks_the_schema_is_refused_and_nothing_is_done(
    served: Served, two: tuple[int, int], what: str, body: Any, status: int, code: str
) -> None:
    problem(served.post(f"{ROWS}/{two[0]}/{what}", body), status, code)
    row = served.get(f"{ROWS}/{two[0]}", "registrar").json()
    assert [one["what"] for one in row["steps"]] == ["quarantined"]


@pytest.mark.parametrize("id", ["0", "x", "9007199254740992", "-1"])
def test_a_number_that_is_none(served: Served, id: str) -> None:
    problem(served.get(f"{ROWS}/{id}", "auditor"), 422, "schema-broken")
    problem(served.post(f"{ROWS}/{id}/rejection", {"why": WHY}), 422, "schema-broken")


def test_sixteen_requests_accept_and_one_event_comes_of_it(
    served: Served, two: tuple[int, int]
) -> None:
    decide(served, two[1], "correction", set={"penalty.family": "FAKE_TRAFFIC"})
    head = served.head()
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: decide(served, two[1], "acceptance"), range(16)))
    assert {one.status_code for one in found} == {201}
    assert len({one.content for one in found}) == 1
    assert sum("idempotent-replayed" not in one.headers for one in found) == 1
    assert served.head() == head + 2  # the registration and the penalty


def test_readyz_counts_what_waits_and_is_ready_all_the_same(
    served: Served, two: tuple[int, int]
) -> None:
    served.follow()
    found = served.get("/readyz")
    readiness.Readiness.model_validate_json(found.content)
    assert (found.status_code, found.json()["ready"]) == (200, True)
    assert found.json()["quarantine"] == {"waiting": 2, "oldest_on": "2026-03-02"}
    decide(served, two[0], "rejection")
    decide(served, two[1], "rejection")
    assert served.get("/readyz").json()["quarantine"] == {"waiting": 0, "oldest_on": None}


def test_cut_off_while_it_waits_a_decision_is_503_and_taken_when_asked_again(
    served: Served, two: tuple[int, int], database: Database
) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        # Somebody else has the row to himself.
        lock = [f"chengxin quarantine {two[0]}"]
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", lock)
        asked = threads.submit(decide, served, two[0], "rejection")
        wait_until(lambda: other.execute(ENDED).fetchone() == (True,))
        problem(asked.result(), 503, "outcome-unknown")
    row = decide(served, two[0], "rejection").json()
    assert [one["what"] for one in row["steps"]] == ["quarantined", "rejected"]


def test_the_published_schema_has_it_all(served: Served) -> None:
    schema = served.get("/openapi.json").json()
    for path in (ROWS, f"{ROWS}/{{id}}"):
        assert schema["paths"][path]["get"]["security"] == [{"bearer": []}]
    for what in ("correction", "acceptance", "rejection"):
        found = schema["paths"][f"{ROWS}/{{id}}/{what}"]["post"]
        body = found["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert body.rpartition("/")[2] in schema["components"]["schemas"]
    assert schema["components"]["schemas"]["QuarantinedRow"]["properties"]["import"]


def test_a_line_of_our_own_waits_is_corrected_and_accepted(served: Served) -> None:
    data = given.penalty().model_dump(mode="json")
    registration = {"name": "示例公司", "entity_kind": "ENTERPRISE"}
    wrong = given.PROVIDER[:-1] + "J"
    line = {"key": "k-1", "identifier": wrong, "command": "penalty", "data": data}
    sent = orjson.dumps(line | {"registration": registration})

    def deliver() -> dict[str, Any]:
        headers = served.bearer("registrar", **{"Content-Type": "application/jsonl"})
        answered = served.client.post("/v1/imports", content=sent, headers=headers)
        assert answered.status_code == 200, answered.text
        first: dict[str, Any] = orjson.loads(answered.content.splitlines()[0])
        return first

    assert deliver()["state"] == "quarantined"
    assert deliver()["state"] == "quarantined-before"
    [row] = served.get(ROWS, "registrar").json()["rows"]
    assert (row["import"], row["subject"], row["line"]) == ("json-lines", wrong, 1)
    full = served.get(f"{ROWS}/{row['id']}", "registrar").json()
    QuarantinedRowInFull.model_validate_json(orjson.dumps(full))
    assert orjson.loads(full["cells"]["data"]) == data
    problem(decide(served, row["id"], "correction", set={"penalty.x": "y"}), 422, "unknown-column")
    for bad, field in (("{", "data"), ('{"a": 1}', "data.a")):
        told = decide(served, row["id"], "correction", set={"data": bad}).json()["problems"]
        assert field in {one["field"] for one in told}
    mended = {"identifier": given.PROVIDER, "data": orjson.dumps(data).decode()}
    assert decide(served, row["id"], "correction", set=mended).json()["problems"] == []
    [receipt] = decide(served, row["id"], "acceptance").json()["receipts"]
    assert receipt["stream"] == f"provider-{given.PROVIDER}"
    assert deliver()["state"] == "recorded-before"


def test_no_log_and_no_refusal_holds_anything_of_a_row(
    database: Database, tmp_path: Path, run: Run, request: pytest.FixtureRequest
) -> None:
    secret = "某某的电话一三八"
    content = HEADER + WRONG_CHECK.replace("示例公司", secret)
    with (
        capture_logs() as lines,
        serving(
            database, tmp_path / "keys", Clock(), new_ledger=new_ledger, access_log=True
        ) as served,
    ):
        take(served, run, content)
        [row] = served.get(ROWS, "registrar").json()["rows"]
        id = row["id"]
        assert secret in served.get(f"{ROWS}/{id}", "registrar").text
        told = [
            served.get("/readyz"),
            served.get(f"{ROWS}/{id}", "case_officer"),
            decide(served, id, "correction", set={secret: "x"}),
            decide(served, id, "acceptance", why=secret),
            decide(served, id, "rejection", why=secret),
            decide(served, id, "acceptance"),
            served.client.get("/metrics"),
        ]
    assert [one.status_code for one in told] == [200, 403, 422, 409, 200, 409, 200]
    # Only the officer who sent it gets back what he himself sent.
    assert [secret in one.text for one in told] == [False] * 2 + [True, False, True] + [False] * 2
    assert [line["event"] for line in lines].count("request") >= 9
    assert secret not in str(lines)
    server_log = request.config.stash[FOLDER] / "server" / "server.log"
    assert secret not in server_log.read_text(encoding="utf-8", errors="replace")


# --- The command line, in processes of its own ---------------------------------------------------


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: bytes
    stderr: bytes


Chengxin = Callable[..., Done]


def started(database: Database, keys: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """The command line as a process, on a test's database."""
    return subprocess.Popen(
        [sys.executable, "-c", "from api.start import main; main()", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ
        | {
            "CHENGXIN_DATABASE_URL": database.conninfo,
            "CHENGXIN_KEY_DIR": str(keys),
            "CHENGXIN_REF": REF,
            "LC_ALL": "C.UTF-8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def chengxin(opened: Ledger, database: Database, tmp_path: Path) -> Chengxin:
    """Runs a command on an opened ledger to its end."""

    def run(*arguments: object) -> Done:
        process = started(database, tmp_path / "keys", *arguments)
        out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)

    return run


@pytest.fixture
def rows(tmp_path: Path) -> tuple[object, ...]:
    """The arguments that import a file with a wrong check character and an unknown type."""
    file, mapping = tmp_path / "rows.csv", tmp_path / "m.toml"
    file.write_text(HEADER + WRONG_CHECK + UNKNOWN_TYPE, encoding="utf-8")
    mapping.write_text(PENALTIES, encoding="utf-8")
    return "import", file, "--mapping", mapping, "--org", "CN-REG-1"


def test_each_step_on_the_command_line_in_a_process_of_its_own(
    chengxin: Chengxin, rows: tuple[object, ...], opened: Ledger, tmp_path: Path
) -> None:
    rehearsed = chengxin(*rows, "--dry-run")
    assert rehearsed.returncode == 1
    assert b"(to quarantine)" in rehearsed.stderr
    assert b"2 to quarantine" in rehearsed.stderr
    report = tmp_path / "report.jsonl"
    done = chengxin(*rows, "--json", "--report", report)
    assert done.returncode == 1
    assert orjson.loads(done.stdout)["quarantined"] == 2
    told = [orjson.loads(line) for line in report.read_bytes().splitlines()]
    assert [(one["state"], one["quarantine"]) for one in told] == [
        ("quarantined", 1),
        ("quarantined", 2),
    ]
    again = chengxin(*rows)
    assert b"2 quarantined before" in again.stderr
    assert b"(in quarantine 1)" in again.stderr

    listed = chengxin("quarantine", "list").stdout.decode().splitlines()
    assert [line.split("  ")[:5] for line in listed] == [
        [str(id), "waiting", "CN-REG-1", "penalties", f"rows.csv:{line}"]
        for id, line in ((1, 2), (2, 3))
    ]
    assert (
        orjson.loads(chengxin("quarantine", "list", "--limit", 1, "--json").stdout)["waiting"] == 2
    )
    org = ("--org", "CN-REG-1", "--why", WHY)
    shown = chengxin("quarantine", "correct", 1, "--set", f"code={given.PROVIDER}", *org)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert f"code = {given.PROVIDER[:-1]}J  →  {given.PROVIDER}" in shown.stdout.decode()
    assert "Understood now: accept or reject it." in shown.stdout.decode()
    shown = chengxin("quarantine", "show", 2)
    assert "[not-in-table]  (--set penalty.family=…)" in shown.stdout.decode()
    accepted = chengxin("quarantine", "accept", 1, *org)
    # The registration and the penalty, after the records of who looked.
    [event] = [one for one in opened.read(0, 100) if b"penalty.imposed" in one.state]
    assert (accepted.returncode, accepted.stderr) == (0, b"Accepted, at %d.\n" % event.position)
    again = chengxin("quarantine", "accept", 1, *org, "--json")
    assert orjson.loads(again.stdout)["repeated"] is True
    refused = chengxin("quarantine", "accept", 2, *org)
    assert refused.returncode == 1
    assert b"is not in the value table" in refused.stderr
    assert b"[row-not-understood]" in refused.stderr
    rejected = chengxin("quarantine", "reject", 2, *org, "--json")
    assert orjson.loads(rejected.stdout)["state"] == "rejected"
    shown = chengxin("quarantine", "show", 2)
    assert f"rejected  CN-REG-1 {REF}  {WHY}" in shown.stdout.decode()
    assert chengxin(*rows).returncode == 0
    assert waiting_of(opened).rows == 0


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["show", 7], 1, "[unknown-row]"),
        (["show", 0], 2, "ID"),
        (["list", "--state", "lost"], 2, "--state"),
        (["reject", 7, "--why", "x", "--org", "CN-REG-1"], 1, "[unknown-row]"),
        (["reject", 7, "--why", "x", "--ref", "me"], 2, "--ref 'me'"),
        (["reject", 7, "--why", "x", "--org", "me"], 2, "--org 'me'"),
        (["reject", 7, "--why", ""], 2, "--why"),
        (["reject", 7], 2, "--why"),
        (["correct", 7, "--set", "x", "--why", "x"], 2, "COLUMN=VALUE"),
        (["correct", 7, "--set", "=x", "--why", "x"], 2, "COLUMN=VALUE"),
        (["correct", 7, "--set", "x=y", "--why", "x"], 1, "[unknown-row]"),
    ],
)
def test_what_is_wrong_with_a_command(
    chengxin: Chengxin, arguments: list[object], code: int, word: str
) -> None:
    done = chengxin("quarantine", *arguments)
    assert done.returncode == code, done.stderr
    assert word in done.stderr.decode()


def test_killed_between_the_append_and_the_settling_it_is_recorded_once(
    chengxin: Chengxin,
    rows: tuple[object, ...],
    opened: Ledger,
    database: Database,
    tmp_path: Path,
    clock: Clock,
) -> None:
    chengxin(*rows)
    org = ("--org", "CN-REG-1", "--why", WHY)
    chengxin("quarantine", "correct", 1, "--set", f"code={given.PROVIDER}", *org)
    with psycopg.connect(database.conninfo, autocommit=True) as gate:
        # The settling waits for this lock, which nobody gives back before the process is dead.
        gate.execute("SET lock_timeout = 0")
        gate.execute("SELECT pg_advisory_lock(42)")
        gate.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " SET LOCAL lock_timeout = 0; PERFORM pg_advisory_lock(42); RETURN NEW; END $$"
        )
        gate.execute(
            "CREATE TRIGGER wait BEFORE UPDATE ON intake.rows FOR EACH ROW"
            " WHEN (NEW.state = 'accepted') EXECUTE FUNCTION wait()"
        )
        process = started(database, tmp_path / "keys", "quarantine", "accept", 1, *org)
        deadline = time.monotonic() + 60
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while gate.execute(waits).fetchone() == (0,):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert opened.head() == 4, "it was appended, after a record of access"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        gate.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        gate.execute("DROP TRIGGER wait ON intake.rows")
    with new_ledger(database, clock, tmp_path / "keys") as ledger:
        held = Quarantine(ledger).held(1)
    assert held is not None
    assert held.state == "waiting"
    for arguments in (("reject", 1), ("correct", 1, "--set", f"code={given.OTHER}")):
        refused = chengxin("quarantine", *arguments, *org)
        assert refused.returncode == 1
        assert b"[acceptance-begun]" in refused.stderr
    done = chengxin("quarantine", "accept", 1, *org)
    assert (done.returncode, done.stderr) == (0, b"Accepted, at 4.\n")
    assert opened.head() == 4
    events = [decode(row.state).data for row in opened.read(0, 10)]
    assert sum(isinstance(data, PenaltyImposed) for data in events) == 1
    steps = [step.what for step in Quarantine(opened).steps(1)]
    assert steps == ["quarantined", "corrected", "accepting", "accepting", "accepted"]


def test_before_it_is_migrated_an_import_says_what_to_run(
    chengxin: Chengxin, rows: tuple[object, ...], database: Database
) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA intake CASCADE")
    done = chengxin(*rows)
    assert done.returncode == 3
    assert b"run `chengxin migrate`" in done.stderr
