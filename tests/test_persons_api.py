"""Persons over HTTP: found, copied, erased, held; by privacy officers, and told to everybody."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from api.intake.quarantine import Quarantine, Step
from api.intake.sought import erasures_of
from api.person_copy import WHY, PersonCopy
from api.person_json import PersonsFound, PersonStanding
from api.promises import keep_once
from api.roles import ROLES
from ledger import marks
from ledger.database import Database
from ledger.docket import DOCKET_FILE, Docket
from ledger.dossier import Dossiers
from ledger.erasing import Erasures
from ledger.forgetting import Forgetting
from ledger.handle import Desk
from ledger.keyring import KEY_FILE
from ledger.marks import Marks, alike
from ledger.private import Private
from ledger.rulebook import first_rulebook
from ledger.store import Ledger
from ledger.vault_errors import PersonErased
from projections.rights import NONE, RIGHTS
from tests import given
from tests.conftest import Clock, Run, new_ledger
from tests.serving import Served, positioned, problem, serving, wait_until
from tests.test_erasing import STRANGER, copied
from tests.test_keyring import destroyed, held
from tests.test_quarantine import FILE, Office
from tests.test_vault import CONTACT, NAME, complaint, whole_database

OFFICER = "privacy_officer"
GROUND = {"ground": "CONSENT_WITHDRAWN", "document": "PIPL-2026-17"}


@pytest.fixture
def served(database: Database, tmp_path: Path, clock: Clock) -> Iterator[Served]:
    keys = tmp_path / "keys"

    def ledger_of(database: Database, clock: Callable[[], Any]) -> Ledger:
        return new_ledger(database, clock, keys)

    with serving(database, keys, clock, new_ledger=ledger_of) as served:
        served.provide()
        yield served


def complain(served: Served, name: str = NAME, contact: str = CONTACT, **more: Any) -> str:
    """Record a complaint of somebody; the reference that stands for them."""
    body = given.complaint().model_dump(mode="json", exclude_none=True)
    body["complainant"] = {"name": name, "contact": contact} | more
    response = served.post(f"/v1/providers/{given.PROVIDER}/complaint-outcomes", body)
    event = served.get(f"/v1/events/{positioned(response)}", "auditor").json()
    return str(event["data"]["complainant"]["person"])


def mark(served: Served) -> None:
    while Marks(served.ledger).follow():
        pass


def ask(served: Served, person: str, what: str = "erasure", **body: Any) -> Any:
    return served.post(f"/v1/persons/{person}/{what}", GROUND | body, OFFICER)


def test_erased_and_asked_again(served: Served) -> None:
    person, other = complain(served), complain(served)
    head = served.head()
    answer = ask(served, person)
    assert answer.status_code == 200, answer.text
    found = PersonStanding.model_validate(answer.json())
    assert (found.state, found.person, found.position) == ("erased", person, head + 1)
    assert found.erased == {"complaint_outcome.recorded.v1": 1}
    assert found.ground is not None
    assert found.ground.article == "《个人信息保护法》第四十七条第一款第三项"
    # Ninety days from the first use of the key, and 30 more for which backups are kept.
    assert (found.on, found.backups_end_on) == ("2026-03-02", "2026-07-01")
    assert "2026-07-01" in found.words.zh
    assert "2026-07-01" in found.words.en
    assert ask(served, person, ground="PURPOSE_ENDED").json() == answer.json()
    assert ask(served, other).json()["state"] == "erased"


def test_nobody_but_a_privacy_officer(served: Served) -> None:
    person = complain(served)
    mark(served)
    before = served.head()
    for role in [one for one in ROLES if one != OFFICER]:
        for target in (person, STRANGER):
            answers = [
                served.post(f"/v1/persons/{target}/erasure", GROUND, role),
                served.post(f"/v1/persons/{target}/release", GROUND, role),
                served.get(f"/v1/persons/{target}/copy", role),
                served.post("/v1/persons/search", {"text": NAME}, role),
            ]
            for one in answers:
                problem(one, 403, "not-allowed")
                assert target not in one.text
    for one in (
        served.post(f"/v1/persons/{person}/erasure", GROUND, None),
        served.get(f"/v1/persons/{person}/copy"),
        served.post("/v1/persons/search", {"text": NAME}, None),
    ):
        problem(one, 401, "token-missing")
    assert served.head() == before


def test_what_cannot_be_answered(served: Served) -> None:
    person = complain(served)
    problem(ask(served, STRANGER), 404, "unknown-person")
    problem(ask(served, STRANGER, "release"), 404, "unknown-person")
    problem(served.get(f"/v1/persons/{STRANGER}/copy", OFFICER), 404, "unknown-person")
    problem(ask(served, person, ground="BECAUSE"), 409, "code-not-in-force")
    problem(ask(served, person, "release", ground="DUTY_ENDED"), 409, "person-not-held")
    problem(ask(served, person, document="张某的来信"), 422, "schema-broken")
    problem(ask(served, "nobody"), 422, "schema-broken")
    problem(served.post("/v1/persons/search", {"text": ""}, OFFICER), 422, "schema-broken")
    wrong = {"text": NAME, "field": "salary"}
    problem(served.post("/v1/persons/search", wrong, OFFICER), 422, "schema-broken")
    said = problem(ask(served, STRANGER), 404, "unknown-person")
    assert STRANGER in said["detail"]


def test_rows_in_quarantine_are_found_copied_and_erased_too(served: Served, run: Run) -> None:
    Office(served.ledger, run).take(FILE)
    quarantine = Quarantine(served.ledger)
    held = quarantine.held(1)
    assert held is not None
    assert held.person is not None
    mark(served)

    def found(**field: str) -> list[str]:
        sought = {"text": held.cells["name"]} | field
        answer = served.post("/v1/persons/search", sought, OFFICER)
        return PersonsFound.model_validate(answer.json()).persons

    assert held.person in found()
    assert found(field="name") == [], "a sealed field of an event"
    answer = served.get(f"/v1/persons/{held.person}/copy", OFFICER)
    copy = PersonCopy.model_validate(answer.json())
    assert (copy.texts, [row.cells for row in copy.rows]) == ([], [held.cells])
    assert (copy.rows[0].organisation, copy.rows[0].file) == ("CN-REG-1", "rows.csv")
    assert ask(served, held.person).json()["state"] == "erased"
    gone = quarantine.held(1)
    assert gone is not None
    assert (gone.state, gone.cells) == ("rejected", {})
    assert held.person not in found()
    other = quarantine.held(2)
    assert other is not None
    assert (other.state, bool(other.cells)) == ("waiting", True)


def test_of_an_erased_row_the_reference_stays_taken(served: Served, run: Run, clock: Clock) -> None:
    Office(served.ledger, run).take(FILE)
    held = Quarantine(served.ledger).held(1)
    assert held is not None
    assert held.person is not None
    assert ask(served, held.person).json()["state"] == "erased"
    left = Dossiers(served.ledger.vault).tombstone(held.person)
    assert left is not None
    assert ask(served, held.person).json()["state"] == "erased"
    # In another process, which does not remember that it was dropped.
    with new_ledger(served.ledger.database, clock, served.keys) as other:
        with pytest.raises(PersonErased):
            run(Desk(other).record(given.PROVIDER, complaint(held.person), given.REGISTRAR))
        assert Dossiers(other.vault).tombstone(held.person) == left


def test_erased_rows_do_not_wait_again_after_a_restore_or_a_kill(
    served: Served, run: Run, databases: Callable[[], Database], clock: Clock
) -> None:
    Office(served.ledger, run).take(FILE)
    first, second = (Quarantine(served.ledger).held(id) for id in (1, 2))
    assert first is not None
    assert first.person is not None
    assert second is not None
    assert second.person is not None
    backup, docket = copied(databases, served.ledger.database), Docket(served.keys)
    assert ask(served, first.person).json()["state"] == "erased"
    # Killed before the row was settled.
    erased = Erasures(served.ledger, docket, clock=clock)
    erased.erase(second.person, "CONSENT_WITHDRAWN", given.REGISTRAR, document=None)
    with new_ledger(backup, clock, served.keys) as restored:
        erasures = erasures_of(restored, docket, clock=clock)
        assert erasures.resume() == 2
        for ledger in (restored, served.ledger):
            keep_once(erasures_of(ledger, docket, clock=clock), Marks(ledger), clock())
            quarantine = Quarantine(ledger)
            assert quarantine.listed(None, limit=10, state="waiting") == []
            steps = [quarantine.steps(id) for id in (1, 2)]
            assert [[one.what for one in of] for of in steps] == [["quarantined", "rejected"]] * 2
            assert steps[1][-1].actor == given.REGISTRAR
            for one in (first.person, second.person):
                assert Dossiers(ledger.vault).tombstone(one) is not None
        assert erasures.resume() == 0


def rejected_or_waiting(ledger: Ledger) -> bool:
    """Whether whoever erases a row has rejected it, or waits for it."""
    waits = b"SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return bool(ledger.rows(waits, [])) or Quarantine(ledger).steps(1)[-1].what == "rejected"


def test_a_row_that_is_being_accepted_is_not_rejected_meanwhile(
    served: Served, run: Run, clock: Clock
) -> None:
    Office(served.ledger, run).take(FILE)
    quarantine, docket = Quarantine(served.ledger), Docket(served.keys)
    row = quarantine.held(1)
    assert row is not None
    person = row.person
    assert person is not None
    erasures = erasures_of(served.ledger, docket, clock=clock)

    async def accept(threads: ThreadPoolExecutor) -> Future[Any]:
        async with quarantine.alone(1, row.organisation) as connection:
            ground = ("CONSENT_WITHDRAWN", given.REGISTRAR)
            erasing = threads.submit(erasures.erase, person, *ground, document=None)
            await asyncio.to_thread(wait_until, lambda: rejected_or_waiting(served.ledger))
            step = Step(clock(), "accepted", given.REGISTRAR, "核对无误", {}, (7,))
            await quarantine.take(connection, row, step, state="accepted")
        return erasing

    with ThreadPoolExecutor(1) as threads:
        erasing = run(accept(threads))
        assert erasing.result(30).state == "erased"
    assert [one.what for one in quarantine.steps(1)] == ["quarantined", "accepted"]


def test_while_somebody_is_held_only_their_own_copy_opens(served: Served) -> None:
    name = "某某餐饮店"
    body = given.contract(on=given.TODAY).model_dump(mode="json", exclude_none=True)
    body.pop("counterparty")
    contract = positioned(
        served.post(
            f"/v1/providers/{given.PROVIDER}/contracts",
            body | {"agreement": {"client": name, "terms": "三个月"}},
        )
    )
    event = served.get(f"/v1/events/{contract}", "auditor").json()
    person = str(event["data"]["counterparty"])
    served.follow()
    mark(served)
    roles = [role for role, rights in RIGHTS.items() if rights.sealed != NONE]
    assert len(roles) > 4

    def opened() -> list[list[str]]:
        """What each role that opens sealed text finds in the contract, and the copy."""
        answers = [served.get(f"/v1/events/{contract}/sealed", role) for role in roles]
        answers.append(served.get(f"/v1/persons/{person}/copy", OFFICER))
        return [[one["text"] for one in answer.json()["texts"]] for answer in answers]

    everything = [name, "三个月"]
    assert opened() == [everything] * (len(roles) + 1)
    held = ask(served, person)
    assert (held.status_code, held.json()["basis"]["code"]) == (202, "TRANSACTION_RECORDS")
    assert opened() == [[]] * len(roles) + [everything]
    found = served.post("/v1/persons/search", {"text": name}, OFFICER).json()
    assert found["persons"] == [person]
    assert ask(served, person, "release", ground="REQUEST_WITHDRAWN").status_code == 200
    assert opened() == [everything] * (len(roles) + 1)
    ask(served, person)
    assert ask(served, person, "release", ground="DUTY_ENDED").json()["state"] == "erased"
    assert opened() == [[]] * (len(roles) + 1)


def test_somebody_is_found_by_what_is_sealed_and_copied(served: Served) -> None:
    person = complain(served)
    complain(served, "李某", "139-0000-0000")
    complain(served, person=person)
    mark(served)

    def found(text: str, **field: str) -> list[str]:
        answer = served.post("/v1/persons/search", {"text": text} | field, OFFICER)
        assert answer.status_code == 200, answer.text
        return PersonsFound.model_validate(answer.json()).persons

    assert found(NAME) == found(CONTACT) == found(NAME, field="name") == [person]
    # As people write: full width, spaces, hyphens.
    assert found("１３８ 0000 0000转8") == [person]
    assert found(NAME, field="contact") == []
    assert found("王某") == []

    answer = served.get(f"/v1/persons/{person}/copy", OFFICER)
    assert answer.headers["content-disposition"] == f'attachment; filename="{person}.json"'
    copy = PersonCopy.model_validate(answer.json())
    assert {(one.path, one.text) for one in copy.texts} == {
        ("/complainant/name", NAME),
        ("/complainant/contact", CONTACT),
    }
    assert len(copy.texts) == 4
    assert {one.provider for one in copy.texts} == {given.PROVIDER}
    assert {one.recorded_on for one in copy.texts} == {"2026-03-02"}
    assert copy.texts[0].why.zh == WHY["Complainant"].zh
    ask(served, person)
    assert found(NAME) == []
    after = PersonCopy.model_validate(served.get(f"/v1/persons/{person}/copy", OFFICER).json())
    assert (after.state, after.texts) == ("erased", [])


def test_whoever_looks_at_a_person_is_recorded(served: Served) -> None:
    person = complain(served)
    mark(served)
    looks: tuple[Callable[[], Any], ...] = (
        lambda: served.get(f"/v1/persons/{person}/copy", OFFICER),
        lambda: served.post("/v1/persons/search", {"text": NAME}, OFFICER),
        lambda: served.post("/v1/persons/search", {"text": "nobody"}, OFFICER),
    )
    for look in looks:
        before = served.head()
        assert look().status_code == 200
        (row,) = served.ledger.read(before, 10)
        recorded = json.loads(row.state)
        assert recorded["type"].endswith("access.recorded.v1")
        assert recorded["data"]["door"] == "PERSON"
        assert recorded["actorrole"] == OFFICER
        assert NAME.encode() not in row.state


def test_present_and_absent_take_the_same_time(served: Served) -> None:
    for number in range(20):
        complain(served, f"张{number}", f"138-0000-{number:04d}")
    mark(served)
    finder, order = Marks(served.ledger), Random(5)

    def difference() -> float:
        """Of the medians of two thousand lookups each, as a share of the greater."""
        taken: dict[bool, list[float]] = {True: [], False: []}
        asked = [True, False] * 2_000
        # So that what else the machine does falls on both alike.
        order.shuffle(asked)
        for number, there in enumerate(asked):
            text = f"张{number % 20}" if there else f"王{number % 20}"
            began = time.perf_counter()
            found = finder.find(text, ["name"])
            taken[there].append(time.perf_counter() - began)
            assert bool(found.persons) == there
        medians = [statistics.median(taken[there]) for there in (True, False)]
        return abs(medians[0] - medians[1]) / max(medians)

    # A busy machine may tell them apart once, and not twice the same way.
    assert any(difference() < 0.05 for _ in range(3))


def test_the_feed_tells_everybody_and_a_hold_nobody_but_officers(served: Served) -> None:
    person = complain(served)
    ask(served, person)
    at = served.head()
    served.follow()
    for role in ("subscriber", "auditor", "provider", OFFICER):
        line = served.get(f"/v1/events/{at}", role).json()
        assert line["data"] == {"person": person, "ground": "CONSENT_WITHDRAWN", "through": at - 1}
    assert served.get(f"/v1/events/{at}").json()["data"]["person"] == person


def test_a_duty_to_retain_is_told_with_its_day_and_kept_by_the_worker(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    keys = tmp_path / "keys"
    book = first_rulebook()
    book["privacy"]["retentions"]["TRANSACTION_RECORDS"] |= {
        "events": {"complaint_outcome.recorded.v1": "decided_on"},
        # Shorter than the law has it: no clock here may be ahead of the database server's.
        "period": {"count": 7, "unit": "months"},
    }

    def ledger_of(database: Database, clock: Callable[[], Any]) -> Ledger:
        return new_ledger(database, clock, keys)

    with serving(database, keys, clock, new_ledger=ledger_of, opened=False) as served:
        asyncio.run(Desk(served.ledger).open_ledger(given.opening(rulebook=book), given.REGISTRAR))
        served.provide()
        person = complain(served)
        answer = ask(served, person)
        assert answer.status_code == 202
        held = PersonStanding.model_validate(answer.json())
        assert (held.state, held.until, held.erased) == ("held", "2026-09-10", None)
        assert held.basis is not None
        assert held.basis.article == "《电子商务法》第三十一条"
        assert "2026-09-10" in held.words.zh
        assert "2026-09-10" in held.words.en
        assert ask(served, person).json() == answer.json()
        served.follow()
        stub = served.get(f"/v1/events/{held.position}", "subscriber").json()
        assert stub["withheld"] == "not-public"
        assert served.get(f"/v1/events/{held.position}", OFFICER).json()["data"]["until"]
        erasures = Erasures(served.ledger, Docket(keys), clock=clock)
        clock.set(2026, 9, 10, 15, 59)
        keep_once(erasures, Marks(served.ledger), clock())
        assert erasures.standing(person).state == "held"
        clock.set(2026, 9, 10, 16, 1)
        keep_once(erasures, Marks(served.ledger), clock())
        keep_once(erasures, Marks(served.ledger), clock())
        assert erasures.standing(person).state == "erased"
        (last,) = served.ledger.read(served.head() - 1, 1)
        assert json.loads(last.state)["actorrole"] == "system"


# --- nothing finds it any more -------------------------------------------------------------------


def test_after_erasure_nothing_finds_the_text_and_nothing_else_has_changed(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    person, other = complain(served), complain(served, "李某某", "139-1234-5678")
    served.penalise()
    served.follow()
    mark(served)
    score = served.get(f"/v1/providers/{given.PROVIDER}/score", "auditor").json()
    sheet = served.get(f"/v1/disclosure/providers/{given.PROVIDER}").json()
    events = [row.state for row in served.ledger.read(0, 100)]
    assert ask(served, person).status_code == 200
    served.follow()
    assert [row.state for row in served.ledger.read(0, len(events))] == events
    again = served.get(f"/v1/providers/{given.PROVIDER}/score", "auditor").json()
    now_and_then = {"position": 0, "known_at": 0}
    assert again | now_and_then == score | now_and_then
    now = served.get(f"/v1/disclosure/providers/{given.PROVIDER}").json()
    assert now | {"position": 0} == sheet | {"position": 0}
    copy = served.get(f"/v1/persons/{other}/copy", OFFICER).text
    assert "李某某" in copy

    said = whole_database(served.ledger.database) + (served.keys / DOCKET_FILE).read_bytes()
    for role in [*ROLES, None]:
        for path in (
            "/v1/feed?after=0&limit=1000",
            f"/v1/providers/{given.PROVIDER}/events",
            f"/v1/providers/{given.PROVIDER}/score",
            f"/v1/providers/{given.PROVIDER}/case",
            f"/v1/providers/{given.PROVIDER}/accesses",
            f"/v1/disclosure/providers/{given.PROVIDER}",
            f"/providers/{given.PROVIDER}",
            f"/v1/persons/{person}/copy",
            "/v1/quarantine",
            "/metrics",
            "/",
        ):
            said += served.get(path, role).content
    said += "".join(capfd.readouterr()).encode()
    assert person.encode() in said
    for text in (NAME, CONTACT, alike(CONTACT)):
        for written in (
            text.encode(),
            json.dumps(text)[1:-1].encode(),
            text.encode().hex().encode(),
        ):
            assert written not in said


def test_every_process_forgets_the_key(served: Served, clock: Clock) -> None:
    person = complain(served)
    complain(served, person=person)
    persons = served.ledger.vault.persons
    assert persons.take([person]) is not None
    with new_ledger(served.ledger.database, clock, served.keys) as other:
        # Erased by another process, which knows nothing of what this one remembers.
        forgetting = Forgetting(served.ledger, served.tail, clock=clock)
        forgetting.start()
        elsewhere = Erasures(other, Docket(served.keys), clock=clock)
        elsewhere.erase(person, "CONSENT_WITHDRAWN", given.REGISTRAR, document=None)
        wait_until(lambda: persons.take([person]) is None)
        # And the key of an epoch that another process destroyed, though nobody asks for anything.
        content = json.loads((served.keys / KEY_FILE).read_bytes())
        key = b64decode(content["keys"]["1"])
        assert held(persons.keyring, key)
        destroyed(served.keys)
        wait_until(lambda: not held(persons.keyring, key))
        forgetting.stop()


# --- small parts ---------------------------------------------------------------------------------


def test_every_group_says_why_it_is_kept() -> None:
    groups = {one.__name__ for one in Private.__subclasses__()}
    assert groups == set(WHY)
    assert "person" not in marks.fields()


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("张 某某", "张某某"),
        ("１３８－００００", "138-0000"),
        ("Ana-María", "ANAMARÍA"),
        ("欧阳·娜", "欧阳娜"),
    ],
)
def test_what_only_writing_decides_makes_no_difference(given: str, same: str) -> None:
    assert alike(given) == alike(same)
    assert alike(given) != alike(same + "x")
