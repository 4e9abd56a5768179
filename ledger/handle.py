"""Load → decide → append → retry on conflict: how a command becomes events.

One `Desk` a process. Commands on one stream queue here, so that in one process they never
conflict; the state after the last committed event is kept, so that a write to a provider with ten
thousand events costs about what one with ten does. Another process may have written meanwhile:
then the append says so, the state catches up and the command is decided anew. A refusal is only
given on a state that has just been read. An idempotency key is looked at before any refusal and,
by the database function, before any append; whoever repeats a request gets the first answer.

Failure: if the appender's answer is not a plain yes, the kept state is dropped and read again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, TypeVar

import psycopg

from ledger import errors, provider, rulebook
from ledger.appender import Entry, Key
from ledger.calendar import local_day
from ledger.database import reading
from ledger.envelope import Event, decode
from ledger.events import (
    RULEBOOK_STREAM,
    Data,
    LedgerOpened,
    ProviderRegistered,
    provider_stream,
)
from ledger.findings import Bench
from ledger.identity import Actor, parse_identifier
from ledger.intent import Draft, Intent, Kept, S
from ledger.proposal import Verdict
from ledger.sealing import Box
from ledger.store import Ledger

CONFLICT_SECONDS = 10
"""So long a command is tried again after conflicts. By time, not by count: of two processes that
write to one stream without a pause, the one that is behind loses nine times in ten."""

MAX_STREAMS = 20_000
MAX_PRELOADED_VERSION = 200
RULEBOOKS_FRESH_SECONDS = 60
OF_THE_RECORD = (errors.DuplicateFact, errors.IncidentCategory)
"""Refusals that tell what is recorded to whoever may perhaps not read it."""

T = TypeVar("T")


class Receipt(NamedTuple):
    """The answer to a write: where its first event stands. `repeated`: it stood there before.

    A registration that was recorded with a command is not the command's event.
    """

    position: int
    id: str
    stream: str
    version: int
    repeated: bool


class Desk:
    """Where commands are handled. Belongs to one event loop."""

    def __init__(self, ledger: Ledger, *, max_streams: int = MAX_STREAMS) -> None:
        """`max_streams`: of so many providers the state is kept, about 20 KB each."""
        self.ledger = ledger
        self._max_streams = max_streams
        self._kept: OrderedDict[str, Kept[Any]] = OrderedDict()
        self._rules = Kept(RULEBOOK_STREAM, rulebook.Rulebooks, rulebook.evolve)
        self._rules_read_at = float("-inf")

    async def record(
        self,
        identifier: str,
        command: Data,
        actor: Actor,
        *,
        key: Key | None = None,
        causation: str | None = None,
        registration: Data | None = None,
    ) -> Receipt:
        """Handle a command, its provider's `registration` just before it. Raises LedgerError."""
        identifier = parse_identifier(identifier)
        command = await self.ledger.vault.referring(identifier, command)
        commands = [command] if registration is None else [registration, command]
        decides = self._decides(commands, await self.rulebooks(), actor)
        if isinstance(command, Verdict):
            causation = command.proposal
        kept = self._keep(identifier)
        before = 0 if registration is None else 1
        intent = Intent(decides, actor, identifier, key, causation, type(command), before)
        return await self._write(kept, intent)

    async def rehearse(self, identifier: str, commands: Sequence[Data], actor: Actor) -> None:
        """Decide commands one after the other and record nothing. Raises what one is refused with.

        Where several belong together, all are tried before the first is recorded.
        """
        kept = self._keep(parse_identifier(identifier))
        vault = self.ledger.vault
        commands = [await vault.referring(identifier, one) for one in commands]
        decides = self._decides(commands, await self.rulebooks(), actor)
        intent = Intent(decides, actor, identifier)
        async with kept.queue:
            fresh = kept.state is None
            while True:
                state = kept.state if kept.state is not None else await self._catch_up(kept)
                try:
                    draft = self._decide(kept, state, intent)
                except errors.LedgerError:
                    if fresh:
                        raise
                    # Perhaps the kept state is behind another process's writes.
                    await self._catch_up(kept)
                    fresh = True
                else:
                    return await vault.check_naming(draft.events)

    async def preload(self, identifiers: Iterable[str]) -> set[str]:
        """Read the streams of many providers in one query; those that the ledger knows.

        A long stream is not kept: it is read whole for its first command.
        """
        asked = {one: self._keep(one) for one in identifiers}
        known = {one for one, kept in asked.items() if kept.state and kept.state.version}
        states = {one: provider.Provider(one) for one, kept in asked.items() if not kept.state}
        if not states:
            return known
        rows = await self._read(
            lambda: self.ledger.read_streams(
                [provider_stream(one) for one in states], up_to_version=MAX_PRELOADED_VERSION
            )
        )
        for row in rows:
            event = decode(row.state)
            assert event.subject is not None
            provider.evolve(states[event.subject], event)
        for one, state in states.items():
            whole = state.version < MAX_PRELOADED_VERSION
            if whole and asked[one].state is None and not asked[one].queue.locked():
                asked[one].state = state
        return known | {one for one, state in states.items() if state.version}

    async def find_keys(
        self, issuer: str, asked: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[bytes, int]]:
        """Those of many (subject, key) that are recorded: request digest and first position."""
        return await self._read(lambda: self.ledger.find_keys(issuer, asked))

    async def first_answers(self, asked: Mapping[int, type[Data]]) -> dict[int, Receipt]:
        """What was answered to recorded commands: by first position, of which each is given."""
        wanted = {position + 1 for position in asked} | set(asked)
        rows = await self._read(lambda: self.ledger.read_at(sorted(wanted)))
        found = {row.position: decode(row.state) for row in rows}
        return {position: _first_answer(position, found, asked[position]) for position in asked}

    async def publish_rulebook(
        self, command: rulebook.PublishRulebook, actor: Actor, *, key: Key | None = None
    ) -> Receipt:
        """Handle a command on the rulebook stream. Raises LedgerError."""

        def decide(state: rulebook.Rulebooks) -> Sequence[Data]:
            if state.opening is None:
                raise errors.LedgerNotOpened
            return rulebook.decide(state, command, today=local_day(self.ledger.clock()))

        return await self._write(self._rules, Intent([decide], actor, key=key))

    async def open_ledger(self, command: LedgerOpened, actor: Actor) -> Receipt:
        """Open the ledger: its first event. Raises LedgerAlreadyOpened or InvalidRulebook."""

        def decide(state: rulebook.Rulebooks) -> Sequence[Data]:
            return rulebook.decide_opening(state, command)

        return await self._write(self._rules, Intent([decide], actor))

    async def rulebooks(self) -> rulebook.Rulebooks:
        """The rulebooks, read anew each minute. Raises LedgerNotOpened.

        A minute is soon enough: notice of a rulebook is given days before it is in force.
        """
        if self._rules_are_stale():
            async with self._rules.queue:
                # Of all who waited here the first one reads.
                if self._rules_are_stale():
                    now = asyncio.get_running_loop().time()
                    await self._catch_up(self._rules)
                    self._rules_read_at = now
        state = self._rules.state
        if state is None or state.opening is None:
            self._rules_read_at = float("-inf")
            raise errors.LedgerNotOpened
        return state

    def _rules_are_stale(self) -> bool:
        age = asyncio.get_running_loop().time() - self._rules_read_at
        return age > RULEBOOKS_FRESH_SECONDS or self._rules.state is None

    def _keep(self, identifier: str) -> Kept[provider.Provider]:
        stream = provider_stream(identifier)
        kept = self._kept.get(stream)
        if kept is None:
            kept = Kept(stream, lambda: provider.Provider(identifier), provider.evolve)
            self._kept[stream] = kept
            while len(self._kept) > self._max_streams:
                name, oldest = next(iter(self._kept.items()))
                if oldest.queue.locked():
                    break
                del self._kept[name]
        else:
            self._kept.move_to_end(stream)
        return kept

    async def _write(self, kept: Kept[S], intent: Intent[S]) -> Receipt:
        async with kept.queue:
            fresh = kept.state is None
            deadline = asyncio.get_running_loop().time() + CONFLICT_SECONDS
            while True:
                state = kept.state if kept.state is not None else await self._catch_up(kept)
                try:
                    draft = self._decide(kept, state, intent)
                except errors.LedgerError as refusal:
                    repeated = await self._repeated(intent)
                    if repeated is not None:
                        return repeated
                    if fresh:
                        if isinstance(refusal, OF_THE_RECORD):
                            await self._try_alone(kept, state, intent)
                        raise
                    # Perhaps the kept state is behind another process's writes.
                    await self._catch_up(kept)
                    fresh = True
                    continue
                entries = [entry_of(*one) for one in await self.ledger.vault.seal(draft.events)]
                try:
                    answer = await self.ledger.appender.append_async(entries, intent.key)
                except errors.WrongVersion as error:
                    actual = error.facts["actual"]
                    assert isinstance(actual, int)
                    if actual < state.version:
                        # The server lost what it had committed, or was put back to a backup.
                        kept.state = None
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await self._catch_up(kept)
                    fresh = True
                    continue
                except BaseException:
                    kept.state = None
                    raise
                if answer.repeated:
                    return await self._first_answer(answer.first_position, intent)
                state = draft.state
                for event in draft.events[draft.taken_in :]:
                    state = kept.evolve(state, event)
                kept.state = state
                event = draft.events[intent.before]
                at = answer.first_position + intent.before
                return Receipt(at, event.id, event.stream, event.version, repeated=False)

    def _decides(
        self, commands: Sequence[Data], rules: rulebook.Rulebooks, actor: Actor
    ) -> list[Callable[[provider.Provider], Sequence[Data]]]:
        bench = Bench(local_day(self.ledger.clock()), rules, actor)
        return [partial(_decide, command, bench) for command in commands]

    def _decide(self, kept: Kept[S], state: S, intent: Intent[S]) -> Draft[S]:
        draft = state if len(intent.decides) == 1 else deepcopy(state)
        events: list[Event] = []
        taken_in = 0
        for decide in intent.decides:
            # What the commands before this one lead to.
            for event in events[taken_in:]:
                draft = kept.evolve(draft, event)
            taken_in = len(events)
            events += intent.events(decide(draft), kept, draft.version, self.ledger)
        return Draft(draft, events, taken_in)

    async def _try_alone(self, kept: Kept[S], state: S, intent: Intent[S]) -> None:
        """Raises what would be wrong with a command if its provider's record were empty.

        That is told before what only the record tells: or whoever may write and not read of a
        provider could ask what is recorded by a command that is refused anyway, without a trace.
        """
        if isinstance(state, provider.Provider):
            draft = self._decide(kept, provider.without_record(state), intent)
            for one in await self.ledger.vault.seal(draft.events):
                entry_of(*one)

    async def _catch_up(self, kept: Kept[S]) -> S:
        """Read what was committed after the kept state. On failure the kept state is dropped."""
        state = kept.state if kept.state is not None else kept.new()
        kept.state = None
        rows = await self._read(
            lambda: self.ledger.read_stream(kept.stream, after_version=state.version)
        )
        for row in rows:
            state = kept.evolve(state, decode(row.state))
        kept.state = state
        return state

    async def _repeated(self, intent: Intent[S]) -> Receipt | None:
        key = intent.key
        if key is None:
            return None
        found = await self._read(lambda: self.ledger.find_key(key.issuer, key.subject, key.key))
        if found is None:
            return None
        digest, first_position = found
        if digest != key.digest:
            raise errors.KeyReused(key=key.key)
        return await self._first_answer(first_position, intent)

    async def _first_answer(self, position: int, intent: Intent[S]) -> Receipt:
        return (await self.first_answers({position: intent.command}))[position]

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await reading(read)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise errors.Unavailable from error


def _decide(command: Data, bench: Bench, state: provider.Provider) -> Sequence[Data]:
    return provider.decide(state, command, bench)


def entry_of(event: Event, data: Any = None, boxes: tuple[Box, ...] = ()) -> Entry:
    """An event as the appender takes it, sealed where that was called for. Raises EventTooLarge."""
    state, time_at = event.encode(data)
    return Entry(event.stream, event.version, event.id, event.type, state, time_at, boxes)


def _first_answer(position: int, found: Mapping[int, Event], command: type[Data]) -> Receipt:
    event = found[position]
    if isinstance(event.data, ProviderRegistered) and command is not ProviderRegistered:
        # The subject was registered in the same append, just before.
        position += 1
        event = found[position]
    return Receipt(position, event.id, event.stream, event.version, repeated=True)
