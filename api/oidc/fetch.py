"""One JSON object from an address of an issuer: once, whole, in time, and from nowhere else.

No redirect is followed, no proxy asked, nothing cached. The whole of it, from the name's look-up to
the last byte, ends in time, however slowly the other side drips; and nothing blocks the loop.
Certificates are checked as OpenSSL is set up on this machine (`SSL_CERT_FILE` names others).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httptools

from api.oidc.issuer import check_address
from ledger.errors import Words

FETCH_SECONDS = 5.0
MAX_ANSWER_BYTES = 256 * 1024
CHUNK_BYTES = 16 * 1024

Fetch = Callable[[str], Awaitable[dict[str, Any]]]


class FetchFailed(Exception):
    """No answer, or none that can be used: why is in `reason`."""

    def __init__(self, reason: Words) -> None:
        super().__init__(reason.en)
        self.reason = reason


NO_ANSWER = Words("it cannot be reached", "无法连接")
TOO_SLOW = Words("it did not answer in time", "未及时应答")
TOO_LARGE = Words("its answer is too large", "应答过大")
NO_HTTP = Words("its answer is no HTTP, or cut off", "应答不是 HTTP 或不完整")
NO_OBJECT = Words("its answer is no JSON object", "应答不是 JSON 对象")
NO_CERTIFICATE = Words("its certificate is not good", "证书无效")


async def fetch_json(url: str) -> dict[str, Any]:
    """The JSON object at an address. Raises FetchFailed."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            body = await _get(url)
        found = json.loads(body)
    except TimeoutError as error:
        raise FetchFailed(TOO_SLOW) from error
    except ssl.SSLError as error:
        raise FetchFailed(NO_CERTIFICATE) from error
    except OSError as error:
        raise FetchFailed(NO_ANSWER) from error
    except httptools.HttpParserError as error:
        raise FetchFailed(NO_HTTP) from error
    except (ValueError, RecursionError) as error:
        raise FetchFailed(NO_OBJECT) from error
    if not isinstance(found, dict):
        raise FetchFailed(NO_OBJECT)
    return found


async def _get(url: str) -> bytes:
    parts = check_address(url)
    secure = parts.scheme == "https"
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=ssl.create_default_context() if secure else None,
    )
    try:
        writer.write(request_of(url))
        return await _answer(reader)
    finally:
        writer.close()
        # Only the close itself: whoever does not answer it must not hold us.
        with suppress(OSError):
            writer.transport.abort()


def request_of(url: str) -> bytes:
    """The request for an address."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "User-Agent: chengxin",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _answer(reader: asyncio.StreamReader) -> bytes:
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    left = MAX_ANSWER_BYTES
    while not answer.complete:
        data = await reader.read(CHUNK_BYTES)
        if not data:
            if not answer.ends_with_connection:
                raise FetchFailed(NO_HTTP)
            break
        left -= len(data)
        if left < 0:
            raise FetchFailed(TOO_LARGE)
        parser.feed_data(data)
    status = parser.get_status_code()
    if status != 200:
        raise FetchFailed(Words(f"it answered with status {status}", f"应答状态为 {status}"))
    return bytes(answer.body)


class Answer:
    """What the parser has found so far."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False
        self._begun = False
        self._framed = False

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer is whole where the connection ends (RFC 9112 §6.3, rule 8)."""
        return self._begun and not self._framed

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._framed |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        """All headers are there."""
        self._begun = True

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self.complete = True
