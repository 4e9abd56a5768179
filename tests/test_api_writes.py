"""Writes over HTTP: every address, every role, every receipt, and requests that are repeated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest

from api.answers import Receipt
from api.examples import EXAMPLES, LINE
from api.openapi import ON_FACT
from api.roles import ROLES
from api.writes import WRITES, RegisterProvider, Write
from ledger import acts, events
from ledger.database import Database
from ledger.events import Data
from ledger.findings import ConfirmBreach, ImposePenalty
from ledger.proposal import Verdict
from ledger.provider import RecordComplaintOutcome, RecordInspection
from ledger.qualification import QualificationVerified
from ledger.referral import ReferralRecorded
from ledger.rulebook import PublishRulebook
from ledger.status import ResumeProvider
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, problem, serving

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        yield served


@pytest.fixture
def provider(served: Served) -> str:
    """A provider of this test alone, registered."""
    identifier = f"HK-CR-{next(numbers)}"
    served.provide(identifier)
    return identifier


def body_of(command: Data) -> dict[str, Any]:
    return command.model_dump(mode="json")


def event_at(served: Served, position: int) -> dict[str, Any]:
    found: dict[str, Any] = served.get(f"/v1/events/{position}", "auditor").json()
    return found


# --- each write becomes its event ----------------------------------------------------------------

FACTS: dict[str, tuple[Callable[[], Data], str]] = {
    "penalties": (given.penalty, "penalty.imposed.v1"),
    "complaint-outcomes": (given.complaint, "complaint_outcome.recorded.v1"),
    "breaches": (given.breach, "contract_breach.confirmed.v1"),
    "inspections": (given.inspection, "inspection.recorded.v1"),
    "rewards": (given.reward, "reward.granted.v1"),
    "contracts": (given.contract, "contract.completed.v1"),
    "listings": (given.listing, "severe_list.entered.v1"),
    "referrals": (given.referral, "referral.recorded.v1"),
    "qualifications": (given.qualification, "qualification.verified.v1"),
}


@pytest.mark.parametrize("path", FACTS)
def test_a_fact_is_recorded(served: Served, provider: str, path: str) -> None:
    make, type = FACTS[path]
    by_two = path == "listings"
    write = served.by_two if by_two else served.post
    response = write(f"/v1/providers/{provider}/{path}", body_of(make()))
    receipt = Receipt.model_validate(response.json())
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/events/{receipt.position}"
    assert (receipt.stream, receipt.version) == (f"provider-{provider}", 2 + by_two)
    event = event_at(served, receipt.position)
    assert (event["id"], event["type"]) == (receipt.id, f"cn.chengxin.{type}")
    role = "decision_maker" if by_two else "registrar"
    assert (event["actororg"], event["actorrole"]) == ("CN-REG-1", role)
    assert event["subject"] == provider


def test_the_admission_runs_its_course(served: Served, provider: str) -> None:
    for path, command in (
        ("admission", given.admit()),
        ("suspension", given.suspend_provider()),
        ("resumption", given.resume_provider()),
        ("exit", given.exit_provider()),
    ):
        position = positioned(served.post(f"/v1/providers/{provider}/{path}", body_of(command)))
        assert event_at(served, position)["data"]["document_no"] == command.document_no
    again = served.post(f"/v1/providers/{provider}/admission", body_of(given.admit()))
    assert "当前状态为「已退出」" in problem(again, 409, "wrong-status")["detail"]


def test_later_decisions_work_on_the_fact_that_the_address_names(
    served: Served, provider: str
) -> None:
    def fact(path: str, command: Data) -> str:
        write = served.by_two if path == "listings" else served.post
        return str(write(f"/v1/providers/{provider}/{path}", body_of(command)).json()["id"])

    last_year = given.TODAY.replace(year=2025)
    days = dict.fromkeys(("occurred_on", "decided_on", "served_on"), last_year)
    penalty = fact("penalties", given.penalty(obligation=True, **days))
    reward, listing = fact("rewards", given.reward()), fact("listings", given.listing())
    for target, act, type in (
        (penalty, "suspension", "decision.suspended.v1"),
        (penalty, "resumption", None),
        (penalty, "fulfilment", "obligation.fulfilled.v1"),
        (penalty, "repair", "repair.granted.v1"),
        (penalty, "repair-revocation", "repair.revoked.v1"),
        (penalty, "fulfilment-revocation", "obligation.fulfilment_revoked.v1"),
        (penalty, "overturning", "decision.overturned.v1"),
        (reward, "revocation", "reward.revoked.v1"),
        (listing, "removal", "severe_list.removed.v1"),
    ):
        write = served.by_two if act == "overturning" else served.post
        response = write(
            f"/v1/providers/{provider}/decisions/{target.upper()}/{act}",
            EXAMPLES[ON_FACT] | {"document_no": f"示市监复〔2026〕{next(numbers)}号"},
            "decision_maker",
        )
        event = event_at(served, positioned(response))
        assert event["data"]["target"] == target
        assert type is None or event["type"] == f"cn.chengxin.{type}"
        assert event["actorrole"] == "decision_maker"


def test_a_rulebook_is_published(served: Served) -> None:
    book = given.rulebook(f"RB-T.{next(numbers)}", "2027-01-01")
    response = served.post("/v1/rulebooks", {"rulebook": book}, "rulebook_editor")
    assert response.json()["stream"] == "rulebook"
    assert event_at(served, positioned(response))["data"]["rulebook"] == book
    again = served.post("/v1/rulebooks", {"rulebook": book}, "rulebook_editor")
    problem(again, 409, "rulebook-taken")


def test_every_example_of_the_published_schema_is_accepted(served: Served) -> None:
    """In the order of a provider's life, as /docs shows them."""
    schema = served.get("/openapi.json").json()
    examples = {
        path: operation["requestBody"]["content"]["application/json"].get("example")
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if method == "post" and path != "/v1/imports"
    }
    assert {path for path, example in examples.items() if example is None} == {"/v1/rulebooks"}
    own = examples.pop("/v1/providers")
    positioned(served.post("/v1/providers", own))
    prefix = "/v1/providers/{identifier}"
    order = ("admission", "suspension", "resumption", *FACTS, "exit")
    ids = {}
    for name in order:
        path = f"/v1/providers/{own['identifier']}/{name}"
        write = served.by_two if name == "listings" else served.post
        response = write(path, examples.pop(f"{prefix}/{name}"))
        positioned(response)
        ids[name] = response.json()["id"]
    examples.pop("/v1/rulebooks")
    verdicts = {
        path.rpartition("/")[2]: examples.pop(path)
        for path in tuple(examples)
        if path.startswith("/v1/quarantine/")
    }
    wrong = own["identifier"][:-1] + "X"
    for number, steps in enumerate((["correction", "acceptance"], ["rejection"])):
        line = {**LINE, "identifier": wrong, "key": f"doubtful-{number}"}
        line["data"] = {**LINE["data"], "inspection": f"JC-{number}"}
        row = served.client.post(
            "/v1/imports",
            content=orjson.dumps(line),
            headers=served.bearer(**{"Content-Type": "application/x-ndjson"}),
        )
        kept = orjson.loads(row.text.splitlines()[0])["quarantine"]
        for step in steps:
            answer = served.post(f"/v1/quarantine/{kept}/{step}", verdicts[step])
            assert answer.is_success, answer.text
    for end in ("approval", "refusal", "withdrawal"):
        body = body_of(given.listing())
        token = served.bearer("registrar")
        made = served.client.post(
            f"/v1/providers/{own['identifier']}/listings", json=body, headers=token
        )
        who = token if end == "withdrawal" else served.bearer("decision_maker")
        example = examples.pop(f"{prefix}/proposals/{{id}}/{end}")
        address = f"{made.headers['location']}/{end}"
        positioned(served.client.post(address, json=example, headers=who))
    # Those about persons need somebody to be there: `tests/test_persons_api.py`.
    about_facts = {path for path in examples if not path.startswith("/v1/persons/")}
    assert all("/decisions/{id}/" in path for path in about_facts)
    response = served.post(
        f"/v1/providers/{own['identifier']}/decisions/{ids['penalties']}/fulfilment",
        examples[f"{prefix}/decisions/{{id}}/fulfilment"],
    )
    positioned(response)


# --- identifiers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    ["91999999ma4dte5x43", "９１９９９９９９ＭＡ４ＤＴＥ５Ｘ４３", " 91999999MA4DTE5X43 "],
)
def test_lower_case_and_full_width_are_the_same_provider(served: Served, written: str) -> None:
    identifier = "91999999MA4DTE5X43"
    body = {"identifier": identifier, **body_of(given.register())}
    first = served.post("/v1/providers", body)
    assert first.status_code in (201, 409)
    response = served.post("/v1/providers", body | {"identifier": written})
    assert problem(response, 409, "provider-exists")["facts"]["provider"] == identifier
    receipt = served.penalise(
        httpx2.URL("http://x").copy_with(path="/" + written).raw_path.decode()[1:]
    )
    assert receipt.json()["stream"] == f"provider-{identifier}"


@pytest.mark.parametrize(
    "wrong", ["91350100M000100Y4Z", "91999999MA00TEXT0X", "XX-CR-1", "HK", "%00", "张三", "a" * 300]
)
def test_a_wrong_identifier_is_refused(served: Served, wrong: str) -> None:
    head = served.head()
    told = problem(served.penalise(wrong), 409, "invalid-identifier")
    assert "无效" in told["detail"]
    body = {"identifier": wrong[:240], **body_of(given.register())}
    problem(served.post("/v1/providers", body), 409, "invalid-identifier")
    assert served.head() == head


def test_the_right_check_character_is_told(served: Served) -> None:
    told = problem(served.penalise("91999999MA00TEXT0X"), 409, "invalid-identifier")
    assert "校验码应为 H" in told["detail"]


def test_an_unknown_provider_is_told(served: Served) -> None:
    problem(served.penalise("HK-CR-NOBODY"), 404, "unknown-provider")


# --- roles ---------------------------------------------------------------------------------------

ISSUED_BY = {"platform": "PLATFORM", "association": "ASSOCIATION"}


def allowed(write: Write, role: str) -> bool:
    """Who may do what, once more and independently of the table it is held against."""
    if write.command is PublishRulebook:
        return role == "rulebook_editor"
    if role == "decision_maker":
        return issubclass(write.command, events.TargetFields | Verdict)
    return role == "registrar" or write.command in {
        "platform": (ImposePenalty, RecordComplaintOutcome),
        "association": (ImposePenalty, events.RewardGranted),
        "inspector": (RecordInspection,),
    }.get(role, ())


def sample(write: Write, kind: str) -> dict[str, Any]:
    """A body of a write whose decision was made by a body of a kind."""
    issuer = given.issuer(kind)
    if write.command is PublishRulebook:
        return {"rulebook": given.rulebook(f"RB-R.{next(numbers)}", "2024-01-01")}
    if write.command is RegisterProvider:
        return {"identifier": f"HK-CR-{next(numbers)}", **body_of(given.register())}
    if write.is_verdict:
        return EXAMPLES[write.command.__name__]
    if issubclass(write.command, events.TargetFields):
        return EXAMPLES[ON_FACT] | {"issuer": body_of(issuer)}
    if write.command is RecordComplaintOutcome:
        return body_of(given.complaint(finding=given.finding(issuer=issuer)))
    if write.command is ImposePenalty:
        return body_of(given.penalty(issuer=issuer))
    if write.command is events.RewardGranted:
        return body_of(given.reward(issuer=issuer, item="SELF_DISCIPLINE"))
    made: dict[type[Data], Callable[[], Data]] = {
        ConfirmBreach: given.breach,
        RecordInspection: given.inspection,
        events.ContractCompleted: given.contract,
        events.SevereListEntered: given.listing,
        ReferralRecorded: given.referral,
        QualificationVerified: given.qualification,
        events.ProviderAdmitted: given.admit,
        events.ProviderSuspended: given.suspend_provider,
        ResumeProvider: given.resume_provider,
        events.ProviderExited: given.exit_provider,
    }
    return body_of(made[write.command]())


@pytest.mark.parametrize("role", ROLES)
def test_every_role_at_every_address(served: Served, provider: str, role: str) -> None:
    """Who may is answered by the domain (201, or a refusal of what was sent), others by 403."""
    for write in WRITES:
        path = write.path.replace("{identifier}", provider).replace("{id}", str(uuid4()))
        head = served.head()
        response = served.post(path, sample(write, ISSUED_BY.get(role, "REGULATOR")), role)
        if allowed(write, role):
            found = (201, 202, 404, 409) if write.is_verdict or write.is_proposed else (201, 409)
            assert response.status_code in found, (path, role, response.text)
        else:
            told = problem(response, 403, "not-allowed")
            assert ROLES[role] in told["detail"]
            assert write.does.zh in told["detail"]
            assert served.head() == head


def test_the_table_names_only_roles_that_tokens_carry() -> None:
    assert {role for write in WRITES for role in write.roles} <= set(ROLES)
    assert {write.command for write in WRITES} >= set(acts.ACTS)
    assert len({write.path for write in WRITES}) == len(WRITES)


@pytest.mark.parametrize(
    ("role", "path", "body"),
    [
        ("platform", "penalties", lambda kind: given.penalty(issuer=given.issuer(kind))),
        (
            "platform",
            "complaint-outcomes",
            lambda kind: given.complaint(finding=given.finding(issuer=given.issuer(kind))),
        ),
        ("association", "penalties", lambda kind: given.penalty(issuer=given.issuer(kind))),
        (
            "association",
            "rewards",
            lambda kind: given.reward(issuer=given.issuer(kind), item="SELF_DISCIPLINE"),
        ),
    ],
)
def test_a_platform_or_association_records_only_its_own_kind(
    served: Served, provider: str, role: str, path: str, body: Callable[[str], Data]
) -> None:
    address = f"/v1/providers/{provider}/{path}"
    own = ISSUED_BY[role]
    for kind in {"REGULATOR", "COURT", "PLATFORM", "ASSOCIATION"} - {own}:
        told = problem(served.post(address, body_of(body(kind)), role), 403, "not-allowed")
        assert kind in told["detail"]
    positioned(served.post(address, body_of(body(own)), role))


def test_a_platform_may_record_that_a_complaint_was_unfounded(
    served: Served, provider: str
) -> None:
    body = body_of(given.complaint(outcome="UNSUBSTANTIATED"))
    address = f"/v1/providers/{provider}/complaint-outcomes"
    positioned(served.post(address, body, "platform"))


# --- repeated requests ---------------------------------------------------------------------------


def test_the_same_request_again_gets_the_first_answer(served: Served, provider: str) -> None:
    path, body = f"/v1/providers/{provider}/penalties", body_of(given.penalty())
    key = {"idempotency_key": f"same-{provider}"}
    first = served.post(path, body, **key)
    second = served.post(path, dict(reversed(body.items())), **key)
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    spelled = provider.lower().replace("-", "－")
    third = served.post(f"/v1/providers/{spelled}/penalties", body, **key)
    assert third.content == first.content


@pytest.mark.parametrize("what", ["body", "provider", "path", "target"])
def test_another_request_under_the_same_key_is_refused(
    served: Served, provider: str, what: str
) -> None:
    key = {"idempotency_key": f"another-{what}-{provider}"}
    other = f"HK-CR-{next(numbers)}"
    served.provide(other)
    ids = [served.penalise(provider).json()["id"] for _ in range(2)]
    act = EXAMPLES[ON_FACT]
    path, body = f"/v1/providers/{provider}/decisions/{ids[0]}/suspension", act
    positioned(served.post(path, body, **key))
    changed = {
        "body": (path, act | {"document_no": "示市监复〔2026〕99号"}),
        "provider": (path.replace(provider, other), act),
        "path": (path.replace("suspension", "overturning"), act),
        "target": (path.replace(ids[0], ids[1]), act),
    }
    head = served.head()
    problem(served.post(*changed[what], **key), 409, "key-reused")
    assert served.head() == head


def test_a_key_belongs_to_an_organisation(served: Served, provider: str) -> None:
    """A new token between two tries changes nothing; another organisation's key is another."""
    path, body = f"/v1/providers/{provider}/inspections", body_of(given.inspection())
    key = f"mine-{provider}"

    def send(token: str, body: dict[str, Any]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        return served.client.post(path, json=body, headers=headers)

    first = send(served.token("registrar", "CN-REG-7"), body)
    renewed = send(served.token("registrar", "CN-REG-7"), body)
    assert renewed.content == first.content
    other = send(served.token("inspector", "CN-REG-8"), body_of(given.inspection()))
    assert positioned(other) > positioned(first)


def test_a_refusal_is_not_kept(served: Served) -> None:
    identifier = f"HK-CR-{next(numbers)}"
    body, key = body_of(given.penalty()), {"idempotency_key": "not-kept"}
    path = f"/v1/providers/{identifier}/penalties"
    problem(served.post(path, body, **key), 404, "unknown-provider")
    served.provide(identifier)
    response = served.post(path, body, **key)
    assert response.status_code == 201
    assert "idempotent-replayed" not in response.headers


def test_a_repetition_comes_before_the_domain(served: Served, provider: str) -> None:
    """The fact is recorded already; still its repetition is answered, not refused."""
    path, body = f"/v1/providers/{provider}/penalties", body_of(given.penalty())
    key = {"idempotency_key": f"before-{provider}"}
    first = served.post(path, body, **key)
    problem(served.post(path, body), 409, "duplicate-fact")
    assert served.post(path, body, **key).content == first.content


def test_a_refusal_tells_a_platform_nothing_of_what_it_may_not_see(
    served: Served, provider: str
) -> None:
    """The category of an incident is hidden, and so is when an earlier fact was recorded."""
    path = f"/v1/providers/{provider}/penalties"
    fields = {"family": "LATE_RESPONSE", "category": "COMPLAINT", "severity": "S1"}
    issuer = given.issuer("PLATFORM", "某平台")
    body = body_of(given.penalty(incident="INC-HIDDEN", issuer=issuer, **fields))
    recorded = served.post(path, body, "platform").json()
    told = problem(served.post(path, body, "registrar"), 409, "duplicate-fact")
    assert told["facts"]["target"] == recorded["id"]
    told = problem(served.post(path, body, "platform"), 409, "duplicate-fact")
    assert set(told["facts"]) == {"what"}
    assert recorded["id"] not in str(told)
    other = body_of(given.penalty(incident="INC-HIDDEN", issuer=issuer))
    told = problem(served.post(path, other, "platform"), 409, "incident-category")
    assert told["facts"] == {"incident": "INC-HIDDEN", "given": other["category"]}
    assert "COMPLAINT" not in str(told)


def test_sixteen_at_once_under_one_key_are_one_event(served: Served, provider: str) -> None:
    path, body = f"/v1/providers/{provider}/penalties", body_of(given.penalty())
    headers = served.bearer("registrar", **{"Idempotency-Key": f"sixteen-{provider}"})
    head = served.head()

    def send(_: int) -> httpx2.Response:
        with httpx2.Client(base_url=served.client.base_url, timeout=20) as client:
            return client.post(path, json=body, headers=headers)

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(send, range(16)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    fresh = [one for one in responses if "idempotent-replayed" not in one.headers]
    assert len(fresh) == 1
    assert served.head() == head + 1


def test_sixteen_different_ones_under_one_key_are_one_event(served: Served, provider: str) -> None:
    path = f"/v1/providers/{provider}/penalties"
    headers = served.bearer("registrar", **{"Idempotency-Key": f"differ-{provider}"})
    head = served.head()

    def send(_: int) -> httpx2.Response:
        with httpx2.Client(base_url=served.client.base_url, timeout=20) as client:
            return client.post(path, json=body_of(given.penalty()), headers=headers)

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(send, range(16)))
    assert sorted(one.status_code for one in responses) == [201] + [409] * 15
    assert {one.json()["code"] for one in responses if one.status_code == 409} == {"key-reused"}
    assert served.head() == head + 1


@pytest.mark.parametrize("key", ["", "a b", "ключ", "a\tb", "x" * 256])
def test_a_key_is_one_visible_word(served: Served, provider: str, key: str) -> None:
    headers = served.bearer() | {"Content-Type": "application/json"}
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    response = served.client.post(
        f"/v1/providers/{provider}/penalties",
        content=orjson.dumps(body_of(given.penalty())),
        headers=[*sent, (b"Idempotency-Key", key.encode())],
    )
    problem(response, 400, "invalid-key")


def test_two_keys_are_none(served: Served, provider: str) -> None:
    headers = [*served.bearer().items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = served.client.post(
        f"/v1/providers/{provider}/penalties",
        json=body_of(given.penalty()),
        headers=headers,
    )
    problem(response, 400, "invalid-key")
