"""The demonstration ledger: invented providers with three years of history, the same for a seed.

Recording goes through the desk like everybody's. Time is simulated: all commands of one moment are
given at once, and only when all of them are recorded does the clock move on, so that the bytes of
every event follow from the seed, the number of providers and the last day alone. In one moment a
provider gets one command at most.

The ledger must be a demonstration and hold nothing else. A filling that was interrupted is taken up
where it stopped: each command has an idempotency key, and the plan's parameters stand in it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import count, groupby
from random import Random
from typing import NamedTuple

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.invented import PROVINCE, companies
from api.plots import PLOTS, VARIANTS
from api.story import Step, Story
from ledger.appender import Key
from ledger.calendar import SHANGHAI, local_day
from ledger.database import Database
from ledger.envelope import decode
from ledger.errors import (
    PURPOSES,
    DateOrder,
    LedgerError,
    LedgerNotEmpty,
    LedgerNotOpened,
    Words,
    WrongPurpose,
)
from ledger.events import LedgerOpened
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.rulebook import Rulebook, first_rulebook
from ledger.store import Ledger

YEARS = 3
PROVIDERS = 300
SEED = 1
OPENS_AT = time(8, 30)
RECORDS_AT = time(9, 0)
RECORDING_WEEKDAYS = (1, 4)
"""Decisions are entered on Tuesdays and Fridays, and whatever is left on the last day."""
MINUTES_APART = 10
TRY_SECONDS = 0.1
MAX_PROVIDERS = 10_000
ORGANISATION = "DEMO-REGISTRY"
REGISTRAR = Actor(ORGANISATION, "registrar", "00000000-0000-4000-8000-000000000001")
OPENING_NAME = f"{PROVINCE}代运营服务商诚信账本"
ORIGIN = "demo.chengxin.example/ledger"
FILLING = Words("filling a demonstration", "填充演示数据")


class SimulatedClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The moment it was set to."""
        return self.now


@dataclass(frozen=True, slots=True)
class Plan:
    """What the whole demonstration follows from. `last`: the day on which history ends."""

    last: date
    providers: int = PROVIDERS
    seed: int = SEED

    @property
    def first(self) -> date:
        """The day the ledger is opened."""
        return self.last - timedelta(days=366 * YEARS)

    def opens(self) -> datetime:
        """The moment the ledger is opened."""
        return datetime.combine(self.first, OPENS_AT, SHANGHAI).astimezone(UTC)

    def text(self) -> str:
        """The plan as the keys have it."""
        return f"demo/{self.seed}/{self.providers}/{self.last}"


class Command(NamedTuple):
    """One step of one provider, with its number in the plan."""

    provider: str
    step: Step
    number: int


class Moment(NamedTuple):
    """All that is recorded at one moment: one command of a provider at most."""

    at: datetime
    commands: Sequence[Command]


def opening() -> LedgerOpened:
    """Opens the demonstration."""
    return LedgerOpened(
        name=OPENING_NAME, origin=ORIGIN, purpose="demonstration", rulebook=first_rulebook()
    )


def hasty(database: Database) -> Database:
    """The same database, without waiting for the disk at each commit.

    A crash of the server may then cost the last moments, which the next filling records again.
    """
    options = f"{conninfo_to_dict(database.conninfo).get('options') or ''}"
    info = make_conninfo(database.conninfo, options=f"{options} -c synchronous_commit=off".strip())
    return Database(info, schema=database.schema, application=database.application)


def moments(plan: Plan, rulebook: Rulebook) -> list[Moment]:
    """The whole history, in the order of its recording. Raises ValueError for too many."""
    if not 1 <= plan.providers <= MAX_PROVIDERS:
        raise ValueError(f"a demonstration has 1 to {MAX_PROVIDERS:,} providers")
    random = Random(f"stories {plan.seed}")
    found: defaultdict[datetime, list[tuple[str, Step]]] = defaultdict(list)
    for number, company in enumerate(companies(random, plan.providers)):
        story = Story(random, company, rulebook, number, plan.last)
        if number < len(PLOTS) * VARIANTS:
            plot, turn = PLOTS[number % len(PLOTS)], number // len(PLOTS)
        else:
            [plot] = random.choices(PLOTS, [plot.weight for plot in PLOTS])
            turn = random.randrange(VARIANTS)
        plot.tell(story, story.ago(*plot.begins_days_ago), turn)
        for day, steps in groupby(story.told(), lambda step: recording_day(step.on, plan.last)):
            for order, step in enumerate(steps):
                found[_at(day, order, plan.last)].append((company.identifier, step))
    numbers = count(1)
    return [
        Moment(at, [Command(provider, step, next(numbers)) for provider, step in found[at]])
        for at in sorted(found)
    ]


def recording_day(on: date, last: date) -> date:
    """The first day from `on` on which decisions are entered."""
    while on < last and on.weekday() not in RECORDING_WEEKDAYS:
        on += timedelta(days=1)
    return on


def _at(day: date, order: int, last: date) -> datetime:
    """The moment of a provider's next command on a day; on the last day soon after midnight.

    So the last moment is past, whatever the time of day is when the demonstration is made.
    """
    if day == last:
        midnight = datetime.combine(day, time(), SHANGHAI)
        return (midnight + timedelta(seconds=order)).astimezone(UTC)
    nine = datetime.combine(day, RECORDS_AT, SHANGHAI)
    return (nine + timedelta(minutes=MINUTES_APART * order)).astimezone(UTC)


async def demonstrate(
    database: Database, plan: Plan, *, advance: Callable[[int, int], None] = lambda done, of: None
) -> int:
    """Open the ledger if it is not open, and fill it; the number of events now recorded.

    `advance` is told how many commands are done, and of how many. Raises WrongPurpose,
    LedgerNotEmpty, or DateOrder where the ledger was opened after history begins.
    """
    async with _alone(database):
        return await _demonstrate(database, plan, advance)


async def _demonstrate(database: Database, plan: Plan, advance: Callable[[int, int], None]) -> int:
    clock = SimulatedClock(plan.opens())
    with (
        Ledger(hasty(database), clock=clock, random=Random(f"ledger {plan.seed}").randbytes) as it,
    ):
        desk = Desk(it)
        try:
            await desk.rulebooks()
        except LedgerNotOpened:
            await desk.open_ledger(opening(), REGISTRAR)
        plan, ids = await _take_up(desk, plan)
        if ids:
            # What was drawn before the interruption must not be drawn again.
            it.random = Random(f"ledger {plan.seed} after {len(ids)}").randbytes
        return await _record(desk, clock, plan, ids, advance)


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    """Wait until nobody else fills a demonstration in this database."""
    alone = "SELECT pg_try_advisory_lock(hashtextextended('chengxin demo', 0))"
    with database.connect() as connection:
        while connection.execute(alone).fetchone() != (True,):  # noqa: ASYNC110 no one tells
            await asyncio.sleep(TRY_SECONDS)
        yield


async def _take_up(desk: Desk, plan: Plan) -> tuple[Plan, dict[str, str]]:
    """The plan to follow, and the event ids of what is already recorded of it, by key."""
    ledger, opened_as = desk.ledger, (await desk.rulebooks()).opening
    assert opened_as is not None
    if opened_as.purpose != "demonstration":
        needed, found = PURPOSES["demonstration"], PURPOSES[opened_as.purpose]
        raise WrongPurpose(what=FILLING, needed=needed, purpose=found)
    [first] = ledger.read(0, 1)
    opened_on = local_day(_time_of(first.state))
    if opened_on > plan.first:
        raise DateOrder(
            later=Words("the first day of the invented history", "虚构历史的首日"),
            later_on=plan.first,
            earlier=Words("the opening of the ledger", "账本开立日"),
            earlier_on=opened_on,
        )
    name = f"{ledger.database.schema}.{ledger.database.application}_"
    query = (
        f"SELECT key, event_id::text FROM {name}keys JOIN {name}events"
        " ON notification_id = first_position WHERE issuer = %s AND key LIKE 'demo/%%'"
    )
    ids = {str(key): str(id) for key, id in ledger.rows(query.encode(), [ORGANISATION])}
    head = ledger.head()
    if head == 1:
        return plan, {}
    if not ids or head != 1 + len(ids):
        raise LedgerNotEmpty(what=FILLING, position=head)
    _, seed, providers, last, _, total = next(iter(ids)).split("/")
    if len(ids) == int(total):
        raise LedgerNotEmpty(what=FILLING, position=head)
    return Plan(date.fromisoformat(last), int(providers), int(seed)), ids


async def _record(
    desk: Desk,
    clock: SimulatedClock,
    plan: Plan,
    recorded: dict[str, str],
    advance: Callable[[int, int], None],
) -> int:
    history = moments(plan, (await desk.rulebooks()).of(plan.last))
    total = sum(len(moment.commands) for moment in history)
    named: defaultdict[str, dict[str, str]] = defaultdict(dict)
    await desk.preload({one.provider for moment in history for one in moment.commands})

    async def give(command: Command) -> None:
        provider, step, number = command
        text = f"{plan.text()}/{number}/{total}"
        if (id := recorded.get(text)) is None:
            key = Key(ORGANISATION, provider, text, sha256(text.encode()).digest())
            made = step.make(named[provider])
            id = (await desk.record(provider, made, REGISTRAR, key=key)).id
        named[provider][step.name] = id

    for moment in history:
        clock.now = moment.at
        # Read here if they are due, so that no command waits for it and all start in order.
        await desk.rulebooks()
        for outcome in await asyncio.gather(*map(give, moment.commands), return_exceptions=True):
            if isinstance(outcome, LedgerError) and outcome.status != 503:
                raise AssertionError(f"refused on {moment.at}: {outcome}") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
        advance(moment.commands[-1].number, total)
    return desk.ledger.head()


def _time_of(state: bytes) -> datetime:
    time_of = decode(state).time
    assert time_of is not None
    return time_of
