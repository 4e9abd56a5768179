"""What is remembered of verified tokens, while another thread says that somebody was erased."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from api.oidc.access import Access
from api.oidc.compact import take_apart
from api.oidc.fetch import fetch_json
from api.security import Claims
from tests.conftest import Clock, Run
from tests.provider import Provider, providing
from tests.test_oidc import PEOPLE, Ticks, described

PATIENCE_SECONDS = 0.2


@pytest.fixture
def provider(clock: Clock) -> Iterator[Provider]:
    with providing(PEOPLE, clock=clock) as provider:
        yield provider


class Vault:
    """Draws a new reference each time; whoever looks one up may be held there."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def person(self, issuer: str, subject: str) -> str:
        """A reference."""
        self.drawn.append(str(uuid4()))
        found = self.drawn[-1]
        self.asked.set()
        await self.go.wait()
        return found


def access_of(provider: Provider, vault: Vault, clock: Clock) -> Access:
    """The access of a process that knows one issuer."""
    return Access(
        [described(provider)],
        person=vault.person,
        clock=clock,
        monotonic=Ticks(),
        fetch=fetch_json,
    )


def test_who_is_erased_while_he_is_looked_up_is_not_remembered(
    provider: Provider, clock: Clock, run: Run
) -> None:
    async def scenario() -> tuple[Claims, Claims | None, Vault]:
        vault, token = Vault(), provider.token()
        access = access_of(provider, vault, clock)
        verifying = asyncio.ensure_future(access.verify(token, take_apart(token)))
        await vault.asked.wait()
        await asyncio.to_thread(access.forget)
        vault.go.set()
        return await verifying, access.known(token), vault

    claims, known, vault = run(scenario())
    assert len(vault.drawn) == 2
    assert claims.actor.ref == vault.drawn[1]
    assert known == claims


def test_what_is_forgotten_while_a_key_is_dropped_breaks_nothing(
    provider: Provider, clock: Clock, run: Run
) -> None:
    """Each token looked at on the way has somebody erased in another thread."""

    async def scenario() -> list[Claims | None]:
        vault = Vault()
        vault.go.set()
        access = access_of(provider, vault, clock)
        tokens = [provider.token(nonce_of_test=n) for n in range(3)]
        threads: list[threading.Thread] = []

        class Erasing(str):
            """An issuer's name; whoever compares it has somebody erased."""

            __hash__ = str.__hash__

            def erased(self) -> None:
                thread = threading.Thread(target=access.forget)
                threads.append(thread)
                thread.start()
                # Done by now, unless it has to wait for whoever looks.
                thread.join(PATIENCE_SECONDS)

            def __eq__(self, other: Any) -> bool:
                self.erased()
                return str(self) is other

            def __ne__(self, other: Any) -> bool:
                return not self == other

        for token in tokens:
            claims = await access.verify(token, take_apart(token))
            remembered = replace(claims, issuer=Erasing(claims.issuer))
            access._verified[token] = remembered, float("inf")
        access._drop("another")
        for thread in threads:
            thread.join()
        return [access._verified.get(token, (None, 0.0))[0] for token in tokens]

    assert run(scenario()) == [None] * 3
