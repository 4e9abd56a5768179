"""The keeper: the process that makes the embedded cluster, keeps its server up and stops it.

`python -m ledger.keeper DATA_DIR` is the postmaster's parent, in a session of its own so that
Ctrl-C in an owner's terminal passes it by. It holds `keeper.lock` for its life, restarts a dead
postmaster, and leaves when it gets `owners.lock` *exclusively*: nobody is left.

Knows the two locks and the log. Must not know what the database holds, and imports the standard
library only (a contract of import-linter): an owner waits for its start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from ledger.binaries import binaries_of
from ledger.cluster import (
    SUPERUSER,
    UNFINISHED,
    EmbeddedError,
    Place,
    find_place,
    open_own,
    opened,
    run_as_server,
    try_lock,
    unfinished_folder,
)
from ledger.postmaster import Postmaster

LOG_BYTES = 8 * 1024 * 1024  # one more log of this size is kept beside it
KEEPER_POLL_SECONDS = 0.1

# What an operator may change in `pg/postgresql.conf`; written there once, by initdb.
FIRST_SETTINGS = (
    "shared_buffers=128MB",
    "max_connections=100",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_line_prefix=%m [%p] ",
    "log_checkpoints=off",
)


def say(text: str) -> None:
    """A line in `server.log` (our standard error); a full disk must not end the keeper."""
    with contextlib.suppress(OSError):
        now = datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")
        os.write(2, f"{now} [{os.getpid()}] KEEPER: {text}\n".encode(errors="replace"))


def _initialise(place: Place) -> None:
    """Make the cluster on first use: whole under another name, then renamed to `pg`.

    initdb syncs what it writes before it ends, so after the rename there is either no cluster or a
    complete one on disk; a half made one is removed by the next keeper.
    """
    for left in place.data_dir.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    if (place.pgdata / "PG_VERSION").exists():
        return
    initdb = str(binaries_of(place) / "initdb")
    made = unfinished_folder(place, place.data_dir)
    command = [initdb, "-D", str(made), "--username", SUPERUSER, "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    for setting in FIRST_SETTINGS:
        command += ["-c", setting]
    done = run_as_server(place, command)
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed for {place.pgdata}: {done.stdout}{done.stderr}")
    made.rename(place.pgdata)  # fails if something has come there since find_place() looked
    _sync_folder(place.data_dir)
    say(f"made the cluster {place.pgdata}")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def bound_log(place: Place) -> None:
    """Keep the log small: copy it aside and empty it in place.

    The server holds the file open in append mode, so it goes on at the new end; a line written
    between the copy and the cut is lost, which a log can bear.
    """
    with opened(place, place.log) as log:
        if os.fstat(log).st_size < LOG_BYTES:
            return
        with opened(place, place.log.with_name("server.log.1")) as kept:
            os.ftruncate(kept, 0)
            while piece := os.read(log, 1024 * 1024):
                os.write(kept, piece)
        os.ftruncate(log, 0)


def _keep(place: Place, keeper_fd: int) -> None:
    """The keeper's life: tend the server until nobody owns it, or SIGTERM.

    Leaving holds `owners.lock` exclusively until this process ends, so nobody becomes an owner of
    a server that is going down: who comes meanwhile waits, and then starts a new keeper.
    """
    told_to_stop: list[int] = []

    def tell(signum: int, _: FrameType | None) -> None:
        told_to_stop.append(signum)

    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # Handlers, not SIG_IGN: that would be inherited by the server and whatever it executes.
    for passed_by in (signal.SIGINT, signal.SIGHUP):
        signal.signal(passed_by, lambda signum, frame: None)
    signal.signal(signal.SIGTERM, tell)
    owners_fd = open_own(place, place.owners_lock)
    _initialise(place)
    postmaster = Postmaster(place, say)
    looks = 0
    try:
        while not told_to_stop and not try_lock(owners_fd, fcntl.LOCK_EX):
            if not _is_still(place.keeper_lock, keeper_fd):
                say("the data directory was removed or its lock replaced: leaving")
                break
            postmaster.tend()
            looks += 1
            if looks % 100 == 0:
                with contextlib.suppress(OSError, EmbeddedError):
                    bound_log(place)
            time.sleep(KEEPER_POLL_SECONDS)
    finally:
        postmaster.stop()
    say("server stopped, keeper leaves")


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except OSError:
        return False


def main() -> int:
    """`python -m ledger.keeper DATA_DIR`: keep the server while it has owners."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--lock-fd", type=int, help="keeper.lock, held and handed over by an owner")
    given = parser.parse_args()
    # The owner waits for this process: the keeper, its child, becomes one of init. The lock goes
    # along, and no further: Popen closes all but 0, 1 and 2 in the children we start.
    if given.lock_fd is not None and os.fork() != 0:
        os._exit(0)
    try:
        place = find_place(given.data_dir.expanduser().resolve())
        keeper_fd = given.lock_fd
        if keeper_fd is None:
            keeper_fd = open_own(place, place.keeper_lock)
            if not try_lock(keeper_fd, fcntl.LOCK_EX):
                raise EmbeddedError(f"The data directory {place.data_dir} has a keeper already.")
        _keep(place, keeper_fd)
    except EmbeddedError as why:
        say(str(why))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
