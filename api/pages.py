"""The public disclosure pages: search, the sheet of a provider, and what it all means.

Server-rendered zh-CN without script, cookie or any request to another host. A page holds what
`Sheets` shows today and nothing else; how it is laid out is the templates' business. A provider
that is unknown, refused, or no valid identifier gives one and the same 404. No proxy may serve a
withdrawn item, therefore `no-cache` with an `ETag` over the page's bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from api import wording
from ledger.calendar import local_day
from ledger.errors import InvalidIdentifier, LedgerError, LedgerNotOpened
from ledger.events import UNPRINTABLE
from ledger.identity import group_identifier, parse_identifier
from ledger.rulebook import Opening, Rulebook, Rulebooks
from projections.sheet import Sheets

ROWS_A_PAGE = 20
ITEMS_A_PAGE = 10
MAX_QUERY_CHARACTERS = 100
RETRY_AFTER_SECONDS = 5
USCC_CHARACTERS = 18
ASSETS = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Language": "zh-CN",
}
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
DOWN = (psycopg.OperationalError, psycopg.InterfaceError)


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


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is shown, and the address of the others."""

    number: int
    pages: int
    name: str
    others: Mapping[str, int]

    def href(self, number: int) -> str:
        """The address of another part; the other lists of the sheet stay where they are."""
        return f"?{urlencode({**self.others, self.name: number})}#{self.name}"


def part_of(everything: Sequence[Any], number: int) -> tuple[list[Any], int, int]:
    """The part with this number (the nearest there is), its number, and how many there are."""
    pages = max(1, -(-len(everything) // ITEMS_A_PAGE))
    number = min(max(number, 1), pages)
    first = (number - 1) * ITEMS_A_PAGE
    return list(everything[first : first + ITEMS_A_PAGE]), number, pages


def explanation_of(sheet: Mapping[str, Any], shown: set[str]) -> dict[str, Any]:
    """The explanation with one line for each item on this page and one for those on the others.

    It closes on every page: baseline + lines + elsewhere + other = score.
    """
    given = sheet["explanation"]
    elsewhere = [line for line in given["lines"] if line["id"] not in shown]
    total = sum((Decimal(line["points"]) for line in elsewhere), Decimal("0.00"))
    return {
        **given,
        "points": {line["id"]: line["points"] for line in given["lines"]},
        "elsewhere_count": len(elsewhere),
        "elsewhere": str(total),
    }


def sheet_view(sheet: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, Any]:
    """What the template of a sheet needs besides the sheet: newest first, in parts."""
    items = sorted(sheet["items"], key=lambda i: (i["decided_on"], i["position"]), reverse=True)
    merits = sorted(sheet["merits"], key=lambda m: (m["on"], m["id"]), reverse=True)
    shown_items, item_number, item_pages = part_of(items, wanted["items"])
    shown_merits, merit_number, merit_pages = part_of(merits, wanted["merits"])
    place = {item["id"]: index // ITEMS_A_PAGE + 1 for index, item in enumerate(items)}
    by_id = {item["id"]: item for item in items}
    here = {one["id"] for one in (*shown_items, *shown_merits)}
    return {
        "sheet": sheet,
        "items": shown_items,
        "merits": shown_merits,
        "item_paging": Paging(item_number, item_pages, "items", {"merits": merit_number}),
        "merit_paging": Paging(merit_number, merit_pages, "merits", {"items": item_number}),
        "reasons": [
            (by_id[id], "" if id in here else f"?items={place[id]}") for id in sheet["reasons"]
        ],
        "explanation": explanation_of(sheet, here),
    }


def scale_of(rulebook: Rulebook, score: str) -> dict[str, Any]:
    """The bands of the score from 0 to 100, drawn to scale; lengths in hundredths of the width."""
    upto = Decimal(100)
    bands = []
    for band in rulebook.scale.bands:
        start = max(band.threshold, Decimal(0))
        bands.append(
            {
                "name": band.name,
                "start": start,
                "width": upto - start,
                "middle": (upto + start) / 2,
                "threshold": f"{start.normalize():f}",
            }
        )
        upto = start
    ends = "、".join(f"{band['name']} 级 {band['threshold']} 分起" for band in bands)
    return {"bands": bands, "label": f"诚信分 {score},满分 100;{ends}"}


def is_fresh(request: Request, etag: str) -> bool:
    """Whether the reader's copy is the same (RFC 9110 §13.1.2: a weak comparison)."""
    known = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return bool(tags & {etag, "*"})


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
            finalize=wording.without_bidi_controls,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = lambda name: self.assets[name].href
        self._templates.filters |= {
            "groups": lambda identifier: group_identifier(identifier).split(" "),
            "grade_words": wording.grade_words,
            "status_words": wording.PROVIDER_STATUS.__getitem__,
            "kind_words": wording.ITEM_KINDS.__getitem__,
            "item_status_words": wording.ITEM_STATUS.__getitem__,
            "confidence_words": wording.CONFIDENCE.__getitem__,
            "sign": wording.sign,
            "signed": wording.signed,
            "unsigned": wording.unsigned,
            "period": lambda clock: wording.period(clock.count, clock.unit),
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
        written = request.path_params["identifier"]
        try:
            identifier = parse_identifier(written)
        except InvalidIdentifier as error:
            raise NoSuchPage from error
        if identifier != written:
            return Response(status_code=308, headers={"Location": f"/providers/{identifier}"})
        today = local_day(self._clock())
        rulebook = self.rules(today)
        sheet = self._sheets.sheet(identifier, today=today)
        if sheet is None:
            raise NoSuchPage
        wanted = {name: asked_number(request, name) for name in ("items", "merits")}
        return self.render(
            "sheet.html",
            here="sheet",
            individual=sheet["entity_kind"] == "INDIVIDUAL_BUSINESS",
            scale=None if sheet["listed"] else scale_of(rulebook, sheet["score"]),
            clocks=rulebook.clocks,
            **sheet_view(sheet, wanted),
        )

    def about(self, request: Request) -> Response:
        """What the system is, what the grades mean, how to object."""
        rulebook = self.rules(local_day(self._clock()))
        return self.render("about.html", here="about", rulebook=rulebook, clocks=rulebook.clocks)

    def error(self, status: int, title: str, lines: Sequence[str]) -> Response:
        """A page that says what is wrong and what to do."""
        page = self.render("error.html", here="error", title=title, lines=lines, status=status)
        page.status_code = status
        if status == 503:
            page.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return page

    def render(self, template: str, *, individual: bool = False, **view: Any) -> Response:
        """A page of this ledger; it is marked unless the ledger is in production."""
        opening = self._opening
        mark = wording.MARKS[opening.purpose] if opening else None
        noindex = individual or mark is not None or opening is None or view["here"] == "error"
        body = self._templates.get_template(template).render(
            name=opening.name if opening else "诚信账本", mark=mark, noindex=noindex, **view
        )
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        if noindex:
            headers["X-Robots-Tag"] = "noindex"
        return Response(body, media_type="text/html", headers=headers)

    def answer(self, page: Callable[[Request], Response], request: Request) -> Response:
        """The page, or the page that tells why it cannot be shown; blocks."""
        try:
            response = page(request)
        except NoSuchPage:
            return self.error(404, "没有这个页面", ["该主体不存在,或没有可公示的信息。", "请核对代码后重新查询。"])
        except (LedgerError, *DOWN) as error:
            if isinstance(error, LedgerError) and error.status != 503:
                raise
            return self.error(503, "暂时无法查询", ["数据库暂不可用,请稍后再试。"])
        if response.status_code != 200:
            return response
        etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
        response.headers["ETag"] = etag
        if is_fresh(request, etag):
            kept = {**HEADERS, "Cache-Control": "no-cache", "ETag": etag}
            return Response(status_code=304, headers=kept)
        return response


def hint(q: str) -> str | None:
    """What is wrong with a search that looks like a USCC and is none."""
    if len(q) != USCC_CHARACTERS or not q.isascii() or not q.isalnum():
        return None
    try:
        parse_identifier(q)
    except InvalidIdentifier as error:
        return error.chinese()
    return None
