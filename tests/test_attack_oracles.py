"""Questions in disguise: who may write of a provider but not read of it asks by what is refused.

A platform records penalties and complaints without seeing what others recorded. That a number is
taken already must be said to whoever honestly records it again, and whoever asks about one that is
free has recorded something, for ever and under his name. What must not be is a request that is
refused either way and yet tells which of both it was: such a question would leave no trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import httpx2
import orjson
import pytest

from ledger.database import Database
from ledger.handle import Desk
from tests import given
from tests.attack import alike, attacks
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving

Body = dict[str, Any]
THERE = {
    "document_no": "平台处〔2026〕1001号",
    "incident": "INC-HIDDEN-1",
    "complaint": "TS-HIDDEN-1",
}
ABSENT = {
    "document_no": "平台处〔2026〕2002号",
    "incident": "INC-ABSENT-2",
    "complaint": "TS-ABSENT-2",
}
SENT = dict.fromkeys((*THERE.values(), *ABSENT.values()), "<sent>")
ERASED = "0198c7a0-0000-4000-8000-0000000000e1"
PERSON = "0198c7a0-0000-4000-8000-0000000000e2"


class World(NamedTuple):
    """A server that holds what a platform may not see."""

    served: Served
    key: str


@pytest.fixture(scope="module")
def world(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    keys = tmp_path_factory.mktemp("attack") / "keys"
    with (
        serving(databases(), keys, Clock(), new_ledger=new_ledger) as served,
        asyncio.Runner() as runner,
    ):
        desk = Desk(served.ledger)
        minor = {"family": "LATE_RESPONSE", "category": "COMPLAINT", "severity": "S1"}
        numbers = {name: THERE[name] for name in ("document_no", "incident")}
        issuer = given.issuer("PLATFORM", "抖音")
        for command in (
            given.register(),
            given.complaint(
                complaint=THERE["complaint"], finding=given.finding(issuer=issuer, **numbers)
            ),
            given.penalty(issuer=issuer, **minor, **numbers | {"document_no": "另〔2026〕1号"}),
        ):
            runner.run(desk.record(given.PROVIDER, command, given.REGISTRAR))
        served.ledger.vault.forget(ERASED)
        served.follow()
        # A key of the platform's own, spent on something else.
        spent = served.post(
            f"/v1/providers/{given.PROVIDER}/penalties",
            given.penalty(issuer=issuer, **minor).model_dump(mode="json"),
            "platform",
            idempotency_key="spent",
        )
        assert spent.status_code == 201, spent.text
        yield World(served, "spent")


def finding(numbers: dict[str, str], **changes: Any) -> Body:
    """A platform's minor finding."""
    body = given.finding(issuer=given.issuer("PLATFORM", "抖音")).model_dump(mode="json")
    kept = {name: numbers[name] for name in ("document_no", "incident")}
    return body | kept | changes


def complaint(
    numbers: dict[str, str], only: str = "", outcome: Body | None = None, **changes: Any
) -> Body:
    """The outcome of a complaint, as a platform records it; `only` one of the numbers is used."""
    if only:
        numbers = ABSENT | {only: numbers[only]}
    body = given.complaint().model_dump(mode="json")
    fields = {"complaint": numbers["complaint"], "finding": finding(numbers, **changes)}
    return body | fields | (outcome or {})


FLAWS: dict[str, Body] = {
    "decided in the future": {"decided_on": "2026-03-03", "served_on": "2026-03-04"},
    "served long after": {"served_on": "2027-01-01"},
    "decided before it occurred": {"decided_on": "2025-12-31"},
    "served before it was decided": {"served_on": "2026-01-06"},
    "no such family": {"family": "NO_SUCH_FAMILY"},
    "no such mitigation": {"mitigation": ["NO_SUCH"]},
    "another category": {"category": "ADVERT"},
    "too grave for a platform": {"severity": "S3", "severity_reason": None},
    "a reason is missing": {"severity": "S0"},
    "shown too long": {"public_until": "2099-01-01"},
    "a field that is none": {"nosuch": 1},
    "another body's": {"issuer": {"kind": "REGULATOR", "name": "抖音"}},
    "an erased person": {"remark": {"person": ERASED, "text": "x"}},
}
"""What is wrong with a finding whatever stands in the record."""
MUCH = [
    given.evidence().model_dump(mode="json")
    | {"media_type": "application/" + "x" * 68, "described": {"person": PERSON, "text": "说明"}}
    for _ in range(20)
]
OUTCOMES: dict[str, Body] = {
    "decided in the future": {"decided_on": "2026-03-03"},
    "decided before its finding": {"decided_on": "2026-01-10"},
    "without a finding": {"finding": None},
    "with a finding too many": {"outcome": "UNSUBSTANTIATED"},
    "an erased person": {"complainant": {"person": ERASED, "name": "x"}},
    "a field that is none": {"nosuch": 1},
    "another numbers": {"complaint": "有空 格"},
}
"""What is wrong with the outcome of a complaint."""


class Question(NamedTuple):
    """What is asked, at which address and as which command of an import, and with which body."""

    what: str
    address: str
    command: str
    body: Callable[[dict[str, str]], Body]


def questions() -> Iterator[Question]:
    """Every flaw in every place where it may stand."""

    def of_complaint(what: str, body: Callable[[dict[str, str]], Body]) -> Question:
        return Question(what, "complaint-outcomes", "complaint", body)

    for what, flaw in FLAWS.items():
        yield Question(what, "penalties", "penalty", partial(finding, **flaw))
        yield of_complaint(f"finding {what}", partial(complaint, **flaw))
    for what, flaw in OUTCOMES.items():
        yield of_complaint(what, partial(complaint, outcome=flaw))
    yield of_complaint(
        "too much for one event", partial(complaint, outcome={"evidence": MUCH}, evidence=MUCH)
    )
    # Only one of the numbers is known: which one is it?
    early = {"decided_on": "2026-01-10"}
    for name in THERE:
        yield of_complaint(f"only the {name}", partial(complaint, only=name, outcome=early))
    other: Body = {"category": "ADVERT", "family": "AD_FALSE_CLAIM"}
    yield of_complaint(
        "an incident of another category",
        partial(complaint, only="incident", outcome=early, **other),
    )


def test_no_question_is_answered_that_leaves_no_trace(world: World) -> None:
    served = world.served
    path = f"/v1/providers/{given.PROVIDER}"
    with attacks("write-oracles") as tally:
        for what, address, command, body in questions():
            for role in ("platform", "association"):
                head = served.head()
                answers = [
                    served.post(f"{path}/{address}", body(one), role) for one in (THERE, ABSENT)
                ]
                refused = served.head() == head and answers[1].status_code >= 400
                same = alike(answers[0], SENT) == alike(answers[1], SENT)
                tally.attack((what, role), [one.text for one in answers], good=refused and same)
                lines = [imported(served, role, command, body(one)) for one in (THERE, ABSENT)]
                refused = served.head() == head
                tally.attack((what, role, "import"), lines, good=refused and lines[0] == lines[1])


def imported(served: Served, role: str, command: str, body: Body) -> str:
    """What becomes of a line of an import, without what its asker sent."""
    line = {"key": "probe", "identifier": given.PROVIDER, "command": command, "data": body}
    headers = served.bearer(role) | {"Content-Type": "application/x-ndjson"}
    answer: httpx2.Response = served.client.post(
        "/v1/imports", content=orjson.dumps(line) + b"\n", headers=headers
    )
    text = answer.text
    for value in SENT:
        text = text.replace(value, "<sent>")
    return text


def test_a_key_that_is_spent_answers_alike_whatever_it_is_asked(world: World) -> None:
    path = f"/v1/providers/{given.PROVIDER}"
    with attacks("spent-keys") as tally:
        for address, body in (("penalties", finding), ("complaint-outcomes", complaint)):
            answers = [
                world.served.post(
                    f"{path}/{address}", body(one), "platform", idempotency_key=world.key
                )
                for one in (THERE, ABSENT)
            ]
            same = alike(answers[0], SENT) == alike(answers[1], SENT)
            tally.attack(address, [one.text for one in answers], good=same)


def test_a_key_of_others_answers_nobody_else(world: World) -> None:
    """Not another organisation, whatever it guesses: neither the first answer nor that there is."""
    served = world.served
    body = finding({"document_no": "键〔2026〕1号", "incident": "INC-KEY-1"})
    path = f"/v1/providers/{given.PROVIDER}/penalties"
    first = served.post(path, body, "platform", idempotency_key="guess-me")
    assert first.status_code == 201
    with attacks("others-keys") as tally:
        for role, organisation in (
            ("platform", "CN-KUAISHOU"),
            ("registrar", "CN-REG-2"),
            ("platform", "CN-DOUYIN2"),
        ):
            asked = {"Authorization": f"Bearer {served.token(role, organisation)}"}
            pair = [
                served.client.post(path, json=body, headers=asked | {"Idempotency-Key": key})
                for key in ("guess-me", "no-such1")
            ]
            same = alike(pair[0], {}) == alike(pair[1], {})
            good = same and pair[0].status_code == 409
            good = good and "idempotent-replayed" not in pair[0].headers
            tally.attack((role, organisation), [one.text for one in pair], good=good)


def test_an_honest_repetition_is_told_without_the_earlier_event(world: World) -> None:
    """A check of the check: the two worlds differ, and an honest request sees that they do."""
    path = f"/v1/providers/{given.PROVIDER}/complaint-outcomes"
    with attacks("duplicates") as tally:
        for body in (complaint(THERE), complaint(ABSENT | {"complaint": THERE["complaint"]})):
            answer = world.served.post(path, body, "platform")
            told = answer.json()
            good = answer.status_code == 409 and told["code"] == "duplicate-fact"
            tally.attack("honest", answer.text, good=good and "target" not in told["facts"])
