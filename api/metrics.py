"""`/metrics`: what the process counts and what the database says, in the text format of Prometheus.

Numbers of the whole only. Still they tell what kind of request came when, and so what a withheld
event is: only machines of the networks named in the settings may ask, and nobody through a proxy.
The database is asked once at a time and waited for a moment; what it does not answer is left out,
and `chengxin_database_up` says so. Every metric stands in `docs/operations.md` (a test holds the
two together).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from anyio import to_thread
from fastapi import Request, Response
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from api import families, openapi
from api.feed import Feed
from api.front import PASSED_ON, address_of
from api.health import NO_SCHEMA, Health
from api.oidc.keys import KeysState
from api.problems import AWAY
from api.query import Operation
from api.refusals import NotFound
from api.release import VERSION
from api.settings import Settings
from api.survey import Survey, survey
from api.traffic import Traffic
from ledger.database import reading
from ledger.errors import Unavailable
from ledger.figures import Folds
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.scores import Scores

PATH = "/metrics"
LOOK_SECONDS = 2.0


class Metrics:
    """Answers `/metrics`. `look` asks the database, and blocks."""

    def __init__(
        self,
        ledger: Ledger,
        tail: Tail,
        *,
        look: Callable[[], Survey],
        feed: Feed,
        traffic: Traffic,
        folds: Mapping[str, Folds],
        issuers: Callable[[], Mapping[str, KeysState]],
        networks: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        self._ledger = ledger
        self._tail = tail
        self._look = look
        self._feed = feed
        self._traffic = traffic
        self._folds = folds
        self._issuers = issuers
        self._networks = networks
        self._looking: asyncio.Task[Survey | None] | None = None
        self._alone = threading.Lock()
        self._process = ProcessCollector(registry=None)

    def route(self) -> Operation:
        """The route."""
        return Operation(PATH, self.answer, methods=["GET"], **openapi.of_read(PATH))

    async def answer(self, request: Request) -> Response:
        """All figures, within some seconds whatever the database does."""
        if not self._may_read(request):
            raise NotFound(path=request.url.path)
        registry = CollectorRegistry()
        registry.register(self._process)
        registry.register(Seen(self, await self._survey()))
        # In a thread: some thousand lines of text would hold every other answer up.
        body = await to_thread.run_sync(generate_latest, registry)
        return Response(
            body, media_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"}
        )

    def _may_read(self, request: Request) -> bool:
        if request.client is None or any(name in PASSED_ON for name, _ in request.scope["headers"]):
            return False
        address = address_of(request.client.host)
        return address is not None and any(address in network for network in self._networks)

    async def _survey(self) -> Survey | None:
        """What the database says; None if it does not in time.

        One look at a time, shared by all who ask: where the database hangs, scrapes must not take
        the pool's connections one after the other.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._try_to_look())
        await asyncio.wait({self._looking}, timeout=LOOK_SECONDS)
        return self._looking.result() if self._looking.done() else None

    async def _try_to_look(self) -> Survey | None:
        try:
            return await reading(self._look_alone)
        except (Unavailable, *AWAY, *NO_SCHEMA):
            return None

    def _look_alone(self) -> Survey:
        # A thread that was given up holds its connection until the database answers.
        if not self._alone.acquire(blocking=False):
            raise Unavailable
        try:
            return self._look()
        finally:
            self._alone.release()

    def families(self, survey: Survey | None) -> Iterator[Metric]:
        """Every metric, with what the database said."""
        yield families.of_version(VERSION)
        yield from families.of_appends(self._ledger.appender.figures)
        yield families.of_traffic(self._traffic)
        yield from families.of_streams(self._feed.open, self._feed.limit)
        yield from families.of_pool(self._ledger.pool())
        yield from families.of_folds(self._folds)
        yield from families.of_tail(healthy=self._tail.healthy, position=self._tail.position)
        yield from families.of_issuers(self._issuers())
        yield from families.of_database(survey)


class Seen(Collector):
    """All figures of one scrape."""

    def __init__(self, metrics: Metrics, survey: Survey | None) -> None:
        self._metrics, self._survey = metrics, survey

    def collect(self) -> Iterator[Metric]:
        """The families."""
        return self._metrics.families(self._survey)


def status_routes(
    ledger: Ledger,
    tail: Tail,
    projections: tuple[Scores, Disclosure],
    settings: Settings,
    *,
    feed: Feed,
    traffic: Traffic,
    folds: Mapping[str, Folds],
    issuers: Callable[[], Mapping[str, KeysState]],
) -> list[Operation]:
    """The routes of what is told of the process itself."""
    scores, disclosure = projections
    health = Health(
        ledger,
        tail,
        scores=scores,
        disclosure=disclosure,
        ready_lag_events=settings.ready_lag_events,
        issuers=issuers,
    )
    metrics = Metrics(
        ledger,
        tail,
        look=partial(survey, ledger, (scores.schema, disclosure.schema)),
        feed=feed,
        traffic=traffic,
        folds=folds,
        issuers=issuers,
        networks=settings.metrics_networks(),
    )
    return [*health.routes(), metrics.route()]
