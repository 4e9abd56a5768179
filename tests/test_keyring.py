"""The file of vault keys: what a full disk, a killed process and a slow reader leave of it."""

from __future__ import annotations

import base64
import errno
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger.database import Database
from ledger.keyfile import key_file
from ledger.keyring import KEY_FILE, FileKeyring, Keyring
from ledger.store import Ledger
from ledger.vault_errors import PersonErased, VaultKeyMissing
from tests import given
from tests.conftest import Clock

STAGES = ("first epoch", "rotation", "destruction")


def prepared(folder: Path, stage: str) -> FileKeyring:
    """A keyring that stands before a stage."""
    keyring = FileKeyring(folder)
    if stage != "first epoch":
        keyring.begin(0, given.TODAY)
    if stage == "destruction":
        keyring.begin(1, given.TODAY)
        keyring.retire(1, given.TODAY)
    return keyring


def change(keyring: FileKeyring, stage: str) -> None:
    match stage:
        case "first epoch":
            keyring.begin(0, given.TODAY)
        case "rotation":
            keyring.begin(1, given.TODAY)
        case _:
            keyring.destroy(1, given.TODAY)


def unfinished(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir() if one.name.startswith(f".{KEY_FILE}.")]


def assert_same(one: FileKeyring, other: FileKeyring, folder: Path) -> None:
    """Both know what the file says, and what either wraps the other unwraps."""
    assert one.epochs() == other.epochs()
    for wraps, unwraps in ((one, other), (other, one)):
        epoch, [wrapped] = wraps.wrap([(given.CLIENT, bytes(32))])
        assert str(epoch) in orjson.loads((folder / KEY_FILE).read_bytes())["keys"]
        assert unwraps.unwrap(given.CLIENT, epoch, wrapped) == bytes(32)


# --- a disk that is full, or fails ---------------------------------------------------------------

FULL = """
import resource, sys
from pathlib import Path
from ledger.keyring import FileKeyring
from tests.test_keyring import assert_same, change, prepared, unfinished

folder, stage = Path(sys.argv[1]), sys.argv[2]
keyring, other = prepared(folder, stage), FileKeyring(folder)
before = keyring.epochs()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
for one in (keyring, other):
    try:
        change(one, stage)
    except OSError as error:
        assert "too large" in str(error), error
    else:
        raise AssertionError("there was room")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert unfinished(folder) == []
assert keyring.epochs() == other.epochs() == before
if before:
    assert_same(keyring, other, folder)
change(other, stage)
assert_same(keyring, other, folder)
print(len(keyring.epochs()))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_on_a_full_disk_nothing_changes_in_the_file_or_in_memory(
    stage: str, tmp_path: Path
) -> None:
    done = python(FULL, tmp_path / "keys", stage)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    assert int(out) == {"first epoch": 1, "rotation": 2, "destruction": 2}[stage]


def failing(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """From now on a call of the system fails."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    if what == "rename":
        monkeypatch.setattr(os, "rename", fail)
        monkeypatch.setattr(os, "replace", fail)
        return
    real, done = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        done[0] += 1
        if done[0] >= (1 if what == "fsync of the file" else 2):
            fail()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", ["fsync of the file", "rename", "fsync of the folder"])
def test_whatever_fails_no_key_is_in_use_that_is_in_no_file(
    what: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    keyring, other = prepared(folder, stage), FileKeyring(folder)
    before = keyring.epochs()
    with monkeypatch.context() as patch:
        failing(patch, what)
        with pytest.raises(OSError, match="the disk is gone"):
            change(keyring, stage)
    assert unfinished(folder) == []
    # The file was in place already when its name was to be made durable: both see it.
    assert (keyring.epochs() != before) == (what == "fsync of the folder")
    if keyring.epochs():
        assert_same(keyring, other, folder)
    for one in (other, keyring):
        change(one, stage)
    assert_same(keyring, other, folder)
    if stage == "destruction":
        assert list(orjson.loads((folder / KEY_FILE).read_bytes())["keys"]) == ["2"]


# --- a process that is killed --------------------------------------------------------------------

WRITING = """
import os, signal, sys
from datetime import date
from pathlib import Path
from ledger.keyring import FileKeyring

keyring = FileKeyring(Path(sys.argv[1]))
real = os.fsync

def fsync(descriptor):
    real(descriptor)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.readline()

os.fsync = fsync
keyring.begin(1, date(2026, 3, 2))
"""


def python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A real process."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A key folder in which a process was killed as it wrote the next epoch."""
    folder = tmp_path / "keys"
    prepared(folder, "rotation")
    done = python(WRITING, folder, "killed")
    done.communicate(timeout=60)
    assert done.returncode == -signal.SIGKILL
    [name] = unfinished(folder)
    assert list(orjson.loads((folder / name).read_bytes())["keys"]) == ["1", "2"]
    return folder


def test_what_a_killed_process_left_is_gone_at_the_next_start(left: Path) -> None:
    keyring = FileKeyring(left)
    assert unfinished(left) == []
    assert [one.number for one in keyring.epochs()] == [1]


def test_what_a_killed_process_left_is_gone_with_the_next_change(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keyring = prepared(folder, "rotation")
    python(WRITING, folder, "killed").communicate(timeout=60)
    assert len(unfinished(folder)) == 1
    keyring.begin(1, given.TODAY)
    keyring.retire(1, given.TODAY)
    keyring.destroy(1, given.TODAY)
    assert unfinished(folder) == []
    assert sorted(one.name for one in folder.iterdir()) == [".vault-keys.lock", KEY_FILE]


def test_what_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    prepared(folder, "rotation")
    writer = python(WRITING, folder, "slow")
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    assert len(unfinished(folder)) == 1
    keyring = FileKeyring(folder)
    assert len(unfinished(folder)) == 1
    assert [one.number for one in keyring.epochs()] == [1]
    _, err = writer.communicate(b"\n\n", timeout=60)
    assert (writer.returncode, err) == (0, b"")
    assert unfinished(folder) == []
    assert [one.number for one in keyring.epochs()] == [1, 2]


def test_every_other_key_file_is_swept_too(tmp_path: Path) -> None:
    (tmp_path / ".token.key.abcdefgh").write_bytes(b"half a key")
    (tmp_path / ".token.key.x").write_bytes(b"of somebody else")
    for _ in range(2):
        assert key_file(tmp_path / "token.key", lambda: b"a key") == b"a key"
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == [".token.key.x", ".token.lock", "token.key"]


# --- what others still remember ------------------------------------------------------------------


def destroyed(folder: Path) -> None:
    """Destroy the first epoch's key, as another process would."""
    other = FileKeyring(folder)
    other.begin(1, given.TODAY)
    other.retire(1, given.TODAY)
    other.destroy(1, given.TODAY)


def test_a_key_destroyed_elsewhere_opens_nothing_here(tmp_path: Path) -> None:
    keyring = prepared(tmp_path / "keys", "rotation")
    epoch, [wrapped] = keyring.wrap([(given.CLIENT, bytes(32))])
    assert keyring.unwrap(given.CLIENT, epoch, wrapped) == bytes(32)
    destroyed(tmp_path / "keys")
    with pytest.raises(VaultKeyMissing, match="epoch 1"):
        keyring.unwrap(given.CLIENT, epoch, wrapped)


def held(keyring: Keyring, key: bytes) -> bool:
    """Whether a key is in any object that is reached from a keyring."""
    seen: list[object] = [vars(keyring)]
    for one in seen:
        seen += [each for each in gc.get_referents(one) if isinstance(each, dict | list | bytes)]
    return key in seen


def test_a_reader_that_does_nothing_lets_go_of_it_too(
    database: Database, clock: Clock, tmp_path: Path
) -> None:
    keyring = prepared(tmp_path / "keys", "rotation")
    content = orjson.loads((tmp_path / "keys" / KEY_FILE).read_bytes())
    key = base64.b64decode(content["keys"]["1"])
    with Ledger(database, clock=clock, keyring=keyring) as ledger:
        ledger.vault.persons.let_go()
        assert held(keyring, key)
        destroyed(tmp_path / "keys")
        ledger.vault.persons.let_go()
        assert not held(keyring, key)


class Meanwhile(FileKeyring):
    """A keyring in which something happens after a key was read and before it is unwrapped."""

    happens: Callable[[], object] | None = None

    def unwrap(self, person: str, epoch: int, wrapped: bytes) -> bytes:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return super().unwrap(person, epoch, wrapped)


@pytest.mark.parametrize("told", ["the vault", "the log"])
def test_a_key_read_before_the_erasure_is_not_remembered_after_it(
    told: str, database: Database, clock: Clock, tmp_path: Path
) -> None:
    """Read, deleted, remembered: in this order, whoever deletes it."""
    keyring = Meanwhile(tmp_path / "keys")
    with Ledger(database, clock=clock, keyring=keyring) as ledger:
        persons = ledger.vault.persons
        persons.make_ready(drawn=1)
        with Ledger(database, clock=clock, keyring=keyring) as other:
            other.vault.persons.make_ready([given.CLIENT])
            # Told by the log, this process drops the key while the row may still be there.
            erase = ledger.vault.forget if told == "the vault" else persons.drop
            keyring.happens = lambda: erase(given.CLIENT)
            with pytest.raises(PersonErased, match=given.CLIENT):
                persons.make_ready([given.CLIENT])
        assert persons.take([given.CLIENT]) is None
