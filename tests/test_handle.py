"""The desk under many callers, beside other desks, and across broken connections."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any, TypeVar

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal

from ledger import errors, events, handle
from ledger.appender import Appender, Key
from ledger.database import Database
from ledger.envelope import decode
from ledger.events import Data, provider_stream
from ledger.handle import RULEBOOKS_FRESH_SECONDS, Desk, Receipt
from ledger.rulebook import SHORTEST_NOTICE
from ledger.store import Ledger, Stored
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.given import OTHER, PROVIDER, PROVIDERS, REGISTRAR

T = TypeVar("T")

THREADS = 16
COMMANDS_PER_THREAD = 100
TERMINATIONS = 20
TERMINATE_SECONDS = 0.05


def key(name: str, command: Data | None = None, subject: str = REGISTRAR.ref) -> Key:
    """The idempotency key of a request, as the API makes it."""
    body = b"" if command is None else command.model_dump_json().encode()
    return Key(REGISTRAR.organisation, subject, name, hashlib.sha256(body).digest())


@pytest.fixture
def second(opened: Ledger, database: Database, clock: Clock) -> Iterator[Desk]:
    """The desk of another process on the same ledger."""
    with new_ledger(database, clock) as ledger:
        yield Desk(ledger)


class Reads:
    """Counts the reads of streams, which still take place."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        read_stream = ledger.read_stream

        def counted(stream: str, after_version: int = 0) -> list[Stored]:
            found = read_stream(stream, after_version=after_version)
            self.rows.append(len(found))
            return found

        monkeypatch.setattr(ledger, "read_stream", counted)


def versions(ledger: Ledger, identifier: str = PROVIDER) -> list[int]:
    """The versions of a provider's stream as stored."""
    query = (
        b"SELECT originator_version FROM ledger.chengxin_events WHERE originator_id = %s"
        b" ORDER BY notification_id"
    )
    return [version for (version,) in ledger.rows(query, [f"provider-{identifier}"])]


def in_threads(work: Callable[[int], T]) -> list[T]:
    """The results of work done in so many threads at the same time."""
    start = threading.Barrier(THREADS)

    def one(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def test_sixteen_threads_write_to_one_provider(database: Database, clock: Clock) -> None:
    with start_blocking_portal() as portal, new_ledger(database, clock) as ledger:
        desk = Desk(ledger)
        portal.call(desk.open_ledger, given.opening(), REGISTRAR)
        portal.call(desk.record, PROVIDER, given.register(), REGISTRAR)

        def work(_: int) -> list[Receipt]:
            return [
                portal.call(desk.record, PROVIDER, given.inspection(), REGISTRAR)
                for _ in range(COMMANDS_PER_THREAD)
            ]

        receipts = [receipt for of_one in in_threads(work) for receipt in of_one]
        count = THREADS * COMMANDS_PER_THREAD
        assert sorted(one.version for one in receipts) == list(range(2, count + 2))
        assert sorted(one.position for one in receipts) == list(range(3, count + 3))
        assert len({one.id for one in receipts}) == count
        assert not any(one.repeated for one in receipts)
        assert versions(ledger) == list(range(1, count + 2))


def test_two_processes_write_to_one_provider(
    database: Database, clock: Clock, opened: Ledger, record: Record
) -> None:
    record(given.register())

    def process(_: int) -> list[Receipt]:
        """A process's worth: a loop, a ledger and a desk, with eight threads that give commands."""
        with (
            start_blocking_portal() as portal,
            new_ledger(database, clock) as ledger,
            ThreadPoolExecutor(THREADS // 2) as pool,
        ):
            desk = Desk(ledger)
            commands = [given.inspection() for _ in range(THREADS // 2 * COMMANDS_PER_THREAD)]
            return list(
                pool.map(lambda one: portal.call(desk.record, PROVIDER, one, REGISTRAR), commands)
            )

    with ThreadPoolExecutor(2) as pool:
        receipts = [receipt for of_one in pool.map(process, range(2)) for receipt in of_one]
    count = THREADS * COMMANDS_PER_THREAD
    assert sorted(one.version for one in receipts) == list(range(2, count + 2))
    assert versions(opened) == list(range(1, count + 2))


def test_a_refusal_is_given_only_on_a_state_just_read(
    opened: Ledger, desk: Desk, second: Desk, run: Run, record: Record
) -> None:
    record(given.register())  # `desk` keeps the provider from here on
    penalty = run(second.record(PROVIDER, given.penalty(), REGISTRAR))
    suspended = record(given.suspend(penalty.id))
    assert suspended.version == penalty.version + 1
    with pytest.raises(errors.WrongStatus):
        run(second.record(PROVIDER, given.resume_provider(), REGISTRAR))
    record(given.admit())
    record(given.suspend_provider())
    assert run(second.record(PROVIDER, given.resume_provider(), REGISTRAR)).version == 6


def test_what_another_process_recorded_is_refused_too(
    opened: Ledger, desk: Desk, second: Desk, run: Run, record: Record
) -> None:
    record(given.register())
    once = given.inspection()
    run(second.record(PROVIDER, once, REGISTRAR))
    with pytest.raises(errors.DuplicateFact):
        record(once)
    assert versions(opened) == [1, 2]


def test_the_same_request_gets_the_first_answer_for_ever(
    database: Database, clock: Clock, desk: Desk, second: Desk, run: Run, record: Record
) -> None:
    register, penalty = given.register(), given.penalty()
    first = record(register, key=key("a", register))
    imposed = record(penalty, key=key("b", penalty))
    record(given.reward())
    with new_ledger(database, clock) as restarted:
        for one in (desk, second, Desk(restarted)):
            # Without the key both would be refused by now.
            again = run(one.record(PROVIDER, register, REGISTRAR, key=key("a", register)))
            assert again == first._replace(repeated=True)
            again = run(one.record(PROVIDER, penalty, REGISTRAR, key=key("b", penalty)))
            assert again == imposed._replace(repeated=True)
    assert not first.repeated
    assert not imposed.repeated
    assert versions(desk.ledger) == [1, 2, 3]


def test_the_same_key_with_another_request(
    opened: Ledger, second: Desk, run: Run, record: Record
) -> None:
    register = given.register()
    record(register, key=key("a", register))
    accepted, refused = given.penalty(), given.register(name="另一家文化传媒有限公司")
    for command in (accepted, refused):
        with pytest.raises(errors.KeyReused):
            record(command, key=key("a", command))
        with pytest.raises(errors.KeyReused):
            run(second.record(PROVIDER, command, REGISTRAR, key=key("a", command)))
    assert versions(opened) == [1]
    # Another subject's key of the same name is another key.
    assert not record(accepted, key=key("a", accepted, subject=given.OFFICER.ref)).repeated


def test_a_key_given_with_a_refused_command_is_not_used_up(record: Record) -> None:
    penalty, register = given.penalty(), given.register()
    with pytest.raises(errors.UnknownProvider):
        record(penalty, key=key("a", penalty))
    first = record(register, key=key("a", register))
    assert not first.repeated
    assert record(register, key=key("a", register)) == first._replace(repeated=True)


def test_sixteen_of_the_same_request_at_once(
    opened: Ledger, desk: Desk, second: Desk, run: Run
) -> None:
    commands = [given.register(), given.penalty()]

    async def all_at_once(command: Data, name: str) -> list[Receipt]:
        return await asyncio.gather(
            *(
                one.record(PROVIDER, command, REGISTRAR, key=key(name, command))
                for _ in range(8)
                for one in (desk, second)
            )
        )

    for number, command in enumerate(commands):
        receipts = run(all_at_once(command, f"k{number}"))
        assert len({one[:4] for one in receipts}) == 1
        assert sorted(one.repeated for one in receipts) == [False] + [True] * 15
    assert versions(opened) == [1, 2]


def test_one_key_for_two_providers_at_once(opened: Ledger, desk: Desk, run: Run) -> None:
    command = given.register()

    async def both() -> list[Receipt]:
        asked = (desk.record(one, command, REGISTRAR, key=key("a")) for one in (PROVIDER, OTHER))
        return await asyncio.gather(*asked)

    first, again = sorted(run(both()), key=lambda receipt: receipt.repeated)
    assert again == first._replace(repeated=True)
    one, other = PROVIDER, OTHER
    if first.stream == provider_stream(OTHER):
        one, other = other, one
    assert (versions(opened, one), versions(opened, other)) == ([1], [])
    assert run(desk.record(other, command, REGISTRAR)).version == 1


def test_the_receipt_is_of_the_command_and_not_of_the_registration_before_it(
    opened: Ledger, desk: Desk, second: Desk, run: Run
) -> None:
    """Whoever repairs a penalty names the id in its receipt."""
    command, unknown = given.penalty(), "HK-CR-31"
    asked = key("a", command)

    def record(desk: Desk, registration: Data | None) -> Receipt:
        return run(desk.record(unknown, command, REGISTRAR, key=asked, registration=registration))

    first = record(desk, given.register())
    assert (first.position, first.version, first.repeated) == (3, 2, False)
    events_of = [decode(row.state).data.type for row in opened.read(1, 10)]
    assert events_of == ["provider.registered.v1", "penalty.imposed.v1"]
    assert record(second, given.register()) == record(second, None) == first._replace(repeated=True)
    found = run(second.find_keys(REGISTRAR.organisation, [(REGISTRAR.ref, "a")]))
    assert found == {(REGISTRAR.ref, "a"): (asked.digest, 2)}
    assert run(second.first_answers({2: type(command)})) == {2: first._replace(repeated=True)}
    registration = run(second.first_answers({2: events.ProviderRegistered}))[2]
    assert (registration.position, registration.version) == (2, 1)


def test_a_write_does_not_read_a_long_stream_again(
    opened: Ledger, desk: Desk, second: Desk, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 2_000

    async def fill() -> None:
        await desk.record(PROVIDER, given.register(), REGISTRAR)
        await asyncio.gather(
            *(desk.record(PROVIDER, given.inspection(), REGISTRAR) for _ in range(length - 1))
        )

    run(fill())
    reads = Reads(opened, monkeypatch)
    for version in range(length + 1, length + 6):
        assert run(desk.record(PROVIDER, given.reward(), REGISTRAR)).version == version
    assert reads.rows == []
    # Another process's event costs a read of that event and no more.
    run(second.record(PROVIDER, given.reward(), REGISTRAR))
    assert run(desk.record(PROVIDER, given.reward(), REGISTRAR)).version == length + 7
    assert reads.rows == [1]
    with pytest.raises(errors.ProviderExists):
        run(desk.record(PROVIDER, given.register(), REGISTRAR))
    assert reads.rows == [1, 0]


def test_one_provider_has_one_stream_however_its_code_is_written(
    opened: Ledger, desk: Desk, run: Run
) -> None:
    for version, written in enumerate((PROVIDER, f" {PROVIDER.lower()}", "９" + PROVIDER[1:]), 1):
        command = given.inspection() if version > 1 else given.register()
        assert run(desk.record(written, command, REGISTRAR)).version == version
    for wrong in ("91999999MA00TEXT0A", "nobody", "HK-CR-1\x00"):
        with pytest.raises(errors.InvalidIdentifier):
            run(desk.record(wrong, given.register(), REGISTRAR))
    assert versions(opened) == [1, 2, 3]
    assert opened.head() == 4


def test_nothing_is_recorded_before_the_ledger_is_opened(
    ledger: Ledger, desk: Desk, run: Run
) -> None:
    for _ in range(2):
        with pytest.raises(errors.LedgerNotOpened):
            run(desk.record(PROVIDER, given.register(), REGISTRAR))
        with pytest.raises(errors.LedgerNotOpened):
            run(desk.publish_rulebook(given.publish(), REGISTRAR))
        with pytest.raises(errors.LedgerNotOpened):
            run(desk.rulebooks())
    assert ledger.head() == 0
    run(desk.open_ledger(given.opening(), REGISTRAR))
    assert run(desk.record(PROVIDER, given.register(), REGISTRAR)).position == 2


def test_a_ledger_is_opened_once(
    ledger: Ledger, database: Database, clock: Clock, run: Run
) -> None:
    with new_ledger(database, clock) as other:
        desks = [Desk(ledger), Desk(other)]

        async def race() -> list[Receipt | BaseException]:
            asked = (desk.open_ledger(given.opening(), REGISTRAR) for desk in desks * 4)
            return await asyncio.gather(*asked, return_exceptions=True)

        outcomes = run(race())
        assert sum(isinstance(one, Receipt) for one in outcomes) == 1
        assert sum(isinstance(one, errors.LedgerAlreadyOpened) for one in outcomes) == 7
        assert ledger.head() == 1
        for desk in desks:
            with pytest.raises(errors.LedgerAlreadyOpened):
                run(desk.open_ledger(given.opening(name="别的账本"), REGISTRAR))


def test_a_rulebook_published_by_another_process_is_seen_within_its_notice(
    opened: Ledger, desk: Desk, second: Desk, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    april = date(2026, 4, 1)
    assert SHORTEST_NOTICE.total_seconds() > RULEBOOKS_FRESH_SECONDS
    first = run(desk.rulebooks()).of(april).version
    run(second.publish_rulebook(given.publish(), REGISTRAR))
    assert run(second.rulebooks()).of(april).version == "RB-2026.2"

    monkeypatch.setattr(handle, "RULEBOOKS_FRESH_SECONDS", 0.3)
    reads = Reads(opened, monkeypatch)

    async def see() -> None:
        assert (await desk.rulebooks()).of(april).version == first
        assert reads.rows == []
        await asyncio.sleep(0.4)
        many = await asyncio.gather(*(desk.rulebooks() for _ in range(50)))
        assert {books.of(april).version for books in many} == {"RB-2026.2"}

    run(see())
    assert reads.rows == [1], "one read serves all who wait for it"


class Terminator:
    """Ends the backends that are appending, again and again, until told to stop."""

    QUERY = b"""
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND query LIKE '%chengxin_append(%'
    """

    def __init__(self, database: Database) -> None:
        self.ended = 0
        self._stop = threading.Event()
        self._database = database
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Terminator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._database.conninfo, autocommit=True) as connection:
            while not self._stop.wait(TERMINATE_SECONDS):
                row = connection.execute(self.QUERY).fetchone()
                assert row is not None
                self.ended += row[0]


@pytest.mark.parametrize("keyed", [True, False], ids=["with keys", "without keys"])
def test_ended_backends_cost_no_answer_and_double_nothing(
    opened: Ledger, desk: Desk, second: Desk, database: Database, run: Run, keyed: bool
) -> None:
    async def write(number: int, terminator: Terminator) -> list[Receipt]:
        of, identifier = (desk, second)[number % 2], PROVIDERS[number % 3]
        receipts: list[Receipt] = []
        while terminator.ended < TERMINATIONS:
            command = given.inspection()
            name = key(f"{number}-{len(receipts)}", command) if keyed else None
            receipts.append(await of.record(identifier, command, REGISTRAR, key=name))
        return receipts

    async def all_of_it(terminator: Terminator) -> list[Receipt]:
        written = await asyncio.gather(*(write(number, terminator) for number in range(24)))
        return [receipt for of_one in written for receipt in of_one]

    for identifier in PROVIDERS[:3]:
        run(desk.record(identifier, given.register(), REGISTRAR))
    with Terminator(database) as terminator:
        receipts = run(all_of_it(terminator))
    assert len({one.position for one in receipts}) == len(receipts) >= TERMINATIONS
    assert opened.head() == len(receipts) + 4
    for identifier in PROVIDERS[:3]:
        stored = versions(opened, identifier)
        assert stored == list(range(1, len(stored) + 1))


def test_the_state_is_dropped_when_the_outcome_is_unknown(
    opened: Ledger, desk: Desk, run: Run, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit arrives, its answer does not, and nobody can be asked before the deadline."""
    record(given.register())
    penalty = given.penalty()
    monkeypatch.setattr("ledger.appender.SETTLE_SECONDS", 0)
    execute, gone = Appender._execute, threading.Event()

    def lose_the_answer(self: Appender, connection: psycopg.Connection, batch: Any) -> None:
        execute(self, connection, batch)
        for request in batch:
            request.outcome = None
        connection.close()
        gone.set()
        raise psycopg.OperationalError("the cable was pulled")

    with monkeypatch.context() as broken:
        broken.setattr(Appender, "_execute", lose_the_answer)
        broken.setattr(Appender, "_ask", lambda *_: None)
        with pytest.raises(errors.OutcomeUnknown):
            record(penalty, key=key("a", penalty))
    assert gone.is_set()
    assert versions(opened) == [1, 2]
    reads = Reads(opened, monkeypatch)
    again = record(penalty, key=key("a", penalty))
    assert (again.repeated, again.version) == (True, 2)
    assert reads.rows == [2], "the kept state was dropped and the stream read anew"
    assert record(given.suspend(again.id)).version == 3


def test_a_caller_who_gives_up_harms_nobody(
    opened: Ledger, desk: Desk, run: Run, record: Record
) -> None:
    record(given.register())

    async def give_up() -> None:
        tasks = [
            asyncio.create_task(desk.record(PROVIDER, given.inspection(), REGISTRAR))
            for _ in range(20)
        ]
        for task in tasks[::2]:
            await asyncio.sleep(0.001)
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, Receipt) for one in outcomes[1::2])

    run(give_up())
    stored = versions(opened)
    assert stored == list(range(1, len(stored) + 1))
    assert 11 <= len(stored) <= 21
    assert record(given.reward()).version == len(stored) + 1


def test_a_loop_that_ended_does_not_end_the_appender(
    opened: Ledger, database: Database, desk: Desk, run: Run, record: Record
) -> None:
    """Whoever closes the loop while a command is on its way must not stop all others."""
    record(given.register())
    with psycopg.connect(database.conninfo) as blocker:
        blocker.execute("SELECT FROM ledger.chengxin_head FOR UPDATE")
        loop = asyncio.new_event_loop()
        other = Desk(opened)

        async def leave() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    other.record(PROVIDER, given.inspection(), REGISTRAR), timeout=0.5
                )

        loop.run_until_complete(leave())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    command = desk.record(PROVIDER, given.inspection(), REGISTRAR)
    assert run(asyncio.wait_for(command, timeout=20)).version == 3


def test_a_server_put_back_to_a_backup_is_believed(
    opened: Ledger, database: Database, record: Record
) -> None:
    record(given.register())
    record(given.penalty())
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # no triggers
        connection.execute("DELETE FROM ledger.chengxin_events WHERE notification_id = 3")
        connection.execute("UPDATE ledger.chengxin_head SET position = 2")
    assert record(given.penalty()).version == 2
    assert versions(opened) == [1, 2]


def test_what_tasks_append_in_one_round_of_the_loop_is_one_commit(
    opened: Ledger, desk: Desk, run: Run
) -> None:
    async def record_all(make: Callable[[], Data]) -> None:
        await asyncio.gather(*(desk.record(one, make(), REGISTRAR) for one in PROVIDERS))

    run(record_all(given.register))
    run(record_all(given.penalty))
    commits = opened.rows(
        b"SELECT count(DISTINCT xmin::text), count(*) FROM ledger.chengxin_events"
        b" WHERE topic = 'penalty.imposed.v1'"
    )
    assert commits == [(1, len(PROVIDERS))]


def test_who_appends_while_the_appender_closes_is_told(
    opened: Ledger, desk: Desk, run: Run
) -> None:
    async def record_two() -> list[Receipt | BaseException]:
        tasks = [
            asyncio.create_task(desk.record(one, given.register(), REGISTRAR))
            for one in PROVIDERS[:2]
        ]
        await asyncio.sleep(0)
        await asyncio.to_thread(opened.appender.close)
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = run(record_two())
    assert all(isinstance(one, Receipt | errors.Unavailable) for one in found)
    with pytest.raises(errors.Unavailable):
        run(desk.record(PROVIDERS[2], given.register(), REGISTRAR))
