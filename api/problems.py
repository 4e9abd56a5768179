"""How a refusal is told: an RFC 9457 problem document, in the reader's language.

Everything that is not an answer is a problem: what the domain refuses, what breaks the schema,
a wrong address, a database that is away, and our own mistakes (which tell nothing but an incident
number). `type` is a relative reference, `/problems/<code>`, that this server answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import orjson
import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from api import refusals, unadmitted
from api.doorrefusals import Busy, TooManyRequests, TooSlow
from api.intake.rows import Problem
from api.refusals import Flaw, RowNotUnderstood, SchemaBroken
from api.titles import TITLES
from ledger.errors import LedgerError, NotAllowed, Unavailable, Words, family

Language = Literal["zh", "en"]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MAX_FLAWS = 50
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
"""What the driver raises when the database cannot be reached."""
TAGS: dict[Language, str] = {"zh": "zh-CN", "en": "en"}
REQUEST_ID = "chengxin.request_id"
"""Where in a request's scope its id stands (`api/door.py`)."""
RESOURCE = "/.well-known/oauth-protected-resource"
"""Where a client learns who vouches for bearers (`api/resource.py`)."""
UNSTORED = {"Cache-Control": "no-store", "Vary": "Accept-Language"}


def language_of(accept_language: str | None) -> Language:
    """zh or en by `Accept-Language` (RFC 9110 §12.5.4); zh where neither is asked for."""
    weights: dict[str, float] = {}
    for part in (accept_language or "").split(",")[:20]:
        tag, _, parameter = part.strip().partition(";")
        quality = parameter.strip().removeprefix("q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        primary = tag.strip().lower().split("-")[0]
        weights[primary] = max(weight, weights.get(primary, 0.0))
    other = weights.get("*", 0.0)
    return "en" if weights.get("en", other) > weights.get("zh", other) else "zh"


def document(error: LedgerError, language: Language) -> dict[str, Any]:
    """The problem document of a refusal."""
    message = error.chinese() if language == "zh" else str(error)
    problem: dict[str, Any] = {
        "type": f"/problems/{error.code}",
        "title": getattr(TITLES[error.code].name, language),
        "status": error.status,
        "detail": " ".join(message.split()),
        "advice": getattr(TITLES[error.code].advice, language),
        "code": error.code,
    }
    facts = {name: _plain(value, language) for name, value in error.facts.items()}
    if facts:
        problem["facts"] = facts
    if isinstance(error, SchemaBroken | RowNotUnderstood):
        problem["errors"] = [
            {"loc": list(flaw.loc), "msg": getattr(flaw.msg, language)}
            for flaw in error.flaws[:MAX_FLAWS]
        ]
    return problem


def of_line(told: Sequence[Problem], language: Language) -> dict[str, Any]:
    """The problem document of one line among many: of its first problem, with all in `errors`."""
    first = told[0]
    title = TITLES[first.code]
    problem = {
        "type": f"/problems/{first.code}",
        "title": getattr(title.name, language),
        "status": refusals_by_code()[first.code].status,
        "code": first.code,
        "field": first.field,
        "detail": getattr(first.reason, language),
        "advice": getattr(title.advice, language),
    }
    if len(told) > 1:
        problem["errors"] = [
            {"field": one.field, "code": one.code, "detail": getattr(one.reason, language)}
            for one in told
        ]
    return problem


def _plain(value: object, language: Language) -> object:
    if isinstance(value, Words):
        return getattr(value, language)
    return value if isinstance(value, int) else str(value)


def answer(request: Request, error: LedgerError) -> Response:
    """The problem as a response, with the headers that belong to its status."""
    language = language_of(request.headers.get("accept-language"))
    headers = {"Content-Language": TAGS[language], **UNSTORED}
    if error.status == 503 or isinstance(error, refusals.Behind):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif error.status in (401, 403):
        headers["WWW-Authenticate"] = challenge(error, address_of(request.scope))
    elif isinstance(error, refusals.MethodNotAllowed):
        headers["Allow"] = str(error.facts["allowed"])
    elif isinstance(error, refusals.BodyTooLarge | refusals.BodyTimeout):
        headers["Connection"] = "close"
    elif isinstance(error, TooManyRequests):
        headers |= rate_limit(error)
    told = document(error, language)
    if (id := request.scope.get(REQUEST_ID)) is not None:
        told["request_id"] = id
    body = orjson.dumps(told)
    return Response(body, status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def challenge(error: LedgerError, address: str) -> str:
    """The `WWW-Authenticate` header (RFC 6750 §3, RFC 9728 §5.1).

    Who sent no token is told of no error, only where to learn how to get one.
    """
    parts = {"realm": "chengxin"}
    if error.status == 401 and not isinstance(error, refusals.TokenMissing):
        parts["error"] = "invalid_token"
    elif isinstance(error, NotAllowed | unadmitted.ScopeMissing | unadmitted.BearerNotAdmitted):
        parts["error"] = "insufficient_scope"
    if isinstance(error, unadmitted.ScopeMissing):
        parts["scope"] = str(error.facts["scope"])
    if "error" in parts:
        # A description is ASCII without these two (RFC 6750 §3).
        text = " ".join(str(error).split()).encode("ascii", "replace").decode("ascii")
        parts["error_description"] = text.replace('"', "'").replace("\\", "/")
    parts["resource_metadata"] = f"{address}{RESOURCE}"
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parts.items())


def address_of(scope: Scope) -> str:
    """The address of this server: as the operator says, else the socket's own.

    Never what the client calls us: whoever could choose that could name a server of his own.
    """
    app = scope.get("app")
    given = getattr(app.state, "public_url", None) if app is not None else None
    if given is not None:
        return str(given).rstrip("/")
    host, port = scope.get("server") or ("127.0.0.1", None)
    host = f"[{host}]" if ":" in host else host
    return f"{scope['scheme']}://{host}" + (f":{port}" if port else "")


def rate_limit(error: TooManyRequests) -> dict[str, str]:
    """When to ask again, in the words of draft-ietf-httpapi-ratelimit-headers too."""
    facts = error.facts
    return {
        "Retry-After": f"{facts['wait']}",
        "RateLimit-Policy": f'"{facts["budget"]}";q={facts["requests"]};w={facts["seconds"]}',
        "RateLimit": f'"{facts["budget"]}";r=0;t={facts["wait"]}',
    }


def broken(error: ValidationError, loc: Sequence[str | int] = ("body",)) -> SchemaBroken:
    """What a model refused, as a problem; the refused values themselves are not repeated."""
    details = error.errors(include_url=False, include_input=False)
    return SchemaBroken([_flaw((*loc, *one["loc"]), one) for one in details])


def _flaw(loc: Sequence[str | int], error: Mapping[str, Any]) -> Flaw:
    context = error.get("ctx") or {}
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error" and message in OUR_MESSAGES:
        return Flaw(loc, Words(message, OUR_MESSAGES[message]))
    if error["type"] == "value_error" and OF_DATE.match(message):
        return Flaw(loc, NO_DAY)
    if "expected" in context:
        context = {"expected": re.sub(", | or ", "、", str(context["expected"]))}
    template = CHINESE.get(error["type"])
    return Flaw(loc, Words(message, template.format(**context) if template else "不符合要求"))


NO_DAY = Words("a day that exists, written YYYY-MM-DD", "应为存在的日期，写作 YYYY-MM-DD")
OF_DATE = re.compile("Invalid isoformat|day is out|month must|year ")
"""How `date.fromisoformat` begins what it says; the first of these repeats the value."""
OUR_MESSAGES = {
    "a day is written YYYY-MM-DD": "日期写作 YYYY-MM-DD",
    "control and format characters and lone surrogates are not allowed": (
        "不允许控制字符、格式字符和孤立代理字符"
    ),
    "no space at either end": "首尾不得有空格",
}
"""What our own validators say (`ledger/events.py`)."""
CHINESE = {
    "missing": "缺少必填字段",
    "extra_forbidden": "没有该字段",
    "model_type": "应为对象",
    "model_attributes_type": "应为对象",
    "dict_type": "应为对象",
    "list_type": "应为数组",
    "string_type": "应为文本",
    "int_type": "应为整数",
    "int_from_float": "应为整数",
    "int_parsing": "应为整数",
    "int_parsing_size": "整数过大",
    "bool_type": "应为 true 或 false",
    "date_type": NO_DAY.zh,
    "literal_error": "应为 {expected} 之一",
    "string_pattern_mismatch": "应符合格式 {pattern}",
    "string_too_short": "至少 {min_length} 个字符",
    "string_too_long": "至多 {max_length} 个字符",
    "too_short": "至少 {min_length} 项",
    "too_long": "至多 {max_length} 项",
    "greater_than_equal": "不得小于 {ge}",
    "less_than_equal": "不得大于 {le}",
}
"""What the models say, by pydantic's type of error."""


def unavailable(error: Exception, *, reached: bool) -> Unavailable:
    """What a failure of the driver means; `reached`: the database answers others meanwhile."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return TooSlow()
    return Busy() if reached and isinstance(error, PoolTimeout) else Unavailable()


def install(app: FastAPI, *, reached: Callable[[], bool]) -> None:
    """Make every exception that leaves a route of `app` a problem document.

    `reached` tells whether the database answers.
    """

    async def refused(request: Request, error: LedgerError) -> Response:
        return answer(request, error)

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        flaws = [_flaw(one["loc"], one) for one in error.errors()]
        return answer(request, SchemaBroken(flaws))

    async def away(request: Request, error: Exception) -> Response:
        return answer(request, unavailable(error, reached=reached()))

    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if error.status_code == 405:
            allowed = methods_of(request)
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": allowed})
            facts = {"path": path, "method": request.method, "allowed": allowed}
            return answer(request, refusals.MethodNotAllowed(**facts))
        assert error.status_code == 404, f"nothing here raises a bare {error.status_code}"
        return answer(request, refusals.NotFound(path=path))

    app.exception_handler(LedgerError)(refused)
    app.exception_handler(RequestValidationError)(invalid)
    app.exception_handler(HTTPException)(of_the_framework)
    for kind in AWAY:
        app.exception_handler(kind)(away)


def methods_of(request: Request) -> str:
    """The methods of the address asked for, as `Allow` lists them (RFC 9110 §9.3.2, §9.3.7)."""
    found = {"OPTIONS"}
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))


@cache
def refusals_by_code() -> dict[str, type[LedgerError]]:
    """Every problem an API answer can carry: its class by its code, in the order of TITLES."""
    known = family()
    return {code: known[code] for code in TITLES}


def describe(code: str) -> dict[str, Any] | None:
    """What `/problems/<code>` says of a problem, in both languages; None for no code of ours."""
    kind = refusals_by_code().get(code)
    if kind is None:
        return None
    title = TITLES[code]
    return {
        "type": f"/problems/{code}",
        "status": kind.status,
        "title": title.name._asdict(),
        "message": {
            language: " ".join(text.replace("!r}", "}").split())
            for language, text in (("en", kind.__doc__ or ""), ("zh", kind.zh))
        },
        "advice": title.advice._asdict(),
    }
