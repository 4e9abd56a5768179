"""The product itself as a process: `chengxin serve` on a database of the run, and tokens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Self

import psycopg

from api.settings import Settings
from bench.place import ACTOR, tokens_of
from ledger.database import Database

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
CATCH_UP_SECONDS = 600
SETTLED = "SELECT least(s.settled, d.settled) FROM scores_1.progress s, disclosure_1.progress d"
"""The position for which both projections answer."""


@contextmanager
def server(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[int]:
    """A server process; its port, once it has told it."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = next(filter(None, map(ADDRESS.search, process.stdout)))
            yield int(found[1])
        finally:
            process.terminate()


class Served:
    """A running `chengxin serve`: its port, and two tokens.

    `token` is a registrar's, who may see all; `subscriber` sees what the public may.
    """

    def __init__(self, database: Database, *, worker: bool = True) -> None:
        self._database = database
        self._worker = worker
        self._stack = ExitStack()
        self.port = 0
        self.token = ""
        self.subscriber = ""

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        settings = Settings(key_dir=Path(folder) / "keys")
        tokens = tokens_of(settings)
        self.token = tokens.issue(role=ACTOR.role, organisation=ACTOR.organisation, ref=ACTOR.ref)
        self.subscriber = tokens.issue(role="subscriber", organisation="CN-READER", ref=ACTOR.ref)
        environment = os.environ | {
            "CHENGXIN_DATABASE_URL": self._database.conninfo,
            "CHENGXIN_KEY_DIR": str(settings.key_dir),
            "CHENGXIN_ACCESS_LOG": "false",
        }
        main = "from api.cli import main; main()"
        command = [sys.executable, "-c", main, "serve", "--port", "0"]
        if not self._worker:
            command.append("--no-worker")
        self.port = self._stack.enter_context(server(command, environment))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def milliseconds(self, path: str, token: str, rounds: int) -> float:
        """The median of so many requests, one after the other on one connection."""
        took = []
        connection = HTTPConnection("127.0.0.1", self.port)
        for _ in range(rounds):
            started = time.perf_counter()
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            body = response.read()
            took.append((time.perf_counter() - started) * 1000)
            assert response.status == 200, body
        connection.close()
        return median(took)

    def caught_up(self, position: int) -> None:
        """Wait until both projections answer for a position."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        with psycopg.connect(self._database.conninfo, autocommit=True) as connection:
            while connection.execute(SETTLED).fetchone() < (position,):  # type: ignore[operator]
                assert time.monotonic() < deadline
                time.sleep(0.02)
