"""The embedded PostgreSQL, for who uses it: `with Embedded(data_dir) as server: …`.

Three parties, and two `flock`s that the kernel gives back when their holder dies, however it dies:

* an **owner** is any process that uses the server. It holds `owners.lock` *shared*.
* the **keeper** (`ledger.keeper`) is a process that holds `keeper.lock` and tends the server until
  it has no owner.
* the **postmaster** (`ledger.postmaster`) is the server.

So nothing has to be pruned. This module is the owner's side. It knows no table, no role but the
superuser, and must not start, signal or stop the server itself: only a keeper does.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from ledger.binaries import wheel_installation
from ledger.cluster import (
    SUPERUSER,
    EmbeddedError,
    Place,
    check_passable,
    find_place,
    make_folders,
    open_own,
    opened,
    try_lock,
)
from ledger.postmaster import PORT, is_ready, socket_folder

__all__ = ["Embedded", "EmbeddedError", "default_data_dir"]

LOG_TAIL_LINES = 15
OWNER_POLL_SECONDS = 0.03
KEEPERS_PER_START = 2  # an owner's start() gives up after so many keepers have ended


def default_data_dir() -> Path:
    """`/var/lib/chengxin` for root, else `chengxin` in the user's XDG data home."""
    if os.geteuid() == 0:
        return Path("/var/lib/chengxin")
    data_home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    home = Path(data_home) if data_home.startswith("/") else Path.home() / ".local" / "share"
    return home / "chengxin"


class Embedded:
    """One process's share in the embedded server of a data directory. Safe to use from threads.

    A process forked (not executed) from an owner shares its lock and counts as an owner while it
    lives. Killed in any way, an owner stops being one: the lock is the kernel's.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._place: Place | None = None
        self._owner_fd: int | None = None
        self._guard = threading.RLock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_seconds: float = 60) -> None:
        """Become an owner and wait until the server accepts connections; again is harmless.

        The lock is taken before the keeper is looked for: a keeper that leaves has the lock alone,
        so one that lives while we hold it stays. Raises EmbeddedError, and is no owner then.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._guard:
            make_folders(self.data_dir)
            place = self._place = find_place(self.data_dir)
            wheel_installation()
            check_passable(place)
            was_owner = self._owner_fd is not None
            if self._owner_fd is None:
                self._owner_fd = _become_owner(place, deadline)
            try:
                self._wait_until_ready(place, deadline)
            except BaseException:
                if not was_owner:
                    self._release()
                raise

    def ensure(self) -> None:
        """See that the server has a keeper, which keeps it up; some microseconds if it has.

        To be called now and then by who supervises. Does nothing before start() and after stop().
        """
        with self._guard:
            if self._owner_fd is not None and self._place is not None:
                _start_keeper_if_none(self._place)

    def stop(self, timeout_seconds: float = 30) -> None:
        """Stop being an owner; if we were the last one, return when the server is down.

        Twice is harmless. A dead keeper is replaced first: it is the one who stops the server.
        """
        with self._guard:
            if self._owner_fd is None or self._place is None:
                return
            try:
                self.ensure()
            finally:
                self._release()
        _wait_until_down(self._place, time.monotonic() + timeout_seconds)

    def conninfo(self, *, user: str = SUPERUSER, dbname: str = "postgres", **extra: Any) -> str:
        """Parameters for libpq over the socket; `extra` are further ones, as psycopg takes them."""
        folder = socket_folder(self._place) if self._place else None
        if folder is None:
            raise EmbeddedError(f"The server of {self.data_dir} has not been started.")
        given: dict[str, Any] = {"hostaddr": "", **extra}  # or PGHOSTADDR would lead elsewhere
        return make_conninfo("", host=str(folder), port=PORT, user=user, dbname=dbname, **given)

    def _release(self) -> None:
        # Closed, not unlocked: LOCK_UN would also take the lock from processes forked from us.
        if self._owner_fd is not None:
            os.close(self._owner_fd)
            self._owner_fd = None

    def _wait_until_ready(self, place: Place, deadline: float) -> None:
        why = "the server did not become ready in time"
        keepers = 0
        while time.monotonic() < deadline:
            keepers += _start_keeper_if_none(place)
            if keepers > KEEPERS_PER_START:
                why = f"{KEEPERS_PER_START} keepers ended at once"
                break
            if is_ready(place):
                try:
                    psycopg.connect(self.conninfo(connect_timeout=2)).close()
                    return
                except psycopg.OperationalError as refused:
                    why = str(refused).strip()
            time.sleep(OWNER_POLL_SECONDS)
        raise EmbeddedError(
            f"The embedded server of {place.data_dir} cannot be used: {why}."
            f" The last lines of {place.log}:\n{_log_tail(place)}"
        )


def _become_owner(place: Place, deadline: float) -> int:
    """Take `owners.lock` shared; a keeper that is just leaving lets us wait for its end."""
    fd = open_own(place, place.owners_lock)
    try:
        while not try_lock(fd, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The keeper of {place.data_dir} is stopping its server and does not come to an"
                    f" end. The last lines of {place.log}:\n{_log_tail(place)}"
                )
            time.sleep(OWNER_POLL_SECONDS)
    except OSError as why:
        os.close(fd)
        raise EmbeddedError(
            f"The file {place.owners_lock} cannot be locked: {why.strerror}. Choose a --data-dir"
            " on a file system with locks."
        ) from why
    except BaseException:
        os.close(fd)
        raise
    return fd


def _start_keeper_if_none(place: Place) -> bool:
    """Start a keeper unless one lives. True if one was started.

    We take `keeper.lock` ourselves and hand it, locked, to the new process: of any number of
    starters one gets it, and at no moment is there a keeper without the lock. If the new process
    dies early, the lock is free again, which is all that anybody has to notice.
    """
    with opened(place, place.keeper_lock) as lock:
        if not try_lock(lock, fcntl.LOCK_EX):
            return False
        # Our own import path, made absolute, and -P: whatever folder we are in and however we were
        # installed, the keeper is of the same code and finds the same wheel as we.
        command = [sys.executable, "-P", "-m", "ledger.keeper", str(place.data_dir)]
        with opened(place, place.log) as log:
            try:
                path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
                code = subprocess.Popen(
                    [*command, "--lock-fd", str(lock)],
                    pass_fds=(lock,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": path},
                    cwd="/",
                    start_new_session=True,
                ).wait()
            except OSError as why:
                raise EmbeddedError(f"The keeper cannot be started ({command}): {why}") from why
    if code != 0:
        raise EmbeddedError(
            f"The keeper of {place.data_dir} cannot be started, exit {code}. The last lines of"
            f" {place.log}:\n{_log_tail(place)}"
        )
    return True


def _wait_until_down(place: Place, deadline: float) -> None:
    """Return when the keeper has gone, or when others own the server still.

    Somebody else's look at the lock can seem an owner for a moment, hence three looks in a row.
    """
    others = 0
    while others < 3:
        with opened(place, place.keeper_lock) as keeper:
            if try_lock(keeper, fcntl.LOCK_EX):
                return
        others = others + 1 if _has_owners(place) else 0
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The server of {place.data_dir} has not stopped in time. The last lines of"
                f" {place.log}:\n{_log_tail(place)}"
            )
        time.sleep(OWNER_POLL_SECONDS)


def _has_owners(place: Place) -> bool:
    """Shared works, exclusive does not: others hold it shared. A leaving keeper allows neither."""
    with opened(place, place.owners_lock) as fd:
        return try_lock(fd, fcntl.LOCK_SH) and not try_lock(fd, fcntl.LOCK_EX)


def _log_tail(place: Place) -> str:
    try:
        with opened(place, place.log) as fd:
            start = max(0, os.fstat(fd).st_size - 8192)
            lines = os.pread(fd, 8192, start).decode(errors="replace").splitlines()
    except EmbeddedError as why:
        return str(why)
    return "\n".join(lines[-LOG_TAIL_LINES:])
