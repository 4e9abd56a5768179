"""How a sheet is laid out: its lists in parts, an explanation that closes on each, the scale.

Works on the plain data that `Sheets` gives and on the rulebook of the day; knows no request, no
template and no clock. Amounts stay decimals written as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from api import wording
from ledger.rulebook import Rulebook
from ledger.scale import CENT

ITEMS_A_PAGE = 6
REFERRALS_A_PAGE = QUALIFICATIONS_A_PAGE = 3
LISTS = ("items", "merits", "referrals", "qualifications")
"""The lists of a sheet, each shown in parts by itself."""
"""Few, so that with texts as long as they may be the page stays light."""


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


def part_of(
    everything: Sequence[Any], number: int, size: int = ITEMS_A_PAGE
) -> tuple[list[Any], int, int]:
    """The part with this number (the nearest there is), its number, and how many there are."""
    pages = max(1, -(-len(everything) // size))
    number = min(max(number, 1), pages)
    first = (number - 1) * size
    return list(everything[first : first + size]), number, pages


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
    referrals = sorted(
        sheet["referrals"], key=lambda r: (r["shown_from"], r["position"]), reverse=True
    )
    qualifications = sorted(
        sheet["qualifications"], key=lambda q: (q["valid_from"], q["position"]), reverse=True
    )
    shown_items, item_number, item_pages = part_of(items, wanted["items"])
    shown_merits, merit_number, merit_pages = part_of(merits, wanted["merits"])
    shown_referrals, referral_number, referral_pages = part_of(
        referrals, wanted["referrals"], REFERRALS_A_PAGE
    )
    shown_qualifications, qualification_number, qualification_pages = part_of(
        qualifications, wanted["qualifications"], QUALIFICATIONS_A_PAGE
    )
    place = {item["id"]: index // ITEMS_A_PAGE + 1 for index, item in enumerate(items)}
    by_id = {item["id"]: item for item in items}
    here = {one["id"] for one in (*shown_items, *shown_merits)}
    at = {"items": item_number, "merits": merit_number}
    if referrals:
        at["referrals"] = referral_number
    if qualifications:
        at["qualifications"] = qualification_number
    return {
        "sheet": sheet,
        "items": shown_items,
        "merits": shown_merits,
        "referrals": shown_referrals,
        "qualifications": shown_qualifications,
        "qualification_paging": _paging(
            "qualifications", qualification_pages, {"qualifications": 1, **at}
        ),
        "item_paging": _paging("items", item_pages, at),
        "merit_paging": _paging("merits", merit_pages, at),
        "referral_paging": _paging("referrals", referral_pages, {"referrals": 1, **at}),
        "reasons": [
            (by_id[id], "" if id in here else f"?items={place[id]}") for id in sheet["reasons"]
        ],
        "explanation": explanation_of(sheet, here),
    }


def _paging(name: str, pages: int, at: Mapping[str, int]) -> Paging:
    others = {other: number for other, number in at.items() if other != name}
    return Paging(at[name], pages, name, others)


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
    return {"bands": bands, "label": f"诚信分 {score}，满分 100；{ends}"}


def bands_in_words(rulebook: Rulebook) -> list[dict[str, str]]:
    """Each band of the scale, its range and what it means."""
    upto = Decimal("100.00")
    bands = []
    for band in rulebook.scale.bands:
        start = max(band.threshold, Decimal("0.00"))
        meaning = wording.GRADE_MEANINGS.get(band.name, "")
        bands.append({"name": band.name, "range": f"{start}–{upto}", "meaning": meaning})
        upto = start - CENT
    return bands
