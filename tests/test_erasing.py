"""Erasing on a real database: what is left of somebody, after a crash and in a restored backup."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from psycopg.conninfo import conninfo_to_dict

from api.promises import keep_once
from api.survey import survey
from ledger.appender import Key
from ledger.database import Database, migrate
from ledger.docket import DOCKET_FILE, Docket
from ledger.dossier import Dossiers
from ledger.envelope import Event, decode
from ledger.erasing import Erasures, Standing
from ledger.erasure import person_stream
from ledger.errors import CodeNotInForce, KeyReused
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.keyfile import KeyFileError
from ledger.rulebook import first_rulebook
from ledger.store import Ledger
from ledger.vault_errors import PersonErased, PersonNotHeld, SealingOff, UnknownPerson
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.test_vault import CONTACT, NAME, all_rows, complaint, person_of, whole_database

OFFICER = Actor("CN-REG-1", "privacy_officer", "0198c7a0-0000-7000-8000-00000000000b")
STRANGER = "3d0d3f8e-3a0c-4f0e-9d1b-2f8f6c1d7a11"
GROUND = "CONSENT_WITHDRAWN"
COMPLAINT = "complaint_outcome.recorded.v1"
FILES = {
    "zh": "卷宗",
    "en": "files",
    "article": "《档案法》",
    "events": {COMPLAINT: "decided_on"},
    "period": {"count": 0, "unit": "days"},
}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ledger(database: Database, clock: Clock, keys: Path) -> Iterator[Ledger]:
    with new_ledger(database, clock, keys) as ledger:
        yield ledger


@pytest.fixture
def erasures(opened: Ledger, keys: Path, clock: Clock) -> Erasures:
    return Erasures(opened, Docket(keys), clock=clock)


@pytest.fixture
def person(opened: Ledger, record: Record) -> str:
    """Somebody who complained twice; somebody else complained too."""
    record(given.register())
    one = person_of(opened, record(complaint()))
    record(complaint(one))
    record(complaint())
    return one


def ask(erasures: Erasures, person: str, ground: str = GROUND) -> Standing:
    return erasures.erase(person, ground, OFFICER, document="PIPL-2026-17")


def stream_of(ledger: Ledger, person: str) -> list[Event]:
    return [decode(row.state) for row in ledger.read_stream(person_stream(person))]


def types_of(ledger: Ledger, person: str) -> list[str]:
    return [event.type for event in stream_of(ledger, person)]


def assert_nothing_is_left(ledger: Ledger, person: str) -> None:
    """Of the person: a tombstone, and one event that says so."""
    database = ledger.database
    for table in ("sealed", "references", "marks"):
        query = f"SELECT FROM :schema_vault.:app_{table} WHERE person = %s"
        assert all_rows(database, query, person) == []
    rows = all_rows(
        database, "SELECT epoch, wrapped FROM :schema_vault.:app_persons WHERE person = %s", person
    )
    assert rows == [(None, None)]
    assert types_of(ledger, person).count("person.erased.v1") == 1


def test_what_was_sealed_is_gone_and_the_answer_says_what_it_was(
    erasures: Erasures, opened: Ledger, person: str, clock: Clock
) -> None:
    head = opened.head()
    before = [row.state for row in opened.read(0, 100)]
    found = ask(erasures, person)
    assert (found.state, found.ground, found.position) == ("erased", GROUND, head + 1)
    assert found.on == given.TODAY
    assert found.tombstone is not None
    assert found.tombstone.held == {COMPLAINT: 2}
    assert_nothing_is_left(opened, person)
    # No byte of what was recorded has changed, and somebody else's text still opens.
    assert [row.state for row in opened.read(0, head)] == before
    others = opened.read_at([head])[0]
    (opens,) = opened.vault.open([decode(others.state).id]).values()
    assert {one.text for one in opens} == {NAME, CONTACT}
    (event,) = stream_of(opened, person)
    assert event.actor == OFFICER
    assert event.data.model_dump() == {"person": person, "ground": GROUND, "through": head}
    assert event.data.visibility() == "public"


def test_who_asks_again_gets_the_same_answer(
    erasures: Erasures, opened: Ledger, person: str
) -> None:
    first = ask(erasures, person)
    again = ask(erasures, person, "PURPOSE_ENDED")
    assert again == first
    assert types_of(opened, person) == ["person.erased.v1"]
    assert erasures.standing(person) == first


def test_nothing_more_can_be_sealed_for_the_erased(
    erasures: Erasures, opened: Ledger, person: str, record: Record
) -> None:
    ask(erasures, person)
    with pytest.raises(PersonErased):
        record(complaint(person))


def test_who_is_unknown_is_told_so_and_nothing_is_written(
    erasures: Erasures, opened: Ledger, keys: Path
) -> None:
    head = opened.head()
    for call in (ask, lambda e, p: e.standing(p)):
        with pytest.raises(UnknownPerson):
            call(erasures, STRANGER)
    assert opened.head() == head
    assert not (keys / DOCKET_FILE).exists()
    assert all_rows(opened.database, "SELECT FROM :schema_vault.:app_persons") == []


def test_a_ground_that_the_rulebook_does_not_have_is_refused(
    erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    with pytest.raises(CodeNotInForce):
        ask(erasures, person, "BECAUSE")
    assert not (keys / DOCKET_FILE).exists()
    assert erasures.standing(person) == Standing(person, "kept")


def test_without_keys_nothing_is_decided(opened: Ledger, person: str, clock: Clock) -> None:
    without = Erasures(opened, None, clock=clock)
    with pytest.raises(SealingOff):
        ask(without, person)
    assert without.resume() == 0


def test_sixteen_at_once_erase_once(
    erasures: Erasures, opened: Ledger, person: str, keys: Path, clock: Clock
) -> None:
    # As two processes would: each with a ledger and a docket of its own.
    with new_ledger(opened.database, clock, keys) as other:
        both = (erasures, Erasures(other, Docket(keys), clock=clock))
        with ThreadPoolExecutor(16) as pool:
            answers = set(pool.map(lambda n: ask(both[n % 2], person).position, range(16)))
    assert len(answers) == 1
    assert_nothing_is_left(opened, person)
    assert len((keys / DOCKET_FILE).read_bytes().splitlines()) == 1


def test_while_somebody_writes_for_the_person_nothing_stays(
    erasures: Erasures, opened: Ledger, person: str, run: Run, desk: Desk
) -> None:
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            await desk.record(given.PROVIDER, complaint(person), given.REGISTRAR)
            written += 1
            if written == 5:
                asking.append(pool.submit(ask, erasures, person))

    asking: list[Any] = []
    with ThreadPoolExecutor(1) as pool, pytest.raises(PersonErased):
        run(write())
    found = asking[0].result()
    assert written >= 5
    assert found.tombstone.held[COMPLAINT] == written + 2
    assert_nothing_is_left(opened, person)


def test_the_docket_holds_references_and_codes_and_is_closed_to_others(
    erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    ask(erasures, person)
    path = keys / DOCKET_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    line = orjson.loads(path.read_bytes())
    assert line["ledger"] == decode(opened.read_at([1])[0].state).id
    assert (line["person"], line["document"]) == (person, "PIPL-2026-17")
    assert NAME.encode() not in path.read_bytes()
    path.chmod(0o644)
    with pytest.raises(KeyFileError):
        ask(erasures, person)


# --- killed anywhere -----------------------------------------------------------------------------

STEPS = ("before the line", "after the line", "after the event", "after all")
KILLED = """
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from ledger.appender import Appender
from ledger.database import Database
from ledger.docket import Docket
from ledger.erasing import Erasures
from ledger.identity import Actor
from ledger.keyring import FileKeyring
from ledger.store import Ledger
from ledger.vault import Vault
conninfo, keys, person, step, what, day = sys.argv[1:]
clock = lambda: datetime.fromisoformat(day).astimezone(UTC)

def killing(cls, name, before, after):
    real = getattr(cls, name)
    def call(*args, **kwargs):
        if step == before: os.kill(os.getpid(), signal.SIGKILL)
        done = real(*args, **kwargs)
        if step == after: os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(cls, name, call)

killing(Docket, "add", "before the line", "after the line")
killing(Appender, "append", "", "after the event")
killing(Vault, "forget", "", "after all")
keyring = FileKeyring(Path(keys))
ledger = Ledger(Database(conninfo), clock=clock, keyring=keyring)
erasures = Erasures(ledger, Docket(Path(keys)), clock=clock)
actor = Actor("CN-REG-1", "privacy_officer", "0198c7a0-0000-7000-8000-00000000000b")
if what == "erase": erasures.erase(person, "CONSENT_WITHDRAWN", actor, document="R")
elif what == "end": erasures.end_hold(person, actor)
elif what == "release": erasures.release(person, "DUTY_ENDED", actor, document=None)
else: erasures.resume()
print("done")
"""


def killed(
    ledger: Ledger,
    keys: Path,
    person: str,
    step: str,
    what: str = "erase",
    *,
    day: str = "2026-03-02T01:30:00+00:00",
) -> None:
    """Do it in a process that is killed at a step, with kill -9."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            ledger.database.conninfo,
            str(keys),
            person,
            step,
            what,
            day,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, (step, done.stdout, done.stderr)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_ends_in_the_same_state(
    step: str, erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    killed(opened, keys, person, step)
    changed = erasures.resume()
    if step == "before the line":
        # Nobody was told anything, and nothing has happened.
        assert (changed, erasures.standing(person).state) == (0, "kept")
        ask(erasures, person)
    else:
        assert changed == (step != "after all")
    assert_nothing_is_left(opened, person)
    found = erasures.standing(person)
    assert found.tombstone is not None
    assert (found.state, found.ground, found.tombstone.held) == ("erased", GROUND, {COMPLAINT: 2})
    assert erasures.resume() == 0
    assert ask(erasures, person) == found


@pytest.mark.parametrize("step", ["after the line", "after the event", "after all"])
def test_killed_and_asked_again_it_is_finished(
    step: str, erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    killed(opened, keys, person, step)
    assert ask(erasures, person).state == "erased"
    assert_nothing_is_left(opened, person)
    assert len((keys / DOCKET_FILE).read_bytes().splitlines()) == 1


@pytest.mark.parametrize("step", ["after the event", "after all"])
def test_what_resumes_may_be_killed_too(
    step: str, erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    killed(opened, keys, person, "after the line")
    killed(opened, keys, person, step, "resume")
    erasures.resume()
    assert_nothing_is_left(opened, person)


def test_a_line_cut_short_is_as_if_nobody_had_asked(
    erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    killed(opened, keys, person, "after the line")
    path = keys / DOCKET_FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert erasures.resume() == 0
    assert erasures.standing(person).state == "kept"
    ask(erasures, person)
    assert_nothing_is_left(opened, person)
    assert len(path.read_bytes().splitlines()) == 1


def test_a_line_that_is_none_ends_it_loudly(erasures: Erasures, person: str, keys: Path) -> None:
    ask(erasures, person)
    with (keys / DOCKET_FILE).open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(KeyFileError, match="line 2 is no decision"):
        erasures.resume()


def test_lines_of_another_ledger_do_not_concern_this_one(
    erasures: Erasures, opened: Ledger, person: str, keys: Path
) -> None:
    killed(opened, keys, person, "after the line")
    path = keys / DOCKET_FILE
    path.write_bytes(path.read_bytes().replace(b'"ledger":"0', b'"ledger":"f'))
    assert erasures.resume() == 0
    assert erasures.standing(person).state == "kept"


def test_a_docket_that_was_lost_is_written_anew_from_the_log(
    erasures: Erasures, opened: Ledger, person: str, keys: Path, clock: Clock
) -> None:
    ask(erasures, person)
    path = keys / DOCKET_FILE
    before = orjson.loads(path.read_bytes())
    path.unlink()
    fresh = Erasures(opened, Docket(keys), clock=clock)
    assert fresh.resume() == 0
    after = orjson.loads(path.read_bytes())
    assert after["events"][0]["id"] == before["events"][0]["id"]
    assert ask(fresh, person).state == "erased"
    assert len(path.read_bytes().splitlines()) == 1


# --- held where a duty runs ----------------------------------------------------------------------


@pytest.fixture
def opened(ledger: Ledger, desk: Desk, run: Run) -> Ledger:
    """A ledger under a rulebook by which complaints of inspections are kept for two months."""
    book = first_rulebook()
    book["privacy"]["retentions"]["FILES"] = FILES
    run(desk.open_ledger(given.opening(rulebook=book), given.REGISTRAR))
    return ledger


@pytest.fixture
def kept(opened: Ledger, record: Record) -> str:
    """Somebody whose complaint was decided today: to be kept to the end of the day."""
    record(given.register())
    finding = given.finding(decided_on=given.TODAY, served_on=given.TODAY)
    return person_of(opened, record(complaint(finding=finding, decided_on=given.TODAY)))


def test_where_a_duty_runs_the_request_is_held(
    erasures: Erasures, opened: Ledger, kept: str, clock: Clock
) -> None:
    found = ask(erasures, kept)
    assert (found.state, found.until, found.basis) == ("held", given.TODAY, "FILES")
    assert (found.ground, found.on, found.position) == (GROUND, given.TODAY, opened.head())
    assert ask(erasures, kept, "PURPOSE_ENDED") == found
    assert types_of(opened, kept) == ["person.held.v1"]
    assert all_rows(opened.database, "SELECT FROM :schema_vault.:app_sealed") != []
    assert erasures.over(given.TODAY) == []
    assert erasures.end_hold(kept, OFFICER) == found


def test_on_the_day_after_it_is_erased_once_however_many_work(
    erasures: Erasures, opened: Ledger, kept: str, clock: Clock, keys: Path
) -> None:
    ask(erasures, kept)
    clock.advance(days=1)
    tomorrow = date(2026, 3, 3)
    with new_ledger(opened.database, clock, keys) as other:
        workers = (erasures, Erasures(other, Docket(keys), clock=clock))
        assert [one.over(tomorrow) for one in workers] == [[kept], [kept]]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: workers[n % 2].end_hold(kept, OFFICER), range(8)))
        assert [one.over(tomorrow) for one in workers] == [[], []]
    held, erased = stream_of(opened, kept)
    assert erased.causation == held.id
    assert_nothing_is_left(opened, kept)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["end", "release"])
def test_a_hold_that_ends_may_be_killed_at_any_step(
    step: str, what: str, erasures: Erasures, opened: Ledger, kept: str, keys: Path, clock: Clock
) -> None:
    ask(erasures, kept)
    clock.advance(days=1)
    killed(opened, keys, kept, step, what, day="2026-03-03T01:30:00+00:00")
    erasures.resume()
    if step == "before the line":
        assert erasures.standing(kept).state == "held"
        erasures.end_hold(kept, OFFICER)
    assert_nothing_is_left(opened, kept)
    released = ["person.released.v1"] if what == "release" and step != "before the line" else []
    assert types_of(opened, kept) == ["person.held.v1", *released, "person.erased.v1"]


def test_a_hold_without_an_end_is_looked_at_once_a_day_and_told(
    ledger: Ledger, desk: Desk, run: Run, clock: Clock, keys: Path
) -> None:
    """Somebody who acted, under a rulebook that does not say for how long that must be known."""
    book = first_rulebook()
    retentions = book["privacy"]["retentions"]
    book["privacy"]["retentions"] = {
        code: one for code, one in retentions.items() if not one.get("actors")
    } | {"FILES": FILES}
    run(desk.open_ledger(given.opening(rulebook=book), given.REGISTRAR))
    run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
    finding = given.finding(decided_on=given.TODAY, served_on=given.TODAY)
    command = complaint(finding=finding, decided_on=given.TODAY)
    person = person_of(ledger, run(desk.record(given.PROVIDER, command, given.REGISTRAR)))
    erasures = Erasures(ledger, Docket(keys), clock=clock)
    assert ask(erasures, person).state == "held"
    with ledger.database.connect(role=None) as connection:
        connection.execute(
            "INSERT INTO ledger_vault.chengxin_references (kind, digest, person, epoch, box)"
            " VALUES ('actor', 'd', %s, 1, 'b')",
            [person],
        )
    assert survey(ledger, ()).overdue == 0
    looked = erasures.end_hold
    times: list[date] = []

    def look(person: str, actor: Actor) -> Standing:
        times.append(erasures.today())
        return looked(person, actor)

    with patch.object(erasures, "end_hold", look):
        for _ in range(3):
            clock.advance(days=1)
            for _ in range(3):
                keep_once(erasures, None, clock())
    assert times == [date(2026, 3, 3), date(2026, 3, 4), date(2026, 3, 5)]
    assert erasures.standing(person).state == "held"
    assert survey(ledger, ()).overdue == 1
    erasures.release(person, "REQUEST_WITHDRAWN", OFFICER, document=None)
    assert survey(ledger, ()).overdue == 0
    assert erasures.over(date(2026, 4, 1)) == []


def test_a_hold_released_erases_at_once_or_not_at_all(
    erasures: Erasures, opened: Ledger, kept: str
) -> None:
    ask(erasures, kept)
    found = erasures.release(kept, "REQUEST_WITHDRAWN", OFFICER, document=None)
    assert (found.state, found.position) == ("kept", opened.head())
    assert all_rows(opened.database, "SELECT FROM :schema_vault.:app_sealed") != []
    with pytest.raises(PersonNotHeld):
        erasures.release(kept, "DUTY_ENDED", OFFICER, document=None)
    assert ask(erasures, kept).state == "held"
    found = erasures.release(kept, "DUTY_ENDED", OFFICER, document=None)
    assert (found.state, found.position) == ("erased", opened.head())
    assert_nothing_is_left(opened, kept)


# --- a backup that is put back -------------------------------------------------------------------


def copied(databases: Callable[[], Database], source: Database) -> Database:
    """The database as a dump of this moment restores it, by the real tools."""
    target = databases()
    with target.connect(role=None) as connection:
        mine = (
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema|^public$'"
        )
        for (schema,) in connection.execute(mine).fetchall():
            connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
    from ledger.binaries import wheel_installation

    tools = wheel_installation() / "bin"
    names = {name: conninfo_to_dict(one.conninfo) for name, one in (("of", source), ("to", target))}
    env = {name: environment(given) for name, given in names.items()}
    dump = subprocess.run(
        [tools / "pg_dump", "--format=custom"], env=env["of"], capture_output=True, check=True
    ).stdout
    restore = [str(tools / "pg_restore"), "--exit-on-error", f"--dbname={names['to']['dbname']}"]
    subprocess.run(restore, input=dump, env=env["to"], check=True)
    return target


def environment(given: dict[str, Any]) -> dict[str, str]:
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    return os.environ | {names[k]: str(v) for k, v in given.items() if k in names}


def test_a_backup_from_before_has_its_erasures_applied_again(
    erasures: Erasures,
    opened: Ledger,
    person: str,
    record: Record,
    databases: Callable[[], Database],
    keys: Path,
    clock: Clock,
) -> None:
    other = person_of(opened, record(complaint()))
    backup = copied(databases, opened.database)
    recorded = ask(erasures, person)
    late = person_of(opened, record(complaint()))
    ask(erasures, late)
    with new_ledger(backup, clock, keys) as restored:
        again = Erasures(restored, Docket(keys), clock=clock)
        assert again.standing(person).state == "kept"
        assert len(restored.vault.open(Dossiers(restored.vault).events(person))) == 2
        assert again.resume() == 2
        assert_nothing_is_left(restored, person)
        found = again.standing(person)
        assert found.tombstone is not None
        assert found.tombstone.held == {COMPLAINT: 2}
        # The same event, by its id, wherever it stands now.
        assert stream_of(restored, person)[0].id == stream_of(opened, person)[0].id
        assert (found.on, found.ground) == (recorded.on, recorded.ground)
        # Who came after the backup is erased in it too, before somebody writes it again.
        assert_nothing_is_left(restored, late)
        assert again.standing(other).state == "kept"
        assert again.resume() == 0


def test_a_hold_and_its_end_come_back_too(
    erasures: Erasures,
    opened: Ledger,
    kept: str,
    databases: Callable[[], Database],
    keys: Path,
    clock: Clock,
) -> None:
    backup = copied(databases, opened.database)
    held = ask(erasures, kept)
    with new_ledger(backup, clock, keys) as restored:
        again = Erasures(restored, Docket(keys), clock=clock)
        texts = Dossiers(restored.vault).events(kept)
        assert restored.vault.open(texts) != {}
        assert again.resume() == 1
        assert again.standing(kept) == held
        assert restored.vault.open(texts) == {}
        assert len(restored.vault.open(texts, held=True)) == 1
        clock.advance(days=1)
        assert again.over(date(2026, 3, 3)) == [kept]


# --- nothing finds it ----------------------------------------------------------------------------


def test_no_table_holds_it_in_any_writing(erasures: Erasures, opened: Ledger, person: str) -> None:
    from base64 import b64encode

    ask(erasures, person)
    whole = whole_database(opened.database)
    assert person.encode() in whole
    for text in (NAME, CONTACT):
        plain = text.encode()
        for written in (plain, plain.hex().encode(), b64encode(plain), text.encode("utf-16-le")):
            assert written not in whole


def test_the_digests_of_requests_that_named_somebody_go_with_them(
    erasures: Erasures, opened: Ledger, record: Record, desk: Desk, run: Run
) -> None:
    """Whoever has the key of these digests could else try one name after the other."""

    def key(name: str) -> Key:
        return Key("issuer", "CN-REG-1", name, sha256(name.encode()).digest())

    record(given.register(), key=key("registration"))
    # Two events of one request: the person stands in the second.
    registration, command = given.register(), complaint()
    both = run(
        desk.record(
            given.OTHER, command, given.REGISTRAR, key=key("both"), registration=registration
        )
    )
    first = record(complaint(), key=key("first"))
    other = record(complaint(), key=key("other"))
    for receipt in (first, both):
        ask(erasures, person_of(opened, receipt))
    kept = {"registration", "other"}
    rows = all_rows(opened.database, "SELECT key, digest FROM :schema.:app_keys")
    assert {name: digest for name, digest in rows if digest} == {
        name: key(name).digest for name in kept
    }
    assert {name for name, _ in rows} == kept | {"both", "first"}
    # The key stays spent: what named somebody is not recorded a second time.
    head = opened.head()
    with pytest.raises(KeyReused):
        record(complaint(), key=key("first"))
    assert record(complaint(), key=key("other")).position == other.position
    assert opened.head() == head
    # As a version left it that did not empty them yet.
    with opened.database.connect(role=None) as connection:
        connection.execute("ALTER TABLE ledger.chengxin_keys DISABLE TRIGGER immutable")
        for name in ("first", "both", "registration", "other"):
            digest = [key(name).digest, name]
            connection.execute("UPDATE ledger.chengxin_keys SET digest = %s WHERE key = %s", digest)
        connection.execute("ALTER TABLE ledger.chengxin_keys ENABLE TRIGGER immutable")
        connection.execute("DELETE FROM ledger.migrations WHERE name = '0014_requests.sql'")
    assert migrate(opened.database, files("ledger") / "sql") == ["0014_requests.sql"]
    assert sorted(all_rows(opened.database, "SELECT key, digest FROM :schema.:app_keys")) == sorted(
        rows
    )
