"""The client behind `chengxin tail`: the feed's lines as they come, over breaks and restarts.

`chengxin status` asks through it too.

After a break it asks for what comes after the last line it has given on, so nothing is lost or
doubled. Standard library only; knows nothing of the server but its published interface.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

ANSWER_SECONDS = 15.0
"""More than a server whose database is frozen takes to say so."""
SILENCE_SECONDS = 45.0
"""Three heartbeats: a connection silent for longer is dead."""
PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
MAX_LINE_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Refused(Exception):
    """The server answered, and asking again would not change the answer."""


class Away(Exception):
    """The server cannot be reached, or cannot answer now."""


class Site:
    """Where a server is, and in which language it is to answer."""

    def __init__(self, url: str, *, language: str) -> None:
        """Raises ValueError for what is no http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self.path = parts.path.rstrip("/")
        self.language = {"Accept-Language": language}

    def connection(self, seconds: float) -> HTTPConnection:
        """A new connection, made when it is used, on which so long a silence is waited out."""
        return self._kind(self._host, self._port, timeout=seconds)

    def get(self, path: str, *, allowed: tuple[int, ...]) -> tuple[int, bytes]:
        """Status and body of an answer with one of these statuses. Raises Away or Refused."""
        connection = self.connection(ANSWER_SECONDS)
        try:
            response = _ask(connection, f"{self.path}{path}", self.language, allowed=allowed)
            return response.status, response.read(MAX_ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            raise Away(_why(error)) from error
        finally:
            connection.close()


class Feed:
    """The feed of one server."""

    def __init__(self, url: str, token: str, *, language: str) -> None:
        """Raises ValueError for what is no http or https URL."""
        self._site = Site(url, language=language)
        self._headers = {"Authorization": f"Bearer {token}"} | self._site.language

    def head(self) -> int:
        """The server's last position. Raises Away or Refused."""
        # A server that is not ready says where it stands too.
        _, body = self._site.get("/readyz", allowed=(200, 503))
        try:
            return int(json.loads(body)["head"])
        except (ValueError, KeyError, TypeError) as error:
            raise Away(_why(error)) from error

    def lines(
        self, after: int, *, broken: Callable[[str], None], mended: Callable[[], None]
    ) -> Iterator[str]:
        """The lines beyond a position, for ever.

        `broken` is told of each break once, and why (nothing: the server ended the stream);
        `mended` when the connection stands again. Raises Refused; Away only if the server cannot
        be reached at all the first time.
        """
        failures = 0
        reached = away = False
        while True:
            try:
                for position, line in self._stream(after):
                    if away:
                        away = False
                        mended()
                    after, failures, reached = position, 0, True
                    if line:
                        yield line
                why = ""
            except Away as error:
                if not reached:
                    raise
                why = str(error)
            if not away:
                away = True
                broken(why)
            time.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])
            failures += 1

    def _stream(self, after: int) -> Iterator[tuple[int, str]]:
        """Position and line of each event; an empty line for a sign of life."""
        connection = self._site.connection(SILENCE_SECONDS)
        headers = self._headers | {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            response = _ask(connection, f"{self._site.path}/v1/feed", headers, allowed=(200,))
            data: list[str] = []
            yield after, ""
            while raw := response.readline(MAX_LINE_BYTES):
                name, _, value = raw.decode().rstrip("\r\n").partition(":")
                if name == "data":
                    data.append(value.removeprefix(" "))
                elif name == "id":
                    after = int(value)
                elif not name and data:
                    yield after, "\n".join(data)
                    data = []
        except (OSError, HTTPException, ValueError) as error:
            raise Away(_why(error)) from error
        finally:
            connection.close()


def _ask(
    connection: HTTPConnection, path: str, headers: dict[str, str], *, allowed: tuple[int, ...]
) -> HTTPResponse:
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
    except (OSError, HTTPException) as error:
        raise Away(_why(error)) from error
    if response.status in allowed:
        return response
    text = response.read(MAX_LINE_BYTES).decode(errors="replace")
    try:
        problem = json.loads(text)
        why = f"{problem['detail']} [{problem['code']}]"
    except (ValueError, KeyError, TypeError):
        why = text[:200]
    if response.status in (408, 425, 429) or response.status >= 500:
        raise Away(f"{response.status}: {why}")
    raise Refused(f"{response.status}: {why}")


def _why(error: Exception) -> str:
    """Why there is no answer, without the number that the system gives it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
