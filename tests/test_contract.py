"""The API under contract: schemathesis over the whole published document, on a live server.

Every operation of `/openapi.json` is called with what the document allows (it must be accepted, or
refused as the document says) and with what it forbids (it must be refused), in three phases:
examples, coverage (each constraint at its edges, methods and headers that are not there) and
fuzzing; then along the links of the document. New routes are picked up by themselves.

Data that the document allows is real: `format` has generators for identifiers (new ones with a
right check character, and known ones), days near the ledger's own, and recorded facts; the examples
are those of the document, with the providers and facts of the ledger under test. Therefore each
operation must have succeeded at least once, or stand in `NEVER_DONE` with the reason.

All is derandomised: the same requests in every run. Left out, and tested elsewhere: answers that
have no end (`Accept: text/event-stream`, `Prefer: wait`; `tests/test_api_feed.py`), which no
parameter of the document asks for by chance.
"""

from __future__ import annotations

import asyncio
import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import orjson
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.engine import events, from_schema

from api import reads
from api.lines import JSON_LINES, JSON_LINES_TOO
from api.openapi import IDENTIFIER_FORMAT
from ledger import database as ledger_database
from ledger.database import Database
from ledger.events import Data
from ledger.proposal import NEEDS_TWO
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, serving
from tests.test_persons_api import complain
from tests.test_quarantine import HEADER
from tests.test_quarantine_api import take

Json = dict[str, Any]

SEED = 20260302
PROPOSER = "0198c7a0-0000-4000-8000-0000000000f1"
EXAMPLES = 10
EXAMPLES_OF_OTHERS = 4
NEVER_DONE: dict[str, str] = {}
"""Operations that no request of this test can bring to succeed, and why."""
UNCHECKED: dict[str, dict[str, str]] = {
    "POST /v1/imports": {
        "negative_data_rejection": "its body is lines, each judged and answered by itself",
    },
}
"""Checks that are left out, by operation, and why."""
# In a role that may, what the document allows is done, or the domain refuses it: there is no such
# provider or fact, or the rules do not admit it.
ACCEPTED_OR_REFUSED_BY_THE_DOMAIN = ["2xx", "304", "404", "409"]
REFUSED_BY_THE_SCHEMA = ["400", "404", "405", "406", "409", "415", "422"]

# --- formats: what the published schema means by them --------------------------------------------

CHARACTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015, in the order of their values."""


def with_check_character(code: str) -> str:
    """A USCC of its first 17 characters, by the standard's own sum (GB 32100-2015 §5)."""
    total = sum(CHARACTERS.index(one) * pow(3, place, 31) for place, one in enumerate(code))
    return code + CHARACTERS[-total % 31]


new_codes = st.text(CHARACTERS, min_size=7, max_size=7).map(
    lambda text: with_check_character(f"91999999MA{text}")
)
"""Of division 999999, which does not exist: nobody bears them."""
foreign = st.from_regex(r"(HK-CR|MO-SR|JP-MHLW)-[0-9]{8}", fullmatch=True)


def written(identifier: str) -> st.SearchStrategy[str]:
    """An identifier as people write it: also in lower case, and in full width."""
    wide = "".join(chr(ord(one) + 0xFEE0) for one in identifier)
    return st.sampled_from([identifier, identifier, identifier.lower(), wide])


def register_formats(known: Known) -> None:
    """Tell schemathesis how valid values of the document's formats are made."""
    identifiers = st.one_of(st.sampled_from(known.providers), new_codes, foreign)
    facts = sorted({fact for facts in known.facts.values() for fact in facts})
    day = st.integers(-800, 90).map(lambda days: str(given.TODAY + timedelta(days=days)))
    schemathesis.openapi.format(IDENTIFIER_FORMAT, identifiers.flatmap(written))
    schemathesis.openapi.format("uuid", st.one_of(st.sampled_from(facts), st.uuids().map(str)))
    schemathesis.openapi.format("date", st.one_of(day, st.dates().map(str)))


@schemathesis.serializer(JSON_LINES, JSON_LINES_TOO)
def lines_of(_: schemathesis.SerializationContext, value: object) -> bytes:
    """A body of JSON Lines: the text as it is; what is no text, as a line of JSON."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else orjson.dumps(value)


# --- the ledger under test -----------------------------------------------------------------------


class Known(NamedTuple):
    """What the ledger under test holds: whom each operation's example concerns, which fact, row."""

    providers: list[str]
    subjects: Mapping[str, str]
    facts: Mapping[str, list[str]]
    rows: Mapping[str, int]
    proposals: Mapping[str, str]
    persons: Mapping[str, str]


BODIES: dict[str, Json] = {
    "correction": {"set": {"code": given.PROVIDER}, "why": "与营业执照核对"},
    "acceptance": {"why": "与营业执照核对"},
    "rejection": {"why": "非本账本主体"},
}
"""Verdicts on rows in quarantine."""


def recorded(served: Served, path: str, command: Data) -> str:
    """Record a command; the id of its event."""
    write = served.by_two if type(command) in NEEDS_TWO else served.post
    response = write(path, command.model_dump(mode="json", exclude={"target"}))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def hold(served: Served) -> dict[str, int]:
    """Rows in quarantine, by the verdict that each waits for."""
    wrong = f"{given.PROVIDER[:-1]}0,示例公司,虚假宣传,,2026-01-06\n"
    lines = [f"{number},{wrong}" for number in (901, 902, 903)]
    with asyncio.Runner() as runner:
        take(served, runner.run, "".join([HEADER, *lines]))
    rows = served.get("/v1/quarantine", "registrar").json()["rows"]
    ids = dict(zip(BODIES, (row["id"] for row in rows), strict=True))
    address = f"/v1/quarantine/{ids['acceptance']}/correction"
    assert served.post(address, BODIES["correction"]).json()["problems"] == []
    return ids


def proposer(served: Served) -> str:
    """A token of who made the proposals, who alone may withdraw them."""
    return served.tokens.issue(role="registrar", organisation="CN-REG-1", ref=PROPOSER)


def propose(served: Served, provider: str) -> dict[str, str]:
    """Proposals, by the verdict that each waits for; "" waits for none."""
    found = {}
    headers = {"Authorization": f"Bearer {proposer(served)}"}
    for verdict in ("approval", "refusal", "withdrawal", ""):
        body = given.listing().model_dump(mode="json")
        made = served.client.post(f"/v1/providers/{provider}/listings", json=body, headers=headers)
        assert made.status_code == 202, made.text
        found[verdict] = made.json()["id"]
    return found


def fill(served: Served) -> Known:
    """Providers in every state, facts for each later decision, and rows in quarantine."""
    main, admitted, suspended, leaving, fresh = given.PROVIDERS[:5]
    more = [with_check_character(f"91999999MB{number:07}") for number in range(12)]
    for provider in (main, admitted, suspended, leaving, fresh, *more):
        served.provide(provider)
    prefix, early = "/v1/providers/", given.TODAY - timedelta(days=30)
    for provider in (admitted, suspended, leaving):
        recorded(served, f"{prefix}{provider}/admission", given.admit(decided_on=early))
    recorded(served, f"{prefix}{suspended}/suspension", given.suspend_provider(decided_on=early))
    facts: dict[str, list[str]] = defaultdict(list)
    days = dict.fromkeys(
        ("occurred_on", "decided_on", "served_on"), given.TODAY - timedelta(days=400)
    )

    def penalty(**changes: Any) -> str:
        return recorded(served, f"{prefix}{main}/penalties", given.penalty(**changes))

    def later(fact: str, act: str, command: Data) -> str:
        recorded(served, f"{prefix}{main}/decisions/{fact}/{act}", command)
        return fact

    for _ in range(3):
        facts["suspension"].append(penalty())
        facts["overturning"].append(penalty())
        facts["resumption"].append(later(fact := penalty(), "suspension", given.suspend(fact)))
        facts["fulfilment"].append(penalty(obligation=True))
        fact = penalty(obligation=True)
        facts["fulfilment-revocation"].append(later(fact, "fulfilment", given.fulfil(fact)))
        facts["repair"].append(penalty(**days))
        facts["repair-revocation"].append(
            later(fact := penalty(**days), "repair", given.repair(fact))
        )
        facts["removal"].append(recorded(served, f"{prefix}{main}/listings", given.listing()))
        facts["revocation"].append(recorded(served, f"{prefix}{main}/rewards", given.reward()))
        licence = recorded(served, f"{prefix}{main}/qualifications", given.qualification())
        facts["qualification-revocation"].append(licence)
    served.follow()
    subjects = {
        "admission": fresh,
        "suspension": admitted,
        "resumption": suspended,
        "exit": leaving,
    }
    proposals = propose(served, main)
    facts["proposals"] += proposals.values()
    known = ([*given.PROVIDERS[:5], *more], subjects, facts, hold(served), proposals)
    return Known(*known, persons_of(served))


def persons_of(served: Served) -> dict[str, str]:
    """Somebody for each request about a person; the one to be released is held."""
    fields = given.contract().model_dump(mode="json", exclude_none=True, exclude={"counterparty"})
    body = fields | {"agreement": {"client": "示例品牌有限公司", "title": "代运营合同"}}
    at = positioned(served.post(f"/v1/providers/{given.PROVIDERS[0]}/contracts", body))
    held = served.get(f"/v1/events/{at}", "auditor").json()["data"]["counterparty"]
    asked = {"ground": "CONSENT_WITHDRAWN"}
    answer = served.post(f"/v1/persons/{held}/erasure", asked, "privacy_officer")
    assert answer.status_code == 202, answer.text
    return {"copy": complain(served), "erasure": complain(served), "release": held}


def named(document: Json, known: Known) -> Json:
    """The published document, its examples naming providers and facts of this ledger."""
    found = copy.deepcopy(document)
    for path, methods in found["paths"].items():
        *_, last = path.split("/")
        is_act = "/decisions/" in path
        is_proposal = "/proposals/" in path
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "identifier":
                    subject = known.subjects.get(last, given.PROVIDER)
                    main = is_act or is_proposal
                    parameter["example"] = given.PROVIDER if main else subject
                elif parameter["name"] == "person":
                    parameter["example"] = known.persons[last]
                elif parameter["name"] == "id" and is_act:
                    parameter["example"] = known.facts[last][0]
                elif parameter["name"] == "id" and is_proposal:
                    parameter["example"] = known.proposals.get(last, known.proposals[""])
                elif parameter["name"] == "id":
                    parameter["example"] = known.rows.get(last, known.rows["correction"])
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if path.startswith("/v1/quarantine"):
                body |= {"example": BODIES.get(last)}
            elif path == "/v1/providers":
                body["example"] |= {"identifier": given.PROVIDERS[5]}
            elif path == "/v1/rulebooks":
                body["example"] = {"rulebook": given.rulebook("RB-C.1", "2027-01-01")}
    return found


# --- a run ---------------------------------------------------------------------------------------


class Run(NamedTuple):
    """What came of it: how often each operation answered with which status, and what is wrong."""

    answers: Counter[tuple[str, int]]
    findings: list[str]


def settings(served: Served, tokens: Mapping[str, str], *, examples: int, **more: Any) -> Json:
    """The configuration of schemathesis. `tokens`: by operation; "" is that of all others."""

    def bearer(token: str) -> Json:
        return {"headers": {"Authorization": f"Bearer {token}"}}

    return {
        "seed": SEED,
        "base-url": f"http://127.0.0.1:{served.port}",
        "request-timeout": 60,
        "continue-on-failure": True,
        "operations": [
            *({"include-name": name, **bearer(token)} for name, token in tokens.items() if name),
            *(
                {"include-name": name, "checks": {one: {"enabled": False} for one in checks}}
                for name, checks in UNCHECKED.items()
            ),
        ],
        "generation": {
            "deterministic": True,
            "no-shrink": True,
            "database": "none",
            "max-examples": examples,
        },
        **(bearer(tokens[""]) if "" in tokens else {}),
        **more,
    }


def run(document: Json, config: Json) -> Run:
    """Call every operation of a document."""
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(config))
    found = Run(Counter(), [])
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.findings.append(f"schemathesis itself: {event}")
        elif isinstance(event, events.ScenarioFinished):
            note(event, found)
    return found


def note(event: events.ScenarioFinished, found: Run) -> None:
    """Add what one scenario brought."""
    for id, interaction in event.recorder.interactions.items():
        operation = event.recorder.cases[id].value.operation
        if interaction.response is None:
            found.findings.append(f"{operation.label}: no answer")
        elif interaction.request.method == operation.method.upper():
            found.answers[operation.label, interaction.response.status_code] += 1
    for check in (check for checks in event.recorder.checks.values() for check in checks):
        if check.failure_info is not None:
            failure, request = check.failure_info.failure, check.failure_info.code_sample
            where = f"{failure.operation} ({event.phase.value}, {check.name})"
            found.findings.append(f"{where}: {failure.title}: {failure.message}\n{request}")


def told(findings: list[str]) -> str:
    """The first findings, for whoever has to mend them."""
    return "\n\n".join([f"{len(findings)} findings", *findings[:10]])


def only(document: Json, *operations: str) -> Json:
    """The document with these operations alone."""
    chosen = [name.split(" ") for name in operations]
    paths = {
        path: {method.lower(): document["paths"][path][method.lower()]} for method, path in chosen
    }
    return copy.deepcopy(document | {"paths": paths})


def operations_of(document: Json) -> dict[str, Json]:
    """The operations of a document by their name, which is method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(databases(), keys, Clock(), new_ledger=new_ledger) as served,
    ):
        # Most positions asked for here never come; how long one waits for them is tested elsewhere.
        patch.setattr(reads, "CATCH_UP_SECONDS", 0.05)
        # A crowded machine is no broken contract: what a read that is too slow gets is a 503.
        patch.setattr(ledger_database, "READ_SECONDS", 60)
        yield served


@pytest.fixture(scope="module")
def document(served: Served) -> Json:
    known = fill(served)
    register_formats(known)
    return named(served.get("/openapi.json").json(), known)


# --- the contract --------------------------------------------------------------------------------


def test_the_api_keeps_its_contract(served: Served, document: Json) -> None:
    """Every operation in a role that may: nothing is found, and each operation succeeds."""
    operations = operations_of(document)
    tokens = {"": served.token("registrar")} | {
        name: served.token(operation["x-roles"][0])
        for name, operation in operations.items()
        if "x-roles" in operation
    }
    tokens["POST /v1/providers/{identifier}/proposals/{id}/withdrawal"] = proposer(served)
    checks = {
        "positive_data_acceptance": {"expected-statuses": ACCEPTED_OR_REFUSED_BY_THE_DOMAIN},
        "negative_data_rejection": {"expected-statuses": REFUSED_BY_THE_SCHEMA},
    }
    phases = {"coverage": {"generate-duplicate-query-parameters": True}}
    config = settings(served, tokens, examples=EXAMPLES, checks=checks, phases=phases)
    found = run(document, config)
    assert not found.findings, told(found.findings)
    done = {name for name, status in found.answers if 200 <= status < 300}
    assert set(operations) - done == set(NEVER_DONE)
    # Valid codes were sent, each made by the standard's sum, and taken for valid.
    served.follow()
    rows = served.get("/v1/disclosure/providers?q=91999999MA&limit=100").json()["providers"]
    made = {row["provider"] for row in rows} - set(given.PROVIDERS)
    assert made
    assert all(code == with_check_character(code[:-1]) for code in made)


@pytest.mark.parametrize("role", [None, "provider", "subscriber", "auditor", "rulebook_editor"])
def test_every_reader_is_answered_by_the_contract(
    served: Served, document: Json, role: str | None
) -> None:
    """Reads differ by reader. Who may not write is told so: `tests/test_api_writes.py`."""
    tokens = {} if role is None else {"": served.token(role)}
    all_reads = [name for name in operations_of(document) if name.startswith("GET ")]
    phases = {"coverage": {"enabled": False}, "stateful": {"enabled": False}}
    config = settings(served, tokens, examples=EXAMPLES_OF_OTHERS, phases=phases)
    found = run(only(document, *all_reads), config)
    assert not found.findings, told(found.findings)
    assert {name for name, _ in found.answers} == set(all_reads)


def test_a_document_that_lies_is_found_out(served: Served, document: Json) -> None:
    """What finds nothing must be able to find something."""
    lying = only(document, "GET /v1/ledger", "GET /problems/{code}", "GET /v1/feed")
    operations = operations_of(lying)
    del operations["GET /problems/{code}"]["responses"]["404"]
    (limit,) = [one for one in operations["GET /v1/feed"]["parameters"] if one["name"] == "limit"]
    limit["schema"]["maximum"] *= 2
    lying["components"]["schemas"]["LedgerFacts"]["properties"]["head"] = {"type": "string"}
    found = run(lying, settings(served, {"": served.token()}, examples=EXAMPLES_OF_OTHERS))
    for lie in (
        "GET /problems/{code} (coverage, status_code_conformance)",
        "GET /v1/feed (coverage, positive_data_acceptance)",
        "GET /v1/ledger (coverage, response_schema_conformance)",
    ):
        assert any(one.startswith(lie) for one in found.findings), told(found.findings)
