"""Catching up from position 1: scores and disclosure against the library's ProjectionRunner.

The peer folds less than we do: for each event it only writes its tracking record, as every
projection of the library must, and counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import date
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import EnvType

from bench.place import ACTOR, Place, Row, opened, penalty, registration
from ledger.calendar import local_day
from ledger.handle import Desk
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.runner import Follower
from projections.scores import Scores

PROVIDERS = 4_000
EVENTS_EACH = 10
PEER_EVENTS = 1_500
TIMEOUT_SECONDS = 600


class Record(Aggregate):
    """A record of the peer's: one event each time something is noted."""

    @event("Noted")
    def note(self, what: str) -> None:
        """Note it."""


class Counting(Projection[PostgresTrackingRecorder]):
    """The peer's projection."""

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Track the event."""
        self.view.insert_tracking(tracking)


def rows(place: Place) -> Iterable[Row]:
    """Events per second."""
    database = place.database("catchup")
    with opened(database) as desk:
        asyncio.run(fill(desk, PROVIDERS))
        head = desk.ledger.head()
        ours = head / follow(desk.ledger, head)
    peer = _peer(place.library_environment(place.database("catchup_peer")))
    yield Row(
        "catch-up of scores + disclosure from position 1",
        ours,
        "library's ProjectionRunner",
        peer,
        f"{head:,} events of {PROVIDERS:,} providers; peer: {PEER_EVENTS:,} events",
    )


def follow(ledger: Ledger, head: int, *, today: date | None = None) -> float:
    """Seconds until the follower, as a server runs it, answers for everything up to `head`.

    Scores are those of `today`, the clock's if none is given.
    """
    day = today or local_day(ledger.clock())
    tail = Tail(ledger.database)
    follower = Follower(ledger, tail, [Scores(ledger), Disclosure(ledger)], today=lambda: day)
    tail.start()
    started = time.perf_counter()
    follower.start()
    assert follower.wait_for(head, TIMEOUT_SECONDS)
    seconds = time.perf_counter() - started
    follower.stop()
    tail.stop()
    return seconds


async def fill(desk: Desk, providers: int) -> None:
    """Ten events of each of so many providers."""

    async def one(number: int) -> None:
        identifier = f"HK-CR-{number}"
        await desk.record(identifier, registration(number), ACTOR)
        for n in range(EVENTS_EACH - 1):
            await desk.record(identifier, penalty(n), ACTOR)

    for start in range(0, providers, 250):
        await asyncio.gather(*map(one, range(start, min(start + 250, providers))))


def _peer(environment: EnvType) -> float:
    application = Application[Any](environment)
    record = Record()
    for number in range(PEER_EVENTS):
        record.note(what=str(number))
    recordings = application.save(record)
    head = recordings[-1].notification.id
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=Application[Any],
        projection_class=Counting,
        view_class=PostgresTrackingRecorder,
        env=environment,
    ) as runner:
        runner.wait(head, timeout=TIMEOUT_SECONDS)
    seconds = time.perf_counter() - started
    application.close()
    return head / seconds
