"""The public disclosure pages: search, the sheet of a provider, and what it all means.

Server-rendered zh-CN without script, cookie or any request to another host. A page holds what
`Sheets` shows today and nothing else; how it is laid out is the templates' business. A provider
that is unknown, refused, or no valid identifier gives one and the same 404. No proxy may serve a
withdrawn item, therefore `no-cache` with an `ETag` over the page, all but how far the log goes.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from psycopg.errors import QueryCanceled
from starlette.routing import Route

from api import headers, wording
from api.layout import LISTS, bands_in_words, scale_of, sheet_view
from api.problems import AWAY, TAGS
from api.replies import is_fresh, weak_tag
from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import InvalidIdentifier, LedgerError, LedgerNotOpened, Unavailable
from ledger.fields import UNPRINTABLE
from ledger.identity import FULL_WIDTH, group_identifier, parse_identifier
from ledger.rulebook import Opening, Rulebook, Rulebooks
from projections.sheet import Sheets

ROWS_A_PAGE = 20
MAX_QUERY_CHARACTERS = 100
RETRY_AFTER_SECONDS = 5
PAGES_AT_ONCE = 4
MAX_WAIT_SECONDS = 2
USCC_CHARACTERS = 18
ASSETS = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
HEADERS = {"Content-Security-Policy": headers.PAGE, "Content-Language": "zh-CN"}
"""Besides those of every answer."""
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
NO_SUCH_PAGE = (
    "没有可公示的信息",
    ["账本中没有这一主体，或该主体没有公示页面。", "请核对名称或统一社会信用代码后重新查询。"],
)
NOT_OPENED = ("账本尚未开立", ["账本开立后即可查询。"])
UNAVAILABLE = ("暂时无法查询", ["系统正在恢复，已登记的信息不受影响。", "请稍候片刻再试。"])

TOO_SLOW = ("查询耗时过长", ["请输入更完整的名称或统一社会信用代码后重试。"])


POSITION = re.compile("<dt>账本位置</dt><dd>[0-9]+</dd>".encode())
"""How far the log goes, as the sheet says it: what is recorded of others moves it too."""


class NoSuchPage(Exception):
    """There is nothing to show at this address."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file; its name in the URL holds its digest, so that it may be kept for ever."""

    href: str
    body: bytes
    media_type: str


def read_assets() -> dict[str, Asset]:
    """The static files by their plain names."""
    found = {}
    for name, media_type in ASSETS.items():
        body = (files("api") / "static" / name).read_bytes()
        stem, _, suffix = name.rpartition(".")
        digest = hashlib.sha256(body).hexdigest()[:16]
        found[name] = Asset(f"/static/{stem}.{digest}.{suffix}", body, media_type)
    return found


def asked(request: Request, name: str) -> str:
    """A parameter of the query as one short line: no control characters, no space at the ends."""
    text = request.query_params.get(name, "")[:MAX_QUERY_CHARACTERS]
    return " ".join(UNPRINTABLE.sub(" ", text).split())


def asked_number(request: Request, name: str) -> int:
    """A number of a page in the query; 1 for anything else."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


class Pages:
    """Renders every page. `rulebooks` and `sheets` read the database and block."""

    def __init__(
        self,
        sheets: Sheets,
        *,
        rulebooks: Callable[[], Rulebooks],
        clock: Callable[[], datetime],
    ) -> None:
        self._sheets = sheets
        self._rulebooks = rulebooks
        self._clock = clock
        self._opening: Opening | None = None
        self.assets = read_assets()
        self._templates = Environment(
            loader=PackageLoader("api"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = lambda name: self.assets[name].href
        self._templates.filters |= {
            "groups": lambda identifier: group_identifier(identifier).split(" "),
            "grade_words": wording.grade_words,
            "status_words": wording.PROVIDER_STATUS.__getitem__,
            "status_note": wording.STATUS_NOTES.__getitem__,
            "validity_words": wording.VALIDITY.__getitem__,
            "kind_words": wording.ITEM_KINDS.__getitem__,
            "item_status_words": wording.ITEM_STATUS.__getitem__,
            "not_counted_words": wording.NOT_COUNTED.__getitem__,
            "confidence_words": wording.CONFIDENCE.__getitem__,
            "sign": wording.sign,
            "signed": wording.signed,
            "unsigned": wording.unsigned,
            "period": wording.period,
        }

    def rules(self, today: date) -> Rulebook:
        """The rulebook of the day; the ledger's name and purpose are kept from the first time on.

        Raises LedgerNotOpened.
        """
        rulebooks = self._rulebooks()
        if rulebooks.opening is None:
            raise LedgerNotOpened
        self._opening = rulebooks.opening
        return rulebooks.of(today)

    def learn_name(self) -> None:
        """Read the ledger's name and purpose, for a page that is there even where they are not."""
        if self._opening is None:
            with suppress(LedgerError, *AWAY):
                self.rules(local_day(self._clock()))

    def search(self, request: Request) -> Response:
        """The search and its results."""
        today = local_day(self._clock())
        rulebook = self.rules(today)
        q, grade, after = (asked(request, name) for name in ("q", "grade", "after"))
        grades = [*(band.name for band in rulebook.scale.bands), "N", "X"]
        grade = grade if grade in grades else ""
        rows = self._sheets.search(q, grade or None, after, ROWS_A_PAGE + 1, today=today)
        more, rows = len(rows) > ROWS_A_PAGE, rows[:ROWS_A_PAGE]
        same = {name: value for name, value in (("q", q), ("grade", grade)) if value}
        return self.render(
            "search.html",
            here="search",
            # A list may name a sole trader, whose page no search engine may keep (domain.md §7).
            indexable=False,
            rows=rows,
            q=q,
            grade=grade,
            grades=grades,
            after=after,
            more=more,
            hint=None if rows else hint(q),
            first_href=f"/?{urlencode(same)}",
            next_href=f"/?{urlencode({**same, 'after': rows[-1]['provider']})}" if more else "",
        )

    def sheet(self, request: Request) -> Response:
        """The sheet of one provider. Raises NoSuchPage."""
        today = local_day(self._clock())
        rulebook = self.rules(today)
        written = request.path_params["identifier"]
        try:
            identifier = parse_identifier(written)
        except InvalidIdentifier as error:
            raise NoSuchPage from error
        if identifier != written:
            elsewhere = {**HEADERS, "Location": f"/providers/{identifier}"}
            return Response(status_code=308, headers=elsewhere)
        sheet = self._sheets.sheet(identifier, today=today)
        if sheet is None:
            raise NoSuchPage
        wanted = {name: asked_number(request, name) for name in LISTS}
        return self.render(
            "sheet.html",
            here="sheet",
            indexable=sheet["entity_kind"] != "INDIVIDUAL_BUSINESS",
            scale=None if sheet["listed"] else scale_of(rulebook, sheet["score"]),
            clocks=rulebook.clocks,
            **sheet_view(sheet, wanted),
        )

    def about(self, request: Request) -> Response:
        """What the system is, what the grades mean, how to object."""
        rulebook = self.rules(local_day(self._clock()))
        return self.render(
            "about.html",
            here="about",
            indexable=True,
            rulebook=rulebook,
            clocks=rulebook.clocks,
            bands=bands_in_words(rulebook),
        )

    def problem(self, description: Mapping[str, Any]) -> Response:
        """What a problem type means (`api.problems.describe`), in both languages."""
        self.learn_name()
        code = description["type"].rpartition("/")[2]
        view = {"code": code, "one": description, "tags": TAGS}
        return self.render("problem.html", here="problem", indexable=False, **view)

    def error(self, status: int, title: str, lines: Sequence[str]) -> Response:
        """A page that says what is wrong and what to do."""
        view = {"title": title, "lines": lines, "status": status}
        page = self.render("error.html", here="error", indexable=False, **view)
        page.status_code = status
        if status == 503:
            page.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return page

    def render(self, template: str, *, indexable: bool, **view: Any) -> Response:
        """A page of this ledger; unless in production it is marked, and never indexed."""
        opening = self._opening
        mark = wording.MARKS[opening.purpose] if opening else None
        noindex = mark is not None or not indexable
        body = self._templates.get_template(template).render(
            name=opening.name if opening else "诚信账本", mark=mark, noindex=noindex, **view
        )
        told = {**HEADERS, "Cache-Control": "no-cache"}
        if noindex:
            told["X-Robots-Tag"] = "noindex"
        return Response(body, media_type="text/html", headers=told)

    def answer(self, page: Callable[[Request], Response], request: Request) -> Response:
        """The page, or the page that tells why it cannot be shown; blocks."""
        try:
            response = page(request)
        except NoSuchPage:
            return self.error(404, *NO_SUCH_PAGE)
        except LedgerNotOpened:
            return self.error(503, *NOT_OPENED)
        except QueryCanceled:
            return self.error(503, *TOO_SLOW)
        except (Unavailable, *AWAY):
            return self.error(503, *UNAVAILABLE)
        if response.status_code != 200:
            return response
        etag = weak_tag(POSITION.sub(b"", bytes(response.body)))
        response.headers["ETag"] = etag
        if is_fresh(request, etag.removeprefix("W/")):
            kept = {**HEADERS, "Cache-Control": "no-cache", "ETag": etag}
            return Response(status_code=304, headers=kept)
        return response


def hint(q: str) -> str | None:
    """What is wrong with a search that looks like a USCC and is none."""
    code = "".join(q.split()).translate(FULL_WIDTH)
    if len(code) != USCC_CHARACTERS or not code.isascii() or not code.isalnum():
        return None
    try:
        parse_identifier(code)
    except InvalidIdentifier as error:
        return error.chinese()
    return None


def routes(pages: Pages) -> list[Route]:
    """The routes of every page and static file (GET and HEAD; not part of the API's schema)."""
    found: list[Route] = []
    # Pages never take all threads and connections from those who write; who waits is told soon.
    places = asyncio.Semaphore(PAGES_AT_ONCE)

    def page(path: str, show: Callable[[Request], Response]) -> None:
        async def answer(request: Request) -> Response:
            try:
                async with asyncio.timeout(MAX_WAIT_SECONDS):
                    await places.acquire()
            except TimeoutError:
                return pages.error(503, *UNAVAILABLE)
            try:
                return await reading(pages.answer, show, request)
            except Unavailable:
                return pages.error(503, *UNAVAILABLE)
            finally:
                places.release()

        found.append(Route(path, answer, include_in_schema=False))

    def asset(one: Asset) -> None:
        async def answer(request: Request) -> Response:
            return Response(one.body, media_type=one.media_type, headers={**HEADERS, **FOREVER})

        found.append(Route(one.href, answer, include_in_schema=False))

    page("/", pages.search)
    page("/about", pages.about)
    page("/providers/{identifier}", pages.sheet)
    for one in pages.assets.values():
        asset(one)
    return found
