"""Traces: one reference for one text however keys rotate, and nothing to search in old copies."""

from __future__ import annotations

import base64
import hmac
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.storage import migrate_references
from ledger import traces
from ledger.database import Database, migrate
from ledger.dossier import Dossiers
from ledger.keyring import KEY_FILE, FileKeyring
from ledger.marks import KIND, Marks, alike, fields
from ledger.rotation import Terms, steps_due
from ledger.store import Ledger
from ledger.trace import Trace, Tracer, inner_digest
from ledger.vault_errors import SealingOff, VaultKeyMissing
from tests import given
from tests.conftest import Clock, Record, new_ledger
from tests.serving import wait_until
from tests.test_database import OURS
from tests.test_erasing import copied
from tests.test_keyring import python
from tests.test_vault import (
    CONTACT,
    NAME,
    all_rows,
    complaint,
    person_of,
    rotate,
    whole_database,
)

CLIENT = ("client", given.PROVIDER, "某某餐饮店")
REFERENCES = "SELECT epoch, person::text FROM :schema_vault.:app_references ORDER BY 1, 2"
MARKS = "SELECT DISTINCT epoch, person::text FROM :schema_vault.:app_marks"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ledger(database: Database, clock: Clock, keys: Path) -> Iterator[Ledger]:
    """A ledger whose vault keys are its own."""
    with new_ledger(database, clock, keys) as ledger:
        yield ledger


def mark(ledger: Ledger) -> Marks:
    marks = Marks(ledger)
    while marks.follow():
        pass
    return marks


def key_of_all(keys: Path) -> bytes:
    return base64.b64decode(orjson.loads((keys / KEY_FILE).read_bytes())["digests"])


def test_a_trace_is_what_is_described() -> None:
    key, inner = bytes(range(32)), inner_digest(b"k" * 32, ["某", "b"])
    assert inner == hmac.digest(b"k" * 32, "3:某1:b".encode(), "sha256")
    both = hmac.digest(key, b"chengxin trace\x01", "sha512")
    trace = Tracer(7, key).trace(inner, b"n" * 12)
    box = AESGCM(both[32:]).encrypt(b"n" * 12, inner, b"trace|7")
    assert trace == Trace(hmac.digest(both[:32], inner, "sha256"), b"n" * 12 + box)
    assert Tracer(7, key).open(trace.box) == inner
    for other in (Tracer(8, key), Tracer(7, bytes(32))):
        with pytest.raises(ValueError, match="not a box"):
            other.open(trace.box)
    with pytest.raises(ValueError, match="not a box"):
        Tracer(7, key).open(b"short")


def test_after_a_rotation_everything_is_found_by_traces_of_the_new_epoch(
    opened: Ledger, record: Record, database: Database, keys: Path
) -> None:
    record(given.register())
    person = person_of(opened, record(complaint()))
    marks, client = mark(opened), opened.vault.reference(*CLIENT)
    before = all_rows(database, "SELECT digest FROM :schema_vault.:app_references")
    rotate(opened)
    assert all_rows(database, REFERENCES) == [(2, client)]
    assert all_rows(database, MARKS) == [(2, person)]
    assert all_rows(database, "SELECT digest FROM :schema_vault.:app_references") != before
    assert opened.vault.persons.destroy(1)
    assert opened.vault.reference(*CLIENT) == client
    assert marks.find(NAME, fields()).persons == [person]
    # What leads from one epoch to the next is in no table.
    inner = [inner_digest(key_of_all(keys), CLIENT)]
    inner += [inner_digest(key_of_all(keys), [KIND, name, alike(NAME)]) for name in fields()]
    whole = whole_database(database)
    assert not any(one in whole or one.hex().encode() in whole for one in inner)


def test_a_key_by_which_something_is_found_is_not_destroyed(
    ledger: Ledger, database: Database
) -> None:
    ledger.vault.reference(*CLIENT)
    persons = ledger.vault.persons
    persons.keyring.begin(1, given.TODAY)
    while persons.rewrap():
        pass
    assert set(persons.wrapped()) == {2}
    assert not persons.retire(1)
    assert not persons.destroy(1)
    rotate(ledger)
    assert persons.destroy(1)


# --- one text has one reference ------------------------------------------------------------------


def test_sixteen_at_once_get_one_reference_for_one_text_while_keys_rotate(
    ledger: Ledger, database: Database, clock: Clock, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "BATCH_TRACES", 3)
    monkeypatch.setattr(traces, "TRY_SECONDS", 0.001)
    texts, done = [f"店{n}" for n in range(40)], threading.Event()
    at_once = threading.Barrier(16)

    def ask(n: int) -> list[str]:
        found = []
        for text in texts:
            at_once.wait(30)
            found.append((ledger, other)[n % 2].vault.reference("client", "p", text))
        return found

    def turn_keys() -> int:
        turns = 0
        while not done.is_set():
            rotate(third)
            turns += 1
            newest = third.vault.persons.keyring.epochs()[-1].number
            third.vault.persons.destroy(newest - 1)
        return turns

    with (
        new_ledger(database, clock, keys) as other,
        new_ledger(database, clock, keys) as third,
        ThreadPoolExecutor(17) as pool,
    ):
        ledger.vault.reference("client", "p", "the first")
        turning = pool.submit(turn_keys)
        answers = [pool.submit(ask, n) for n in range(16)]
        try:
            found = {tuple(one.result()) for one in answers}
        finally:
            done.set()
        assert turning.result() > 1
        rotate(third)
    assert len(found) == 1, "somebody got another one"
    [references] = found
    assert len(set(references)) == len(texts)
    rows = all_rows(database, REFERENCES)
    assert len(rows) == len(texts) + 1
    assert set(references) < {person for _, person in rows}
    assert len({epoch for epoch, _ in rows}) == 1
    assert [ledger.vault.reference("client", "p", text) for text in texts] == list(references)


class Meanwhile(FileKeyring):
    """A keyring whose user is held up after it asked what to look for, or how to move rows."""

    after_lookup: Callable[[], object] | None = None
    after_trace: Callable[[], object] | None = None
    before_retrace: Callable[[], object] | None = None

    def lookup(self, sought: Any) -> tuple[int, list[bytes]]:
        answer = super().lookup(sought)
        happens, self.after_lookup = self.after_lookup, None
        if happens is not None:
            happens()
        return answer

    def trace(self, found: Any) -> tuple[int, list[Trace]]:
        answer = super().trace(found)
        happens, self.after_trace = self.after_trace, None
        if happens is not None:
            happens()
        return answer

    def retrace(self, boxes: Any) -> tuple[int, list[Trace]]:
        happens, self.before_retrace = self.before_retrace, None
        if happens is not None:
            happens()
        return super().retrace(boxes)


def move_all(ledger: Ledger) -> None:
    for step in steps_due(ledger.vault, Terms(90, 30), given.TODAY):
        # Whoever is held up keeps old keys from being retired, which would wait for him.
        if getattr(step, "func", None) != ledger.vault.persons.retire:
            step()


def test_what_was_moved_to_an_epoch_that_is_not_known_here_is_found(
    opened: Ledger, record: Record, database: Database, clock: Clock, keys: Path
) -> None:
    record(given.register())
    person = person_of(opened, record(complaint()))
    mark(opened)
    client = opened.vault.reference(*CLIENT)
    keyring = Meanwhile(keys)

    def rotated() -> None:
        ours = opened.vault.persons.keyring
        ours.begin(ours.epochs()[-1].number, given.TODAY)
        move_all(opened)

    with Ledger(database, clock=clock, keyring=keyring) as late:
        late.vault.persons.make_ready(drawn=1)
        keyring.after_lookup = rotated
        assert late.vault.reference(*CLIENT) == client
        keyring.after_trace = rotated
        assert late.vault.reference(*CLIENT) == client
        keyring.after_lookup = rotated
        assert Marks(late).find(CONTACT, fields()).persons == [person]
    assert all_rows(database, REFERENCES) == [(4, client)]


@pytest.mark.parametrize("knows", [True, False])
def test_what_is_being_moved_is_waited_for(
    knows: bool, ledger: Ledger, database: Database, clock: Clock, keys: Path
) -> None:
    """Somebody asks as the row is moved; he knows of the new epoch, or does not yet."""
    client = ledger.vault.reference(*CLIENT)
    keyring, asks = Meanwhile(keys), Meanwhile(keys)
    with (
        Ledger(database, clock=clock, keyring=keyring) as mover,
        Ledger(database, clock=clock, keyring=asks) as late,
        ThreadPoolExecutor(2) as pool,
    ):
        late.vault.persons.make_ready(drawn=1)
        asked: list[Future[str]] = []
        moving = threading.Event()

        def ask_and_wait() -> None:
            """In the mover, which has the row's lock."""
            moving.set()
            if knows:
                asked.append(pool.submit(late.vault.reference, *CLIENT))
            wait_until(lambda: waiting(database))

        def move() -> None:
            keyring.begin(1, given.TODAY)
            keyring.before_retrace = ask_and_wait
            move_all(mover)

        def moved_meanwhile() -> None:
            """In whoever asks, who has asked for the traces of the first epoch only."""
            movers.append(pool.submit(move))
            assert moving.wait(30)

        movers: list[Future[None]] = []
        if knows:
            move()
        else:
            asks.after_trace = moved_meanwhile
            asked.append(pool.submit(late.vault.reference, *CLIENT))
        assert asked[0].result(30) == client
        for one in movers:
            one.result(30)
    assert all_rows(database, REFERENCES) == [(2, client)]


def waiting(database: Database) -> bool:
    """Whether somebody waits for a row that another has locked."""
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%%FOR UPDATE'"
    )
    return bool(all_rows(database, query))


@pytest.mark.parametrize("what", ["references", "marks", "key"])
def test_erasing_what_a_key_service_is_asked_about_keeps_nobody_from_writing(
    what: str, opened: Ledger, record: Record, database: Database, clock: Clock, keys: Path
) -> None:
    record(given.register())
    person = person_of(opened, record(complaint()))
    if what == "references":
        person = opened.vault.reference(*CLIENT)
    elif what == "marks":
        mark(opened)
    keyring = Meanwhile(keys)
    with (
        Ledger(database, clock=clock, keyring=keyring) as mover,
        ThreadPoolExecutor(1) as pool,
    ):
        mover.vault.persons.make_ready(drawn=1)
        written: list[int] = []
        forgetting: list[Future[object]] = []

        def erase_and_write() -> None:
            """While the service is asked, and has not answered."""
            forgetting.append(pool.submit(opened.vault.forget, person))
            wait_until(lambda: bool(all_rows(database, WAITS)))
            written.append(record(complaint()).position)

        if what == "key":
            keyring.after_trace = erase_and_write
            mark(mover)
        else:
            keyring.begin(1, given.TODAY)
            keyring.before_retrace = erase_and_write
            move_all(mover)
        forgetting[0].result(30)
    assert written == [opened.head()]
    assert (
        all_rows(database, "SELECT FROM :schema_vault.:app_marks WHERE person = %s", person) == []
    )
    assert Dossiers(opened.vault).tombstone(person) is not None


WAITS = (
    "SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock' AND query LIKE '%%forget%%'"
)


# --- killed --------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from ledger import traces
from ledger.database import Database
from ledger.keyring import FileKeyring
from ledger.rotation import Terms, steps_due
from ledger.store import Ledger

traces.BATCH_TRACES = 4
real, left = FileKeyring.retrace, [int(sys.argv[3])]

def retrace(self, boxes):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, boxes)

FileKeyring.retrace = retrace
clock = lambda: datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
ledger = Ledger(Database(sys.argv[1]), clock=clock, keyring=FileKeyring(Path(sys.argv[2])))
for step in steps_due(ledger.vault, Terms(90, 30), clock().date(), at_once=True):
    step()
"""


def test_killed_in_the_midst_of_a_rotation_the_next_turn_completes_it(
    opened: Ledger, record: Record, database: Database, keys: Path
) -> None:
    record(given.register())
    persons = sorted(person_of(opened, record(complaint())) for _ in range(3))
    marks = mark(opened)
    texts = [f"店{n}" for n in range(9)]
    found = [opened.vault.reference("client", "p", text) for text in texts]
    for at, epochs in ((2, {1, 2}), (4, {1, 2})):
        done = python(KILLED, database.conninfo, keys, at)
        _, err = done.communicate(timeout=60)
        assert done.returncode == -signal.SIGKILL, err
        seen = {epoch for epoch, _ in all_rows(database, f"{REFERENCES}")}
        seen |= {epoch for epoch, _ in all_rows(database, MARKS)}
        assert min(seen) == min(epochs)
        assert len(seen) > 1
        assert [opened.vault.reference("client", "p", text) for text in texts] == found
        assert marks.find(NAME, fields()).persons == persons
    for step in steps_due(opened.vault, Terms(90, 30), given.TODAY):
        step()
    newest = opened.vault.persons.keyring.epochs()[-1].number
    assert {epoch for epoch, _ in all_rows(database, REFERENCES)} == {newest}
    assert {epoch for epoch, _ in all_rows(database, MARKS)} == {newest}
    assert [opened.vault.reference("client", "p", text) for text in texts] == found


# --- old copies ----------------------------------------------------------------------------------


def test_in_a_dump_from_before_nobody_is_found_once_the_epoch_is_over(
    opened: Ledger,
    record: Record,
    database: Database,
    databases: Callable[[], Database],
    clock: Clock,
    keys: Path,
) -> None:
    """Whoever has an old dump, all keys of today, and knows what was said of the erased."""
    record(given.register())
    client = opened.vault.reference(*CLIENT)
    person = person_of(opened, record(complaint(person=client)))
    mark(opened)
    dump = copied(databases, database)
    opened.vault.forget(person)
    assert Dossiers(opened.vault).tombstone(person) is not None
    assert found_in(dump, keys) == {"marks", "references", "boxes", "keys"}
    rotate(opened)
    assert found_in(dump, keys) == {"marks", "references", "boxes", "keys"}
    assert opened.vault.persons.destroy(1)
    assert found_in(dump, keys) == set()
    with new_ledger(dump, clock, keys) as restored:
        assert Marks(restored).find(NAME, fields()).persons == []
        with pytest.raises(VaultKeyMissing, match="epoch 1"):
            restored.vault.open(Dossiers(restored.vault).events(person))


def found_in(dump: Database, keys: Path) -> set[str]:
    """What gives somebody away in a dump, with the keys of today."""
    sought = [(KIND, name, alike(text)) for name in fields() for text in (NAME, CONTACT)]
    keyring, key = FileKeyring(keys), key_of_all(keys)
    digests = keyring.lookup([*sought, CLIENT])[1]
    digests += [inner_digest(key, one) for one in (*sought, CLIENT)]
    found = set()
    for table in ("marks", "references"):
        rows = all_rows(dump, f"SELECT epoch, digest, box FROM :schema_vault.:app_{table}")
        assert rows
        if {row[1] for row in rows} & set(digests):
            found.add(table)
        for epoch, _, box in rows:
            try:
                keyring.retrace([(epoch, box)])
            except VaultKeyMissing:
                continue
            found.add("boxes")
    wrapped = "SELECT person, epoch, wrapped FROM :schema_vault.:app_persons"
    for person, epoch, secret in all_rows(dump, wrapped):
        try:
            keyring.unwrap(str(person), epoch, secret)
        except VaultKeyMissing:
            continue
        found.add("keys")
    return found


# --- a database of a version without epochs -----------------------------------------------------


@pytest.fixture
def old(database: Database, tmp_path: Path) -> Database:
    """The tables as they were before traces had epochs, in a schema of their own."""
    folder = tmp_path / "sql"
    folder.mkdir()
    for file in sorted(OURS.iterdir(), key=lambda one: one.name):
        if file.name < "0010":
            (folder / file.name).write_bytes(file.read_bytes())
    old = Database(database.conninfo, schema="old")
    migrate(old, folder)
    return old


def test_references_of_a_version_without_epochs_are_kept(
    old: Database, keys: Path, clock: Clock, tmp_path: Path
) -> None:
    keyring = FileKeyring(keys)
    keyring.begin(0, given.TODAY)
    epoch, [wrapped] = keyring.wrap([(given.CLIENT, bytes(32))])
    inner = inner_digest(key_of_all(keys), CLIENT)
    with old.connect(role=None) as connection:
        connection.execute(
            b"INSERT INTO old_vault.chengxin_persons VALUES (%s, %s, %s)",
            [given.CLIENT, epoch, wrapped],
        )
        connection.execute(
            b"INSERT INTO old_vault.chengxin_references VALUES (%s, %s, %s)",
            [CLIENT[0], inner, given.CLIENT],
        )
        mark = b"INSERT INTO old_vault.chengxin_marks VALUES ('x', %s, gen_random_uuid())"
        connection.execute(mark, [given.CLIENT])
        connection.execute(b"UPDATE old_vault.chengxin_marked SET position = 9")
    assert migrate(old, OURS)[0] == "0010_traces.sql"
    # They must be moved by whoever has the keys, and until then nothing is drawn anew.
    with pytest.raises(SealingOff):
        migrate_references(old)
    others = FileKeyring(tmp_path / "others")
    others.begin(0, given.TODAY)
    with pytest.raises(VaultKeyMissing, match="epoch 1"):
        migrate_references(old, lambda: others)
    with new_ledger(old, clock, keys) as ledger, pytest.raises(VaultKeyMissing, match="epoch 0"):
        ledger.vault.reference(*CLIENT)
    for _ in range(2):
        migrate_references(old, lambda: keyring)
    assert all_rows(old, REFERENCES) == [(1, given.CLIENT)]
    with new_ledger(old, clock, keys) as ledger:
        assert ledger.vault.reference(*CLIENT) == given.CLIENT
    # Marks are made anew from the log; of a digest that never changes nothing is left.
    assert all_rows(old, "SELECT position FROM :schema_vault.:app_marked") == [(0,)]
    assert all_rows(old, MARKS) == []
    assert all_rows(old, "SELECT FROM :schema_vault.:app_references WHERE digest = %s", inner) == []
