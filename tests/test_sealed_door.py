"""Sealed text as it goes in and comes out: over HTTP, by role, and in every group there is."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger.database import Database
from ledger.envelope import decode
from ledger.errors import CounterpartyMissing
from ledger.events import ContractCompleted
from ledger.handle import Receipt
from ledger.private import Agreement, Contact, Description, Operator, Remark
from ledger.sealing import PlainText
from ledger.store import Ledger
from ledger.vault_errors import NotTheCounterparty
from projections.rights import RIGHTS
from tests import given
from tests.conftest import Clock, Record, new_ledger
from tests.serving import Served, positioned, problem, serving
from tests.test_vault import CONTACT, NAME, all_rows, complaint, texts_of

# --- sealed text over HTTP -----------------------------------------------------------------------

ALL_ROLES = sorted(RIGHTS)
MAY_OPEN = {"registrar", "case_officer", "legal_reviewer", "decision_maker", "auditor", "mediator"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def known(record: Record) -> Record:
    """Records on a provider that is registered already."""
    record(given.register())
    return record


@pytest.fixture
def served(database: Database, keys: Path, clock: Clock) -> Iterator[Served]:
    with serving(database, keys, clock, new_ledger=new_ledger) as served:
        yield served


def test_sealed_text_goes_in_and_out_over_http_and_is_proven(served: Served) -> None:
    served.provide()
    body = complaint().model_dump(mode="json", exclude_none=True)
    assert body["complainant"] == {"name": NAME, "contact": CONTACT}
    path = f"/v1/providers/{given.PROVIDER}/complaint-outcomes"
    position = positioned(served.post(path, body))
    served.follow()
    event = served.get(f"/v1/events/{position}", "auditor").json()
    found = served.get(f"/v1/events/{position}/sealed", "auditor").json()
    assert (found["position"], found["id"]) == (position, event["id"])
    assert [one["text"] for one in found["texts"]] == [CONTACT, NAME]
    for one in found["texts"]:
        held = event["data"]["complainant"][one["path"].rpartition("/")[2]]["sealed"]
        proof = sha256(bytes.fromhex(one["salt"]) + one["text"].encode()).hexdigest()
        assert held == {"person": one["person"], "digest": proof}
    # The answer gave out more than the public sees.
    (record,) = [
        orjson.loads(row.state)
        for row in served.ledger.read(position, 10)
        if b'"door":"SEALED"' in row.state
    ]
    assert (record["data"]["first"], record["data"]["files"]) == (position, [given.PROVIDER])


@pytest.mark.parametrize("role", ALL_ROLES)
def test_who_may_not_is_told_the_same_whatever_is_sealed(served: Served, role: str) -> None:
    served.provide()
    path = f"/v1/providers/{given.PROVIDER}/complaint-outcomes"
    with_text, without = (
        positioned(served.post(path, one.model_dump(mode="json")))
        for one in (complaint(), given.complaint())
    )
    served.follow()
    answers = [served.get(f"/v1/events/{at}/sealed", role) for at in (with_text, without)]
    if role in MAY_OPEN:
        assert [len(one.json()["texts"]) for one in answers] == [2, 0]
        return
    answers.append(served.get("/v1/events/999999/sealed", role))
    for one in answers:
        problem(one, 403, "not-allowed")
        assert NAME not in one.text
    assert len({one.json()["detail"] for one in answers}) == 1


def test_without_a_token_nothing_is_opened(served: Served) -> None:
    problem(served.get("/v1/events/1/sealed"), 401, "token-missing")


def test_nobody_hands_in_a_commitment(served: Served) -> None:
    served.provide()
    wire = {"sealed": {"person": given.CLIENT, "digest": "ab" * 32}}
    body = given.complaint().model_dump(mode="json") | {"complainant": {"name": wire}}
    refused = served.post(f"/v1/providers/{given.PROVIDER}/complaint-outcomes", body)
    problem(refused, 422, "schema-broken")


def test_nobody_seals_under_the_reference_of_somebody_elses_person(served: Served) -> None:
    """It would stand in that person's copy, and a duty to retain would hold up their erasure."""
    served.provide()
    path = f"/v1/providers/{given.PROVIDER}"

    def post(kind: str, body: dict[str, Any], organisation: str) -> Any:
        token = served.token("registrar", organisation)
        bearer = {"Authorization": f"Bearer {token}"}
        return served.client.post(f"{path}/{kind}", json=body, headers=bearer)

    def said(person: str | None) -> dict[str, Any]:
        body = given.complaint().model_dump(mode="json")
        return body | {"complainant": {"name": NAME, "person": person}}

    def agreed(**more: Any) -> dict[str, Any]:
        return given.contract().model_dump(mode="json", exclude_none=True) | more

    ours = post("complaint-outcomes", said(None), "CN-REG-1")
    event = served.get(f"/v1/events/{positioned(ours)}", "auditor").json()
    person = event["data"]["complainant"]["person"]
    assert positioned(post("complaint-outcomes", said(person), "CN-REG-1"))
    officer = served.ledger.vault.reference("actor", "issuer", "subject")
    head = served.head()
    terms = {"agreement": {"terms": "三个月"}}
    for refused in (
        post("complaint-outcomes", said(person), "CN-REG-2"),
        post("contracts", agreed(counterparty=person, **terms), "CN-REG-2"),
        post("complaint-outcomes", said(officer), "CN-REG-1"),
    ):
        problem(refused, 409, "not-your-person")
        assert NAME not in refused.text
    nested = given.penalty().model_dump(mode="json")
    nested["remark"] = {"text": "备注", "person": person}
    problem(post("penalties", nested, "CN-REG-2"), 409, "not-your-person")
    assert served.head() == head
    # A reference of one's own, and a client told by the name, whoever recorded it before.
    assert positioned(post("complaint-outcomes", said(given.CLIENT), "CN-REG-2"))
    named = {"agreement": {"client": "某某餐饮店"}}
    for organisation in ("CN-REG-1", "CN-REG-2"):
        body = agreed(**named)
        del body["counterparty"]
        assert positioned(post("contracts", body, organisation))


def test_what_is_refused_does_not_say_the_text_again(served: Served) -> None:
    served.provide()
    body = given.complaint().model_dump(mode="json") | {"complainant": {"name": NAME + "\u202e"}}
    refused = served.post(f"/v1/providers/{given.PROVIDER}/complaint-outcomes", body)
    problem(refused, 422, "schema-broken")
    assert NAME not in refused.text


def test_the_same_request_again_is_answered_once_and_sealed_once(
    served: Served, database: Database
) -> None:
    served.provide()
    path = f"/v1/providers/{given.PROVIDER}/complaint-outcomes"
    body = complaint().model_dump(mode="json")
    first, second = (served.post(path, body, idempotency_key="k") for _ in range(2))
    assert positioned(first) == positioned(second)
    assert len(all_rows(database, "SELECT FROM :schema_vault.:app_sealed")) == 1
    body["complainant"]["name"] = "李某某"
    problem(served.post(path, body, idempotency_key="k"), 409, "key-reused")


# --- counterparties ------------------------------------------------------------------------------


def contract(client: str | None, **changes: Any) -> ContractCompleted:
    agreement = Agreement(
        client=None if client is None else PlainText(client),
        title=PlainText("抖音店铺代运营合同"),
        terms=PlainText("第一条 服务期限三个月。\n第二条 佣金按成交额计。"),
        price_fen=PlainText("1200000"),
    )
    return given.contract(**{"counterparty": None, "agreement": agreement} | changes)


def contract_of(ledger: Ledger, receipt: Receipt) -> ContractCompleted:
    data = decode(ledger.read_at([receipt.position])[0].state).data
    assert isinstance(data, ContractCompleted)
    return data


def test_one_client_keeps_one_reference_per_provider(opened: Ledger, known: Record) -> None:
    known(given.register(), provider="HK-CR-7")
    first = contract_of(opened, known(contract("某某餐饮店")))
    same = contract_of(opened, known(contract("某某  餐饮店".replace("  ", ""))))
    other = contract_of(opened, known(contract("另一家店")))
    elsewhere = contract_of(opened, known(contract("某某餐饮店"), provider="HK-CR-7"))
    assert first.counterparty is not None
    assert first.counterparty == same.counterparty
    assert len({one.counterparty for one in (first, other, elsewhere)}) == 3
    assert first.agreement is not None
    assert first.agreement.person == first.counterparty


def test_an_agreement_opens_in_the_counterpartys_name(opened: Ledger, known: Record) -> None:
    receipt = known(contract("某某餐饮店"))
    assert texts_of(opened, receipt) == {
        "/agreement/client": "某某餐饮店",
        "/agreement/price_fen": "1200000",
        "/agreement/terms": "第一条 服务期限三个月。\n第二条 佣金按成交额计。",
        "/agreement/title": "抖音店铺代运营合同",
    }


def test_a_contract_names_its_counterparty_in_one_way_or_another(
    opened: Ledger, known: Record
) -> None:
    with pytest.raises(CounterpartyMissing):
        known(contract(None))
    named = contract(None, counterparty=given.CLIENT)
    assert contract_of(opened, known(named)).counterparty == given.CLIENT
    other = "0198c7a0-0000-4000-8000-0000000000ff"
    agreement = Agreement(person=other, title=PlainText("合同"))
    with pytest.raises(NotTheCounterparty, match=given.CLIENT):
        known(contract(None, counterparty=given.CLIENT, agreement=agreement))


def test_everything_that_may_be_sealed_opens_again(opened: Ledger, record: Record) -> None:
    registered = record(
        given.register(
            contact=Contact(name=PlainText("王某"), phone=PlainText("010-0000")),
            operator=Operator(name=PlainText("赵某")),
        )
    )
    described = given.evidence().model_copy(
        update={"described": Description(text=PlainText("聊天记录截图\n共三页"))}
    )
    penalty = record(given.penalty(evidence=[described], remark=Remark(text=PlainText("当面送达"))))
    assert texts_of(opened, registered) == {
        "/contact/name": "王某",
        "/contact/phone": "010-0000",
        "/operator/name": "赵某",
    }
    assert texts_of(opened, penalty) == {
        "/evidence/0/described/text": "聊天记录截图\n共三页",
        "/remark/text": "当面送达",
    }
