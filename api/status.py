"""Is the ledger well? What is known of it, from its server or from its database, and the verdict.

A server knows of itself what no database does (how long writes take, its connections); without one
the database still tells how far the log and the projections are, and whether anybody follows. What
is not known from where we look is None, and is no reason to call the ledger unwell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from api.follow import Away, Site
from api.health import CLOCK_AHEAD, NOT_MIGRATED, READ_ONLY, is_read_only
from api.release import VERSION
from api.survey import Survey, survey
from api.terminal import words
from ledger.calendar import SHANGHAI
from ledger.errors import PURPOSES, Words
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.scores import Scores

NAMES = {"scores": Words("scores", "评分"), "disclosure": Words("disclosure", "公示")}
"""What the projections are called, by their schemas without the number."""


@dataclass(frozen=True, kw_only=True)
class Follow:
    """One projection. `followers`: how many processes follow the log into it; one works."""

    position: int
    lag: int
    error: str | None
    followers: int | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """What is known of a ledger; None is not known. `place`: the URL of the server asked."""

    place: str | None
    version: str
    ledger: str | None = None
    purpose: str | None = None
    rulebook: str | None = None
    database: bool = True
    head: int | None = None
    recorded_at: datetime | None = None
    size_bytes: int | None = None
    projections: Mapping[str, Follow] = field(default_factory=dict)
    quarantined: int | None = None
    """Imported rows that wait for a person."""
    overdue: int | None = None
    """Erasures that are held though the day is over."""
    listening: bool | None = None
    figures: Mapping[str, float | None] | None = None
    """What the server counts: `appends`, `append_p50`, `append_p99` (seconds: a bound that so many
    do not exceed; None before the first), `waiting_writes`, `connections`, `connections_limit`,
    `waiting_reads`, `streams`.
    """
    reasons: tuple[str, ...] = ()
    """Why the server calls itself not ready, in its words."""


# ------------------------------------------------------------------------------- where it is asked


def of_server(site: Site, place: str, *, today: date) -> State:
    """What a server says of itself. Raises Away or Refused."""
    try:
        return _of_server(site, place, today)
    except (ValueError, KeyError, TypeError) as error:
        raise Away(words("what answers there is no ledger", "应答的不是账本服务")) from error


def _of_server(site: Site, place: str, today: date) -> State:
    _, body = site.get("/readyz", allowed=(200, 503))
    ready = orjson.loads(body)
    status, body = site.get("/metrics", allowed=(200, 404))
    samples = Samples(body.decode() if status == 200 else "")
    known = {"place": place, "listening": ready["tail"]["healthy"], "head": ready["head"]}
    known |= {"reasons": tuple(ready["reasons"]), "database": ready["head"] is not None}
    projections = {
        name: Follow(
            position=one["position"],
            lag=one["lag"],
            error=one["error"],
            followers=samples.whole("projection_followers", projection=name),
        )
        for name, one in ready["projections"].items()
    }
    recorded_at = samples.one("ledger_recorded_timestamp_seconds")
    if recorded_at is not None:
        known["recorded_at"] = datetime.fromtimestamp(recorded_at, UTC)
    if ready["head"]:
        known |= _facts(site, today)
    return State(
        version=samples.label("build_info", "version") or "?",
        projections=projections,
        size_bytes=samples.whole("database_size_bytes"),
        quarantined=samples.whole("quarantine_waiting_rows"),
        overdue=samples.whole("holds_overdue"),
        figures=_figures(samples) if status == 200 else None,
        **known,
    )


def _facts(site: Site, today: date) -> dict[str, str]:
    facts = orjson.loads(site.get("/v1/ledger", allowed=(200,))[1])
    books = facts["rulebooks"]
    in_force = [one for one in books if one["in_force_from"] <= today.isoformat()] or books[:1]
    rulebook = in_force[-1]["version"]
    return {"ledger": facts["name"], "purpose": facts["purpose"], "rulebook": rulebook}


def _figures(samples: Samples) -> dict[str, float | None]:
    return {
        "appends": samples.whole("append_seconds_count"),
        "append_p50": samples.quantile("append_seconds", 0.5),
        "append_p99": samples.quantile("append_seconds", 0.99),
        "waiting_writes": samples.whole("append_queue_requests"),
        "connections": samples.whole("pool_connections"),
        "connections_limit": samples.whole("pool_connections_limit"),
        "waiting_reads": samples.whole("pool_waiting_reads"),
        "streams": samples.whole("streams_open"),
    }


def of_ledger(ledger: Ledger, *, today: date) -> State:
    """What the database says. Raises psycopg.Error."""
    scores = Scores(ledger)
    found: Survey = survey(ledger, (scores.schema, Disclosure(ledger).schema))
    rules = scores.rulebooks()
    opening = rules.opening
    return State(
        place=None,
        version=VERSION,
        ledger=opening.name if opening else None,
        purpose=opening.purpose if opening else None,
        rulebook=rules.of(today).version if opening else None,
        head=found.head,
        recorded_at=found.recorded_at,
        size_bytes=found.size_bytes,
        quarantined=found.quarantined.rows,
        overdue=found.overdue,
        reasons=(READ_ONLY,) if is_read_only(ledger) else (),
        projections={
            name: Follow(
                position=status.position,
                lag=found.lag(name),
                error=status.error,
                followers=found.followers[name],
            )
            for name, status in found.follows.items()
        },
    )


class Samples:
    """The samples of a scrape, by name without prefix and labels."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def one(self, name: str, **labels: str) -> float | None:
        """The value of the sample with this name and these labels."""
        for sample in self._samples:
            if sample.name == f"chengxin_{name}" and labels.items() <= sample.labels.items():
                return float(sample.value)
        return None

    def whole(self, name: str, **labels: str) -> int | None:
        """`one` as a whole number."""
        value = self.one(name, **labels)
        return None if value is None else int(value)

    def label(self, name: str, label: str) -> str | None:
        """A label of the first sample of this name."""
        found = (one.labels[label] for one in self._samples if one.name == f"chengxin_{name}")
        return next(found, None)

    def quantile(self, name: str, share: float) -> float | None:
        """The least bound that so large a share of a histogram's values does not exceed."""
        buckets = [
            (float(one.labels["le"]), one.value)
            for one in self._samples
            if one.name == f"chengxin_{name}_bucket"
        ]
        if not buckets or buckets[-1][1] == 0:
            return None
        return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


# ------------------------------------------------------------------------------------- the verdict


def reasons(state: State, *, lag_limit: int) -> list[Words]:
    """Why the ledger is not well; nothing where it is."""
    found: list[Words] = []
    if NOT_MIGRATED in state.reasons:
        en = "the database has no schema of this version; run `chengxin migrate`"
        found.append(Words(en, "数据库没有本版本的结构，请运行 `chengxin migrate`"))
    elif not state.database:
        found.append(Words("the database does not answer", "数据库无应答"))
    elif state.ledger is None:
        found.append(Words("no ledger is opened here", "此处尚未开立账本"))
    if state.listening is False:
        found.append(Words("the server does not hear of new events", "服务端收不到新事件通知"))
    if READ_ONLY in state.reasons:
        en = "the database is read-only: every write is refused"
        found.append(Words(en, "数据库处于只读状态，写入均被拒绝"))
    if CLOCK_AHEAD in state.reasons:
        en = "the server's clock is ahead of the database's: its writes are refused"
        found.append(Words(en, "服务端时钟快于数据库时钟，写入均被拒绝"))
    for schema, one in state.projections.items():
        name = name_of(schema)
        if one.error is not None:
            en, zh = f"{name.en}: stopped at {one.error}", f"{name.zh}：停在 {one.error}"
            found.append(Words(en, zh))
        elif one.lag > lag_limit:
            en, zh = f"{name.en}: {one.lag:,} events behind", f"{name.zh}：落后 {one.lag:,} 个事件"
            found.append(Words(en, zh))
        if one.followers == 0:
            en, zh = f"{name.en}: nobody follows the log", f"{name.zh}：没有进程在跟随日志"
            found.append(Words(en, zh))
    return found or [Words(one, one) for one in state.reasons]


def name_of(schema: str) -> Words:
    """What a projection is called."""
    return NAMES.get(schema.rpartition("_")[0], Words(schema, schema))


# ------------------------------------------------------------------------------------ how it reads


def lines(state: State, why: Iterable[Words]) -> list[Words]:
    """The state for a person; the first line is the verdict."""
    en, zh = (state.ledger or "ledger", state.ledger or "账本")
    if state.purpose is not None:
        purpose = PURPOSES[state.purpose]
        en, zh = f"{en} ({purpose.en})", f"{zh}（{purpose.zh}）"
    if why := list(why):
        en = f"NOT WELL: {en}: {'; '.join(one.en for one in why)}"
        zh = f"异常：{zh}：{'；'.join(one.zh for one in why)}"
    else:
        en, zh = f"Well: {en}", f"正常：{zh}"
    return [Words(en, zh), *(Words(f"  {one.en}", f"  {one.zh}") for one in _details(state))]


def _details(state: State) -> Iterable[Words]:
    where = state.place
    yield Words(
        f"asked: {where or 'the database'}, version {state.version}",
        f"来源：{where or '数据库'}，版本 {state.version}",
    )
    if state.head is not None:
        yield _log(state)
    if state.rulebook is not None:
        yield Words(f"rulebook in force: {state.rulebook}", f"现行规则：{state.rulebook}")
    for schema, one in state.projections.items():
        yield _projection(name_of(schema), one)
    if state.figures is not None:
        yield from _own(state.figures)
    elif where is not None:
        yield Words(
            "figures: not given to this machine (CHENGXIN_METRICS_FROM)",
            "运行指标：不向本机提供（CHENGXIN_METRICS_FROM）",
        )
    if state.quarantined is not None:
        rows = f"{state.quarantined:,}"
        yield Words(f"quarantine: {rows} waiting for a person", f"待核：{rows} 行待人工处理")
    if state.overdue:
        yield Words(
            f"erasure: {state.overdue:,} held though the day is over",
            f"删除：{state.overdue:,} 件暂缓已届满，尚未删除",
        )
    if state.size_bytes is not None:
        size = f"{state.size_bytes / 1024**2:,.0f} MiB"
        yield Words(f"database: {size} on disk", f"数据库：占用磁盘 {size}")


def _log(state: State) -> Words:
    if state.recorded_at is None:
        return Words(f"log: head {state.head:,}", f"日志：末位 {state.head:,}")
    at = state.recorded_at.astimezone(SHANGHAI).isoformat(sep=" ", timespec="seconds")
    return Words(
        f"log: head {state.head:,}, last event {at}", f"日志：末位 {state.head:,}，最近事件 {at}"
    )


def _projection(name: Words, one: Follow) -> Words:
    en = f"{name.en}: position {one.position:,}, {one.lag:,} behind"
    zh = f"{name.zh}：位置 {one.position:,}，落后 {one.lag:,}"
    if one.followers is not None:
        en, zh = f"{en}, followers {one.followers}", f"{zh}，跟随进程 {one.followers} 个"
    return Words(en, zh)


def _own(figures: Mapping[str, float | None]) -> Iterable[Words]:
    p50, p99 = figures["append_p50"], figures["append_p99"]
    if p50 is None or p99 is None:
        yield Words("writes: none since the start", "写入：启动以来没有")
    else:
        half, most = f"{p50 * 1000:g}", f"{p99 * 1000:g}"
        count, waiting = f"{figures['appends']:,}", f"{figures['waiting_writes']:,}"
        yield Words(
            f"writes: {count} since the start, half within {half} ms, 99 % within {most} ms,"
            f" {waiting} waiting",
            f"写入：启动以来 {count} 次，半数不超过 {half} 毫秒，99 % 不超过 {most} 毫秒，"
            f"等待中 {waiting} 次",
        )
    used, limit, reads = (
        figures[name] for name in ("connections", "connections_limit", "waiting_reads")
    )
    yield Words(
        f"read pool: {used} of {limit} connections, {reads} reads waiting",
        f"查询连接池：{used}/{limit}，等待中的查询 {reads} 个",
    )
    yield Words(f"streams open: {figures['streams']}", f"打开的事件流：{figures['streams']} 个")


def as_json(state: State, why: Iterable[Words]) -> dict[str, Any]:
    """The state for a program. `reasons` are in English."""
    told = [one.en for one in why]
    return asdict(state) | {"well": not told, "reasons": told}
