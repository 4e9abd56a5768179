"""The body of a request, from bytes to plain data: bounded in size, time and depth, and strict.

What comes out holds no key twice, no NaN, no lone surrogate. What no model checks field by field
(a rulebook) is checked by `check_exact` for all that canonical JSON cannot carry.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.refusals import BodyTimeout, BodyTooLarge, Flaw, NotJson, SchemaBroken, Unparsable
from api.security import header_values
from ledger.errors import Words

BODY_SECONDS = 30
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
UNREAD = "chengxin.unread"
"""Set in the scope where the rest of a body was left unread (see `api/door.py`)."""


async def read_json(request: Request, *, limit: int) -> Any:
    """The parsed body. Raises NotJson, BodyTooLarge, BodyTimeout, Unparsable, ClientDisconnect."""
    given = header_values(request, b"content-type")
    if len(given) != 1 or not is_json(given[0]):
        raise NotJson
    return parse_json(await read_body(request, limit=limit))


def is_json(content_type: str) -> bool:
    """Whether a `Content-Type` says JSON."""
    media_type = media_type_of(content_type)
    return media_type == "application/json" or media_type.endswith("+json")


def media_type_of(content_type: str) -> str:
    """What a `Content-Type` says, in lower case and without parameters.

    Empty where it says another charset than that of all JSON, which is UTF-8 (RFC 8259 §8.1).
    """
    media_type, *parameters = content_type.lower().split(";")
    charsets = {
        value.strip().strip('"')
        for name, _, value in (one.partition("=") for one in parameters)
        if name.strip() == "charset"
    }
    return media_type.strip() if charsets <= {"utf-8"} else ""


async def read_body(request: Request, *, limit: int) -> bytes:
    """At most `limit` bytes; what is longer is not read to its end."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message["body"]
                more = message["more_body"]
                if len(body) > limit:
                    request.scope[UNREAD] = more
                    raise BodyTooLarge(limit=limit)
                if not more:
                    return bytes(body)
    except TimeoutError:
        request.scope[UNREAD] = True
        raise BodyTimeout(seconds=BODY_SECONDS) from None


def parse_json(body: bytes) -> Any:
    """Plain data of JSON bytes (RFC 8259, made stricter). Raises Unparsable.

    orjson judges syntax, UTF-8, surrogates and nesting; the standard library's decoder tells of
    keys that are there twice and keeps integers whole.
    """
    try:
        parsed = orjson.loads(body)
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(parsed)
        return DECODER.decode(body.decode())
    except json.JSONDecodeError as error:
        where = f"{error.msg} ({error.lineno}:{error.colno})"
        zh = f"第 {error.lineno} 行第 {error.colno} 列有误"
        raise Unparsable(why=Words(where, zh)) from error
    except ValueError as error:
        # An integer of more digits than Python converts.
        raise Unparsable(why=Words("a number is far too long", "数字过长")) from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)[:80]
        raise Unparsable(why=Words(f"the key {twice!r} is there twice", f"键 {twice!r} 重复"))
    return found


def _whole(text: str) -> int | float:
    """JSON Schema takes 2.0 for an integer; so do we. What is none stays a float, to be refused."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number


DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_float=_whole)


def _check_depth(parsed: Any) -> None:
    level = [parsed]
    for _ in range(MAX_DEPTH):
        level = [child for one in level for child in _children(one)]
        if not level:
            return
    raise Unparsable(why=Words(f"more than {MAX_DEPTH} levels", f"嵌套超过 {MAX_DEPTH} 层"))


def _children(one: Any) -> Sequence[Any]:
    if isinstance(one, dict):
        return list(one.values())
    return one if isinstance(one, list) else ()


REFERENCE = "#/components/schemas/"
EXACT: dict[str, Any] = {
    "ExactObject": {
        "description": "What a canonical event can carry: keys in printable ASCII.",
        "type": "object",
        "propertyNames": {"pattern": "^[ -~]*$"},
        "additionalProperties": {"$ref": f"{REFERENCE}Exact"},
    },
    "Exact": {
        "description": "What a canonical event can carry: no fraction, no NUL.",
        "anyOf": [
            {"type": ["null", "boolean"]},
            {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
            {"type": "string", "pattern": "^[^\\u0000]*$"},
            {"type": "array", "items": {"$ref": f"{REFERENCE}Exact"}},
            {"$ref": f"{REFERENCE}ExactObject"},
        ],
    },
}
"""`check_exact` as JSON Schema says it, for those who check before they send."""


def check_exact(data: Any, loc: Sequence[str | int]) -> None:
    """Raises SchemaBroken where free-form data holds what a canonical event cannot carry."""
    flaws = list(_inexact(data, tuple(loc)))
    if flaws:
        raise SchemaBroken(flaws)


def _inexact(data: Any, loc: tuple[str | int, ...]) -> Iterator[Flaw]:
    if isinstance(data, dict):
        for name, value in data.items():
            if not (name.isascii() and name.isprintable()):
                yield Flaw(loc, Words("keys are printable ASCII", "键只能是可见 ASCII 字符"))
            yield from _inexact(value, (*loc, name))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _inexact(value, (*loc, index))
    elif isinstance(data, float):
        yield Flaw(loc, Words("a number is whole; amounts are texts", "数字须为整数，数额写作文本"))
    elif isinstance(data, int) and abs(data) > MAX_INTEGER:
        yield Flaw(loc, Words("an integer lies within ±(2^53-1)", "整数须在 ±(2^53-1) 之间"))
    elif isinstance(data, str) and "\0" in data:
        yield Flaw(loc, Words("NUL is not allowed", "不允许 NUL 字符"))
