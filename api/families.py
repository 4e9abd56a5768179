"""The figures as families of metrics, named as Prometheus has it: `chengxin_`, the unit last.

Pure: numbers in, families out. Every one stands in `docs/operations.md` with this text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from api.oidc.keys import KeysState
from api.survey import Survey
from api.traffic import Kind, Traffic
from ledger.figures import Appends, Distribution, Folds

PREFIX = "chengxin_"
Samples = Iterable[tuple[Sequence[str], float]]
"""Values by what their labels say."""


def gauge(name: str, help: str, value: float) -> Metric:
    """One number that goes up and down."""
    return GaugeMetricFamily(PREFIX + name, help, value=value)


def gauges(name: str, help: str, labels: Sequence[str], samples: Samples) -> Metric:
    """Such numbers, by labels."""
    family = GaugeMetricFamily(PREFIX + name, help, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def counter(name: str, help: str, value: float) -> Metric:
    """One number that only grows while the process lives; its sample ends in `_total`."""
    return CounterMetricFamily(PREFIX + name, help, value=value)


def histogram(
    name: str,
    help: str,
    found: Iterable[tuple[Sequence[str], Distribution]],
    labels: Sequence[str] = (),
) -> Metric:
    """Distributions, by labels."""
    family = HistogramMetricFamily(PREFIX + name, help, labels=labels)
    for values, one in found:
        family.add_metric(values, cumulated(one), one.total)
    return family


def cumulated(found: Distribution) -> list[tuple[str, float]]:
    """For each bound how many values were not beyond it."""
    total, buckets = 0, []
    for bound, count in zip((*found.bounds, "+Inf"), found.counts, strict=True):
        total += count
        buckets.append((str(bound), float(total)))
    return buckets


def of_version(version: str) -> Metric:
    """Which build this is."""
    return gauges("build_info", "Always 1; which version runs.", ["version"], [([version], 1)])


def of_appends(found: Appends) -> Iterator[Metric]:
    """The way into the log."""
    yield histogram(
        "append_seconds",
        "From a write's arrival at the appender to its answer.",
        [((), found.seconds)],
    )
    yield histogram(
        "append_batch_requests", "How many writes shared a transaction.", [((), found.requests)]
    )
    outcomes = CounterMetricFamily(
        PREFIX + "append_requests", "Writes by how they ended.", labels=["outcome"]
    )
    for outcome, count in list(found.outcomes.items()):
        outcomes.add_metric([outcome], count)
    yield outcomes
    yield counter("events_appended", "Events this process has appended.", found.events)
    yield gauge("append_queue_requests", "Writes that wait for a transaction.", found.waiting)
    yield counter(
        "append_lost_calls",
        "Transactions whose answer was lost; what became of them was looked up.",
        found.lost_calls,
    )


def of_traffic(found: Traffic) -> Metric:
    """Requests over HTTP."""
    # Copied at once: the event loop may add a kind meanwhile.
    seconds = list(found.seconds.items())
    return histogram(
        "http_request_seconds", "How long answers took, streams included.", seconds, Kind._fields
    )


def of_streams(open: int, limit: int) -> Iterator[Metric]:
    """Answers held open."""
    yield gauge("streams_open", "Event streams and long polls held open.", open)
    yield gauge("streams_limit", "How many may be.", limit)


def of_pool(found: Mapping[str, int]) -> Iterator[Metric]:
    """The pool of database connections, as psycopg_pool counts them."""
    yield gauge("pool_connections", "Connections in the pool.", found.get("pool_size", 0))
    yield gauge("pool_connections_limit", "How many may be.", found.get("pool_max", 0))
    yield gauge("pool_connections_idle", "Those nobody uses.", found.get("pool_available", 0))
    yield gauge(
        "pool_waiting_reads", "Reads that wait for a connection.", found.get("requests_waiting", 0)
    )
    yield counter(
        "pool_failed_reads", "Reads that got none in time.", found.get("requests_errors", 0)
    )


def of_folds(folds: Mapping[str, Folds]) -> Iterator[Metric]:
    """The projections' work in this process."""
    yield histogram(
        "projection_batch_events",
        "How many events a batch held.",
        [([name], one.events) for name, one in folds.items()],
        ["projection"],
    )
    yield histogram(
        "projection_batch_seconds",
        "How long a batch took: read, fold, settle, commit.",
        [([name], one.seconds) for name, one in folds.items()],
        ["projection"],
    )


def of_tail(*, healthy: bool, position: int) -> Iterator[Metric]:
    """What the process knows of the log without asking."""
    yield gauge("tail_healthy", "Whether the process listens to the database.", healthy)
    yield gauge("tail_position", "The last position the process knows of.", position)


def of_issuers(found: Mapping[str, KeysState]) -> Iterator[Metric]:
    """The issuers of others whose tokens are taken."""
    by_issuer = ["issuer"]
    yield gauges(
        "issuer_keys_fetched_seconds_ago",
        "How long ago an issuer's keys were last fetched; nothing before the first time.",
        by_issuer,
        [
            ([name], one.fetched_seconds_ago)
            for name, one in found.items()
            if one.fetched_seconds_ago is not None
        ],
    )
    yield gauges(
        "issuer_failing_seconds",
        "Since when an issuer's keys cannot be fetched; 0 where they can.",
        by_issuer,
        [([name], one.failing_for_seconds or 0) for name, one in found.items()],
    )


def of_database(found: Survey | None) -> Iterator[Metric]:
    """What the database said; without an answer only that there was none."""
    yield gauge("database_up", "Whether the database answered this scrape.", found is not None)
    if found is None:
        return
    yield gauge("ledger_head_position", "The last position of the log.", found.head)
    if found.recorded_at is not None:
        yield gauge(
            "ledger_recorded_timestamp_seconds",
            "When the last event was recorded, in seconds since 1970.",
            found.recorded_at.timestamp(),
        )
    yield gauge(
        "quarantine_waiting_rows", "Imported rows that wait for a person.", found.quarantined.rows
    )
    yield gauge("holds_overdue", "Erasures that are held though the day is over.", found.overdue)
    yield gauge("database_size_bytes", "The database on disk.", found.size_bytes)
    by_projection = ["projection"]
    follows = found.follows.items()
    yield gauges(
        "projection_position",
        "All events up to it are in the projection's answers.",
        by_projection,
        [([name], status.position) for name, status in follows],
    )
    yield gauges(
        "projection_lag_events",
        "By how many events the projection is behind.",
        by_projection,
        [([name], found.lag(name)) for name in found.follows],
    )
    yield gauges(
        "projection_stopped",
        "1 where an event cannot be folded; `/readyz` says which.",
        by_projection,
        [([name], status.error is not None) for name, status in follows],
    )
    yield gauges(
        "projection_followers",
        "How many processes follow the log into it, spares included.",
        by_projection,
        [([name], count) for name, count in found.followers.items()],
    )
