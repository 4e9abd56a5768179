"""The one postmaster of an embedded cluster: its socket, its processes, its start and its end.

PostgreSQL 18 on a unix socket only. No pid is believed without looking at the process behind it.

Knows what belongs to the cluster and what a dead postmaster leaves behind. Must not know why the
server runs, nor the locks of keeper and owners: that one keeper at a time tends it is taken as
given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ledger.binaries import binaries_of
from ledger.cluster import (
    UNFINISHED,
    EmbeddedError,
    Place,
    as_server,
    is_private,
    opened,
    private_folder,
    run_as_server,
    unfinished_folder,
)

PORT = 5432  # only part of the socket's name: nothing listens on TCP
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # sun_path without its NUL
RESTART_DELAY_SECONDS = 0.1  # doubled with each failure in a row ...
RESTART_DELAY_LIMIT_SECONDS = 2.0  # ... up to this
HEALTHY_SECONDS = 10.0  # a server that lived this long had no failure in a row before
FIRST_START_ATTEMPTS = 4  # then the keeper gives up and the owner is told why
STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


# ------------------------------------------------------------------------------------- the socket


def _fits_a_socket(folder: Path) -> bool:
    """A unix socket's path is short; libpq and PostgreSQL give commas and quotes a meaning."""
    path = str(folder / SOCKET_NAME)
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES and not set(path) & set(",\"'")


def socket_folder(place: Place) -> Path | None:
    """Where the server listens; None if that is elsewhere and no keeper has recorded it yet."""
    if _fits_a_socket(place.run):
        return place.run
    try:
        return Path(os.fsdecode(place.socket_record.read_bytes()))
    except FileNotFoundError:
        return None


def _make_socket_folder(place: Place) -> Path:
    """The keeper's side: a private folder for the socket, recorded if it is not `run/`.

    A recorded folder is used again only if it is still private to the server's user: nobody else
    can have put it there, and in a sticky folder like /tmp nobody else can have taken it away.
    """
    folder = socket_folder(place)
    if folder == place.run:
        private_folder(place, folder)
        return folder
    if folder is not None and is_private(place, folder) and _fits_a_socket(folder):
        return folder
    chosen = "/run" if place.drops_root else os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    for parent in map(Path, (chosen, tempfile.gettempdir(), "/tmp")):
        if not _fits_a_socket(parent / "chengxin-12345678"):  # as long as what mkdtemp makes
            continue
        with contextlib.suppress(OSError):
            folder = unfinished_folder(place, parent, "chengxin-")
            writable = ["/bin/sh", "-c", 'test -w "$1"', "sh", str(folder)]
            if run_as_server(place, writable).returncode == 0:
                _record(place, folder)
                return folder
            folder.rmdir()
    raise EmbeddedError(
        f"The path {place.run} is too long for a unix socket, and no shorter private folder can be"
        " made in the temporary folders: choose a shorter --data-dir."
    )


def _record(place: Place, folder: Path) -> None:
    """Tell the owners where the socket is: a reader sees all of the record or none."""
    new = place.socket_record.with_name(UNFINISHED + place.socket_record.name)
    new.unlink(missing_ok=True)
    with opened(place, new) as fd:
        os.write(fd, os.fsencode(folder))
        os.fsync(fd)
    new.rename(place.socket_record)


def _remove_socket_folder(place: Place) -> None:
    folder = socket_folder(place)
    if folder is None or folder == place.run or not is_private(place, folder):
        return
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
        place.socket_record.unlink()


# -------------------------------------------------------------------------- the cluster's processes


def _processes(place: Place, mark: str, only: int | None = None) -> list[int]:
    """The pids of this cluster's processes: the server's user, `postgres`, and our mark."""
    return [
        pid
        for pid, uid, command in _command_lines(only)
        if uid == place.server_uid and _is_postgres(command, mark)
    ]


def _is_postgres(command: str, mark: str) -> bool:
    """`…/bin/postgres -D … -c cluster_name=MARK …` or, a child, `postgres: MARK: checkpointer`."""
    program = command.split(" -D ", 1)[0]
    return mark in command and (
        program.rsplit("/", 1)[-1] == "postgres" or command.startswith("postgres: ")
    )


def _command_lines(only: int | None = None) -> Iterator[tuple[int, int, str]]:
    """All processes, or one, as (pid, uid, command line): from /proc, or `ps` where there is none.

    A zombie has no command line (in `ps` not its old one): it counts as dead, as it is.
    """
    if Path("/proc/self/cmdline").exists():
        proc = Path("/proc")
        for folder in proc.iterdir() if only is None else [proc / str(only)]:
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):  # gone meanwhile, or not for us to see
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    yield int(folder.name), folder.stat().st_uid, command.decode(errors="replace")
        return
    columns = ["-o", "pid=", "-o", "uid=", "-o", "command="]
    which = ["-ax"] if only is None else ["-p", str(only)]
    table = subprocess.run(
        ["/bin/ps", "-ww", *which, *columns], capture_output=True, check=False
    ).stdout.decode(errors="replace")
    for line in table.splitlines():
        match line.split(None, 2):
            case [pid, uid, command_line]:
                yield int(pid), int(uid), command_line


def _pid_file_lines(place: Place) -> list[str]:
    """`postmaster.pid`: the first line is the pid, the eighth the status; [] if there is none."""
    try:
        return place.pid_file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def is_ready(place: Place) -> bool:
    """Whether the server says of itself that it accepts connections."""
    return [line.strip() for line in _pid_file_lines(place)[7:8]] == ["ready"]


# ----------------------------------------------------------------------------------- the postmaster


class Postmaster:
    """The one postmaster of a cluster, as its keeper sees it: our child, or adopted.

    `say` is told in a line what was done and why. Raises EmbeddedError when a server that never
    was ready has failed FIRST_START_ATTEMPTS times, or when its processes cannot be ended.
    """

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self.place = place
        self.say = say
        self.mark = place.mark  # asked once: the folder may be removed under a running server
        self.pid: int | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self.failures = 0
        self.started_at = 0.0
        self.not_before = 0.0

    def tend(self) -> None:
        """One look: adopt or start what is not running. Called some times a second."""
        if self.pid is not None:
            if self._is_alive():
                self.was_ready = self.was_ready or is_ready(self.place)
                return
            if self.was_ready and time.monotonic() - self.started_at > HEALTHY_SECONDS:
                self.failures = 0
            self._note_failure(f"postmaster {self.pid} died")
            self.pid = self.child = None
        if time.monotonic() < self.not_before:
            return
        try:
            self._adopt()
            if self.pid is None:
                _clear_remains(self.place, self.mark)
                self._launch()
        except (OSError, EmbeddedError) as why:
            self._note_failure(f"no server: {why}")

    def _is_alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return self.pid is not None and self._is_ours(self.pid)

    def _is_ours(self, pid: int) -> bool:
        return bool(_processes(self.place, self.mark, pid))

    def _adopt(self) -> None:
        """Take over the postmaster that a killed keeper left behind, if it is really ours.

        The pid file is read first and the process looked at afterwards: a pid that was given to
        another program meanwhile has another command line then.
        """
        named = _pid_file_lines(self.place)[:1]
        if named and named[0].strip().isdecimal() and self._is_ours(int(named[0])):
            self.pid, self.started_at = int(named[0]), time.monotonic()
            self.say(f"adopted postmaster {self.pid}")

    def _launch(self) -> None:
        folder = _make_socket_folder(self.place)
        settings = {
            "cluster_name": self.mark,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "fsync": "on",
            "full_page_writes": "on",
            "restart_after_crash": "on",
        }
        command = [str(binaries_of(self.place) / "postgres"), "-D", str(self.place.pgdata)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, **as_server(self.place)
        )
        self.pid, self.started_at = self.child.pid, time.monotonic()
        self.say(f"started postmaster {self.pid}")

    def _note_failure(self, what: str) -> None:
        delay = min(RESTART_DELAY_LIMIT_SECONDS, RESTART_DELAY_SECONDS * 2**self.failures)
        self.failures += 1
        self.not_before = time.monotonic() + delay
        self.say(f"{what}; failure {self.failures} in a row, next start in {delay:.1f} s")
        if not self.was_ready and self.failures >= FIRST_START_ATTEMPTS:
            raise EmbeddedError(f"the server never came up: {what}")

    def stop(self) -> None:
        """Fast shutdown, then harder. Also one that no look of ours has adopted yet."""
        if self.pid is None:
            self._adopt()
        for signum, seconds in STOP_STEPS:
            if not self._is_alive():
                break
            assert self.pid is not None
            self.say(f"stopping postmaster {self.pid} with {signum.name}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)
            deadline = time.monotonic() + seconds
            while self._is_alive() and time.monotonic() < deadline:
                time.sleep(0.02)
        _clear_remains(self.place, self.mark)
        _remove_socket_folder(self.place)


def _clear_remains(place: Place, mark: str) -> None:
    """End what a dead postmaster left: backends still running, then its pid files.

    Called only when no postmaster of ours lives. A busy backend outlives its postmaster and would
    block the next start (shared memory in use), so it is ended; what it had not committed is
    undone by recovery, as after any crash. Only when no process of the cluster is left are the pid
    files removed: PostgreSQL itself refuses to start if the pid in one was given to another process
    of the same user. Were we wrong, the shared memory's own interlock would still refuse.
    """
    for signum in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + 1.0
        told: set[int] = set()
        while left := _processes(place, mark):
            for pid in set(left) - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
            told |= set(left)
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
    if left := _processes(place, mark):
        raise EmbeddedError(f"The processes {left} of {place.pgdata} cannot be ended.")
    place.pid_file.unlink(missing_ok=True)
    folder = socket_folder(place)
    if folder is not None and is_private(place, folder):
        (folder / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
