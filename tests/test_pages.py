"""The public pages: what they show, what they never show, and how they hold up in a browser.

One ledger with a provider of every kind is filled once for the module and served over a real
socket. The browser part runs in the system's Chromium and skips, saying so, where there is none.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import quote, urljoin, urlsplit

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Dialog, Page, Request, ViewportSize, sync_playwright

from api import wording
from api.layout import ITEMS_A_PAGE, QUALIFICATIONS_A_PAGE
from api.pages import PAGES_AT_ONCE, ROWS_A_PAGE, Pages, routes
from ledger.calendar import local_day
from ledger.clauses import Clock as Period
from ledger.database import Database
from ledger.events import Data, Purpose
from ledger.handle import Desk, Receipt
from ledger.qualification import QualificationVerified
from ledger.rulebook import first_rulebook
from ledger.status import STATUS_AFTER
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.item import KINDS
from projections.runner import advance, migrate_projections
from projections.scores import Scores
from projections.sheet import Sheets
from tests import given
from tests.conftest import Clock, Run, drop, new_ledger
from tests.officers import decided

T = TypeVar("T")

API = Path(__file__).resolve().parent.parent / "api"
CSS = (API / "static" / "style.css").read_text(encoding="utf-8")
MAX_PAGE_BYTES = 50_000
WIDTHS = (360, 1280)
FULL, CLEAN, LISTED, SCRIPT, HEAVY, INDIVIDUAL = given.PROVIDERS
SUSPENDED, EXITED = "HK-CR-9000001", "HK-CR-9000002"
NAMES = {
    FULL: "青屿文化传媒有限公司",
    CLEAN: "桐湾数字营销有限公司",
    LISTED: "栖云网络科技有限公司",
    SCRIPT: "<script>alert(1)</script>&lt;\"'",
    HEAVY: "长" * 140 + "W" * 60,
    INDIVIDUAL: "شركة مثال للتسويق工作室",
}
UNKNOWN = "91350100M000100Y43"
ADDRESSES = (
    "/",
    "/about",
    "/?q=%E6%B8%AF",
    "/?q=91999999MA00TEXT0X",
    f"/?grade=N&after={FULL}",
    *(f"/providers/{one}" for one in given.PROVIDERS),
    f"/providers/{HEAVY}?items=2&merits=3",
    f"/providers/{SUSPENDED}",
    f"/providers/{EXITED}",
    f"/providers/{UNKNOWN}",
)
"""Every kind of page there is, the error page included."""
HIDDEN = tuple(f"不应公示第{n}号" for n in range(1, 8))
"""Document numbers of what `FULL` has on record and the public must not see."""


@dataclass
class Site:
    """A ledger with its projections, its pages served at `url`."""

    ledger: Ledger
    clock: Clock
    run: Run
    url: str = ""
    receipts: dict[str, Receipt] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = httpx2.Client(timeout=20)
        self.desk = Desk(self.ledger)
        self.scores, self.disclosure = Scores(self.ledger), Disclosure(self.ledger)
        self.sheets = Sheets(self.ledger, self.scores, self.disclosure)

    def record(self, provider: str, *commands: Data) -> list[Receipt]:
        """Record commands, in order."""
        return [self.run(decided(self.desk, provider, one)) for one in commands]

    def follow(self) -> None:
        """Let the projections catch up."""
        with self.ledger.database.connect() as connection:
            for projection in (self.scores, self.disclosure):
                while advance(connection, self.ledger, projection, today=local_day(self.clock())):
                    pass

    def get(self, path: str, **headers: str) -> httpx2.Response:
        """One GET; headers with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(self.url + path, headers=named)

    def text(self, path: str) -> str:
        """The words of a page that must be there."""
        answer = self.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        return Reading(answer.text).words


@contextmanager
def site_on(database: Database, **opening: Any) -> Iterator[Site]:
    """A fresh ledger, opened (unless `purpose` is None), with its pages on a socket."""
    migrate_projections(database)
    clock = Clock()
    with new_ledger(database, clock) as ledger, asyncio.Runner() as runner:
        site = Site(ledger, clock, runner.run)
        if opening.get("purpose", "demonstration") is not None:
            site.run(site.desk.open_ledger(given.opening(**opening), given.REGISTRAR))
        app = FastAPI()
        pages = Pages(site.sheets, rulebooks=site.scores.rulebooks, clock=clock)
        app.router.routes.extend(routes(pages))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
        site.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield site
        finally:
            site.client.close()
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def site(databases: Callable[[], Database]) -> Iterator[Site]:
    """The demonstration that most tests look at. Nobody records anything in it afterwards."""
    database = databases()
    with site_on(database) as site:
        for provider, name in NAMES.items():
            kind = "INDIVIDUAL_BUSINESS" if provider == INDIVIDUAL else "ENTERPRISE"
            site.record(provider, given.register(name=name, entity_kind=kind))
            if provider != SCRIPT:
                site.record(provider, given.admit())
        fill_full(site)
        site.record(CLEAN, *(given.contract(counterparty=client(n)) for n in range(14)))
        site.record(CLEAN, *(given.reward() for _ in range(2)))
        site.record(CLEAN, *(licence(number) for number in range(7)))
        site.record(LISTED, given.penalty(severity="S3", family="FAKE_TRAFFIC"))
        site.record(LISTED, given.listing(document_no="云市监严列〔2026〕9号"))
        fill_heavy(site)
        for number in range(ROWS_A_PAGE + 5):
            site.record(f"HK-CR-{1_000_000 + number}", given.register(name=f"港例{number}公司"))
        site.record(
            SUSPENDED,
            given.register(name="停"),
            given.admit(),
            given.suspend_provider(reason="PENALTY"),
        )
        site.record(EXITED, given.register(name="退"), given.exit_provider())
        site.follow()
        yield site
    drop(database)


def client(number: int) -> str:
    """The random reference of one of many clients."""
    return f"0198c7a0-0000-4000-8000-{number:012x}"


def fill_full(site: Site) -> None:
    """A provider with one of everything, shown and not shown."""
    site.record(FULL, *(given.contract(counterparty=client(n)) for n in range(10)))
    site.record(
        FULL,
        given.reward(document_no="云网信表〔2026〕17号"),
        given.reward(document_no=HIDDEN[0], consent=False),
    )
    told = site.record(
        FULL,
        given.penalty(document_no="云市监处罚〔2026〕18号"),
        given.penalty(
            document_no="云市监处罚〔2025〕402号",
            family="FAKE_TRAFFIC",
            severity="S3",
            occurred_on=date(2025, 9, 1),
            decided_on=date(2025, 11, 20),
            served_on=date(2025, 11, 24),
        ),
        given.complaint(
            finding=given.finding(
                document_no="DY-2026-100471", family="IGNORED_COMPLAINT", severity="S2"
            )
        ),
        given.breach(document_no="(2026)云0199民初41号", obligation=True),
        given.penalty(
            document_no=HIDDEN[1],
            family="AD_UNMARKED",
            severity="S1",
            severity_reason=given.evidence(),
            incident="INC-HIDDEN",
        ),
        given.penalty(document_no=HIDDEN[2]),
        given.penalty(
            document_no=HIDDEN[3], decided_on=date(2025, 11, 1), occurred_on=date(2025, 9, 9)
        ),
        given.penalty(document_no=HIDDEN[4], served_on=date(2026, 3, 20)),
        given.penalty(
            document_no=HIDDEN[5],
            occurred_on=date(2025, 1, 1),
            decided_on=date(2025, 2, 20),
            served_on=date(2025, 2, 22),
        ),
    )
    keys = ("on_time", "late", "complaint", "breach", "minor", "void", "repaired", "future", "old")
    site.receipts |= dict(zip(keys, told, strict=True))
    site.record(
        FULL,
        given.suspend(site.receipts["complaint"].id),
        given.fulfil(site.receipts["breach"].id),
        given.overturn(site.receipts["void"].id, document_no=HIDDEN[6]),
        given.repair(site.receipts["repaired"].id),
    )


def licence(number: int) -> QualificationVerified:
    """A licence with texts as long as they may be: without an end, expired, or in force."""
    return given.qualification(
        certificate=f"{number}".ljust(120, "证"),
        certificate_no=f"{number}".ljust(120, "号"),
        document_no=f"{number}".ljust(120, "许"),
        issuer=given.regulator("厅" * 200),
        valid_until=(None, date(2026, 2, 20), date(2031, 1, 31))[number % 3],
    )


def fill_heavy(site: Site) -> None:
    """A provider with three pages of everything, texts as long as they may be."""
    for number in range(2 * ITEMS_A_PAGE + 1):
        site.record(
            HEAVY,
            given.penalty(
                document_no=f"《<&\"'>〔{number}〕".ljust(120, "号"),
                law_article="第" * 60 + "W" * 60,
                issuer=given.regulator("局" * 200),
                decided_on=date(2026, 2, 1) + timedelta(days=number % 3),
            ),
            given.reward(
                item="SOCIAL",
                document_no=f"{number}".ljust(120, "奖"),
                issuer=given.regulator("会" * 200),
            ),
            given.referral(
                referral=f"{number}".ljust(80, "-"),
                law_article="法" * 60 + "W" * 60,
                issuer=given.regulator("署" * 200),
                referred_on=None if number % 2 else date(2026, 2, 20),
            ),
        )


VOID = {"meta", "link", "input", "img", "br", "hr"}
SVG_VOID = {"rect", "path"}


class Reading(HTMLParser):
    """One page as a strict reader sees it: every tag closed in order, nothing left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self.doctype = ""
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    @property
    def words(self) -> str:
        """The text a person reads, with single spaces."""
        return " ".join("".join(self._words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def handle_decl(self, decl: str) -> None:
        self.doctype = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.faults += [f"<{tag}> has {one} twice" for one in names if names.count(one) > 1]
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag in {"p", "div", "section", "ul", "ol", "table", "h1", "h2"} and "p" in self._open:
            self.faults.append(f"<{tag}> within <p>")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in SVG_VOID:
            self.faults.append(f"<{tag}/> outside SVG")
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> where {self._open[-3:]} are open")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "title" not in self._open:
            self._words.append(data)

    def unknown_decl(self, data: str) -> None:
        self.faults.append(f"<![{data}]>")


@cache
def contents(tag: str, text: str) -> list[str]:
    """The insides of every element of a name that holds none of its kind."""
    return re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", text, flags=re.DOTALL)


# What every page is -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ADDRESSES)
def test_html_is_whole_and_accessible(site: Site, path: str) -> None:
    page = Reading(site.get(path).text)
    assert not page.faults
    assert page.doctype == "doctype html"
    assert page.all("html") == [{"lang": "zh-CN"}]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [len(page.all(tag)) for tag in ("title", "h1", "main", "header", "footer")] == [1] * 5
    labelled = {label["for"] for label in page.all("label")}
    controls = [one["id"] for tag in ("input", "select") for one in page.all(tag)]
    assert set(controls) == labelled
    assert all("alt" in image for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(one.get("scope") in {"col", "row"} for one in page.all("th"))
    assert all(one.get("aria-label") for one in page.all("svg") if one.get("role") == "img")
    first = next(one for one in page.all("a"))
    assert first == {"class": "skip", "href": "#main"}
    for _, attributes in page.tags:
        for reference in ("for", "aria-labelledby", "aria-describedby"):
            assert set(attributes.get(reference, "").split()) <= set(ids)


@pytest.mark.parametrize("path", ADDRESSES)
def test_no_script_style_or_other_host(site: Site, path: str) -> None:
    answer = site.get(path)
    page = Reading(answer.text)
    assert not {tag for tag, _ in page.tags} & {"script", "style", "iframe", "object", "base"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action"):
            link = urlsplit(attributes.get(name, ""))
            assert not link.scheme
            assert not link.netloc
    assert "url(" not in CSS
    assert "@import" not in CSS
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ADDRESSES)
def test_headers(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_every_internal_link_leads_somewhere(site: Site) -> None:
    seen: set[str] = set()
    waiting = ["/", f"/providers/{HEAVY}?items=2", f"/providers/{FULL}"]
    while waiting and len(seen) < 60:
        path = waiting.pop(0)
        if path in seen or path.startswith("/v1/"):
            continue
        seen.add(path)
        answer = site.get(path)
        assert answer.status_code == 200, path
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        page = Reading(answer.text)
        ids = {attributes.get("id") for _, attributes in page.tags}
        for attributes in (*page.all("a"), *page.all("link")):
            target, _, fragment = urljoin(path, attributes["href"]).partition("#")
            if fragment and target == path:
                assert fragment in ids, f"{path}: #{fragment}"
            elif fragment:
                there = Reading(site.get(target).text)
                assert fragment in {a.get("id") for _, a in there.tags}, f"{target}#{fragment}"
            waiting.append(target)
    assert len(seen) > 20


@pytest.mark.parametrize("path", ADDRESSES)
def test_weight(site: Site, path: str) -> None:
    answer = site.get(path)
    page = Reading(answer.text)
    assets = {one["href"] for one in page.all("link") if one["href"].startswith("/static/")}
    assets |= {one["src"] for one in page.all("img")}
    total = len(answer.content) + sum(len(site.get(one).content) for one in assets)
    assert len(assets) == 2
    assert total <= MAX_PAGE_BYTES


def test_static_files_are_kept_for_ever_under_their_digest(site: Site) -> None:
    style = Reading(site.get("/about").text).all("link")[0]["href"]
    answer = site.get(style)
    assert answer.text == CSS
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert site.get(re.sub(r"\.[0-9a-f]{16}\.", ".0123456789abcdef.", style)).status_code == 404


@pytest.mark.parametrize("path", ["/", "/about", f"/providers/{FULL}"])
def test_an_unchanged_page_is_not_sent_again(site: Site, path: str) -> None:
    first = site.get(path)
    strong = first.headers["etag"].removeprefix("W/")
    for known in (first.headers["etag"], f'"x", {strong}', "*"):
        again = site.get(path, if_none_match=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["cache-control"] == "no-cache"
    other = site.get(path, if_none_match='"x"')
    assert (other.status_code, other.content) == (200, first.content)
    head = site.client.head(site.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == first.headers["etag"]


# The sheet ----------------------------------------------------------------------------------


def test_sheet_shows_what_is_public(site: Site) -> None:
    sheet = site.sheets.sheet(FULL, today=given.TODAY)
    assert sheet is not None
    words = site.text(f"/providers/{FULL}")
    for shown in (
        *(NAMES[FULL], FULL, "已准入", "本系统诚信等级", sheet["score"], "2026-03-02"),
        *("RB-2026.1", str(sheet["position"]), "可信度", f"{sheet['evidence_count']} 项"),
        *("云市监处罚〔2026〕18号", "云市监处罚〔2025〕402号", "DY-2026-100471"),
        *("(2026)云0199民初41号", "云网信表〔2026〕17号", "《广告法》第五十五条"),
        *("某市人民法院", "某直播电商协会", "监管部门表彰", "投诉查实", "合同违约", "处罚"),
    ):
        assert shown in words
    for item in sheet["items"]:
        for name in ("occurred_on", "decided_on", "served_on", "public_until"):
            assert item[name] in words
        for name in ("family", "category", "severity"):
            assert item["names"][name]["zh"] in words


def test_sheet_never_shows_what_is_not_public(site: Site) -> None:
    page = site.get(f"/providers/{FULL}").text
    for hidden in (*HIDDEN, "INC-", "HT-", "TS-", client(1), given.evidence().sha256, "CN-REG-1"):
        assert hidden not in page
    for code in re.findall(r"[A-Z]{2,}_[A-Z_]+", Reading(page).words):
        pytest.fail(f"a code where words belong: {code}")


def test_a_referral_is_told_apart_from_what_was_found(site: Site) -> None:
    page = site.get(f"/providers/{HEAVY}").text
    words = site.text(f"/providers/{HEAVY}")
    assert "移送司法机关（不是处罚，不计分）" in words
    assert "不是处罚，也不是对事实的认定；不计分，不影响等级" in words
    assert words.count("未载明") == 1, "where the register names no day"
    assert page.index('id="items"') < page.index('id="referrals"')
    assert "法" * 60 not in page[: page.index('id="referrals"')], "in no other list, nor the sum"
    assert "移送司法机关" not in site.text(f"/providers/{FULL}"), "nothing where there is nothing"


def test_licences_say_until_when_they_hold(site: Site) -> None:
    page = site.get(f"/providers/{CLEAN}").text
    shown = page[page.index('id="qualifications"') :]
    rows = [row for row in contents("tr", shown) if "厅" in row]
    assert len(rows) == QUALIFICATIONS_A_PAGE
    assert [(">长期<" in row, ">已过期<" in row, ">有效<" in row) for row in rows] == [
        (True, False, True),
        (False, False, True),
        (False, True, False),
    ]
    assert 'href="?items=1&amp;merits=1&amp;qualifications=2#qualifications"' in shown
    assert "证" * 60 not in page[: page.index('id="qualifications"')], "no item, nor in the sum"
    assert "资质与许可" not in site.text(f"/providers/{FULL}"), "nothing where there is nothing"


def test_each_item_has_its_status_and_only_the_late_one_the_mark(site: Site) -> None:
    rows = contents("tr", site.get(f"/providers/{FULL}").text)
    by_number = {
        key: next(row for row in rows if number in row)
        for key, number in {
            "on_time": "云市监处罚〔2026〕18号",
            "late": "云市监处罚〔2025〕402号",
            "complaint": "DY-2026-100471",
            "breach": "民初41号",
        }.items()
    }
    assert {key for key, row in by_number.items() if "迟录" in row} == {"late"}
    for key, words in (
        ("on_time", "生效中"),
        ("late", "生效中"),
        ("complaint", "审查期间暂停执行"),
        ("breach", "义务已履行"),
    ):
        assert words in by_number[key]


def test_reasons_say_what_restores_the_score_and_when(site: Site) -> None:
    sheet = site.sheets.sheet(FULL, today=given.TODAY)
    assert sheet is not None
    assert len(sheet["reasons"]) >= 3
    listed = contents("ol", site.get(f"/providers/{FULL}").text)[0]
    told = contents("li", listed)
    assert len(told) == len(sheet["reasons"])
    items = {item["id"]: item for item in sheet["items"]}
    for id, text in zip(sheet["reasons"], told, strict=True):
        assert f'href="#i{items[id]["position"]}"' in text
        assert items[id]["next_step"]["on"] in text
        assert wording.signed(items[id]["points"]) in text


def amounts(page: str) -> list[Decimal]:
    """The amounts of the explanation, top to bottom."""
    table = next(one for one in contents("table", page) if "基准分与各项" in one)
    cells = re.findall(r'<td class="num">(?:<span[^>]*>)?([^<]+)', table)
    return [Decimal(cell.replace(wording.MINUS, "-")) for cell in cells]


@pytest.mark.parametrize(
    "path",
    [f"/providers/{one}" for one in given.PROVIDERS]
    + [f"/providers/{HEAVY}?items={i}&merits={m}" for i, m in ((1, 2), (2, 3), (3, 1), (99, 99))],
)
def test_explanation_closes_on_every_page(site: Site, path: str) -> None:
    *lines, total = amounts(site.get(path).text)
    assert sum(lines) == total
    assert lines[0] == Decimal("80.00")


def test_every_item_stands_on_exactly_one_part(site: Site) -> None:
    numbers = []
    for part in (1, 2, 3):
        page = site.get(f"/providers/{HEAVY}?items={part}").text
        numbers += re.findall(r'<tr id="(i\d+)"', page)
    assert len(numbers) == len(set(numbers)) == 2 * ITEMS_A_PAGE + 1
    beyond = site.get(f"/providers/{HEAVY}?items=7").text
    assert re.findall(r'<tr id="(i\d+)"', beyond) == numbers[-1:]
    first = site.get(f"/providers/{HEAVY}").content
    for nonsense in ("0", "-1", "x", "1e3", "²", "9" * 5000):
        assert site.get(f"/providers/{HEAVY}?items={quote(nonsense)}").status_code == 200
    assert site.get(f"/providers/{HEAVY}?items=-1").content == first


@pytest.mark.parametrize(
    ("provider", "grade", "words"),
    [
        (LISTED, "X", "严重失信名单"),
        (LISTED, "X", "云市监严列〔2026〕9号"),
        (INDIVIDUAL, "N", "不是负面评价"),
        (CLEAN, "A", "优秀"),
        (SCRIPT, "N", "尚未办理准入审核"),
        (SUSPENDED, "N", "准入资格现处于暂停状态"),
        (EXITED, "N", "已退出准入管理"),
    ],
)
def test_grades_and_statuses_are_told_in_words(
    site: Site, provider: str, grade: str, words: str
) -> None:
    page = site.get(f"/providers/{provider}").text
    assert words in Reading(page).words
    assert f'class="grade {grade}"><b>{grade}</b><span>{wording.GRADES[grade]}</span>' in page


def test_about_says_what_the_rulebook_says(site: Site) -> None:
    words, book = site.text("/about"), first_rulebook()
    assert "不是行政机关公布的信用评价" in words
    for letter, threshold in book["scoring"]["bands"]:
        assert f"{letter}{wording.GRADES[letter]}" in words
        assert threshold in words
    for clock in ("objection_annotation", "objection_decision", "administrative_review"):
        assert wording.period(Period(**book["clocks"][clock])) in words
    assert not re.search(r"\d{7,}|\d{3,4}-\d{7,8}", words), "an invented telephone number"


# Marks, robots, errors ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ADDRESSES)
def test_demonstration_is_marked_everywhere(site: Site, path: str) -> None:
    answer = site.get(path)
    page = Reading(answer.text)
    marks = [one for one in page.all("p") if one.get("class") in {"mark", "ghost"}]
    assert len(marks) == 2
    assert "均属虚构" in page.words
    assert "【演示数据】" in contents("title", answer.text)[0]
    assert {"name": "robots", "content": "noindex"} in page.all("meta")
    assert answer.headers["x-robots-tag"] == "noindex"
    if path.startswith("/providers/") and answer.status_code == 200:
        assert answer.text.count('class="stamp"') == 1


def test_test_data_is_marked(database: Database) -> None:
    with site_on(database, purpose="test-data") as site:
        site.record(FULL, given.register())
        site.follow()
        for path in ("/", "/about", f"/providers/{FULL}", f"/providers/{UNKNOWN}"):
            answer = site.get(path)
            assert "测试数据" in Reading(answer.text).words
            assert "虚构" not in answer.text
            assert answer.headers["x-robots-tag"] == "noindex"


def test_production_is_not_marked_and_indexed_but_for_individual_businesses(
    database: Database,
) -> None:
    with site_on(database, purpose="production") as site:
        site.record(FULL, given.register(), given.penalty())
        site.record(INDIVIDUAL, given.register(name="某", entity_kind="INDIVIDUAL_BUSINESS"))
        site.follow()
        robots = {}
        for path in (
            *("/", "/about", "/?q=1", f"/providers/{UNKNOWN}"),
            *(f"/providers/{FULL}", f"/providers/{INDIVIDUAL}"),
        ):
            answer = site.get(path)
            assert not re.search('class="(mark|ghost|stamp)"|【|演示|测试', answer.text)
            robots[path] = answer.headers.get("x-robots-tag")
            assert ('content="noindex"' in answer.text) == (robots[path] == "noindex")
        assert [path for path, told in robots.items() if told is None] == [
            *("/about", f"/providers/{FULL}")
        ]


def test_whoever_has_no_page_gets_the_same_404(site: Site) -> None:
    answers = {
        path: site.get(path)
        for path in (
            f"/providers/{UNKNOWN}",
            "/providers/HK-CR-404",
            "/providers/91999999MA00TEXT0X",
            "/providers/%3Cscript%3E",
            "/providers/%00",
            "/providers/%ED%A0%80",
            f"/providers/{'A' * 5000}",
        )
    }
    assert {answer.status_code for answer in answers.values()} == {404}
    assert len({answer.content for answer in answers.values()}) == 1
    kept = {
        tuple((name, value) for name, value in answer.headers.items() if name != "date")
        for answer in answers.values()
    }
    assert len(kept) == 1


@pytest.mark.parametrize("written", [FULL.lower(), "９１" + FULL[2:], f"%20{FULL}%20"])
def test_a_code_written_otherwise_leads_to_the_page(site: Site, written: str) -> None:
    answer = site.get(f"/providers/{written}")
    assert answer.status_code == 308
    assert answer.headers["location"] == f"/providers/{FULL}"


def test_pages_of_a_lost_database_are_503_and_still_marked(
    databases: Callable[[], Database],
) -> None:
    database = databases()
    paths = ("/", "/about", f"/providers/{FULL}", f"/providers/{UNKNOWN}")
    with site_on(database) as site, ThreadPoolExecutor(len(paths)) as readers:
        site.record(FULL, given.register())
        site.follow()
        assert site.get(f"/providers/{FULL}").status_code == 200
        drop(database)
        for answer in readers.map(site.get, paths):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "etag" not in answer.headers
            assert "暂时无法查询" in Reading(answer.text).words
            assert "均属虚构" in answer.text
            assert not re.search("psycopg|postgres|Traceback", answer.text, re.IGNORECASE)


def test_pages_of_a_ledger_not_yet_opened_are_503(database: Database) -> None:
    with site_on(database, purpose=None) as site:
        for path in ("/", f"/providers/{FULL}"):
            answer = site.get(path)
            assert answer.status_code == 503
            assert "账本尚未开立" in answer.text
            assert answer.headers["x-robots-tag"] == "noindex"


def test_more_readers_than_places_are_told_to_come_back(database: Database) -> None:
    with site_on(database) as site, ThreadPoolExecutor(PAGES_AT_ONCE + 1) as readers:
        site.record(FULL, given.register())
        site.follow()
        with database.connect(role=None) as blocker, blocker.transaction():
            blocker.execute(f"LOCK TABLE {site.scores.schema}.scores".encode())
            path = f"/providers/{FULL}"
            answers = [readers.submit(site.get, path) for _ in range(PAGES_AT_ONCE + 1)]
            early = next(as_completed(answers)).result()
            assert (early.status_code, "retry-after" in early.headers) == (503, True)
        told = sorted(answer.result().status_code for answer in answers)
        assert told == [200] * PAGES_AT_ONCE + [503]


def test_a_withdrawn_item_is_gone_from_the_very_next_answer(database: Database) -> None:
    with site_on(database) as site:
        _, penalty = site.record(FULL, given.register(), given.penalty(document_no="甲号"))
        site.follow()
        before = site.get(f"/providers/{FULL}")
        assert "甲号" in before.text
        site.record(FULL, given.overturn(penalty.id, document_no="乙号"))
        site.follow()
        after = site.get(f"/providers/{FULL}", if_none_match=before.headers["etag"])
        assert after.status_code == 200
        assert "甲号" not in after.text
        assert "乙号" not in after.text
        assert amounts(after.text) == [Decimal("80.00"), Decimal("0.00"), Decimal("80.00")]


# Search -------------------------------------------------------------------------------------


def found(site: Site, query: str) -> list[str]:
    """The codes of the providers a search lists."""
    page = site.get(f"/?{query}")
    assert page.status_code == 200
    return re.findall(r'<th scope="row"><a href="/providers/([^"]+)"', page.text)


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("q=%E9%9D%92%E5%B1%BF", [FULL]),
        (f"q={FULL}", [FULL]),
        (f"q={FULL.lower()}", [FULL]),
        ("q=91+999999+MA00+TEXT0+H", [FULL]),
        ("q=%3Cscript", [SCRIPT]),
        ("grade=X", [LISTED]),
        ("q=%25", []),
        ("q=_", []),
        (f"q={FULL}&grade=X", []),
        (f"q={'%E9%95%BF' * 300}", [HEAVY]),
    ],
)
def test_search(site: Site, query: str, codes: list[str]) -> None:
    assert found(site, query) == codes


def test_a_search_for_nothing_printable_is_no_search(site: Site) -> None:
    assert found(site, "q=%00%01%ED%A0%80&after=%00") == found(site, "")


def test_an_unknown_grade_filters_nothing_and_is_not_selected(site: Site) -> None:
    assert found(site, "grade=Q") == found(site, "")
    assert "selected" not in site.get("/?grade=Q").text
    assert '<option value="X" selected>' in site.get("/?grade=X").text


def test_paging_loses_and_doubles_nothing(site: Site) -> None:
    path, codes = "/?grade=N", []
    for _ in range(10):
        page = site.get(path).text
        codes += re.findall(r'<th scope="row"><a href="/providers/([^"]+)"', page)
        following = [one["href"] for one in Reading(page).all("a") if one.get("rel") == "next"]
        if not following:
            break
        path = following[0]
    wanted = [row["provider"] for row in site.sheets.search("", "N", "", 1000, today=given.TODAY)]
    assert codes == wanted
    assert len(codes) > ROWS_A_PAGE


def test_empty_search_says_what_is_wrong_with_the_code(site: Site) -> None:
    words = site.text("/?q=91999999MA00TEXT0X")
    assert "没有符合条件的服务商" in words
    assert "校验码应为 H" in words
    assert "校验码" not in site.text(f"/?q={UNKNOWN}")


def test_empty_ledger_says_so(database: Database) -> None:
    with site_on(database) as site:
        site.follow()
        assert "尚无可公示的服务商" in site.text("/")


@pytest.mark.parametrize(
    "attack",
    ['"><script>alert(1)</script>', "' onfocus=alert(1) '", "</title><img src=x>", "{{7*7}}"],
)
def test_what_a_reader_types_stays_text(site: Site, attack: str) -> None:
    page = Reading(site.get(f"/?q={quote(attack)}&after={quote(attack)}").text)
    assert not page.faults
    assert page.all("input")[0]["value"] == attack
    assert not {tag for tag, _ in page.tags} & {"script"}
    assert len(page.all("img")) == 1


def test_characters_that_turn_the_text_around_are_not_repeated(site: Site) -> None:
    answer = site.get(f"/?q={quote('甲' + chr(0x202E) + '乙' + chr(0x2066))}")
    assert answer.status_code == 200
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", answer.text)


def test_names_of_any_script_are_isolated(site: Site) -> None:
    for path in ("/", f"/providers/{INDIVIDUAL}"):
        assert f"<bdi>{NAMES[INDIVIDUAL]}</bdi>" in site.get(path).text


# Words and colours --------------------------------------------------------------------------


def test_every_code_has_its_words() -> None:
    assert set(wording.ITEM_KINDS) == set(KINDS.values()) - {"REWARD", "REFERRAL", "QUALIFICATION"}
    assert set(wording.PROVIDER_STATUS) == {"registered", *STATUS_AFTER.values()}
    assert set(wording.STATUS_NOTES) == set(wording.PROVIDER_STATUS) - {"admitted"}
    assert set(wording.MARKS) == set(get_args(Purpose))
    assert set(wording.PERIODS) == set(get_args(Period.model_fields["unit"].annotation))
    bands = {name for name, _ in first_rulebook()["scoring"]["bands"]}
    assert set(wording.GRADES) == bands | {"N", "X"}
    assert set(wording.GRADE_MEANINGS) == bands


@pytest.mark.parametrize(
    ("amount", "words", "kind"),
    [
        ("-5.00", "\u22125.00", "minus"),
        ("4.00", "+4.00", "plus"),
        ("0.00", "0.00", "zero"),
        ("-0.00", "0.00", "zero"),
    ],
)
def test_amounts_carry_a_true_sign(amount: str, words: str, kind: str) -> None:
    assert (wording.signed(amount), wording.sign(amount)) == (words, kind)


def test_chinese_punctuation_is_full_width() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (API / "templates").iterdir()}
    for name in ("wording.py", "pages.py", "layout.py"):
        texts[API / name] = (API / name).read_text(encoding="utf-8")
    assert len(texts) >= 9
    wrong = re.compile(r"[\u4e00-\u9fff\u3001\u3002\u300d\u300b][,;:()!?]|[,;()!?][\u4e00-\u9fff]")
    for path, text in texts.items():
        assert not wrong.findall(text), path.name


def variables(block: str) -> dict[str, str]:
    """The colours a block of the style sheet defines."""
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block))


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of sRGB channels 0–255 (WCAG 2.2)."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """The contrast ratio of two colours, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def channels(colour: str) -> tuple[int, int, int]:
    """`#rgb` or `#rrggbb` as channels."""
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def test_contrast_can_be_too_low() -> None:
    assert contrast(channels("#fff"), channels("#000")) == pytest.approx(21)
    assert contrast(channels("#fff"), channels("#767676")) == pytest.approx(4.54, abs=0.01)
    assert contrast(channels("#fff"), channels("#999999")) < 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_style_sheet_have_contrast_aa(scheme: str) -> None:
    light, dark, *_ = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    colours = variables(light) | (variables(dark) if scheme == "dark" else {})
    grounds = ("paper", "card")
    text = [*product(("ink", "soft", "link", "minus", "plus", "seal"), grounds), ("card", "link")]
    text += [(letter, f"{letter}-tint") for letter in "abcdn"]
    text += [("card", letter) for letter in "abcd"]
    text += [("x-ink", "x"), ("mark-ink", "mark"), ("card", "ink")]
    shapes = [*product(("edge", "a", "b", "c", "d", "n"), grounds)]
    for pairs, least in ((text, 4.5), (shapes, 3.0)):
        for front, back in pairs:
            ratio = contrast(channels(colours[front]), channels(colours[back]))
            assert ratio >= least, f"{scheme}: {front} on {back} has {ratio:.2f} < {least}"


# In a browser -------------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


class Visit:
    """One page open in the browser, and everything that happened while it was loaded."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        page.on("request", self._note)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._dismiss)

    def _note(self, request: Request) -> None:
        self.requests.append(request)

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def bytes_loaded(self) -> int:
        """Bodies of everything that was loaded, as they came over the wire."""
        return sum(request.sizes()["responseBodySize"] for request in self.requests)


Look = Callable[..., Any]


@pytest.fixture(scope="module")
def look(site: Site) -> Iterator[Look]:
    """Opens a page in Chromium and gives what a function of the Visit returns.

    The browser lives in a thread of its own, because its loop would be in the tests' way.
    """
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: the pages were not seen in a browser")
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(lambda: sync_playwright().start()).result()
        browser: Browser = thread.submit(
            lambda: started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        ).result()

        def open_page(
            path: str, see: Callable[[Visit], T], *, width: int = 1280, **context: Any
        ) -> T:
            def run() -> T:
                size: ViewportSize = {"width": width, "height": 800}
                with browser.new_context(viewport=size, **context) as opened:
                    visit = Visit(opened.new_page())
                    answer = visit.page.goto(site.url + path)
                    assert answer is not None
                    return see(visit)

            return thread.submit(run).result()

        yield open_page
        thread.submit(browser.close).result()
        thread.submit(started.stop).result()


@pytest.mark.parametrize("path", ADDRESSES)
def test_browser_shows_the_page_whole_without_script(site: Site, look: Look, path: str) -> None:
    def see(visit: Visit) -> None:
        page = visit.page
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1] == width
            assert page.locator(".mark").is_visible()
            assert page.locator("h1").is_visible()
        assert {urlsplit(request.url).netloc for request in visit.requests} == {
            urlsplit(site.url).netloc
        }
        assert [request.resource_type for request in visit.requests][:2] == [
            *("document", "stylesheet")
        ]
        assert len(CSS) < visit.bytes_loaded() <= MAX_PAGE_BYTES
        assert [text for text in visit.complaints if "404 (Not Found)" not in text] == []
        assert visit.dialogs == []

    look(path, see, java_script_enabled=False)


def test_browser_runs_no_script_that_a_name_smuggles_in(look: Look) -> None:
    def see(visit: Visit) -> None:
        assert visit.dialogs == []
        assert visit.page.locator("h1").inner_text() == NAMES[SCRIPT]
        assert visit.page.locator("script").count() == 0

    look(f"/providers/{SCRIPT}", see)


@pytest.mark.parametrize("path", [f"/providers/{FULL}", f"/?q={FULL}"])
def test_browser_copies_a_grouped_code_as_one(look: Look, path: str) -> None:
    def see(visit: Visit) -> None:
        code = visit.page.locator(".uscc").first
        copied = code.evaluate(
            "e => { const s = getSelection(); s.selectAllChildren(e); return s.toString(); }"
        )
        assert copied == FULL
        gaps = code.evaluate(
            "e => [...e.children].map(c => c.getBoundingClientRect()).map(r => [r.left, r.right])"
        )
        assert len(gaps) == 5
        assert all(left[1] + 3 < right[0] for left, right in pairwise(gaps))

    look(path, see)


def test_browser_turns_tables_into_cards_on_a_narrow_screen(look: Look) -> None:
    def layout(visit: Visit) -> list[str]:
        row = visit.page.locator("tr[id^=i]").first
        return [
            row.evaluate("e => getComputedStyle(e).display"),
            row.locator("[data-label=状态]").evaluate(
                "e => getComputedStyle(e, '::before').content"
            ),
        ]

    assert look(f"/providers/{FULL}", layout, width=360) == ["block", '"状态"']
    assert look(f"/providers/{FULL}", layout, width=1280) == ["table-row", "none"]


def test_browser_keeps_the_mark_in_sight_and_on_paper(look: Look) -> None:
    def see(visit: Visit) -> None:
        page = visit.page
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        box = page.locator(".mark").bounding_box()
        assert box is not None
        assert (round(box["y"]), round(box["width"])) == (0, 360)
        assert not page.locator(".ghost").is_visible()
        page.emulate_media(media="print")
        assert page.locator(".mark").is_visible()
        assert page.locator(".ghost").is_visible()
        assert page.locator(".ghost").evaluate("e => getComputedStyle(e).position") == "fixed"
        assert not page.locator("nav").first.is_visible()

    look(f"/providers/{FULL}", see, width=360)


def test_browser_leads_the_keyboard_from_the_skip_link_to_the_text(look: Look) -> None:
    def see(visit: Visit) -> None:
        page = visit.page
        page.keyboard.press("Tab")
        skip = page.locator(".skip")
        assert skip.evaluate("e => e === document.activeElement")
        box = skip.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["y"] >= 0
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px"

    look("/", see)


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const found = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || e.closest('svg') || !e.checkVisibility()) continue;
    let ground = null;
    for (let up = e; up && !ground; up = up.parentElement) {
      const colour = rgba(getComputedStyle(up).backgroundColor);
      if (colour[3] === 1) ground = colour;
    }
    const style = getComputedStyle(e), px = parseFloat(style.fontSize);
    const large = px >= 24 || (px >= 18.66 && style.fontWeight >= 700);
    found.push([e.tagName + '.' + e.className + ' ' + e.textContent.trim().slice(0, 20),
                rgba(style.color), ground, large ? 3 : 4.5]);
  }
  return found;
}"""


@pytest.mark.parametrize(
    ("path", "scheme"),
    list(product(("/", "/about", *map("/providers/{}".format, (FULL, LISTED))), ("light", "dark"))),
)
def test_browser_paints_every_text_with_contrast_aa(look: Look, path: str, scheme: str) -> None:
    texts = look(path, lambda visit: visit.page.evaluate(CONTRAST), color_scheme=scheme)
    assert len(texts) > 30
    weak = [
        f"{what}: {contrast(colour[:3], ground[:3]):.2f} < {least}"
        for what, colour, ground, least in texts
        if contrast(colour[:3], ground[:3]) < least
    ]
    assert weak == []
