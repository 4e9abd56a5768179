"""What each event type means for the score, and that whatever is recorded can be scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from ledger import provider
from ledger.acts import ACT_OF_EVENT
from ledger.calendar import local_day
from ledger.envelope import TYPE_PREFIX, Event, new_id, new_nonce
from ledger.errors import LedgerError, UnknownEventType
from ledger.events import Data, Later, provider_stream
from ledger.findings import Bench
from ledger.identity import Actor
from ledger.proposal import ProposalMade
from ledger.provider import Provider
from ledger.rulebook import Rulebooks, decide, evolve
from ledger.vocabulary import EVENT_TYPES
from projections.case import ACTS, check, parse_fact
from projections.facts import MEANINGS, SCORING_ACTS, facts_of, read_fact
from projections.scoring import score
from tests import given
from tests.histories import Author

FIRST_DAY = date(2025, 6, 2)


class Stream:
    """One provider's stream without a database: decide, evolve, encode."""

    def __init__(self, rulebooks: Rulebooks, random: Random, today: date = given.TODAY) -> None:
        self.rulebooks = rulebooks
        self.random = random
        self.today = today
        self.state = Provider(given.PROVIDER)
        self.envelopes: list[dict[str, Any]] = []

    def record(self, command: Data) -> dict[str, Any]:
        """The envelope of the one event that a command leads to, stored. Raises LedgerError."""
        bench = Bench(self.today, self.rulebooks, given.REGISTRAR)
        (data,) = provider.decide(self.state, command, bench)
        causation = None
        if isinstance(data, ProposalMade):
            causation = self._store(data, given.REGISTRAR)["id"]
            second = replace(bench, actor=given.THIRD)
            (data,) = provider.decide(self.state, given.approve(causation), second)
        return self._store(data, given.REGISTRAR if causation is None else given.THIRD, causation)

    def _store(self, data: Data, actor: Actor, causation: str | None = None) -> dict[str, Any]:
        # 16:30 UTC is half past midnight of the next day in Shanghai.
        now = datetime(self.today.year, self.today.month, self.today.day, 16, 30, tzinfo=UTC)
        now -= timedelta(days=1)
        assert local_day(now) == self.today
        event = Event(
            id=new_id(now, self.random.randbytes(10)),
            stream=provider_stream(given.PROVIDER),
            version=self.state.version + 1,
            data=data,
            actor=actor,
            nonce=new_nonce(self.random.randbytes(16)),
            subject=given.PROVIDER,
            time=now,
            causation=causation,
        )
        state, _ = event.encode()
        envelope: dict[str, Any] = orjson.loads(state)
        self.envelopes.append(envelope)
        provider.evolve(self.state, event)
        return envelope

    def facts(self) -> list[dict[str, Any]]:
        """Everything that was recorded, as facts."""
        return [fact for envelope in self.envelopes for fact in facts_of(envelope)]


def rulebooks(*books: dict[str, Any]) -> Rulebooks:
    """The state of a rulebook stream that was opened and got these books."""
    state = Rulebooks()
    state = evolve(state, Event("", "rulebook", 1, given.opening(), given.REGISTRAR, ""))
    for version, book in enumerate(books, 2):
        (data,) = decide(state, given.publish(book), today=FIRST_DAY)
        state = evolve(state, Event("", "rulebook", version, data, given.REGISTRAR, ""))
    return state


@pytest.fixture
def stream() -> Stream:
    stream = Stream(rulebooks(), Random(1))
    stream.record(given.register())
    return stream


def test_every_event_type_has_a_meaning() -> None:
    assert set(MEANINGS) == set(EVENT_TYPES)


def test_every_act_of_the_score_has_an_event_and_no_event_has_another() -> None:
    acts = {act for event, act in ACT_OF_EVENT.items() if issubclass(event, Later)}
    assert acts - {"revoked"} == set(SCORING_ACTS.values()) == ACTS, "a licence brings no points"


def test_a_type_without_meaning_is_refused() -> None:
    envelope = {"type": TYPE_PREFIX + "pledge.made.v1", "id": "x", "source": "/streams/s"}
    with pytest.raises(UnknownEventType, match=r"pledge\.made\.v1"):
        facts_of(envelope)


def test_the_providers_status_is_no_fact(stream: Stream) -> None:
    for command in (
        given.admit(),
        given.suspend_provider(),
        given.resume_provider(),
        given.exit_provider(),
    ):
        assert facts_of(stream.record(command)) == []


def test_a_penalty_is_a_demerit(stream: Stream) -> None:
    command = given.penalty(
        severity="S3",
        severity_reason=given.evidence(),
        issuer=given.issuer("COURT"),
        ended_on=date(2026, 1, 20),
        mitigation=["CORRECTED_PROMPTLY", "COMPENSATED"],
        obligation=True,
    )
    envelope = stream.record(command)
    assert facts_of(envelope) == [
        {
            "kind": "demerit",
            "id": envelope["id"],
            "incident": command.incident,
            "category": "ADVERT",
            "family": "AD_FALSE_CLAIM",
            "severity": "S3",
            "issuer": "COURT",
            "occurred_on": "2026-01-05",
            "ended_on": "2026-01-20",
            "decided_on": "2026-02-10",
            "served_on": "2026-02-12",
            "mitigation": ["CORRECTED_PROMPTLY", "COMPENSATED"],
            "obligation": True,
            "recorded_on": "2026-03-02",
        }
    ]


def test_the_day_of_recording_is_that_of_shanghai(stream: Stream) -> None:
    envelope = stream.record(given.inspection())
    assert envelope["time"] == "2026-03-01T16:30:00.000000Z"
    assert {fact["recorded_on"] for fact in facts_of(envelope)} == {"2026-03-02"}


def test_a_breach_is_a_demerit(stream: Stream) -> None:
    (fact,) = facts_of(stream.record(given.breach()))
    assert (fact["kind"], fact["family"], fact["issuer"]) == ("demerit", "LATE_DELIVERY", "COURT")


def test_a_complaint_scores_only_by_its_finding(stream: Stream) -> None:
    assert facts_of(stream.record(given.complaint(outcome="UNSUBSTANTIATED"))) == []
    envelope = stream.record(given.complaint(outcome="PARTLY"))
    (fact,) = facts_of(envelope)
    assert (fact["kind"], fact["id"]) == ("demerit", envelope["id"])
    assert (fact["family"], fact["severity"]) == ("LATE_RESPONSE", "S1")


def test_a_reward_and_a_contract_are_merits(stream: Stream) -> None:
    envelopes = [
        stream.record(given.reward(consent=False)),
        stream.record(given.reward(item="CONTRACT_COMPLETED", counterparty=given.OTHER_CLIENT)),
        stream.record(given.contract()),
    ]
    merits = [(fact["item"], fact["counterparty"]) for fact in stream.facts()]
    assert merits == [
        ("REGULATOR_HONOUR", None),
        ("CONTRACT_COMPLETED", given.OTHER_CLIENT),
        ("CONTRACT_COMPLETED", given.CLIENT),
    ]
    assert [fact["id"] for fact in stream.facts()] == [one["id"] for one in envelopes]
    assert {fact["on"] for fact in stream.facts()} == {"2026-02-01"}


def test_a_listing_is_a_listing(stream: Stream) -> None:
    envelope = stream.record(given.listing())
    assert facts_of(envelope) == [
        {
            "kind": "listing",
            "id": envelope["id"],
            "listed_on": "2026-02-01",
            "recorded_on": "2026-03-02",
        }
    ]


def test_a_clean_inspection_is_two_facts_and_overturning_voids_both(stream: Stream) -> None:
    clean = stream.record(given.inspection())
    facts = facts_of(clean)
    assert [(fact["kind"], fact["id"]) for fact in facts] == [
        ("inspection", clean["id"]),
        ("merit", f"{clean['id']}/merit"),
    ]
    assert facts[1]["item"] == "INSPECTION_CLEAN"
    overturning = stream.record(given.overturn(clean["id"]))
    acts = facts_of(overturning)
    assert [(act["id"], act["target"], act["act"]) for act in acts] == [
        (overturning["id"], clean["id"], "overturned"),
        (f"{overturning['id']}/merit", f"{clean['id']}/merit", "overturned"),
    ]
    assert scored(stream, given.TODAY)["evidence_count"] == 0
    assert scored(stream, given.TODAY)["score"] == "80.00"


def test_an_inspection_with_findings_is_evidence_only(stream: Stream) -> None:
    envelope = stream.record(given.inspection(result="FINDING", serious_count=2))
    assert [fact["kind"] for fact in facts_of(envelope)] == ["inspection"]
    (act,) = facts_of(stream.record(given.overturn(envelope["id"])))
    assert act["target"] == envelope["id"]


def test_every_act_on_a_demerit(stream: Stream) -> None:
    target = stream.record(given.penalty(obligation=True))["id"]
    acts: list[tuple[Callable[..., Data], str, date]] = [
        (given.suspend, "suspended", date(2026, 2, 20)),
        (given.resume, "resumed", date(2026, 2, 21)),
        (given.fulfil, "fulfilled", date(2026, 2, 22)),
        (given.revoke_fulfilment, "fulfilment_revoked", date(2026, 2, 23)),
        (given.fulfil, "fulfilled", date(2026, 2, 24)),
    ]
    for command, act, on in acts:
        envelope = stream.record(command(target, on=on))
        assert facts_of(envelope) == [
            {
                "kind": "act",
                "id": envelope["id"],
                "target": target,
                "act": act,
                "on": on.isoformat(),
                "recorded_on": "2026-03-02",
            }
        ]
    stream.today = date(2026, 6, 1)
    repair: list[tuple[Callable[..., Data], str]] = [
        (given.repair, "repaired"),
        (given.revoke_repair, "repair_revoked"),
    ]
    for command, act in repair:
        stream.today += timedelta(days=1)
        (fact,) = facts_of(stream.record(command(target, on=stream.today)))
        assert (fact["act"], fact["on"]) == (act, stream.today.isoformat())
    (fact,) = facts_of(stream.record(given.overturn(target, on=stream.today)))
    assert fact["act"] == "overturned"


def test_the_end_of_publicity_changes_no_score(stream: Stream) -> None:
    target = stream.record(given.penalty(public_until=date(2026, 5, 10)))["id"]
    stream.today = date(2026, 5, 10)
    assert facts_of(stream.record(given.end_publicity(target))) == []


def test_revoking_a_reward_and_leaving_the_list(stream: Stream) -> None:
    reward, listing = stream.record(given.reward())["id"], stream.record(given.listing())["id"]
    (voided,) = facts_of(stream.record(given.revoke_reward(reward)))
    assert (voided["target"], voided["act"]) == (reward, "overturned")
    (removed,) = facts_of(stream.record(given.delist(listing)))
    assert (removed["target"], removed["act"], removed["on"]) == (listing, "removed", "2026-03-02")


def scored(stream: Stream, day: date) -> Any:
    """The checked score of everything recorded."""
    assert stream.rulebooks.scales is not None
    facts = [parse_fact(fact) for fact in stream.facts()]
    check(facts, stream.rulebooks.scales)
    return score(facts, stream.rulebooks.scales, as_of=day, known_at=0)


def later_book() -> dict[str, Any]:
    """Other numbers, one issuer and one merit retired, and a severity that is never shown."""
    book = given.rulebook("RB-2025.9", "2025-09-01")
    scoring, items = book["scoring"], book["items"]
    scoring["baseline"] = "70.00"
    scoring["severity_points"] |= {"S1": "4", "S2": "3"}
    for table in (scoring["issuer_weight"], items["issuers"]):
        del table["PLATFORM"]
    for table in (scoring["merit"], items["merits"]):
        del table["SOCIAL"]
    items["families"]["LATE_RESPONSE"]["least"] = "S0"
    return book


BOOKS = rulebooks(later_book())


def later_commands(stream: Stream, author: Author, steps: Sequence[int]) -> int:
    """Let an author write, some days after each other; how much was recorded."""
    recorded = 0
    for days in steps:
        stream.today += timedelta(days=days)
        try:
            stream.record(author.propose(stream.state, stream.today))
            recorded += 1
        except LedgerError:
            continue
    return recorded


@settings(max_examples=60)
@drawn(
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from([0, 0, 1, 7, 40]), min_size=25, max_size=60),
    st.integers(0, 900),
)
def test_what_is_recorded_can_always_be_scored(random: Any, steps: list[int], later: int) -> None:
    stream = Stream(BOOKS, Random(2), FIRST_DAY)
    later_commands(stream, Author(random, BOOKS), steps)
    facts = stream.facts()
    assert len({fact["id"] for fact in facts}) == len(facts)
    assert [read_fact(fact) for fact in facts] == [parse_fact(fact) for fact in facts]
    for day in (FIRST_DAY, stream.today, stream.today + timedelta(days=later)):
        scored(stream, day)


def test_the_authors_histories_are_rich() -> None:
    kinds: set[str] = set()
    acts: set[str] = set()
    for seed in range(40):
        stream = Stream(BOOKS, Random(seed), FIRST_DAY)
        later_commands(stream, Author(Random(seed), BOOKS), [3] * 120)
        kinds |= {envelope["type"].removeprefix(TYPE_PREFIX) for envelope in stream.envelopes}
        acts |= {fact.get("act", "") for fact in stream.facts()}
    not_the_authors = {
        *("ledger.opened.v1", "rulebook.published.v1", "provider.exited.v1"),
        *("access.recorded.v1", "proposal.refused.v1", "proposal.withdrawn.v1"),
        *("person.erased.v1", "person.held.v1", "person.released.v1"),
    }
    assert kinds == set(EVENT_TYPES) - not_the_authors
    assert acts >= {"repaired", "repair_revoked", "fulfilment_revoked", "removed", "overturned"}
