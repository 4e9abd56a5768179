"""When keys are changed and destroyed: by day, by the worker, and by `chengxin key`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import orjson
import pytest

from api.worker import look_after_keys
from ledger.database import Database
from ledger.keyring import Epoch, FileKeyring
from ledger.rotation import Terms, last_key_dies_on, steps_due
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.test_cli import Chengxin, chengxin
from tests.test_vault import complaint, texts_of

__all__ = ["chengxin"]

TERMS = Terms(epoch_days=90, backup_days=30)
DAY = given.TODAY


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The folder that `chengxin` is given too."""
    return tmp_path / "keys"


@pytest.fixture
def ledger(database: Database, clock: Clock, keys: Path) -> Iterator[Ledger]:
    """A ledger whose vault keys are its own."""
    with new_ledger(database, clock, keys) as ledger:
        yield ledger


def go(ledger: Ledger, today: date) -> int:
    """Do what is due on a day; how many steps."""
    done = 0
    for step in steps_due(ledger.vault, TERMS, today):
        step()
        done += 1
    return done


def epochs(ledger: Ledger) -> list[tuple[int, date | None, date | None]]:
    return [
        (one.number, one.retired_on, one.destroyed_on)
        for one in ledger.vault.persons.keyring.epochs()
    ]


def test_the_days_of_an_epoch() -> None:
    used = Epoch(1, date(2026, 1, 1))
    assert TERMS.ends_on(used) == date(2026, 4, 1)
    assert TERMS.dies_on(used) == date(2026, 5, 2)
    assert TERMS.dies_on(Epoch(1, date(2026, 1, 1), date(2026, 2, 1))) == date(2026, 3, 4)


def test_the_day_from_which_no_backup_opens_anything_of_the_erased() -> None:
    def told(epochs: list[Epoch], today: date = date(2026, 3, 2)) -> date | None:
        return last_key_dies_on(epochs, TERMS, erased_on=date(2026, 3, 2), today=today)

    assert told([]) is None
    first = Epoch(1, date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 8))
    second, third = Epoch(2, date(2026, 2, 1), date(2026, 3, 1)), Epoch(3, date(2026, 3, 1))
    assert told([first]) == date(2026, 3, 8)
    assert told([first, second]) == date(2026, 4, 1)
    assert told([first, second, third]) == date(2026, 6, 30)
    # A key that was begun later has never wrapped anything of who was gone by then.
    assert told([first, second, Epoch(3, date(2026, 3, 3))]) == date(2026, 4, 1)
    # The last epoch may be the shorter-lived: keys are wrapped anew while the old one is not over.
    assert told([Epoch(1, date(2026, 3, 1)), Epoch(2, date(2026, 3, 2), date(2026, 3, 2))]) == date(
        2026, 6, 30
    )
    # Where nobody has rotated or destroyed when it was due, nothing is over yet.
    late = date(2026, 9, 1)
    assert told([third], late) == date(2026, 10, 2)
    assert told([second], late) == late
    assert told([first, second], late) == late
    assert told([first], late) == date(2026, 3, 8)


def test_nothing_is_done_before_a_key_was_made_or_is_over(ledger: Ledger, clock: Clock) -> None:
    assert go(ledger, DAY) == 0
    ledger.vault.persons.make_ready(drawn=1)
    assert go(ledger, DAY + timedelta(days=89)) == 0
    assert [one.number for one in ledger.vault.persons.keyring.epochs()] == [1]


def test_an_epoch_ends_its_key_is_kept_for_backups_and_then_destroyed(
    opened: Ledger, record: Record, clock: Clock, keys: Path
) -> None:
    record(given.register())
    receipt = record(complaint())
    clock.advance(days=90)
    over = DAY + timedelta(days=90)
    go(opened, over)
    assert epochs(opened) == [(1, over, None), (2, None, None)]
    assert set(opened.vault.persons.wrapped()) == {2}
    clock.advance(days=30)
    go(opened, over + timedelta(days=30))
    assert epochs(opened)[0] == (1, over, None), "a backup of that day may still need it"
    clock.advance(days=1)
    go(opened, over + timedelta(days=31))
    assert epochs(opened)[0] == (1, over, over + timedelta(days=31))
    assert set(orjson.loads((keys / "vault-keys.json").read_bytes())["keys"]) == {"2"}
    assert len(texts_of(opened, receipt)) == 2


@pytest.mark.parametrize("done", range(4))
def test_interrupted_after_any_step_the_next_turn_completes_it(
    opened: Ledger, record: Record, clock: Clock, done: int
) -> None:
    record(given.register())
    receipt = record(complaint())
    clock.advance(days=90)
    over = DAY + timedelta(days=90)
    for _, step in zip(range(done), steps_due(opened.vault, TERMS, over), strict=False):
        step()
    go(opened, over)
    assert epochs(opened) == [(1, over, None), (2, None, None)]
    assert set(opened.vault.persons.wrapped()) == {2}
    assert len(texts_of(opened, receipt)) == 2


def test_the_worker_does_it(opened: Ledger, record: Record, clock: Clock, run: Run) -> None:
    record(given.register())
    record(complaint())
    assert run(look_after_keys(opened.vault, TERMS, DAY)) == 0
    clock.advance(days=100)
    assert run(look_after_keys(opened.vault, TERMS, DAY + timedelta(days=100))) >= 3
    assert [one[0] for one in epochs(opened)] == [1, 2]


def told(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = orjson.loads(done.stdout)["epochs"]
    return found


def test_an_operator_sees_the_keys_and_changes_them(
    opened: Ledger, record: Record, database: Database, chengxin: Chengxin
) -> None:
    on = {"CHENGXIN_DATABASE_URL": database.conninfo}
    none = chengxin("key", "status", **on)
    assert (none.returncode, none.stdout) == (0, "")
    assert "there is no key" in none.stderr
    assert chengxin("key", "rotate", **on).returncode == 1
    record(given.register())
    receipt = record(complaint())
    (one,) = told(chengxin("key", "status", "--json", **on))
    assert (one["epoch"], one["made_on"], one["retired_on"]) == (1, DAY.isoformat(), None)
    first, second = told(chengxin("key", "rotate", "--json", **on))
    assert (first["keys"], second["epoch"], second["keys"]) == (0, 2, one["keys"])
    assert first["retired_on"] == second["made_on"]
    shown = chengxin("key", "status", **on).stdout.splitlines()
    assert shown[0].startswith(f"epoch 1: made {DAY}, 0 keys left; kept for backups, destroyed")
    assert "epoch 2: in use since" in shown[1]
    chinese = chengxin("key", "status", LC_ALL="zh_CN.UTF-8", **on).stdout
    assert "第 2 期：" in chinese
    # The process that served meanwhile goes on.
    assert len(texts_of(opened, receipt)) == 2
    assert len(texts_of(opened, record(complaint()))) == 2


def test_without_a_folder_of_keys_there_is_nothing_to_show(
    database: Database, chengxin: Chengxin
) -> None:
    done = chengxin("key", "status", CHENGXIN_DATABASE_URL=database.conninfo, CHENGXIN_KEY_DIR="")
    assert done.returncode == 2
    assert "CHENGXIN_KEY_DIR" in done.stderr


def test_two_processes_begin_one_epoch(keys: Path) -> None:
    one, other = FileKeyring(keys), FileKeyring(keys)
    for keyring in (one, other):
        keyring.begin(0, DAY)
    assert [epoch.number for epoch in one.epochs()] == [1]
    assert one.wrap([(given.CLIENT, bytes(32))])[0] == other.wrap([(given.CLIENT, bytes(32))])[0]
    for texts in (["a", "b"], ["ab", ""]):
        assert one.lookup([texts]) == other.lookup([texts])
        assert one.trace([texts])[1][0].digest in other.lookup([texts])[1]
    assert one.lookup([["a", "b"]]) != one.lookup([["ab", ""]])
