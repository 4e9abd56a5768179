"""The public sheet and the search: it closes, it hides, it names in words, it says what is next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import orjson
import pytest

from ledger.scale import Scales
from ledger.store import Ledger
from projections.case import Act, Demerit, Fact
from projections.demerits import Finding, assess_all
from projections.rights import PUBLIC
from projections.runner import advance
from projections.scoring import score
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, line_of, world_of
from tests.officers import decided


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """An open ledger on 2 March 2026 with one provider, 示例文化传媒有限公司."""
    with world_of(ledger, run, clock, 2026, 3, 2, 2) as world:
        world.record(given.register())
        yield world


def facts_and_scales(world: World, provider: str) -> tuple[list[Fact], Scales]:
    """What the score of a provider rests on."""
    return world.scores.facts(provider), world.scores.scales()


def amount(text: str) -> Decimal:
    """An amount as it must be written: two places, no negative zero, no exponent."""
    value = Decimal(text)
    assert text == f"{value:.2f}"
    assert text != "-0.00"
    return value


def assert_explains(world: World, provider: str, sheet: dict[str, Any]) -> None:
    """The explanation closes, and its last line is exactly what is not shown."""
    facts, scales = facts_and_scales(world, provider)
    result: Any = score(facts, scales, as_of=world.today, known_at=0)
    told = sheet["explanation"]
    shown = [item["id"] for item in sheet["items"] + sheet["merits"]]
    assert sorted(line["id"] for line in told["lines"]) == sorted(shown)
    lines = sum((amount(line["points"]) for line in told["lines"]), Decimal(0))
    closes = amount(told["baseline"]) + lines + amount(told["other"])
    assert closes == amount(told["score"]) == amount(result["score"]) == amount(sheet["score"])
    hidden = [one for one in result["contributions"] if one["fact"] not in shown]
    in_force = [item for item in sheet["items"] if item["kind"] == "LISTING"]
    adjustments = [
        one for one in result["adjustments"] if not (in_force and one["reason"] == "VETO")
    ]
    wanted = sum((amount(one["points"]) for one in hidden + adjustments), Decimal(0))
    assert amount(told["other"]) == wanted
    assert bool(in_force) == sheet["listed"] == (result["grade"] == "X")
    singly = {one["fact"]: one["points"] for one in result["contributions"]}
    for item in sheet["items"] + sheet["merits"]:
        if item not in in_force:
            assert item["points"] == singly[item["id"]]
    for name in ("grade", "confidence", "evidence_count", "rulebook"):
        assert sheet[name] == result[name]


def assert_next_steps(world: World, provider: str, sheet: dict[str, Any]) -> None:
    """Each next step is what the score of that day says of the item without its incident."""
    facts, scales = facts_and_scales(world, provider)

    def points(item: dict[str, Any], day: date) -> str:
        [own] = [fact for fact in facts if fact.id == item["id"]]
        assert isinstance(own, Demerit)
        alone = [
            fact
            for fact in facts
            if fact is own or not isinstance(fact, Demerit) or fact.incident != own.incident
        ]
        ids = {fact.id for fact in alone}
        alone = [fact for fact in alone if not isinstance(fact, Act) or fact.target in ids]
        lines = score(alone, scales, as_of=day, known_at=0)["contributions"]
        return str(next(line["points"] for line in lines if line["fact"] == item["id"]))

    for item in sheet["items"]:
        step = item["next_step"]
        if item["kind"] == "LISTING" or item["points"] == "0.00":
            assert step is None
        elif step is None:
            for months in (1, 2, 4, 7, 11, 13, 19, 25, 37, 49, 61, 73):
                assert points(item, world.today + timedelta(days=30 * months)) == item["points"]
        else:
            on = date.fromisoformat(step["on"])
            assert on > world.today
            assert points(item, on) == step["points"] != item["points"]
            assert points(item, on - timedelta(days=1)) == item["points"]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_records_are_explained_to_the_hundredth(
    ledger: Ledger, run: Run, clock: Clock, seed: int
) -> None:
    random, listed, steps, others = Random(seed), 0, 0, set()
    with world_of(ledger, run, clock, 2024, 6, 1, 2) as world:
        author = Author(random, run(world.desk.rulebooks()))
        for _ in range(140):
            clock.advance(days=random.choice((0, 1, 5)))
            world.attempt(author, given.PROVIDER)
            world.follow()
            sheet = world.sheets.sheet(given.PROVIDER, today=world.today)
            if sheet is None:
                continue
            assert_explains(world, given.PROVIDER, sheet)
            listed += sheet["listed"]
            others.add(sheet["explanation"]["other"])
            if random.random() < 0.1:
                assert_next_steps(world, given.PROVIDER, sheet)
                steps += sum(item["next_step"] is not None for item in sheet["items"])
    assert listed > 0
    assert steps > 0
    assert len(others) > 5


def test_a_sheet_in_full(world: World) -> None:
    penalty = given.penalty(severity="S3", severity_reason=given.evidence(), obligation=True)
    reward = given.reward()
    item, merit = world.record(penalty), world.record(reward)
    sheet = world.sheet()
    assert sheet == {
        "provider": given.PROVIDER,
        "name": "示例文化传媒有限公司",
        "entity_kind": "ENTERPRISE",
        "status": "registered",
        "ledger": "示例省诚信账本",
        "purpose": "demonstration",
        "as_of": "2026-03-02",
        "position": merit.position,
        "rulebook": "RB-2026.1",
        "score": "64.00",
        "grade": "C",
        "confidence": "LOW",
        "evidence_count": 0,
        "listed": False,
        "items": [
            {
                "id": item.id,
                "position": item.position,
                "kind": "PENALTY",
                "family": "AD_FALSE_CLAIM",
                "category": "ADVERT",
                "severity": "S3",
                "names": {
                    "family": {"zh": "虚假宣传", "en": "false claim in an advertisement"},
                    "category": {"zh": "广告宣传", "en": "advertising"},
                    "severity": {"zh": "严重", "en": "serious"},
                    "issuer_kind": {"zh": "监管机关", "en": "regulator"},
                },
                "issuer": {"kind": "REGULATOR", "name": "某市市场监督管理局"},
                "document_no": penalty.document_no,
                "law_article": "《广告法》第五十五条",
                "occurred_on": "2026-01-05",
                "decided_on": "2026-02-10",
                "served_on": "2026-02-12",
                "public_until": "2029-02-10",
                "status": "EFFECTIVE",
                "late_entry": False,
                "points": "-20.00",
                "not_counted": None,
                "next_step": {"on": "2027-02-12", "points": "-15.00"},
            }
        ],
        "merits": [
            {
                "id": merit.id,
                "item": "REGULATOR_HONOUR",
                "names": {"item": {"zh": "监管部门表彰", "en": "honour by a regulator"}},
                "issuer": {"kind": "REGULATOR", "name": "某市市场监督管理局"},
                "document_no": reward.document_no,
                "on": "2026-02-01",
                "late_entry": False,
                "points": "4.00",
                "not_counted": None,
            }
        ],
        "referrals": [],
        "qualifications": [],
        "explanation": {
            "baseline": "80.00",
            "lines": [
                {"id": item.id, "points": "-20.00"},
                {"id": merit.id, "points": "4.00"},
            ],
            "other": "0.00",
            "score": "64.00",
        },
        "reasons": [item.id],
    }


def test_the_last_line_tells_no_count_no_date_and_no_authority(world: World) -> None:
    hidden = [
        given.penalty(
            severity="S1", severity_reason=given.evidence(), family="AD_UNMARKED", incident="I-1"
        ),
        given.complaint(complaint="TS-1-"),
        given.contract(contract="HT-1-", counterparty=given.CLIENT),
        given.inspection(inspection="JC-1-"),
        given.reward(consent=False, issuer=given.regulator("某不愿公开的机关")),
    ]
    receipts = [world.record(command) for command in hidden]
    sheet = world.sheet()
    assert (sheet["items"], sheet["merits"], sheet["reasons"]) == ([], [], [])
    assert sheet["explanation"] == {
        "baseline": "80.00",
        "lines": [],
        # −2 for the S1, −1 for the association's, +0.50, +1 and +4.
        "other": "2.50",
        "score": "82.50",
    }
    text = orjson.dumps(sheet).decode()
    betraying = ["AD_UNMARKED", "TS-1-", "HT-1-", "JC-1-", "某不愿公开的机关", given.CLIENT]
    betraying += ["LATE_RESPONSE", "2026-02-01", "2026-02-10", *(one.id for one in receipts)]
    assert [word for word in betraying if word in text] == []


def test_a_listing_bears_the_veto_and_only_one_does(world: World) -> None:
    world.record(given.penalty())
    world.record(given.inspection())
    first = world.record(given.listing())
    second = world.record(given.listing())
    sheet = world.sheet()
    assert (sheet["score"], sheet["grade"], sheet["listed"]) == ("0.00", "X", True)
    points = {item["id"]: item["points"] for item in sheet["items"]}
    assert (points[first.id], points[second.id]) == ("-75.00", "0.00")
    assert sheet["explanation"]["other"] == "0.00", "a listing leaves no room for merits"
    assert sheet["reasons"][0] == first.id
    world.record(given.delist(first.id))
    sheet = world.sheet()
    assert sheet["listed"]
    # Who has left a list is under a ceiling for a year; the other listing takes the rest.
    assert {item["id"]: item["points"] for item in sheet["items"]}[second.id] == "-74.99"
    assert sheet["explanation"]["other"] == "-0.01"
    world.record(given.delist(second.id))
    sheet = world.sheet()
    assert not sheet["listed"]
    assert [item["kind"] for item in sheet["items"]] == ["PENALTY"]


def test_up_to_four_reasons_the_largest_first(world: World) -> None:
    small = [world.record(given.penalty(category=c, family=f)) for c, f in GENERAL[:4]]
    large = world.record(given.penalty(family="FAKE_TRAFFIC", severity="S3"))
    nothing = world.record(given.penalty(category=GENERAL[4][0], family=GENERAL[4][1]))
    world.record(given.suspend(nothing.id))
    reasons = world.sheet()["reasons"]
    assert reasons == [large.id, *sorted(one.id for one in small)[:3]]


GENERAL = (
    ("CONTRACT", "NO_REFUND"),
    ("PRIVACY", "NDA_BREACH"),
    ("SECURITY", "NO_ACCESS_CONTROL"),
    ("DISCLOSURE", "FALSE_ITEM"),
    ("COMPLAINT", "IGNORED_COMPLAINT"),
)


def test_codes_that_were_retired_keep_their_words(world: World) -> None:
    item = world.record(given.penalty(issuer=given.issuer("PLATFORM"), public_until=None))
    merit = world.record(given.reward(item="SOCIAL"))
    book = given.rulebook("RB-2026.2", "2026-03-20")
    scoring, items = book["scoring"], book["items"]
    for table in (scoring["issuer_weight"], items["issuers"]):
        del table["PLATFORM"]
    for table in (scoring["merit"], items["merits"]):
        del table["SOCIAL"]
    del items["families"]["AD_FALSE_CLAIM"]
    items["categories"]["ADVERT"]["zh"] = "新名称"
    world.run(world.desk.publish_rulebook(given.publish(book), given.OFFICER))
    world.follow()
    world.clock.set(2026, 4, 1, 2)
    world.follow()
    sheet = world.sheet()
    assert sheet["rulebook"] == "RB-2026.2"
    names = sheet["items"][0]["names"]
    assert [names[of]["zh"] for of in ("family", "category", "issuer_kind")] == [
        "虚假宣传",
        "广告宣传",
        "平台",
    ]
    assert sheet["merits"][0]["names"]["item"]["zh"] == "社会责任贡献"
    assert (sheet["items"][0]["id"], sheet["merits"][0]["id"]) == (item.id, merit.id)


def test_an_unknown_provider_has_no_sheet(world: World) -> None:
    assert world.sheets.sheet(given.OTHER, today=world.today) is None
    world.run(world.desk.record(given.OTHER, given.register(), given.REGISTRAR))
    assert world.sheets.sheet(given.OTHER, today=world.today) is None, "not followed yet"
    advance(world.connection, world.ledger, world.scores, today=world.today, limit=1)
    assert world.sheets.sheet(given.OTHER, today=world.today) is None, "folded, not settled"
    world.follow()
    assert world.sheet(given.OTHER)["score"] == "80.00"


def test_a_sheet_stands_for_one_position_though_one_projection_is_ahead(world: World) -> None:
    first = world.record(given.penalty())
    before = world.sheet()
    second = world.run(world.desk.record(given.PROVIDER, given.penalty(), given.REGISTRAR))
    world.follow(world.disclosure)
    assert world.sheet() == before
    third = world.run(world.desk.record(given.PROVIDER, given.penalty(), given.REGISTRAR))
    world.follow(world.scores)
    sheet = world.sheet()
    assert sheet["position"] == second.position
    assert [item["id"] for item in sheet["items"]] == [first.id, second.id]
    assert_explains_up_to(world, sheet, second.position)
    world.follow()
    assert world.sheet()["position"] == third.position


def assert_explains_up_to(world: World, sheet: dict[str, Any], position: int) -> None:
    facts = world.scores.facts(given.PROVIDER, position)
    result = score(facts, world.scores.scales(), as_of=world.today, known_at=position)
    assert sheet["score"] == result["score"]
    assert sheet["explanation"]["other"] == "0.00"


@pytest.mark.parametrize("between", ["items", "position"])
def test_what_is_withdrawn_is_gone_though_it_is_judged_between_two_looks(
    world: World, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    item = world.record(given.penalty())
    world.run(decided(world.desk, given.PROVIDER, given.overturn(item.id)))
    real = getattr(world.disclosure, between)

    def late(*asked: str) -> Any:
        monkeypatch.setattr(world.disclosure, between, real)
        found = real(*asked)
        world.follow()
        return found

    monkeypatch.setattr(world.disclosure, between, late)
    assert world.disclosure.shown(given.PROVIDER, item.position, today=world.today) == []


def test_what_is_withdrawn_is_gone_though_the_score_is_behind(world: World) -> None:
    item = world.record(given.penalty())
    world.run(decided(world.desk, given.PROVIDER, given.overturn(item.id)))
    world.follow(world.disclosure)
    sheet = world.sheet()
    assert sheet["items"] == []
    assert sheet["explanation"]["other"] == "-5.00"
    world.follow()
    assert world.sheet()["explanation"]["other"] == "0.00"


# --- The search -----------------------------------------------------------------------------------

NAMES = {
    given.PROVIDERS[1]: "北京100%满意网络科技有限公司",
    given.PROVIDERS[2]: "上海A_B传媒(集团)有限公司",
    given.PROVIDERS[3]: 'O\'Brien "抖\\音" 代运营有限公司',
    given.PROVIDERS[4]: "北京一百传媒有限公司",
    given.PROVIDERS[5]: "DouYin Agency Co., Ltd.",
}


@pytest.fixture
def filled(world: World) -> World:
    """`world` with five more providers, of which one is listed."""
    for provider, name in NAMES.items():
        world.run(world.desk.record(provider, given.register(name=name), given.REGISTRAR))
    world.record(given.listing(), given.PROVIDERS[4])
    return world


def found(world: World, q: str, grade: str | None = None) -> set[int]:
    """Which of the six providers a search finds."""
    rows = world.sheets.search(q, grade, "", 100, today=world.today)
    assert [row["provider"] for row in rows] == sorted(row["provider"] for row in rows)
    return {given.PROVIDERS.index(row["provider"]) for row in rows}


SEARCHES: list[tuple[str, set[int]]] = [
    ("", {0, 1, 2, 3, 4, 5}),
    ("  　", {0, 1, 2, 3, 4, 5}),
    ("传媒", {0, 2, 4}),
    (" 传媒 ", {0, 2, 4}),
    ("100%", {1}),
    ("%", {1}),
    ("_", {2}),
    ("A_B", {2}),
    ("a_b", {2}),
    ("AxB", set()),
    ("O'Brien", {3}),
    ("'", {3}),
    ('"抖', {3}),
    ("\\", {3}),
    ("\\音", {3}),
    ("'; DROP TABLE scores_1.scores; --", set()),
    ("douyin agency", {5}),
    ("DOUYIN", {5}),
    ("ＤｏｕＹｉｎ", {5}),
    ("上海A_B传媒(集团)", {2}),
    ("上海Ａ＿Ｂ传媒（集团）", {2}),
    ("91999999", {0, 1, 2, 3, 4, 5}),
    ("91999999ma0", {0, 1}),
    ("91999999MA00TEXT0H", {0}),
    ("９１９９９９９９ma00text0h", {0}),
    ("91 999999 MA00 TEXT0 H", {0}),
    ("MA00", set()),
    ("查无此人", set()),
    ("\x00", set()),
    ("传\x00媒", set()),
    ("\ud800", set()),
    ("x" * 5_000, set()),
]


def test_a_search_by_part_of_the_name_or_start_of_the_code(filled: World) -> None:
    assert {q: found(filled, q) for q, _ in SEARCHES} == dict(SEARCHES)


def test_a_search_by_grade(filled: World) -> None:
    assert found(filled, "", "X") == {4}
    assert found(filled, "", "N") == {0, 1, 2, 3, 5}
    assert found(filled, "传媒", "X") == {4}
    assert found(filled, "传媒", "N") == {0, 2}
    assert found(filled, "", "Z") == found(filled, "", "\x00") == set()


def test_a_search_page_by_page(filled: World) -> None:
    after, pages = "", []
    while rows := filled.sheets.search("", None, after, 4, today=filled.today):
        pages.append([row["provider"] for row in rows])
        after = rows[-1]["provider"]
    assert [len(page) for page in pages] == [4, 2]
    assert [*pages[0], *pages[1]] == sorted(given.PROVIDERS)


def test_a_row_of_the_search(filled: World) -> None:
    filled.record(given.admit(), given.PROVIDERS[5])
    assert filled.sheets.search("douyin", None, "", 1, today=filled.today) == [
        {
            "provider": given.PROVIDERS[5],
            "name": "DouYin Agency Co., Ltd.",
            "grade": "N",
            "score": "80.00",
            "status": "admitted",
        }
    ]


def test_a_projection_that_stands_still_keeps_no_withdrawn_item_in_sight(world: World) -> None:
    item = world.record(given.penalty())
    assert [one["id"] for one in world.sheet()["items"]] == [item.id]
    world.run(decided(world.desk, given.PROVIDER, given.overturn(item.id)))
    sheet = world.sheet()
    assert sheet["items"] == []
    assert item.id not in repr(sheet)
    explanation = sheet["explanation"]
    total = Decimal(explanation["baseline"]) + Decimal(explanation["other"])
    assert str(total) == explanation["score"] == sheet["score"]


# --- What the public must not learn ---------------------------------------------------------------


def test_the_next_step_tells_nothing_of_a_decision_that_is_not_served(world: World) -> None:
    world.record(given.penalty(incident="I-1"))
    before = world.sheet()["items"]
    grave = {"severity": "S3", "severity_reason": given.evidence(), "incident": "I-1"}
    world.record(given.penalty(**grave, served_on=world.today + timedelta(days=15)))
    assert world.sheet()["items"] == before
    assert before[0]["next_step"] == {"on": "2026-05-12", "points": "-3.75"}


def test_an_investigation_shows_in_no_status(world: World) -> None:
    world.record(given.admit())
    for reason, shown in (("INVESTIGATION", "admitted"), ("PENALTY", "suspended")):
        world.record(given.suspend_provider(reason=reason))
        assert world.sheet()["status"] == shown
        [row] = world.sheets.search(given.PROVIDER, None, "", 1, today=world.today)
        assert row["status"] == shown
        told = world.scores.explain(given.PROVIDER, as_of=world.today, today=world.today)
        assert told is not None
        assert told["status"] == "suspended"
        resumed = world.record(given.resume_provider())
        line = line_of(world.disclosure, resumed.position, PUBLIC, today=world.today)
        assert (b"provider.resumed.v1" in (line or b"")) == (shown == "suspended")
        assert world.sheet()["status"] == "admitted"


def test_many_items_cost_no_more_than_their_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the public may ask for must not take minutes: it was cubic in the items once."""
    assessed: list[int] = []

    def counting(findings: Sequence[Finding], scales: Scales) -> None:
        assessed.append(len(findings))
        assess_all(findings, scales)

    monkeypatch.setattr("projections.scoring.assess_all", counting)
    for _ in range(30):
        world.record(given.penalty())
    assessed.clear()
    assert len(world.sheet()["items"]) == 30
    # Once for the score and for the next steps of all.
    assert assessed == [30]


def test_what_was_recorded_late_is_marked(world: World) -> None:
    late, soon = world.today - timedelta(days=31), world.today - timedelta(days=30)
    for on in (late, soon):
        world.record(given.listing(listed_on=on))
        world.record(given.reward(on=on))
        world.record(given.penalty(occurred_on=late, decided_on=on, served_on=on))
    sheet = world.sheet()
    for kinds in ("items", "merits"):
        marks = {one.get("decided_on") or one["on"]: one["late_entry"] for one in sheet[kinds]}
        assert marks == {late.isoformat(): True, soon.isoformat(): False}


def test_why_an_item_counts_nothing_is_said_where_it_tells_of_nothing_hidden(
    world: World,
) -> None:
    grave = {"severity": "S3", "severity_reason": given.evidence()}
    counted = world.record(given.penalty(incident="I-1", **grave))
    beside = world.record(given.penalty(incident="I-1"))
    last_year = dict.fromkeys(("occurred_on", "decided_on", "served_on"), date(2025, 3, 1))
    world.record(given.penalty(incident="I-2", public_until=date(2026, 3, 1), **grave, **last_year))
    beside_hidden = world.record(given.penalty(incident="I-2"))
    old = world.record(given.reward(on=date(2023, 1, 1)))
    sheet = world.sheet()
    told = {one["id"]: (one["points"], one["not_counted"]) for one in sheet["items"]}
    assert told == {
        counted.id: ("-30.00", None),
        beside.id: ("0.00", "SAME_INCIDENT"),
        beside_hidden.id: ("0.00", None),
    }
    [merit] = sheet["merits"]
    assert (merit["id"], merit["points"], merit["not_counted"]) == (old.id, "0.00", "MERIT_EXPIRED")
