"""What the suites of attacks share: counting them, the figures in the document, and raw sockets.

An attack is one thing tried, with what a good answer is. What was tried is counted by class, and
the counts must be those that `docs/security.md` gives: a figure nobody tried is no figure.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from tests.serving import Served

DOCUMENT = Path(__file__).parent.parent / "docs" / "security.md"
WRITE = "CHENGXIN_ATTACK_FIGURES"
"""Set to `write`, a run of the suites writes its figures into the document."""
ROW = re.compile(r"^\| `([a-z-]+)` \|.*\| ([0-9,]+) \| ([0-9,]+) \|$", re.MULTILINE)
TOTAL = re.compile(r"^\*\*([0-9,]+) attacks tried, ([0-9,]+) let through", re.MULTILINE)
SECONDS = 15
SHOWN = 12


class Tally:
    """The attacks of one class: how many were tried, and what got through."""

    def __init__(self) -> None:
        self.tried = 0
        self.through: list[str] = []

    def attack(self, what: object, came: object, *, good: bool) -> None:
        """Count one attack; `good`: whether what came is a good answer."""
        self.tried += 1
        if not good:
            self.through.append(f"{what}: {str(came)[:400]}")


def figures() -> dict[str, tuple[int, int]]:
    """By class, how many attacks the document says were tried, and let through."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return {name: (number(tried), number(let)) for name, tried, let in ROW.findall(text)}


def number(text: str) -> int:
    """A number as the document writes it."""
    return int(text.replace(",", ""))


@contextlib.contextmanager
def attacks(name: str) -> Iterator[Tally]:
    """Count the attacks of a class; nothing may have got through, and the document says so."""
    tally = Tally()
    yield tally
    assert not tally.through, f"{len(tally.through)} let through:\n" + "\n".join(
        tally.through[:SHOWN]
    )
    assert tally.tried, "nothing was tried"
    if os.environ.get(WRITE) == "write":
        write_down(name, tally.tried)
    assert figures()[name] == (tally.tried, 0), (
        f"docs/security.md gives another figure than {tally.tried} for `{name}`;"
        f" {WRITE}=write pytest -n 0 tests/test_attack_*.py writes them down"
    )


def write_down(name: str, tried: int) -> None:
    """Put the figure of a class, and the sum of all, into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    row = re.compile(rf"^(\| `{name}` \|.*\|) [0-9,]+ \| [0-9,]+ \|$", re.MULTILINE)
    text = row.sub(lambda found: f"{found[1]} {tried:,} | 0 |", text)
    total = sum(number(one) for _, one, _ in ROW.findall(text))
    text = TOTAL.sub(f"**{total:,} attacks tried, 0 let through", text)
    DOCUMENT.write_text(text, encoding="utf-8")


def alike(
    answer: httpx2.Response, sent: Mapping[str, str]
) -> tuple[int, list[tuple[str, str]], str]:
    """Status, headers and body of an answer, without its request id and what its asker sent."""
    id = answer.headers["x-request-id"]

    def bare(text: str) -> str:
        text = text.replace(id, "<id>")
        for value, name in sent.items():
            text = text.replace(value, name)
        return text

    headers = [(name, bare(value)) for name, value in answer.headers.multi_items()]
    return answer.status_code, [one for one in headers if one[0] != "date"], bare(answer.text)


def raw(served: Served, *sent: bytes, seconds: float = SECONDS) -> bytes:
    """What the server answers to bytes until it closes, or says nothing more."""
    answer = b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=seconds) as one:
        with contextlib.suppress(OSError):
            for part in sent:
                one.sendall(part)
        with contextlib.suppress(OSError):
            while piece := one.recv(65536):
                answer += piece
    return answer


def statuses(answer: bytes) -> list[int]:
    """The status of every answer in what came."""
    return [int(one) for one in re.findall(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) ", answer)]


def is_a_problem(answer: httpx2.Response, *allowed: int) -> bool:
    """Whether an answer refuses, as all refusals do, with one of these statuses."""
    told: Any = None
    with contextlib.suppress(ValueError):
        told = answer.json()
    return (
        answer.status_code in allowed
        and answer.headers.get("content-type") == "application/problem+json"
        and isinstance(told, dict)
        and told.get("status") == answer.status_code
    )
