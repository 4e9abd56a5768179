"""How log lines are written: structlog on stderr, for a person (logfmt) or a machine (JSON).

One line each, never with a token, a body or the values of local variables. A line written while a
request is handled carries what is known of the request by then: its id, for which organisation and
in which role it came, the position it got (`structlog.contextvars`, which threads inherit).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO

import orjson
import structlog

from api.settings import Settings


def configure(settings: Settings, stream: BinaryIO | None = None) -> None:
    """Set up logging for this process; a composition root calls it once, before the first line."""
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            RENDERERS[settings.log_format],
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stderr.buffer),
        cache_logger_on_first_use=stream is None,
    )
    # What libraries say through the standard library goes the same way.
    logging.basicConfig(handlers=[Forwarding()], level=max(level, logging.WARNING), force=True)


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
