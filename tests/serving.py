"""A whole server for tests: real PostgreSQL, real projections, real sockets, on a port of its own.

`serving` runs the application as `chengxin serve` does, with the server in a thread; a client
speaks to it over the loopback. Tokens are issued by the server's own key.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI

from api.app import create_app, make_server
from api.callers import Callers, callers_of
from api.security import Tokens
from api.settings import Settings
from api.storage import migrate_quarantine
from ledger.calendar import local_day
from ledger.database import Database
from ledger.handle import Desk
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.runner import Follower, migrate_projections
from projections.scores import Scores
from tests import given

ORGANISATIONS = {"platform": "CN-DOUYIN", "association": "CN-ASSOC-1", "provider": given.PROVIDER}
WAIT_SECONDS = 10
STANDING = timedelta(days=3650)
"""The clock of a test stands still, long before the database's."""


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    app: FastAPI
    ledger: Ledger
    tail: Tail
    follower: Follower
    scores: Scores
    disclosure: Disclosure
    keys: Path
    tokens: Tokens
    client: httpx2.Client
    port: int
    callers: Callers | None

    def token(self, role: str = "registrar", organisation: str | None = None) -> str:
        """A token of a role; of the organisation that the tests use for it."""
        return self.tokens.issue(
            role=role,
            organisation=organisation or ORGANISATIONS.get(role, "CN-REG-1"),
            ref=str(uuid4()),
        )

    def bearer(self, role: str | None = "registrar", **more: str) -> dict[str, str]:
        """Headers of a request in a role (None: without a token)."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.token(role)}"}
        return headers | more

    def get(self, path: str, role: str | None = None, **headers: str) -> httpx2.Response:
        """GET in a role."""
        return self.client.get(path, headers=self.bearer(role, **named(headers)))

    def post(
        self, path: str, body: Any, role: str | None = "registrar", **headers: str
    ) -> httpx2.Response:
        """POST a JSON body in a role."""
        return self.client.post(path, json=body, headers=self.bearer(role, **named(headers)))

    def by_two(self, path: str, body: Any, role: str = "registrar") -> httpx2.Response:
        """POST what needs two officers, and approve it as another person; the second answer."""
        proposed = self.post(path, body, role)
        assert proposed.status_code == 202, proposed.text
        return self.post(f"{proposed.headers['location']}/approval", {}, "decision_maker")

    def provide(self, identifier: str = given.PROVIDER, **fields: Any) -> int:
        """Register a provider; the position."""
        body = {"identifier": identifier, **given.register(**fields).model_dump(mode="json")}
        return positioned(self.post("/v1/providers", body))

    def penalise(self, identifier: str = given.PROVIDER, **changes: Any) -> httpx2.Response:
        """Record a penalty."""
        body = given.penalty(**changes).model_dump(mode="json")
        return self.post(f"/v1/providers/{identifier}/penalties", body)

    def follow(self) -> None:
        """Wait until the projections have seen everything."""
        assert self.follower.wait_for(self.ledger.head(), WAIT_SECONDS)

    def head(self) -> int:
        """The last position."""
        return self.ledger.head()


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names from keyword arguments: `accept_language` is Accept-Language."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def positioned(response: httpx2.Response) -> int:
    """The position in a receipt."""
    assert response.status_code == 201, response.text
    return int(response.json()["position"])


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, which must be whole and of this status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert (found["status"], found["code"]) == (status, code), found
    assert found["type"] == f"/problems/{code}"
    assert response.headers["x-request-id"]
    return found


Called = Callable[[Tokens, Ledger, Callable[[], datetime]], Callers]
"""Makes the callers of a server from its tokens, its ledger and its clock."""


def with_api_keys(tokens: Tokens, ledger: Ledger, clock: Callable[[], datetime]) -> Callers:
    """The callers of a server that knows no issuer but its own."""
    return callers_of([], tokens, ledger, clock=clock)


@contextmanager
def serving(
    database: Database,
    keys: Path,
    clock: Callable[[], datetime],
    *,
    new_ledger: Callable[[Database, Callable[[], datetime]], Ledger],
    opened: bool = True,
    with_tokens: bool = True,
    access_log: bool = False,
    called: Called = with_api_keys,
    **settings: Any,
) -> Iterator[Served]:
    """A server over a database, in a thread of its own."""
    migrate_projections(database)
    migrate_quarantine(database)
    with ExitStack() as stack:
        ledger = stack.enter_context(new_ledger(database, clock))
        tail = Tail(database)
        tail.start()
        stack.callback(tail.stop)
        scores, disclosure = Scores(ledger), Disclosure(ledger)
        bounded = tail.bounded(clock, behind=STANDING)
        follower = Follower(ledger, tail, [scores, disclosure], today=lambda: local_day(bounded()))
        follower.start()
        stack.callback(follower.stop)
        # Requests written by hand name the host x.
        chosen = Settings(
            key_dir=keys, port=0, access_log=access_log, **({"hosts": "x"} | settings)
        )
        tokens = Tokens(
            keys,
            issuer=chosen.token_issuer,
            audience=chosen.token_audience,
            clock=clock,
            leeway_seconds=chosen.token_leeway_seconds,
        )
        callers = called(tokens, ledger, clock) if with_tokens else None
        app = create_app(
            ledger=ledger,
            tail=tail,
            scores=scores,
            disclosure=disclosure,
            callers=callers,
            settings=chosen,
            clock=bounded,
            folds=follower.figures,
        )
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = make_server(app, chosen)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive(), "the server did not stop"

        stack.callback(stop)
        port = int(listener.getsockname()[1])
        client = stack.enter_context(
            httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_SECONDS)
        )
        wait_until(lambda: server.started)
        served = Served(
            app, ledger, tail, follower, scores, disclosure, keys, tokens, client, port, callers
        )
        if opened:
            asyncio.run(Desk(ledger).open_ledger(given.opening(), given.REGISTRAR))
            served.follow()
        yield served


def wait_until(true: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Wait until something is true; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not true within {seconds} seconds"
        time.sleep(0.01)
