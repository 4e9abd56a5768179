"""What follows when somebody asks to be erased: the rulebook's part, and the person's stream."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ledger import errors, person
from ledger.envelope import Event
from ledger.erasure import PersonErasure, PersonHold, PersonRelease, person_stream
from ledger.events import ContractCompleted, Data, provider_stream
from ledger.person import Person
from ledger.privacy import Duty
from ledger.rulebook import Rulebook, first_rulebook, parse_rulebook
from ledger.vault_errors import OfficerOnRecord, PersonNotHeld
from tests import given

WHO = "5f1c8a52-7d0e-4b36-9a41-c3f2e9d1b7a4"
TODAY = date(2026, 3, 2)
UNTIL = date(2029, 2, 10)
DUTY = Duty(UNTIL, "TRANSACTION_RECORDS")
BOOK = parse_rulebook(first_rulebook())


def privacy_of(book: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = book["privacy"]
    return part


def lived(*events: Data) -> Person:
    """The state after these events."""
    state = Person()
    for number, data in enumerate(events, 1):
        state = person.evolve(state, event(data, stream=person_stream(WHO), version=number))
    return state


def event(data: Data, **fields: Any) -> Event:
    known: dict[str, Any] = {
        "id": f"0198c7a0-0000-7000-8000-{fields.get('version', 1):012d}",
        "stream": provider_stream(given.PROVIDER),
        "version": 1,
        "data": data,
        "actor": given.REGISTRAR,
        "nonce": "AAECAwQFBgcICQoLDA0ODw",
        "time": datetime(2026, 3, 2, 1, 30, tzinfo=UTC),
    }
    return Event(**known | fields)


def asked(
    state: Person,
    duty: Duty | None = None,
    *,
    ground: str = "CONSENT_WITHDRAWN",
    acts: bool = False,
    book: Rulebook = BOOK,
) -> Sequence[Data]:
    return person.decide_erasure(
        state,
        person=WHO,
        ground=ground,
        document="R-17",
        duty=duty,
        acts=acts,
        book=book,
        today=TODAY,
    )


ERASURE = PersonErasure(person=WHO, ground="CONSENT_WITHDRAWN", through=0)
HOLD = PersonHold(
    person=WHO,
    ground="CONSENT_WITHDRAWN",
    until=UNTIL,
    basis="TRANSACTION_RECORDS",
    document="R-17",
)


def test_where_no_duty_runs_the_person_is_erased() -> None:
    assert asked(Person()) == [ERASURE]
    assert asked(Person(), Duty(date(2026, 3, 1), "X")) == [ERASURE]


def test_where_a_duty_runs_the_person_is_held_to_its_last_day() -> None:
    assert asked(Person(), DUTY) == [HOLD]
    assert asked(Person(), Duty(TODAY, "X")) == [
        HOLD.model_copy(update={"until": TODAY, "basis": "X"})
    ]


def test_who_acts_here_is_held_or_refused_and_never_erased() -> None:
    assert asked(Person(), DUTY, acts=True) == [HOLD]
    for too_short in (None, Duty(date(2026, 3, 1), "X")):
        with pytest.raises(OfficerOnRecord):
            asked(Person(), too_short, acts=True)


def test_who_asks_again_changes_nothing() -> None:
    assert asked(lived(HOLD)) == []
    assert asked(lived(HOLD), Duty(date(2031, 1, 1), "Y")) == []
    assert asked(lived(ERASURE)) == []
    # Nor does another ground, and be it none of the rulebook's.
    assert asked(lived(ERASURE), ground="WHATEVER") == []


def test_a_ground_is_one_of_the_rulebook() -> None:
    with pytest.raises(errors.CodeNotInForce, match="'BECAUSE' is not in rulebook"):
        asked(Person(), ground="BECAUSE")
    older = BOOK.model_copy(update={"privacy": None})
    with pytest.raises(errors.CodeNotInForce):
        asked(Person(), book=older)


def test_on_the_day_after_the_hold_the_person_is_erased() -> None:
    def due(
        state: Person, today: date, duty: Duty | None = DUTY, *, acts: bool = False
    ) -> Sequence[Data]:
        return person.decide_due(state, person=WHO, duty=duty, acts=acts, today=today)

    assert due(lived(HOLD), UNTIL) == []
    assert due(lived(HOLD), date(2029, 2, 11)) == [ERASURE]
    # More was sealed meanwhile: its own duty runs on.
    longer = Duty(date(2029, 8, 1), "TRANSACTION_RECORDS")
    assert due(lived(HOLD), date(2029, 2, 11), longer) == [
        HOLD.model_copy(update={"until": date(2029, 8, 1)})
    ]
    assert due(lived(HOLD, ERASURE), date(2029, 2, 11)) == []
    assert due(Person(), date(2029, 2, 11)) == []
    # By a later rulebook that does not say how long, an actor is held on.
    assert due(lived(HOLD), date(2029, 2, 11), None, acts=True) == []
    assert due(lived(HOLD), date(2029, 2, 11), DUTY, acts=True) == []


def test_a_hold_ends_early_with_a_ground_that_says_what_follows() -> None:
    def released(
        state: Person, ground: str, book: Rulebook = BOOK, *, acts: bool = False
    ) -> Sequence[Data]:
        return person.decide_release(
            state, person=WHO, ground=ground, document=None, acts=acts, book=book, day=TODAY
        )

    release = PersonRelease(person=WHO, ground="DUTY_ENDED", erased=True)
    assert released(lived(HOLD), "DUTY_ENDED") == [release, ERASURE]
    kept = PersonRelease(person=WHO, ground="REQUEST_WITHDRAWN", erased=False)
    assert released(lived(HOLD), "REQUEST_WITHDRAWN") == [kept]
    assert released(lived(HOLD), "REQUEST_WITHDRAWN", acts=True) == [kept]
    for ground in ("DUTY_ENDED", "DUTY_DID_NOT_APPLY"):
        with pytest.raises(OfficerOnRecord):
            released(lived(HOLD), ground, acts=True)
    # And then everything is as if nobody had asked.
    assert asked(lived(HOLD, kept), DUTY) == [HOLD]
    for state in (Person(), lived(ERASURE), lived(HOLD, kept), lived(HOLD, release, ERASURE)):
        with pytest.raises(PersonNotHeld):
            released(state, "DUTY_ENDED")
    with pytest.raises(errors.CodeNotInForce):
        released(lived(HOLD), "CONSENT_WITHDRAWN")
    with pytest.raises(errors.CodeNotInForce):
        released(lived(HOLD), "DUTY_ENDED", BOOK.model_copy(update={"privacy": None}))


# --- the rulebook's part -------------------------------------------------------------------------


def completed(on: date, **fields: Any) -> Event:
    known = given.contract().model_dump()
    return event(ContractCompleted.model_validate(known | {"on": on}), **fields)


def test_a_duty_runs_from_the_day_that_the_rulebook_names() -> None:
    assert BOOK.privacy is not None
    early, late = completed(date(2023, 2, 28)), completed(date(2026, 2, 10))
    assert BOOK.privacy.duty([early]) == Duty(date(2026, 2, 28), "TRANSACTION_RECORDS")
    assert BOOK.privacy.duty([late, early]) == DUTY
    assert BOOK.privacy.duty([]) is None
    assert BOOK.privacy.duty([event(given.register())]) is None


def test_a_duty_may_be_counted_from_the_recording_and_in_days() -> None:
    book = first_rulebook()
    privacy_of(book)["retentions"]["LOGS"] = {
        "zh": "日志",
        "en": "logs",
        "article": "《网络安全法》第二十一条",
        "events": {"provider.registered.v1": "recorded"},
        "period": {"count": 10, "unit": "days"},
    }
    privacy = parse_rulebook(book).privacy
    assert privacy is not None
    # Half past midnight in Shanghai is the day before in UTC.
    night = event(given.register(), time=datetime(2026, 3, 2, 16, 30, tzinfo=UTC))
    assert privacy.duty([night]) == Duty(date(2026, 3, 13), "LOGS")


def test_whoever_acted_is_known_for_as_long_as_acts_are_kept() -> None:
    assert BOOK.privacy is not None
    duty = BOOK.privacy.duty([completed(date(2026, 2, 10))], acted=date(2026, 2, 1))
    assert duty == Duty(date(2056, 2, 1), "OFFICIAL_RECORDS")
    last = date(2056, 2, 1)
    assert BOOK.privacy.must_be_known(date(2026, 2, 1), last)
    assert not BOOK.privacy.must_be_known(date(2026, 2, 1), date(2056, 2, 2))
    book = first_rulebook()
    del privacy_of(book)["retentions"]["OFFICIAL_RECORDS"]
    older = parse_rulebook(book).privacy
    assert older is not None
    assert older.duty([], acted=TODAY) is None
    assert older.must_be_known(date(1990, 1, 1), TODAY), "nobody has said until when"


def test_rulebooks_without_the_part_are_read_as_ever() -> None:
    book = first_rulebook()
    del book["privacy"]
    assert parse_rulebook(book).privacy is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"events": {"contract.signed.v1": "on"}}, "there is no event contract.signed.v1"),
        ({"events": {"contract.completed.v1": "contract"}}, "has no day contract"),
        ({"events": {"contract.completed.v1": "nothing"}}, "has no day nothing"),
        ({"events": {}}, "names no event"),
        ({"period": {"count": 3, "unit": "working_days"}}, "is counted in days or months"),
        ({"article": ""}, "at least 1 character"),
    ],
)
def test_a_duty_that_nobody_could_count_is_refused(change: dict[str, Any], reason: str) -> None:
    book = deepcopy(first_rulebook())
    privacy_of(book)["retentions"]["TRANSACTION_RECORDS"] |= change
    with pytest.raises(errors.InvalidRulebook, match=reason):
        parse_rulebook(book)


def test_every_ground_has_its_article_in_both_languages() -> None:
    assert BOOK.privacy is not None
    part = BOOK.privacy
    assert len(part.grounds) == 5
    for one in (*part.grounds.values(), *part.retentions.values(), *part.releases.values()):
        assert one.article.startswith("《")
        assert not one.zh.isascii()
        assert one.en.isascii()


def test_the_state_remembers_which_event_held_the_person() -> None:
    held = lived(HOLD).held
    assert held is not None
    assert (held.id, held.data) == ("0198c7a0-0000-7000-8000-000000000001", HOLD)
    assert replace(lived(HOLD, ERASURE), erased=None) == Person(version=2)
