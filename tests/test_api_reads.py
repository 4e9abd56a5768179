"""Reads: who sees what, on which day, how long an answer is good, and its published shape."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from api import answers, published, readiness
from api.roles import ROLES
from ledger.database import Database
from ledger.vocabulary import EVENT_TYPES, SCHEMA_PREFIX
from projections.runner import advance
from projections.scoring import score_line
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, positioned, problem, serving

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def clock_of_module() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database],
    tmp_path_factory: pytest.TempPathFactory,
    clock_of_module: Clock,
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, clock_of_module, new_ledger=new_ledger) as served:
        yield served


@pytest.fixture
def provider(served: Served) -> str:
    """A provider with a public penalty (S2), one that is not (S1), a reward and a contract."""
    identifier = f"HK-CR-{next(numbers)}"
    served.provide(identifier, name=f"示例公司{identifier}")
    address = f"/v1/providers/{identifier}"
    served.penalise(identifier)
    served.penalise(identifier, family="LATE_RESPONSE", category="COMPLAINT", severity="S1")
    for path, command in (("rewards", given.reward()), ("contracts", given.contract())):
        positioned(served.post(f"{address}/{path}", command.model_dump(mode="json")))
    served.follow()
    return identifier


def score(served: Served, provider: str, role: str | None = None, query: str = "") -> Any:
    response = served.get(f"/v1/providers/{provider}/score{query}", role)
    assert response.status_code == 200, response.text
    return response.json()


def closes(baseline: str, lines: list[dict[str, Any]], *more: str, score: str) -> bool:
    points = [Decimal(line["points"]) for line in lines]
    return sum(points, Decimal(baseline)) + sum(map(Decimal, more)) == Decimal(score)


# --- the score -----------------------------------------------------------------------------------


def test_the_full_explanation_closes_and_names_every_event(served: Served, provider: str) -> None:
    full = score(served, provider, "auditor")
    answers.FullScore.model_validate(full)
    lines = [*full["contributions"], *full["adjustments"]]
    assert closes(full["baseline"], lines, score=full["score"])
    assert full["audience"] == "full"
    positions = {fact["position"] for fact in full["facts"].values()}
    assert len(full["contributions"]) == len(positions) == 4


def test_the_public_explanation_closes_and_names_only_public_items(
    served: Served, provider: str
) -> None:
    full, public = score(served, provider, "auditor"), score(served, provider)
    answers.PublicScore.model_validate(public)
    told = public["explanation"]
    assert closes(told["baseline"], told["lines"], told["other"], score=told["score"])
    assert public["score"] == told["score"] == full["score"]
    assert len(told["lines"]) == 2
    private = {line["fact"] for line in full["contributions"]} - {x["id"] for x in told["lines"]}
    assert len(private) == 2
    assert not any(id in orjson.dumps(public).decode() for id in private)


@pytest.mark.parametrize("role", [None, *ROLES])
def test_who_sees_the_whole_explanation(served: Served, provider: str, role: str | None) -> None:
    found = score(served, provider, role)
    full = {"registrar", "inspector", "case_officer", "legal_reviewer", "decision_maker", "auditor"}
    assert found["audience"] == ("full" if role in full else "public")


def test_anybody_entitled_can_compute_the_score_again(served: Served, provider: str) -> None:
    path = f"/v1/providers/{provider}"
    for day in (given.TODAY, given.TODAY - timedelta(days=200), given.TODAY + timedelta(days=200)):
        response = served.get(f"{path}/case?as_of={day}", "auditor")
        answers.Case.model_validate(response.json())
        line, good = score_line(response.content)
        again, told = orjson.loads(line), served.get(f"{path}/score?as_of={day}", "auditor").json()
        assert good
        assert again.pop("known_at") == given.TODAY.isoformat()
        assert again == {name: told[name] for name in again}
    problem(served.get(f"{path}/case"), 401, "token-missing")
    problem(served.get(f"{path}/case", "platform"), 403, "not-allowed")
    problem(served.get("/v1/providers/HK-CR-404/case", "auditor"), 404, "unknown-provider")


def test_a_provider_sees_its_own_and_no_other_in_full(served: Served, provider: str) -> None:
    headers = {"Authorization": f"Bearer {served.token('provider', provider)}"}
    own = served.client.get(f"/v1/providers/{provider}/score", headers=headers)
    assert own.json()["audience"] == "full"
    assert own.headers["cache-control"] == "private, no-store"
    other = f"HK-CR-{next(numbers)}"
    served.provide(other)
    served.follow()
    found = served.client.get(f"/v1/providers/{other}/score", headers=headers)
    assert found.json()["audience"] == "public"


def test_another_day_is_for_those_who_see_all(served: Served, provider: str) -> None:
    yesterday = (given.TODAY - timedelta(days=1)).isoformat()
    address = f"/v1/providers/{provider}/score?as_of={yesterday}"
    for role in (None, "public", "client", "platform", "subscriber"):
        told = problem(served.get(address, role), 403, "day-not-public")
        assert yesterday in told["detail"]
    assert score(served, provider, "registrar", f"?as_of={yesterday}")["as_of"] == yesterday
    before = score(served, provider, "auditor", "?as_of=2025-12-31")
    assert before["score"] == before["baseline"]
    today = score(served, provider, None, f"?as_of={given.TODAY.isoformat()}")
    assert today["as_of"] == given.TODAY.isoformat()


def test_nobody_has_a_score_who_is_not_known(served: Served) -> None:
    for role in (None, "auditor"):
        for path in ("/v1/providers/HK-CR-NONE/score", "/v1/providers/HK-CR-NONE/events"):
            problem(served.get(path, role), 404, "unknown-provider")
    problem(served.get("/v1/disclosure/providers/HK-CR-NONE"), 404, "unknown-provider")


def test_a_written_identifier_is_mended(served: Served, provider: str) -> None:
    spelled = provider.lower().replace("-", "－")
    assert score(served, spelled)["subject"] == provider


# --- reading one's own write ---------------------------------------------------------------------


def test_min_position_waits_for_the_write(served: Served, provider: str) -> None:
    before = score(served, provider)["score"]
    for _ in range(2):
        position = positioned(served.penalise(provider))
        found = score(served, provider, None, f"?min_position={position}")
        assert Decimal(found["score"]) < Decimal(before)
        sheet = served.get(f"/v1/disclosure/providers/{provider}?min_position={position}").json()
        assert sheet["position"] >= position
        before = found["score"]


def test_a_position_that_does_not_come_is_told_with_the_lag(served: Served, provider: str) -> None:
    head = served.head()
    started = time.monotonic()
    told = problem(
        served.get(f"/v1/providers/{provider}/score?min_position={head + 7}"), 409, "behind"
    )
    assert 1.5 < time.monotonic() - started < 6
    assert told["facts"] == {"wanted": head + 7, "position": head, "lag": 7}


def test_a_position_that_comes_meanwhile_is_waited_for(served: Served, provider: str) -> None:
    wanted = served.head() + 1

    def write_later() -> None:
        time.sleep(0.3)
        served.penalise(provider)

    thread = threading.Thread(target=write_later)
    thread.start()
    found = served.get(f"/v1/providers/{provider}/score?min_position={wanted}", "auditor")
    thread.join()
    assert found.json()["position"] >= wanted


# --- keeping answers -----------------------------------------------------------------------------

KEPT = ("/v1/providers/{}/score", "/v1/disclosure/providers/{}")


@pytest.mark.parametrize("address", KEPT)
def test_an_answer_is_good_until_something_changes(
    served: Served, provider: str, address: str
) -> None:
    path = address.format(provider)
    first = served.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = served.get(path, if_none_match=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    # What happens to others changes nothing.
    served.provide(f"HK-CR-{next(numbers)}")
    served.follow()
    assert served.get(path, if_none_match=tag).status_code == 304
    served.penalise(provider)
    served.follow()
    changed = served.get(path, if_none_match=tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_time_and_rulebooks_end_an_answer(
    served: Served, provider: str, clock_of_module: Clock
) -> None:
    path = f"/v1/disclosure/providers/{provider}"
    tags = [served.get(path).headers["etag"]]
    book = given.rulebook(f"RB-N.{next(numbers)}", "2026-06-01")
    positioned(served.post("/v1/rulebooks", {"rulebook": book}, "rulebook_editor"))
    served.follow()
    # A rulebook that is not in force yet changes nothing of what is said today.
    assert served.get(path, if_none_match=tags[0]).status_code == 304
    clock_of_module.advance(days=1)
    try:
        tags.append(served.get(path).headers["etag"])
    finally:
        clock_of_module.advance(days=-1)
    assert tags[0] != tags[1]


def test_answers_to_different_readers_are_not_mixed(served: Served, provider: str) -> None:
    path = f"/v1/providers/{provider}/score"
    public, full = served.get(path), served.get(path, "auditor")
    assert public.headers["etag"] != full.headers["etag"]
    assert served.get(path, "auditor", if_none_match=public.headers["etag"]).status_code == 200
    assert public.headers["cache-control"] == "no-cache"
    assert full.headers["cache-control"] == "private, no-store"
    assert "authorization" in public.headers["vary"].lower()


# --- events --------------------------------------------------------------------------------------


def test_events_are_the_stored_bytes_for_whom_they_concern(served: Served, provider: str) -> None:
    response = served.get(f"/v1/providers/{provider}/events", "auditor")
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = response.content.splitlines()
    stored = served.ledger.read_stream(f"provider-{provider}")
    assert [b"{" + line[35:] for line in lines] == [one.state for one in stored]
    assert [int(line[13:33]) for line in lines] == [one.position for one in stored]
    for line in lines:
        answers.CloudEvent.model_validate(orjson.loads(line))


def test_the_public_gets_what_is_shown_now_and_not_even_a_count_of_the_rest(
    served: Served, provider: str
) -> None:
    lines = served.get(f"/v1/providers/{provider}/events").content.splitlines()
    found = [orjson.loads(line) for line in lines]
    shown = ["provider.registered.v1", "penalty.imposed.v1", "reward.granted.v1"]
    assert [one["type"] for one in found] == [f"cn.chengxin.{type}" for type in shown]
    for one in found:
        answers.CloudEvent.model_validate(one)
    everything = served.get(f"/v1/providers/{provider}/events", "auditor").content.splitlines()
    assert set(lines) < set(everything)


def test_one_event_is_shown_or_withheld(served: Served, provider: str) -> None:
    everything = served.get(f"/v1/providers/{provider}/events", "auditor").content.splitlines()
    withheld = []
    for line in everything:
        position = int(line[13:33])
        assert served.get(f"/v1/events/{position}", "auditor").content == line
        public = served.get(f"/v1/events/{position}")
        if public.content != line:
            answers.Stub.model_validate(public.json())
            withheld.append(public.json()["withheld"])
    assert withheld == ["not-public", "not-public"]


def test_an_overturned_item_leaves_every_door(served: Served, provider: str) -> None:
    items = served.get(f"/v1/disclosure/providers/{provider}").json()["items"]
    body = given.overturn(items[0]["id"]).model_dump(mode="json", exclude={"target"})
    path = f"/v1/providers/{provider}/decisions/{items[0]['id']}/overturning"
    positioned(served.by_two(path, body))
    served.follow()
    number = items[0]["document_no"]
    for address in (
        f"/v1/disclosure/providers/{provider}",
        f"/v1/providers/{provider}/score",
        f"/v1/providers/{provider}/events",
        f"/v1/events/{items[0]['position']}",
        f"/providers/{provider}",
    ):
        assert number not in served.get(address).text
    assert number not in served.get("/v1/feed?limit=10000", "subscriber").text
    assert number in served.get(f"/v1/providers/{provider}/events", "auditor").text


def test_events_come_in_pages(served: Served, provider: str) -> None:
    path: str | None = f"/v1/providers/{provider}/events?limit=2"
    lines: list[bytes] = []
    pages = 0
    while path is not None:
        response = served.get(path, "auditor")
        lines += response.content.splitlines()
        pages += 1
        path = response.links.get("next", {}).get("url")
    assert pages == 3
    whole = served.get(f"/v1/providers/{provider}/events", "auditor")
    assert "link" not in whole.headers
    assert lines == whole.content.splitlines()


def test_an_event_that_is_not_there_is_told(served: Served) -> None:
    head = served.head()
    told = problem(served.get(f"/v1/events/{head + 1}"), 404, "unknown-position")
    assert told["facts"]["head"] == head


# --- disclosure, schemas, the ledger -------------------------------------------------------------


def test_the_sheet_has_its_published_shape(served: Served, provider: str) -> None:
    sheet = served.get(f"/v1/disclosure/providers/{provider}").json()
    published.Sheet.model_validate(sheet)
    assert sheet["purpose"] == "demonstration"
    assert [item["kind"] for item in sheet["items"]] == ["PENALTY"]
    assert len(sheet["merits"]) == 1


def test_a_search_goes_through_all_pages(served: Served) -> None:
    made = {f"MO-SR-{n:03}" for n in range(7)}
    for identifier in made:
        served.provide(identifier, name=f"海峡{identifier}")
    served.follow()
    path: str | None = "/v1/disclosure/providers?q=海峡&grade=N&limit=3"
    found: list[str] = []
    while path is not None:
        response = served.get(path)
        answers.Rows.model_validate(response.json())
        found += [row["provider"] for row in response.json()["providers"]]
        path = response.links.get("next", {}).get("url")
    assert found == sorted(made)
    assert served.get("/v1/disclosure/providers?q=海峡&grade=A").json() == {"providers": []}
    assert served.get("/v1/disclosure/providers?q=mo-sr-00&limit=100").json()["providers"]


def test_every_event_type_has_its_schema(served: Served) -> None:
    listed = served.get("/v1/schemas").json()
    answers.SchemaList.model_validate(listed)
    assert [one["type"] for one in listed["schemas"]] == list(EVENT_TYPES)
    for one in listed["schemas"]:
        schema = served.get(one["href"]).json()
        assert schema["$id"] == SCHEMA_PREFIX + one["type"]
    problem(served.get("/v1/schemas/penalty.imposed.v9"), 404, "unknown-type")


def test_the_ledger_tells_what_it_is(served: Served) -> None:
    found = served.get("/v1/ledger").json()
    answers.LedgerFacts.model_validate(found)
    assert found["head"] == served.head()
    first = {"version": "RB-2026.1", "in_force_from": "2024-01-01", "position": 1}
    assert found["rulebooks"][0] == first
    # Whoever needs the codes finds them there.
    event = served.get("/v1/events/1").json()
    assert event["data"]["rulebook"]["items"]["families"]["AD_FALSE_CLAIM"]["category"] == "ADVERT"


# --- is all well? --------------------------------------------------------------------------------


def test_alive_and_ready(served: Served) -> None:
    served.follow()
    assert served.get("/healthz").json() == {"status": "alive"}
    response = served.get("/readyz")
    found = response.json()
    readiness.Readiness.model_validate(found)
    assert response.status_code == 200
    assert found["ready"] is True
    assert found["head"] == served.head()
    assert {one["lag"] for one in found["projections"].values()} == {0}


def test_a_ledger_that_is_not_opened_is_not_ready(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = tmp_path_factory.mktemp("closed") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger, opened=False) as served:
        response = served.get("/readyz")
        assert response.status_code == 503
        assert "ledger: not opened" in response.json()["reasons"]
        assert served.get("/healthz").status_code == 200
        for told in (served.get("/v1/ledger"), served.penalise()):
            problem(told, 503, "ledger-not-opened")
            assert told.headers["retry-after"]


def test_a_stopped_projection_and_a_long_lag_are_told(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = tmp_path_factory.mktemp("stopped") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger, ready_lag_events=3) as served:
        served.provide()
        served.follow()
        served.follower.stop()
        with served.ledger.database.connect(role=None) as connection:
            connection.execute("UPDATE scores_1.progress SET error = 'position 3, x: broken'")
        for _ in range(4):
            served.penalise()
        response = served.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reasons"] == [
            "scores_1: stopped at position 3",
            "disclosure_1: 4 events behind",
        ]
        # What is not judged yet is shown to nobody who is not entitled to all.
        head = served.head()
        problem(served.get(f"/v1/events/{head}"), 409, "behind")
        assert served.get(f"/v1/events/{head}", "auditor").status_code == 200
        # A public answer whose halves differ is another one when they agree.
        with served.ledger.database.connect() as connection:
            while advance(connection, served.ledger, served.scores, today=given.TODAY):
                pass
        path = f"/v1/providers/{given.PROVIDER}/score"
        tag = served.get(path).headers["etag"]
        assert served.get(path, "auditor").headers["etag"]
        with served.ledger.database.connect() as connection:
            while advance(connection, served.ledger, served.disclosure, today=given.TODAY):
                pass
        assert served.get(path, if_none_match=tag).status_code == 200


def test_a_public_tag_tells_nothing_of_hidden_events(served: Served, provider: str) -> None:
    """Whoever tried positions one after the other would find the last event of a provider."""
    path = f"/v1/providers/{provider}/score"
    for door in (path, f"/v1/disclosure/providers/{provider}"):
        tag = served.get(door).headers["etag"]
        empty = given.complaint(outcome="UNSUBSTANTIATED").model_dump(mode="json")
        later = given.penalty(served_on=given.TODAY + timedelta(days=9)).model_dump(mode="json")
        for address, body in (("complaint-outcomes", empty), ("penalties", later)):
            positioned(served.post(f"/v1/providers/{provider}/{address}", body))
        served.follow()
        assert served.get(door, if_none_match=tag).status_code == 304
        full = served.get(path, "auditor").headers["etag"]
        assert full != tag


def test_head_is_get_without_the_body(served: Served, provider: str) -> None:
    for path in ("/healthz", f"/v1/disclosure/providers/{provider}", "/nix", "/docs"):
        whole, head = served.get(path), served.client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]
