"""The command line as a process: what it prints where, in which language, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer.main

from api.cli import app
from api.exchange import FILE
from api.roles import ROLES
from api.security import Tokens
from ledger.database import Database
from ledger.envelope import decode
from ledger.store import Ledger, system_clock
from projections.runner import migrate_projections
from tests import given
from tests.conftest import Run

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from api.start import main; main()"]
CASE = {
    "facts": [],
    "rulebooks": [],
    "as_of": "2026-03-02",
}


def environment(**given: str) -> dict[str, str]:
    """The process's environment: ours, but for settings and locale."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHENGXIN_", "LC_", "LANG"))
    }
    wanted = ours | {"LC_ALL": "C.UTF-8"} | given
    return {name: value for name, value in wanted.items() if value}


Chengxin = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def chengxin(tmp_path: Path) -> Chengxin:
    """Runs the command line; settings may be given by name. Keys are in `tmp_path/keys`."""

    def run_command(
        *arguments: object, stdin: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        settings = {"CHENGXIN_KEY_DIR": str(tmp_path / "keys")} | settings
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env=environment(**settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run_command


@pytest.fixture
def on(database: Database) -> dict[str, str]:
    """The setting that names the test's database."""
    return {"CHENGXIN_DATABASE_URL": database.conninfo}


def case() -> str:
    """A valid case, as a line."""
    from ledger.rulebook import first_rulebook

    return orjson.dumps(CASE | {"rulebooks": [first_rulebook()["scoring"]]}).decode()


# --- Documentation -------------------------------------------------------------------------------


def test_every_command_and_option_is_documented_and_nothing_else_is() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert set(sections) == set(commands)
    leaves = {name: (name, command) for name, command in commands.items()}
    for name, group in commands.items():
        if hasattr(group, "commands"):
            del leaves[name]
            # `chengxin import FILE` is the one command of a group that is not written out.
            leaves |= {
                name if one == FILE else f"{name} {one}": (name, command)
                for one, command in group.commands.items()
            }
    for words, (name, command) in leaves.items():
        options = {
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--") and option != "--help"
        }
        usage = re.search(rf"`chengxin {words}( [^`]*)?`", sections[name])
        assert usage is not None, words
        assert set(re.findall(r"--[a-z-]+", usage[0])) == options, words
        assert command.help, words
        assert all(one.help for one in command.params if one.name != "help"), words


@pytest.mark.parametrize(
    ("locale", "word"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, "诚信账本"),
        ({"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, "诚信账本"),
        ({"LC_ALL": "", "LC_MESSAGES": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, "Chengxin Ledger"),
        ({"LC_ALL": "C.UTF-8"}, "Chengxin Ledger"),
    ],
)
def test_help_in_the_users_language(chengxin: Chengxin, locale: dict[str, str], word: str) -> None:
    done = chengxin("--help", **locale)
    assert done.returncode == 0
    assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "No such command"),
        (["token", "--role", "registrar"], "--org"),
        (["serve", "--port", "many"], "--port"),
        (["serve", "--port", "70000"], "chengxin: --port: "),
        (["serve", "--host", ""], "chengxin: --host: "),
        (["token", "--role", "king", "--org", "CN-X"], "the roles are registrar"),
        (["token", "--role", "provider", "--org", "91999999MA00TEXT00"], "should be H"),
        (["token", "--role", "auditor", "--org", "CN-X", "--ref", "me"], "UUID"),
        (["token", "--role", "auditor", "--org", "CN-X", "--hours", "-1"], "chengxin: --hours: "),
        (["score", "/nowhere"], "/nowhere"),
        (["import", "/nowhere", "--mapping", "/nowhere"], "/nowhere"),
        (["demo", "--providers", "200001"], "--providers"),
        (["demo", "--last", "2222-01-01"], "future"),
        (["tail"], "--token"),
        (["tail", "--url", "ftp://x", "--token", "x"], "no http or https URL"),
        (["open", "--name", "x", "--origin", "x", "--purpose", "fun"], "--purpose"),
        (["open", "--name", "x", "--origin", "X Y", "--purpose", "production"], "--origin"),
    ],
)
def test_wrong_usage_is_exit_code_2(chengxin: Chengxin, arguments: list[str], words: str) -> None:
    done = chengxin(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_exit_code_2(chengxin: Chengxin) -> None:
    told = chengxin("token", "--role", "auditor", "--org", "CN-X", CHENGXIN_TOKEN_HOURS="0")
    assert told.returncode == 2
    assert told.stderr.startswith("chengxin: CHENGXIN_TOKEN_HOURS: ")
    done = chengxin("migrate", CHENGXIN_LOG_LEVEL="loud")
    assert done.returncode == 2
    assert done.stderr.startswith("chengxin: CHENGXIN_LOG_LEVEL: ")


def test_the_command_that_is_installed_is_the_one_tested_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"chengxin": "api.start:main"}
    assert "from api.start import main" in COMMAND[-1]


def test_the_version_is_told(chengxin: Chengxin) -> None:
    from api.release import VERSION

    done = chengxin("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"chengxin {VERSION}\n", "")


@pytest.mark.parametrize("locale", ["C.UTF-8", "zh_CN.UTF-8"])
def test_help_lists_the_roles(chengxin: Chengxin, locale: str) -> None:
    told = chengxin("token", "--help", LC_ALL=locale).stdout
    assert set(ROLES) <= set(re.findall("[a-z_]+", told))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["token", "--role", "auditor", "--org", "审计"],
            "无法为角色 'auditor'、机构 '审计' 签发令牌：机构代码由 A-Z、0-9 与 - 组成，"
            "长 2 至 60 个字符",
        ),
        (["tail", "--url", "ftp://x", "--token", "x"], "'ftp://x' 不是 http 或 https 网址"),
    ],
)
def test_wrong_usage_in_chinese(chengxin: Chengxin, arguments: list[str], told: str) -> None:
    done = chengxin(*arguments, LC_ALL="zh_CN.UTF-8")
    assert (done.returncode, done.stderr) == (2, f"chengxin: {told}\n")


# --- score ---------------------------------------------------------------------------------------


def test_score_answers_each_line_and_goes_on_after_a_bad_one(chengxin: Chengxin) -> None:
    bad = ["no json", "[]", '{"facts": 1}', "\x00"]
    done = chengxin("score", "-", stdin="\n".join([case(), "", *bad, "   ", case()]))
    first, *errors, last = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert first == last
    assert (first["score"], first["grade"]) == ("80.00", "N")
    assert len(errors) == len(bad)
    assert all(list(error) == ["error"] and error["error"] for error in errors)


def test_score_of_the_worked_examples(chengxin: Chengxin) -> None:
    examples = orjson.loads((ROOT / "docs" / "scoring-examples.json").read_bytes())
    lines, wanted = [], []
    for example in examples["examples"]:
        rulebooks = [examples["rulebooks"][version] for version in example["rulebooks"]]
        for result in example["results"]:
            days = {name: result[name] for name in ("as_of", "known_at")}
            lines.append(orjson.dumps({"facts": example["facts"], "rulebooks": rulebooks} | days))
            wanted.append(result)
    done = chengxin("score", "-", stdin=b"\n".join(lines).decode())
    assert done.returncode == 0
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == wanted
    assert len(wanted) == 23


def test_score_answers_before_the_next_case_comes() -> None:
    with subprocess.Popen(
        [*COMMAND, "score", "-"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(case().encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], 30)
            assert ready, "no answer while the input is open"
            assert orjson.loads(process.stdout.readline())["score"] == "80.00"
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_reader_that_goes_away_is_no_error_of_ours(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(f"{case()}\n" * 3_000)
    with subprocess.Popen(
        [*COMMAND, "score", str(cases)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


# --- token ---------------------------------------------------------------------------------------


def test_a_token_is_what_was_asked_for(chengxin: Chengxin, tmp_path: Path) -> None:
    done = chengxin("token", "--role", "auditor", "--org", "CN-AUDIT-1", "--hours", "2")
    assert done.returncode == 0
    assert re.fullmatch("This token names no person, .* --person NAME\\.\n", done.stderr)
    tokens = Tokens(
        tmp_path / "keys", issuer="chengxin", audience="chengxin-ledger", clock=system_clock
    )
    claims = tokens.verify(done.stdout.strip())
    assert (claims.role, claims.organisation) == ("auditor", "CN-AUDIT-1")
    assert claims.expires - claims.term.not_before == 2 * 3600
    ref = "0198c7a0-0000-7000-8000-000000000009"
    told = orjson.loads(
        chengxin(
            "token", "--role", "provider", "--org", given.PROVIDER, "--ref", ref, "--json"
        ).stdout
    )
    assert (told["role"], told["organisation"], told["ref"]) == ("provider", given.PROVIDER, ref)
    assert tokens.verify(told["token"]).ref == ref


def test_keys_that_others_can_read_are_refused(chengxin: Chengxin, tmp_path: Path) -> None:
    assert chengxin("token", "--role", "auditor", "--org", "CN-X").returncode == 0
    (tmp_path / "keys").chmod(0o755)
    done = chengxin("token", "--role", "auditor", "--org", "CN-X")
    assert (done.returncode, done.stdout) == (2, "")
    assert "chmod 700" in done.stderr


def test_a_server_elsewhere_needs_a_key_folder_by_name(
    chengxin: Chengxin, on: dict[str, str]
) -> None:
    done = chengxin("token", "--role", "auditor", "--org", "CN-X", **on, CHENGXIN_KEY_DIR="")
    assert done.returncode == 2
    assert "CHENGXIN_KEY_DIR" in done.stderr


# --- open, migrate, demo -------------------------------------------------------------------------


def test_open_writes_the_first_event_once(
    chengxin: Chengxin, on: dict[str, str], ledger: Ledger
) -> None:
    arguments = [
        "open",
        "--name",
        "测试账本",
        "--origin",
        "test.example/a",
        "--purpose",
        "test-data",
    ]
    done = chengxin(*arguments, "--json", **on)
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["position"] == 1
    [first] = ledger.read(0, 10)
    assert '"name":"测试账本"' in first.state.decode()
    again = chengxin(*arguments, **on)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == (
        "chengxin: This database already holds the ledger '测试账本' (test-data), at position 1."
        " [ledger-already-opened]\n"
    )
    chinese = chengxin(*arguments, **on, LC_ALL="zh_CN.UTF-8")
    assert "该数据库已开立账本" in chinese.stderr


def test_open_with_a_rulebook_of_ones_own(
    chengxin: Chengxin, on: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "rulebook.json"
    arguments = ["open", "--name", "x", "--origin", "test.example/a", "--purpose", "production"]
    for content, code, word in (
        (b"{", 2, "rulebook.json"),
        (b"{}", 1, "[invalid-rulebook]"),
        (orjson.dumps(given.rulebook("RB-2030.1", "2024-01-01")), 0, "Opened x"),
    ):
        path.write_bytes(content)
        done = chengxin(*arguments, "--rulebook", path, **on)
        assert done.returncode == code, done.stderr
        assert word in done.stderr
    assert b"RB-2030.1" in ledger.read(0, 1)[0].state


def test_a_demonstration_opened_by_hand_can_be_filled(
    chengxin: Chengxin, on: dict[str, str], ledger: Ledger
) -> None:
    arguments = ["--name", "演示", "--origin", "test.example/a", "--purpose", "demonstration"]
    assert chengxin("open", *arguments, **on).returncode == 0
    done = chengxin("demo", "--providers", "4", "--json", **on)
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["position"] == ledger.head() > 50
    opened_at, last_at = (
        decode(ledger.read(position, 1)[0].state).time for position in (0, ledger.head() - 1)
    )
    assert opened_at is not None
    assert last_at is not None
    assert (last_at - opened_at).days > 1_000
    again = chengxin("demo", **on)
    assert again.returncode == 1
    assert "[ledger-not-empty]" in again.stderr


def test_migrate_tells_what_it_ran(chengxin: Chengxin, on: dict[str, str]) -> None:
    # The test's database is a migrated copy already, but for the projections.
    done = chengxin("migrate", "--json", **on)
    assert (done.returncode, orjson.loads(done.stdout)) == (0, {"migrations": []})


# --- Unavailable ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["migrate"], ["demo"], ["worker"]])
def test_a_database_that_is_away_is_exit_code_3(chengxin: Chengxin, command: list[str]) -> None:
    done = chengxin(
        *command, CHENGXIN_DATABASE_URL="postgresql://nobody@127.0.0.1:1/x?connect_timeout=1"
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_without_the_schema_is_told(chengxin: Chengxin, database: Database) -> None:
    bare = database.conninfo.replace(database.conninfo.split("dbname=")[1].split()[0], "postgres")
    done = chengxin("demo", CHENGXIN_DATABASE_URL=bare)
    assert done.returncode == 3
    assert "chengxin migrate" in done.stderr


def test_a_server_that_is_away_is_exit_code_3(chengxin: Chengxin) -> None:
    done = chengxin("tail", "--url", "http://127.0.0.1:1", "--token", "x")
    assert done.returncode == 3
    assert "http://127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(("locale", "language"), [("C.UTF-8", "en"), ("zh_CN.UTF-8", "zh-CN")])
def test_tail_asks_in_the_users_language_and_tells_the_code(
    chengxin: Chengxin, locale: str, language: str
) -> None:
    asked: list[tuple[str, str | None]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Accept-Language"]))
            ready = self.path == "/readyz"
            self.send_response(200 if ready else 403)
            self.end_headers()
            self.wfile.write(b'{"head": 7, "detail": "No.", "code": "not-allowed"}')

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = chengxin("tail", "--url", url, "--token", "x", LC_ALL=locale)
        server.shutdown()
    assert asked == [("/readyz", language), ("/v1/feed", language)]
    assert (done.returncode, done.stderr) == (1, "chengxin: 403: No. [not-allowed]\n")


# --- import --------------------------------------------------------------------------------------

ROWS = (
    "inspection_id,license,legal_name,inspection_date,results,critical_count,serious_count,"
    "minor_count\n"
    "1,7,INN,2013-01-01,Pass,0,0,1\n"
    "2,7,INN,2013-02-01,Closed,0,0,1\n"
    "3,0,INN,2013-02-01,Fail,0,1,1\n"
)


@pytest.fixture
def rows(tmp_path: Path) -> list[object]:
    """The arguments that import a small file with two bad rows."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return ["import", path, "--mapping", ROOT / "docs" / "imports" / "chicago.toml"]


@pytest.fixture
def test_data(ledger: Ledger, desk: Any, run: Run, on: dict[str, str]) -> dict[str, str]:
    """The setting that names a ledger for test data."""
    run(desk.open_ledger(given.opening(purpose="test-data"), given.REGISTRAR))
    return on


def test_import_tells_every_issue_and_what_became_of_the_rows(
    chengxin: Chengxin,
    rows: list[object],
    test_data: dict[str, str],
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    report = tmp_path / "issues.jsonl"
    rehearsed = chengxin(*rows, "--dry-run", "--json", **test_data)
    assert ledger.head() == 1
    done = chengxin(*rows, "--json", "--report", report, **test_data)
    assert done.returncode == rehearsed.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "rows.csv:3: result: 'Closed' is not in the value table, which has 'Pass',"
        " 'Pass w/ Conditions', 'Fail' [not-in-table]",
        "rows.csv:4: identifier: there is no value [missing]",
    ]
    tally = orjson.loads(done.stdout)
    assert (tally["rows"], tally["recorded"], tally["refused"]) == (3, 1, 2)
    assert orjson.loads(rehearsed.stdout) == tally | {"dry_run": True}
    assert [orjson.loads(line) for line in report.read_bytes().splitlines()] == [
        {
            "line": 3,
            "field": "result",
            "code": "not-in-table",
            "reason": "'Closed' is not in the value table, which has 'Pass',"
            " 'Pass w/ Conditions', 'Fail'",
            "reason_zh": "'Closed' 不在取值表中，表中有：'Pass', 'Pass w/ Conditions', 'Fail'",
            "state": "refused",
            "quarantine": None,
        },
        {
            "line": 4,
            "field": "identifier",
            "code": "missing",
            "reason": "there is no value",
            "reason_zh": "没有取值",
            "state": "refused",
            "quarantine": None,
        },
    ]
    assert ledger.head() == 3
    chinese = chengxin(*rows, **test_data, LC_ALL="zh_CN.UTF-8")
    assert "rows.csv:4: identifier: 没有取值 [missing]" in chinese.stderr
    assert chinese.stdout == ""


def test_import_into_the_wrong_ledger(
    chengxin: Chengxin, rows: list[object], opened: Ledger, on: dict[str, str]
) -> None:
    done = chengxin(*rows, **on)
    assert done.returncode == 1
    assert "[wrong-purpose]" in done.stderr
    assert opened.head() == 1


def test_import_into_no_ledger(chengxin: Chengxin, rows: list[object], on: dict[str, str]) -> None:
    done = chengxin(*rows, **on)
    assert done.returncode == 3
    assert "[ledger-not-opened]" in done.stderr


@pytest.mark.parametrize("org", ["abc", "审计", ""])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_import_by_what_is_no_organisation(
    chengxin: Chengxin, rows: list[object], test_data: dict[str, str], org: str, more: list[str]
) -> None:
    done = chengxin(*rows, *more, "--org", org, **test_data)
    assert done.returncode == 2
    assert done.stderr == (
        f"chengxin: --org {org!r}: an organisation is written in A-Z, 0-9 and -,"
        " 2 to 60 characters\n"
    )


def test_import_with_a_report_that_cannot_be_written(
    chengxin: Chengxin, rows: list[object], test_data: dict[str, str], ledger: Ledger
) -> None:
    done = chengxin(*rows, "--report", "/proc/x/y", **test_data)
    assert done.returncode == 2
    assert done.stderr == "chengxin: --report /proc/x/y: No such file or directory\n"
    assert ledger.head() == 1


def test_the_summary_of_an_import_as_each_language_writes_it(
    chengxin: Chengxin, rows: list[object], test_data: dict[str, str]
) -> None:
    chinese = chengxin(*rows, "--dry-run", **test_data, LC_ALL="zh_CN.UTF-8").stderr
    assert chinese.splitlines()[-1].startswith(
        "3 行，1 行将记录，1 个新主体，0 行此前已记录，0 行在文件中重复，0 行跳过，0 行将转入待核，"
        "2 行被拒绝（"
    )
    assert re.search(r"（[0-9.]+ 秒，[0-9,]+ 行/秒）$", chinese)
    english = chengxin(*rows, **test_data).stderr
    assert "3 rows, 1 recorded, 1 subject new, 0 recorded before, " in english
    assert "0 subjects new, 1 recorded before" in chengxin(*rows, **test_data).stderr


@pytest.mark.parametrize(
    ("content", "code", "word", "chinese"),
    [
        ("", 1, "the file is empty", "文件为空"),
        ("a,a\n1,2\n", 1, "stands there twice: 'a'", "第 1 行：列名重复：'a'"),
        (
            "a,results,b\n1,2,3\n",
            2,
            "the file has no column 'inspection_date' (it has: a, results, b)",
            "文件中没有列 'inspection_date'（文件中的列：a, results, b）；文件中没有列",
        ),
        (
            "result\n1\n",
            2,
            "'results' (did you mean 'result'?)",
            "'results'（是否应为 'result'？）",
        ),
    ],
)
def test_import_of_a_file_that_does_not_fit(
    chengxin: Chengxin,
    rows: list[object],
    test_data: dict[str, str],
    content: str,
    code: int,
    word: str,
    chinese: str,
) -> None:
    Path(str(rows[1])).write_text(content)
    for locale, told in (("C.UTF-8", word), ("zh_CN.UTF-8", chinese)):
        done = chengxin(*rows, **test_data, LC_ALL=locale)
        assert done.returncode == code
        assert told in done.stderr


def test_a_bar_on_a_terminal_only_and_colours_only_where_they_are_wanted(
    rows: list[object], test_data: dict[str, str], chengxin: Chengxin, tmp_path: Path
) -> None:
    assert "\x1b" not in chengxin(*rows, **test_data).stderr

    def on_a_terminal(**settings: str) -> str:
        master, slave = pty.openpty()
        keys = {"CHENGXIN_KEY_DIR": str(tmp_path / "keys"), "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [*COMMAND, *map(str, rows)],
            cwd=ROOT,
            env=environment(**test_data, **keys, **settings),
            stdout=subprocess.DEVNULL,
            stderr=slave,
        )
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:  # how a terminal says that nobody writes any more
            pass
        os.close(master)
        assert process.wait(30) == 1
        return shown.decode()

    colour = re.compile("\x1b\\[[0-9;]*m")
    with_colours, without = on_a_terminal(), on_a_terminal(NO_COLOR="1")
    assert "rows.csv" in with_colours
    assert {one for one in colour.findall(with_colours) if one != "\x1b[0m"}
    assert "━" in without
    assert not [one for one in colour.findall(without) if re.search("3[0-9]", one)]


def test_a_form_needs_no_mapping_and_goes_out_as_it_came_in(
    chengxin: Chengxin,
    test_data: dict[str, str],
    database: Database,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    migrate_projections(database)
    source = ROOT / "tests" / "data" / "shuanggongshi-licence.csv"
    rehearsed = chengxin("import", source, "--dry-run", "--json", **test_data)
    assert ledger.head() == 1
    done = chengxin("import", source, "--json", **test_data)
    tally = orjson.loads(done.stdout)
    assert orjson.loads(rehearsed.stdout) == tally | {"dry_run": True}
    assert (tally["rows"], tally["recorded"], tally["quarantined"], tally["refused"]) == (
        13,
        8,
        2,
        3,
    )
    assert ": XK_LYDW: exchanged with XK_LYDWDM" in done.stderr
    assert "孙某某" not in done.stderr
    written = tmp_path / "licences.csv"
    for arguments in ((), ("--all",), ("--encoding", "gb18030")):
        told = chengxin(
            "export", "shuanggongshi", "--kind", "licence", "-o", written, *arguments, **test_data
        )
        assert told.returncode == 0, told.stderr
        assert "7 rows written" in told.stderr or "8 rows written" in told.stderr
    assert written.read_bytes().decode("gb18030").startswith("XK_XDR_MC,")
    assert [path.name for path in tmp_path.glob("licences*")] == ["licences.csv"]
    again = chengxin("export", "shuanggongshi", "--kind", "licence", **test_data)
    assert again.stdout.startswith("\ufeffXK_XDR_MC,")
    other = chengxin("import", tmp_path / "keys", **test_data)
    assert other.returncode == 2


def test_a_file_of_no_known_form_asks_for_its_mapping(
    chengxin: Chengxin, rows: list[object], test_data: dict[str, str]
) -> None:
    done = chengxin(*rows[:2], **test_data)
    assert done.returncode == 2
    assert "name its --mapping, or say --format jsonl" in done.stderr


def test_an_export_that_cannot_be_written_leaves_nothing(
    chengxin: Chengxin, test_data: dict[str, str], database: Database, tmp_path: Path
) -> None:
    migrate_projections(database)
    done = chengxin("export", "shuanggongshi", "-o", tmp_path / "no" / "x.csv", **test_data)
    assert done.returncode == 1
    assert "No such file" in done.stderr
