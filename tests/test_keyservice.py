"""The vault over another keyring than the file: a service in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import typer

from api.options import keyring_of
from api.settings import Settings
from ledger.database import Database
from ledger.errors import Unavailable
from ledger.handle import Desk
from ledger.keyring import KEY_FILE
from ledger.marks import Marks, fields
from ledger.store import Ledger
from ledger.vault_errors import VaultKeyMissing
from tests import given, keyservice
from tests.conftest import Clock, Record, Run
from tests.serving import wait_until
from tests.test_cli import Chengxin, chengxin
from tests.test_vault import NAME, all_rows, complaint, person_of, rotate, texts_of

__all__ = ["chengxin"]

NAMED = "tests.keyservice:connect"


@contextmanager
def service(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real process that keeps the keys."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / keyservice.SOCKET).unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.keyservice", str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent) as process:
        try:
            wait_until((folder / keyservice.SOCKET).exists)
            yield process
        finally:
            process.kill()


@pytest.fixture
def keys() -> Iterator[Path]:
    # Not tmp_path: the name of a socket has a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="chengxin-", dir="/tmp") as folder:
        yield Path(folder) / "keys"


@pytest.fixture
def ledger(database: Database, clock: Clock, keys: Path) -> Iterator[Ledger]:
    """A ledger whose keys are kept by the service."""
    settings = Settings(key_dir=keys, keyring=NAMED)
    with service(keys), Ledger(database, clock=clock, keyring=keyring_of(settings)) as ledger:
        yield ledger


def test_the_vault_works_over_a_service_through_a_rotation_to_the_erasure(
    opened: Ledger, record: Record, database: Database, keys: Path
) -> None:
    record(given.register())
    receipt = record(complaint())
    person, client = person_of(opened, receipt), opened.vault.reference("client", "p", "某店")
    marks = Marks(opened)
    while marks.follow():
        pass
    query = "SELECT epoch, wrapped FROM :schema_vault.:app_persons WHERE person = %s"
    [old] = all_rows(database, query, person)
    for _ in range(2):
        assert len(texts_of(opened, receipt)) == 2
        assert marks.find(NAME, fields()).persons == [person]
        assert opened.vault.reference("client", "p", "某店") == client
        rotate(opened)
    keyring = opened.vault.persons.keyring
    assert opened.vault.persons.destroy(1)
    assert [one.destroyed_on for one in keyring.epochs()] == [given.TODAY, None, None]
    with pytest.raises(VaultKeyMissing, match="epoch 1"):
        keyring.unwrap(person, *old)
    assert len(texts_of(opened, receipt)) == 2
    opened.vault.forget(person)
    assert texts_of(opened, receipt) == {}
    assert marks.find(NAME, fields()).persons == []
    assert not (keys / KEY_FILE).exists()
    assert (keys / "service" / KEY_FILE).exists()


def test_while_the_service_is_away_only_what_is_sealed_waits(
    database: Database, clock: Clock, keys: Path, run: Run
) -> None:
    keyring = keyring_of(Settings(key_dir=keys, keyring=NAMED))
    with Ledger(database, clock=clock, keyring=keyring) as ledger:
        desk = Desk(ledger)
        run(desk.open_ledger(given.opening(), given.REGISTRAR))
        run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
        with pytest.raises(Unavailable):
            run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR))
        with service(keys):
            receipt = run(desk.record(given.PROVIDER, complaint(), given.REGISTRAR))
        run(desk.record(given.PROVIDER, given.complaint(), given.REGISTRAR))
        for asks in (
            lambda: texts_of(ledger, receipt),
            lambda: ledger.vault.reference("client", "p", "某店"),
            lambda: Marks(ledger).find(NAME, fields()),
        ):
            with pytest.raises(Unavailable):
                asks()
        assert ledger.head() == 4
        with service(keys):
            assert len(texts_of(ledger, receipt)) == 2
            assert ledger.vault.reference("client", "p", "某店")


def test_a_command_uses_the_keyring_that_is_named(
    opened: Ledger, record: Record, database: Database, keys: Path, chengxin: Chengxin
) -> None:
    record(given.register())
    receipt = record(complaint())
    on = {
        "CHENGXIN_DATABASE_URL": database.conninfo,
        "CHENGXIN_KEY_DIR": str(keys),
        "CHENGXIN_KEYRING": NAMED,
    }
    done = chengxin("key", "rotate", "--json", **on)
    assert done.returncode == 0, done.stderr
    first, second = orjson.loads(done.stdout)["epochs"]
    assert (first["keys"], second["epoch"]) == (0, 2)
    assert second["keys"] > 0
    assert len(texts_of(opened, receipt)) == 2
    assert not (keys / KEY_FILE).exists()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("no.such.module:connect", "No module named 'no'"),
        ("tests.keyservice:absent", "no attribute 'absent'"),
        ("tests.keyservice:nothing", "is no keyring"),
    ],
)
def test_a_keyring_that_is_none_ends_the_command(
    named: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        keyring_of(Settings(key_dir=tmp_path, keyring=named))
    assert ended.value.exit_code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("named", ["keyservice", "a:b:c", "a-b:c", "os;x:y"])
def test_what_is_no_name_of_a_keyring_is_refused(named: str) -> None:
    with pytest.raises(ValueError, match="keyring"):
        Settings(keyring=named)
