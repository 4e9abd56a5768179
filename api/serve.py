"""The process that serves: its parts, the order of their beginning and end, and what signals do.

Beginning: the port is taken → database up and migrated → (demonstration filled) → log followed →
projections follow → HTTP. Ending is the same backwards. The first SIGINT or SIGTERM ends everything
in order, open event streams included, and the process with exit code 0; a second one ends it at
once. Killed in any way it leaves nothing that the next start would have to mend: the keeper stops
an embedded server whose owners are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, TypeVar

from api.app import create_app, make_server
from api.callers import Callers
from api.intake.rejections import reject_again
from api.intake.sought import erasures_of
from api.options import run as run_to_end
from api.promises import keep_promises
from api.reach import Reach
from api.settings import Settings
from api.terminal import INTERRUPTED, words
from api.worker import work
from ledger.calendar import local_day
from ledger.database import Database
from ledger.docket import Docket
from ledger.forgetting import Forgetting
from ledger.handle import Desk
from ledger.keyring import Keyring
from ledger.marks import Marks
from ledger.rotation import Terms
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.runner import Follower
from projections.scores import Scores

BACKLOG = 2048
CATCH_UP_SECONDS = 10.0

T = TypeVar("T")


class PortTaken(OSError):
    """Nobody can listen there: which address and why are in the message."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # create_server() adds the address to the system's own words; they alone are wanted here.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise PortTaken(
            words(
                f"cannot listen on {host} port {port}: {why}; choose another with"
                " --port or CHENGXIN_PORT",
                f"无法在 {host} 的 {port} 端口监听（{why}），请用 --port 或 CHENGXIN_PORT 另选端口",
            )
        ) from error


class Ending:
    """What SIGINT and SIGTERM do: the first ends in order, a second one at once.

    An exception out of a signal's handler may come between taking a lock and knowing that it is
    held, and whoever waits for that lock waits for ever. So while other threads are about, a signal
    only sets a mark or cancels a task (`by`, `run`); elsewhere it raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self._end: Callable[[], None] | None = None

    @contextmanager
    def by(self, end: Callable[[], None]) -> Iterator[None]:
        """Meanwhile the first signal calls `end`; one that came before does so now."""
        before, self._end = self._end, end
        if self.asked:
            end()
        try:
            yield
        finally:
            self._end = before

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; a signal cancels it. Raises KeyboardInterrupt then."""

        async def cancellable() -> T:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None

            def end() -> None:
                loop.call_soon_threadsafe(task.cancel)

            with self.by(end):
                return await work

        try:
            return run_to_end(cancellable())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked:
            # Nothing is lost: what was acknowledged is on disk, and the keeper sees us gone.
            os._exit(INTERRUPTED)
        self.asked = True
        text = words("stopping; once more ends it at once", "正在停止；再次中断将立即结束")
        # Not through sys.stderr, which the signal may have interrupted in the middle of a write.
        os.write(2, f"\n{text}\n".encode())
        if self._end is None:
            raise KeyboardInterrupt
        self._end()

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals; afterwards, whatever was done before."""
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class House:
    """The ledger with all that follows it, in one process."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], datetime],
        keyring: Keyring | None,
        docket: Docket | None,
        terms: Terms,
    ) -> None:
        self.docket = docket
        self.terms = terms if keyring is not None else None
        self.ledger = Ledger(database, clock=clock, keyring=keyring)
        self.tail = Tail(database)
        self.clock = self.tail.bounded(clock)
        self.erasures = erasures_of(self.ledger, docket, clock=self.clock)
        self.marks = Marks(self.ledger) if keyring else None
        self.forgetting = Forgetting(self.ledger, self.tail, clock=self.clock)
        self.scores = Scores(self.ledger)
        self.disclosure = Disclosure(self.ledger)
        self.follower = Follower(
            self.ledger,
            self.tail,
            (self.scores, self.disclosure),
            today=lambda: local_day(self.clock()),
        )

    @contextmanager
    def living(self, ending: Ending, *, follow: bool) -> Iterator[None]:
        """Follow the log, and keep the projections up to it; in the end all is closed."""
        with ExitStack() as stack:
            # A signal is seen by whatever runs the event loop inside.
            stack.enter_context(ending.by(lambda: None))
            stack.enter_context(self.ledger)
            self.tail.start()
            stack.callback(self.tail.stop)
            # Before anything is served: a restored backup holds what was erased since.
            self.erasures.resume()
            reject_again(self.ledger, self.docket)
            self.forgetting.start()
            stack.callback(self.forgetting.stop)
            if follow:
                self.follower.start()
                stack.callback(self.follower.stop)
                # So that the first answers are not those of yesterday; a long way takes longer.
                head = self.ledger.head()
                self.follower.wait_for(head, CATCH_UP_SECONDS, unless=lambda: ending.asked)
            yield


def serve(
    house: House,
    listener: socket.socket,
    settings: Settings,
    *,
    callers: Callers | None,
    with_worker: bool,
    ending: Ending,
    announce: Callable[[], None],
) -> None:
    """Serve until a signal ends it; `announce` is called when the first request can be answered.

    Raises OnThisMachineOnly.
    """
    app = create_app(
        ledger=house.ledger,
        tail=house.tail,
        scores=house.scores,
        disclosure=house.disclosure,
        callers=callers,
        settings=settings,
        clock=house.clock,
        folds=house.follower.figures,
    )
    if callers is not None:
        house.forgetting.told.append(callers.forget)
    server = make_server(app, settings)
    # Signals are ours: uvicorn would raise them once more when it has stopped.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]

    reach = Reach(house.scores, house.tail, listener, only_here=app.state.front.only_here)

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not (server.started or serving.done()):  # noqa: ASYNC110 uvicorn tells nobody
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(reach.watch(end))]
        if server.started and not ending.asked:
            announce()
        if with_worker and server.started:
            others += [asyncio.create_task(one) for one in duties(house, app.state.desk)]
        await serving
        for one in others:
            one.cancel()
        await asyncio.wait(others)

    def end() -> None:
        server.should_exit = True

    with house.living(ending, follow=with_worker), ending.by(end):
        reach.check()
        run_to_end(run())
    reach.complain()


def labour(house: House, *, ending: Ending) -> None:
    """Do what a worker does until a signal ends it. Raises KeyboardInterrupt then."""
    with house.living(ending, follow=True):
        ending.run(all_of(duties(house, Desk(house.ledger))))


def duties(house: House, desk: Desk) -> list[Coroutine[Any, Any, None]]:
    """What a worker does beside following the log; each for ever."""
    return [
        work(desk, house.disclosure, clock=house.clock, terms=house.terms),
        keep_promises(house.erasures, house.marks, clock=house.clock),
    ]


async def all_of(duties: list[Coroutine[Any, Any, None]]) -> None:
    """All of them beside each other; ends by cancellation."""
    await asyncio.gather(*duties)
