"""`chengxin erase` and `chengxin person`, as processes; and what a start makes of what was left."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from ledger.database import Database
from ledger.dossier import Dossiers
from ledger.handle import Desk
from ledger.store import Ledger, system_clock
from projections.runner import migrate_projections
from tests import given
from tests.conftest import Run, new_ledger
from tests.serving import wait_until
from tests.test_cli import COMMAND, ROOT, Chengxin, chengxin, environment
from tests.test_erasing import STRANGER, assert_nothing_is_left, killed
from tests.test_vault import CONTACT, NAME, complaint, person_of

__all__ = ["chengxin"]

REF = "0198c7a0-0000-7000-8000-00000000000b"


@pytest.fixture
def ledger(database: Database, tmp_path: Path, run: Run) -> Iterator[Ledger]:
    """An opened ledger with the keys of the command line."""
    migrate_projections(database)
    with new_ledger(database, system_clock, tmp_path / "keys") as ledger:
        run(Desk(ledger).open_ledger(given.opening(), given.REGISTRAR))
        yield ledger


@pytest.fixture
def person(ledger: Ledger, run: Run) -> str:
    desk = Desk(ledger)
    run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
    return person_of(ledger, run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR)))


def test_found_copied_erased(
    chengxin: Chengxin, ledger: Ledger, person: str, tmp_path: Path
) -> None:
    url = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo, "CHENGXIN_REF": REF}
    for arguments, stdin in ((["--field", "name", NAME], ""), ([], f"{CONTACT}\n")):
        found = chengxin("person", "find", *arguments, stdin=stdin, **url)
        assert (found.returncode, found.stdout, found.stderr) == (0, f"{person}\n", "1 found.\n")
    assert json.loads(chengxin("person", "find", "王某", "--json", **url).stdout)["persons"] == []

    file = tmp_path / "copy.json"
    made = chengxin("person", "copy", person, "--output", file, **url)
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert {one["text"] for one in json.loads(file.read_bytes())["texts"]} == {NAME, CONTACT}
    again = chengxin("person", "copy", person, "--output", file, **url)
    assert (again.returncode, again.stderr) == (1, f"chengxin: {file} is there already\n")

    shown = chengxin("person", "show", person, **url)
    assert shown.stdout == "Nothing was erased; no request is open.\n"
    order = ["erase", person.upper(), "--ground", "CONSENT_WITHDRAWN", "--document", "PIPL-1"]
    zh = {"LC_ALL": "zh_CN.UTF-8"}
    first = chengxin(*order, **url | zh)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("已于 ")
    assert (
        "起，任何备份中的相关内容也无法再解密。\n  complaint_outcome.recorded.v1  1\n"
        in first.stdout
    )
    assert chengxin(*order, **url | zh).stdout == first.stdout
    assert_nothing_is_left(ledger, person)
    told = json.loads(chengxin("person", "show", person, "--json", **url).stdout)
    assert (told["state"], told["ground"]["code"]) == ("erased", "CONSENT_WITHDRAWN")


def test_what_is_refused(chengxin: Chengxin, ledger: Ledger, person: str) -> None:
    url = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo, "CHENGXIN_REF": REF}
    ground = ["--ground", "CONSENT_WITHDRAWN"]
    for arguments, code, words in (
        (["erase", STRANGER, *ground], 1, "[unknown-person]"),
        (["erase", person, "--ground", "BECAUSE"], 1, "[code-not-in-force]"),
        (["erase", person, "--ground", "because"], 2, "--ground: String should match"),
        (["erase", person, *ground, "--document", "张某"], 2, "--document: String should match"),
        (["erase", "nobody", *ground], 2, "nobody is no reference (UUID)"),
        (["erase", person, *ground, "--ref", "me"], 2, "--ref 'me' is no UUID"),
        (["person", "release", person, "--ground", "DUTY_ENDED"], 1, "[person-not-held]"),
        (["person", "find", NAME, "--field", "salary"], 2, "--field is one of client, contact"),
    ):
        done = chengxin(*arguments, **url)
        assert (done.returncode, words in done.stderr) == (code, True), (arguments, done.stderr)
        assert NAME not in done.stderr
    done = chengxin("erase", person, *ground, **url | {"CHENGXIN_KEY_DIR": ""})
    assert (done.returncode, "CHENGXIN_KEY_DIR" in done.stderr) == (2, True)


@pytest.mark.parametrize("step", ["after the line", "after the event"])
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_what_a_killed_process_has_left_is_finished_at_the_start(
    step: str, command: str, ledger: Ledger, person: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC).isoformat()
    killed(ledger, tmp_path / "keys", person, step, day=now)
    assert Dossiers(ledger.vault).tombstone(person) is None
    settings = {
        "CHENGXIN_DATABASE_URL": ledger.database.conninfo,
        "CHENGXIN_KEY_DIR": str(tmp_path / "keys"),
        "CHENGXIN_PORT": "0",
    }
    arguments = [command, "--no-worker"] if command == "serve" else [command]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if command == "serve":
                # By the time it can be asked at all, it is done.
                assert process.stdout is not None
                line = next(one for one in process.stdout if "URL=http://127.0.0.1:" in one)
                address = line.partition("URL=")[2].strip()
                assert httpx2.get(f"{address}/healthz").status_code == 200
            else:
                wait_until(lambda: Dossiers(ledger.vault).tombstone(person) is not None, 30)
            assert_nothing_is_left(ledger, person)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0
