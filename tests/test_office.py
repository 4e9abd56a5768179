"""The operator's own commands: who looked is recorded first, and nobody erased is ever seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.intake.quarantine import Quarantine
from api.intake.rejections import Rejections
from api.person_copy import PersonCopy
from ledger.access import AccessRecorded
from ledger.database import Database
from ledger.docket import Decision, Docket
from ledger.envelope import Event, decode, new_id, new_nonce
from ledger.erasure import PersonErasure, person_stream
from ledger.handle import Desk
from ledger.identity import OPERATOR_REF
from ledger.store import Ledger, system_clock
from projections.runner import migrate_projections
from tests import given
from tests.conftest import Run, new_ledger
from tests.test_cli import Chengxin, chengxin
from tests.test_erasing import OFFICER, assert_nothing_is_left
from tests.test_quarantine import FILE, Office
from tests.test_vault import NAME, complaint, person_of

__all__ = ["chengxin"]

REF = "0198c7a0-0000-7000-8000-00000000000b"


@pytest.fixture
def ledger(database: Database, tmp_path: Path, run: Run) -> Iterator[Ledger]:
    """An opened ledger with the keys of the command line, and rows in quarantine."""
    migrate_projections(database)
    with new_ledger(database, system_clock, tmp_path / "keys") as ledger:
        run(Desk(ledger).open_ledger(given.opening(), given.REGISTRAR))
        Office(ledger, run).take(FILE)
        yield ledger


def complained(ledger: Ledger, run: Run) -> str:
    """Somebody who complained."""
    return person_of(ledger, run(Desk(ledger).record(given.PROVIDER, complaint(), given.REGISTRAR)))


def looked(ledger: Ledger, after: int) -> list[tuple[str, str, str]]:
    """Who looked since: door, organisation and reference of each record."""
    events = [decode(one.state) for one in ledger.read(after, 1000)]
    return [
        (one.data.door, one.actor.organisation, one.actor.ref)
        for one in events
        if isinstance(one.data, AccessRecorded)
    ]


def test_whatever_shows_more_than_the_public_sees_is_recorded(
    chengxin: Chengxin, ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    person = complained(ledger, run)
    proposal = run(Desk(ledger).record(given.PROVIDER, given.listing(), given.REGISTRAR))
    url = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo}
    ours = url | {"CHENGXIN_REF": REF}
    approved = ["proposals", "approve", proposal.id]
    for arguments, door, settings in (
        (["quarantine", "list"], "QUARANTINE", url),
        (["quarantine", "show", "1"], "QUARANTINE", url),
        (["quarantine", "reject", "1", "--why", "x", "--org", "CN-REG-1"], "QUARANTINE", ours),
        (["proposals", "list"], "PROPOSALS", url),
        (["proposals", "show", proposal.id], "PROPOSALS", ours),
        (approved, "PROPOSALS", ours),
        (["export", "shuanggongshi", "--all"], "EXPORT", url),
        (["person", "find", NAME], "PERSON", ours),
        (["person", "copy", person, "-o", tmp_path / "copy.json"], "PERSON", ours),
    ):
        head = ledger.head()
        done = chengxin(*arguments, **settings)
        assert done.returncode == 0, done.stderr
        organisation = "CN-REG-1" if "CN-REG-1" in arguments else "OPERATOR"
        ref = settings.get("CHENGXIN_REF", OPERATOR_REF)
        assert looked(ledger, head) == [(door, organisation, ref)], arguments
    head = ledger.head()
    for arguments in (
        ["export", "shuanggongshi"],
        ["proposals", "list"],
        ["quarantine", "list", "--state", "accepted"],
        ["person", "show", person],
    ):
        assert chengxin(*arguments, **url).returncode == 0
        assert looked(ledger, head) == [], f"{arguments} shows nothing of that"
    chengxin("erase", person, "--ground", "CONSENT_WITHDRAWN", **ours)
    head = ledger.head()
    assert chengxin("person", "show", person, **url).returncode == 0
    assert looked(ledger, head) == [("PERSON", "OPERATOR", OPERATOR_REF)]


def test_what_cannot_be_recorded_is_not_shown(
    chengxin: Chengxin, ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    person = complained(ledger, run)
    with ledger.database.connect(role=None) as connection:
        name = f"{ledger.database.schema}.{ledger.database.application}_append"
        connection.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM chengxin_service".encode())
    ours = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo, "CHENGXIN_REF": REF}
    for arguments in (
        ["quarantine", "show", "1"],
        ["export", "shuanggongshi", "--all"],
        ["person", "copy", person, "-o", tmp_path / "copy.json"],
    ):
        done = chengxin(*arguments, **ours)
        assert (done.returncode, done.stdout) == (3, ""), arguments
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "copy.json").exists()


def erased_since(ledger: Ledger, docket: Docket, person: str) -> None:
    """As after a backup was put back from before the erasure: it stands in the docket alone."""
    first = decode(ledger.read_at([1])[0].state).id
    event = Event(
        id=new_id(system_clock(), ledger.random(10)),
        stream=person_stream(person),
        version=0,
        data=PersonErasure(person=person, ground="CONSENT_WITHDRAWN", through=0),
        actor=OFFICER,
        nonce=new_nonce(ledger.random(16)),
    )
    docket.add([Decision(first, person, (event,), None)])


def test_whoever_was_erased_is_gone_before_any_command_sees_the_vault(
    chengxin: Chengxin, ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    ours = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo, "CHENGXIN_REF": REF}
    docket, copy, rows = Docket(tmp_path / "keys"), tmp_path / "copy.json", tmp_path / "rows.jsonl"
    rows.write_bytes(b"")
    for arguments in (
        ["person", "copy", None, "-o", copy],
        ["person", "find", NAME, "--json"],
        ["person", "show", None, "--json"],
        ["quarantine", "list"],
        ["import", rows],
        ["token", "--role", "auditor", "--org", "CN-AUDIT-1", "--person", "某人"],
        ["key", "rotate"],
    ):
        person = complained(ledger, run)
        erased_since(ledger, docket, person)
        done = chengxin(*(person if one is None else one for one in arguments), **ours)
        assert done.returncode == 0, (arguments, done.stderr)
        assert_nothing_is_left(ledger, person)
        match arguments[1]:
            case "copy":
                found = json.loads(copy.read_bytes())
                assert (found["state"], found["texts"]) == ("erased", [])
            case "find":
                assert json.loads(done.stdout)["persons"] == []
            case "show":
                assert json.loads(done.stdout)["state"] == "erased"


def test_what_a_restored_backup_has_undone_is_rejected_again_before_it_is_shown(
    chengxin: Chengxin, ledger: Ledger, tmp_path: Path
) -> None:
    held = Quarantine(ledger).held(1)
    assert held is not None
    assert held.person is not None
    Rejections(tmp_path / "keys").add(held.person, Quarantine(ledger).steps(1)[0])
    url = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo}
    listed = json.loads(chengxin("quarantine", "list", "--json", **url).stdout)
    assert [one["id"] for one in listed["rows"]] == [2]


def test_a_row_in_quarantine_is_found_copied_and_erased(
    chengxin: Chengxin, ledger: Ledger, tmp_path: Path
) -> None:
    ours = {"CHENGXIN_DATABASE_URL": ledger.database.conninfo, "CHENGXIN_REF": REF}
    held = Quarantine(ledger).held(1)
    assert held is not None
    name = held.cells["name"]
    found = json.loads(chengxin("person", "find", name, "--json", **ours).stdout)["persons"]
    assert held.person in found
    copy = tmp_path / "copy.json"
    assert chengxin("person", "copy", held.person, "-o", copy, **ours).returncode == 0
    made = PersonCopy.model_validate_json(copy.read_bytes())
    [row] = made.rows
    assert (made.texts, row.row, row.import_, row.cells) == ([], 1, "penalties", held.cells)
    done = chengxin("erase", held.person, "--ground", "CONSENT_WITHDRAWN", "--json", **ours)
    assert json.loads(done.stdout)["state"] == "erased"
    gone = Quarantine(ledger).held(1)
    assert gone is not None
    assert (gone.state, gone.cells) == ("rejected", {})
    with ledger.database.connect(role=None) as connection:
        boxes = connection.execute("SELECT box FROM intake.rows WHERE id = 1").fetchall()
    assert boxes == [(None,)]
    found = json.loads(chengxin("person", "find", name, "--json", **ours).stdout)["persons"]
    assert held.person not in found
