"""How log lines are written: structlog on stderr, for a person (logfmt) or a machine (JSON).

One line each, never with a token, a body, the values of local variables or what a model or the
database quotes. A line written while a request is handled carries what is known of the request by
then: its id, for which organisation and in which role it came, the position it got
(`structlog.contextvars`, which threads inherit).
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, BinaryIO

import orjson
import psycopg
import structlog
from pydantic import ValidationError

from api.settings import Settings

QUOTING = (ValidationError, psycopg.Error)
"""Exceptions whose messages repeat values."""


def configure(settings: Settings, stream: BinaryIO | None = None) -> None:
    """Set up logging for this process; a composition root calls it once, before the first line."""
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            discreet,
            RENDERERS[settings.log_format],
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stderr.buffer),
        cache_logger_on_first_use=stream is None,
    )
    # What libraries say through the standard library goes the same way.
    logging.basicConfig(handlers=[Forwarding()], level=max(level, logging.WARNING), force=True)


def discreet(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as text: where it came from, and its message unless that repeats values.

    Models and the database quote what they refuse, and that may be what somebody sent.
    """
    raised = line.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    elif isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        parts = []
        seen: set[int] = set()
        following: BaseException | None = raised
        while following is not None and id(following) not in seen:
            seen.add(id(following))
            parts.append(_told(following))
            following = following.__cause__ or following.__context__
        line["exception"] = "\n\nafter\n\n".join(parts)
    return line


def _told(error: BaseException) -> str:
    where = "".join(traceback.format_tb(error.__traceback__))
    said = "" if isinstance(error, QUOTING) else f": {error}"
    return f"{where}{type(error).__module__}.{type(error).__qualname__}{said}"


class Forwarding(logging.Handler):
    """Passes the standard library's records on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record under its logger's name."""
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def _for_a_machine(_: Any, __: str, line: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=str)
    except TypeError:
        # A lone surrogate, or a number beyond 64 bits; who cannot log what went wrong would end.
        return json.dumps(line, default=str).encode()


def _for_a_person(logger: Any, method: str, line: MutableMapping[str, Any]) -> bytes:
    exception = line.pop("exception", None)
    text = LOGFMT(logger, method, line)
    return (text if exception is None else f"{text}\n{exception}").encode(
        "utf-8", "backslashreplace"
    )


LOGFMT = structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"))
RENDERERS = {"json": _for_a_machine, "console": _for_a_person}
