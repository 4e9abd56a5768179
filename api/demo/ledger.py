"""The demonstration ledger: invented providers with three years of history, the same for a seed.

Recording goes through the desk like everybody's. Time is simulated: all commands of one moment are
given at once (of very many, a thousand after the other), and only when all of them are recorded
does the clock move on, so that the bytes of every event follow from the seed, the number of
providers and the last day alone. In one moment a provider gets one command at most.

The ledger must be a demonstration and hold nothing else. A filling that was interrupted is taken up
where it stopped: each command has an idempotency key, and the plan's parameters stand in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from hashlib import sha256
from itertools import groupby, islice
from random import Random

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.demo.history import Command, History, Told
from api.demo.invented import PROVINCE, companies
from api.demo.people import People
from api.demo.plots import PLOTS, VARIANTS
from api.demo.story import Story
from ledger.appender import Key
from ledger.calendar import SHANGHAI, local_day
from ledger.database import Database, reading
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
from ledger.keyring import Keyring
from ledger.private import groups
from ledger.rulebook import Rulebook, first_rulebook
from ledger.store import Ledger
from ledger.vault import Vault

YEARS = 3
PROVIDERS = 300
SEED = 1
OPENS_AT = time(8, 30)
RECORDS_AT = time(9, 0)
RECORDING_WEEKDAYS = (1, 4)
"""Decisions are entered on Tuesdays and Fridays, and whatever is left on the last day."""
MINUTES_APART = 10
TRY_SECONDS = 0.1
MAX_PROVIDERS = 200_000
KEPT_PROVIDERS = 5_000
RECORDED_AT_ONCE = 1_000
KEYS_AT_ONCE = 2_000
ORGANISATION = "DEMO-REGISTRY"
REGISTRAR = Actor(ORGANISATION, "registrar", "00000000-0000-4000-8000-000000000001")
SECOND = Actor(ORGANISATION, "decision_maker", "00000000-0000-4000-8000-000000000002")
"""Two invented officers: what one proposes, the other approves."""
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
    """What the whole demonstration follows from. `last`: the day on which history ends.

    Raises ValueError for no or too many providers.
    """

    last: date
    providers: int = PROVIDERS
    seed: int = SEED

    def __post_init__(self) -> None:
        if not 1 <= self.providers <= MAX_PROVIDERS:
            raise ValueError(f"a demonstration has 1 to {MAX_PROVIDERS:,} providers")

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


def told(
    plan: Plan,
    rulebook: Rulebook,
    *,
    people: bool = False,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Told]:
    """Every command of the history, one provider after another; told how many and of how many.

    `people`: with the texts that are sealed.
    """
    invented = companies(Random(f"companies {plan.seed}"), plan.providers)
    for number, company in enumerate(invented):
        random = Random(f"story {plan.seed} {number}")
        story = Story(random, company, rulebook, number, plan.last)
        if number < len(PLOTS) * VARIANTS:
            plot, turn = PLOTS[number % len(PLOTS)], number // len(PLOTS)
        else:
            [plot] = random.choices(PLOTS, [plot.weight for plot in PLOTS])
            turn = random.randrange(VARIANTS)
        plot.tell(story, story.ago(*plot.begins_days_ago), turn)
        known = People(Random(f"people {plan.seed} {number}"), company, PROVINCE)
        for day, steps in groupby(story.told(), lambda step: recording_day(step.on, plan.last)):
            for order, step in enumerate(steps):
                at = _at(day, order, plan.last)
                command = known.named(step.command) if people else step.command
                named = (step.name, command, step.target, step.second)
                yield Told(at, company.identifier, *named)
        advance(number + 1, plan.providers)


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
    database: Database,
    plan: Plan,
    *,
    keyring: Keyring | None = None,
    invented: Callable[[int, int], None] = lambda done, of: None,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Open the ledger if it is not open, and fill it; the number of events now recorded.

    With a `keyring` the texts of people and contracts are in it, sealed, and without one left out.

    `invented` is told how many providers' stories are written down, and of how many; then `advance`
    how many commands are done, and of how many. Raises WrongPurpose,
    LedgerNotEmpty, or DateOrder where the ledger was opened after history begins.
    """
    async with _alone(database):
        return await _demonstrate(database, plan, keyring, invented, advance)


async def _demonstrate(
    database: Database,
    plan: Plan,
    keyring: Keyring | None,
    invented: Callable[[int, int], None],
    advance: Callable[[int, int], None],
) -> int:
    clock = SimulatedClock(plan.opens())
    with Ledger(hasty(database), clock=clock, keyring=keyring) as it:
        # The vault draws from its own source, in threads and so in no order: of what it draws only
        # the keys of persons show in events, and those follow from the seed and the person.
        it.random = Random(f"ledger {plan.seed}").randbytes
        desk = Desk(it, max_streams=KEPT_PROVIDERS)
        try:
            await desk.rulebooks()
        except LedgerNotOpened:
            await desk.open_ledger(opening(), REGISTRAR)
        plan, done = await _take_up(desk, plan)
        it.vault.persons.key_of = partial(_key_of, plan.seed)
        if keyring is not None and not done and not keyring.epochs():
            # By the vault's clock it would be three years old, and over.
            keyring.begin(0, plan.last)
        book = (await desk.rulebooks()).of(plan.last)
        stories = told(plan, book, people=keyring is not None, advance=invented)
        with closing(History(stories)) as history:
            if done:
                # What was drawn before the interruption must not be drawn again.
                it.random = Random(f"ledger {plan.seed} after {done}").randbytes
                with closing(_recorded(it)) as recorded:
                    history.resume(recorded)
            return await _record(desk, clock, plan, history, advance)


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    """Wait until nobody else fills a demonstration in this database."""
    alone = "SELECT pg_try_advisory_lock(hashtextextended('chengxin demo', 0))"
    with database.connect() as connection:
        while connection.execute(alone).fetchone() != (True,):  # noqa: ASYNC110 no one tells
            await asyncio.sleep(TRY_SECONDS)
        yield


async def _take_up(desk: Desk, plan: Plan) -> tuple[Plan, int]:
    """The plan to follow, and how many of its commands are recorded already."""
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
    query = f"SELECT count(*), min(key) FROM {_keys(ledger)}".encode()
    [(done, key)] = ledger.rows(query, [ORGANISATION])
    head = ledger.head()
    if head == 1:
        return plan, 0
    if not done or head != 1 + done:
        raise LedgerNotEmpty(what=FILLING, position=head)
    _, seed, providers, last, _, total = str(key).split("/")
    if done == int(total):
        raise LedgerNotEmpty(what=FILLING, position=head)
    return Plan(date.fromisoformat(last), int(providers), int(seed)), done


def _keys(ledger: Ledger) -> str:
    """The keys of a demonstration's commands, with their events; its parameter is the issuer."""
    name = f"{ledger.database.schema}.{ledger.database.application}_"
    return (
        f"{name}keys JOIN {name}events ON notification_id = first_position"
        " WHERE issuer = %s AND key LIKE 'demo/%%'"
    )


def _recorded(ledger: Ledger) -> Generator[tuple[int, str]]:
    """The number in the plan and the event id of each command that is recorded."""
    query = f"SELECT key, event_id::text FROM {_keys(ledger)}".encode()
    with ledger.datastore.reading() as cursor:
        for key, id in cursor.stream(query, [ORGANISATION], size=RECORDED_AT_ONCE):
            yield int(key.split("/")[4]), id


def _key_of(seed: int, person: str) -> bytes:
    return sha256(f"vault {seed} {person}".encode()).digest()


async def _make_ready(vault: Vault, due: Sequence[Command], people: Iterator[str]) -> None:
    """See that nothing has to be waited for at this moment, since all would go on in any order.

    With the keys of those who come next: to make those of each moment alone takes as long again.
    """
    named = {one.group.person or "" for command in due for one in groups(command.data)}
    if vault.persons.take(named) is None or not vault.named({(p, ORGANISATION) for p in named}):
        named.update(islice(people, KEYS_AT_ONCE))
        await reading(vault.persons.make_ready, named)
        await reading(vault.check_named, {(p, ORGANISATION) for p in named})


async def _record(
    desk: Desk,
    clock: SimulatedClock,
    plan: Plan,
    history: History,
    advance: Callable[[int, int], None],
) -> int:
    async def give(command: Command) -> tuple[str, str, str]:
        provider, name, data, number, id, second = command
        actor = SECOND if second else REGISTRAR
        if id is None:
            text = f"{plan.text()}/{number}/{history.total}"
            key = Key(ORGANISATION, provider, text, sha256(text.encode()).digest())
            id = (await desk.record(provider, data, actor, key=key)).id
        return provider, name, id

    people = history.people()
    for moment in history.moments():
        clock.now = moment.at
        # Read here if they are due, so that no command waits for it and all start in order.
        await desk.rulebooks()
        due = [one for one in moment.commands if one.recorded is None]
        await desk.preload([one.provider for one in due])
        await _make_ready(desk.ledger.vault, due, people)
        given = await asyncio.gather(*map(give, moment.commands), return_exceptions=True)
        noted = []
        for outcome in given:
            if isinstance(outcome, LedgerError) and outcome.status != 503:
                raise AssertionError(f"refused on {moment.at}: {outcome}") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome[1]:
                noted.append(outcome)
        history.note(noted)
        advance(moment.commands[-1].number, history.total)
    return desk.ledger.head()


def _time_of(state: bytes) -> datetime:
    time_of = decode(state).time
    assert time_of is not None
    return time_of
