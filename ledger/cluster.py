"""The embedded cluster's place: its files, whose they are, and how they are opened without harm.

In the data directory: `owners.lock`, `keeper.lock`, `server.log` (keeper and server, bounded),
`pg/` (the cluster), `run/` (the socket; elsewhere if the path is too long, see `socket-folder`) and
`installation-*/` (a copy of the binaries, only if the server's user cannot reach the wheel's).

Knows the folder, the user who runs the server, and that root may be working in a folder that
another user can write to. Must not know who holds which lock and why, nor how the server is
started: `keeper` and `embedded` do. Imports the standard library only, as the keeper has to be
up at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPERUSER = "chengxin"
MAJOR_VERSION = "18"
UNFINISHED = ".new-"  # what a keeper was making when it died; only a keeper makes these


class EmbeddedError(RuntimeError):
    """The embedded server cannot be used: what, where and why are in the message."""


# ------------------------------------------------------------------------------ places and people


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
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


def find_place(data_dir: Path) -> Place:
    """Find out who runs the server of `data_dir`, and refuse what cannot work.

    Not root: the caller. Root: the owner of the cluster if there is one already (so that a user
    created later on the machine changes nothing), else of the data directory, else a fixed choice.
    """
    if os.geteuid() != 0:
        uid, gid = os.geteuid(), os.getegid()
    else:
        uid, gid = _user_instead_of_root(data_dir)
    place = Place(data_dir=data_dir, server_uid=uid, server_gid=gid)
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


def make_folders(data_dir: Path) -> None:
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


def check_passable(place: Place) -> None:
    """Ask the kernel, as the server's user, whether every folder on the way can be entered."""
    if not place.drops_root:
        return
    way = [str(folder) for folder in (*reversed(place.data_dir.parents), place.data_dir)]
    script = 'for folder do test -x "$folder" || { printf %s "$folder"; exit 1; }; done'
    walk = run_as_server(place, ["/bin/sh", "-c", script, "sh", *way])
    if walk.returncode != 0:
        raise EmbeddedError(
            f"The server of {place.data_dir} runs as uid {place.server_uid} (PostgreSQL does not"
            f" run as root), which may not enter {walk.stdout.strip() or '/'}: choose a --data-dir"
            " that every user may reach, or let that folder be entered (chmod o+x)."
        )


def run_as_server(place: Place, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run to its end what the server's user may run. OSError if it cannot even be started."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
        **as_server(place),
    )


def as_server(place: Place) -> dict[str, Any]:
    """How a process of the server is started: its user, and none of our environment's secrets."""
    passed = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    env = {name: os.environ[name] for name in passed if name in os.environ}
    how: dict[str, Any] = {"env": env | {"LC_ALL": "C"}, "cwd": "/", "umask": 0o077}
    if place.drops_root:
        how |= {"user": place.server_uid, "group": place.server_gid, "extra_groups": []}
    return how


# --------------------------------------------------------------------------------- files and locks


def open_own(place: Place, path: Path) -> int:
    """Open a file of the data directory for us alone, creating it if need be.

    To append: the log has several writers, who must not write over one another's lines.
    Only a file created here is given to the data directory's owner, and links are refused: root
    may be working in a folder that another user can write to.
    """
    base = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
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
def opened(place: Place, path: Path) -> Iterator[int]:
    """`open_own`, closed again at the end."""
    fd = open_own(place, path)
    try:
        yield fd
    finally:
        os.close(fd)


def try_lock(fd: int, how: int) -> bool:
    """Take the lock (LOCK_SH or LOCK_EX) unless that would mean to wait. True if we have it."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def private_folder(place: Place, path: Path) -> None:
    """Make `path` a 0700 folder of the server's user, or see that it is one.

    The folder is finished under another name and then renamed: a crash never leaves one with the
    wrong owner, and so we never have to change an owner on a folder we merely found.
    """
    if is_private(place, path):
        return
    try:
        made = unfinished_folder(place, path.parent)
        made.rename(path)  # replaces an empty folder, fails on anything else
    except OSError as why:
        raise EmbeddedError(
            f"The folder {path} should be private (0700) to uid {place.server_uid} and cannot be"
            f" made so: {why.strerror}. Move away what is there."
        ) from why


def is_private(place: Place, path: Path) -> bool:
    """Whether `path` is a 0700 folder of the server's user, and no link to one."""
    try:
        found = path.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid == place.server_uid


def unfinished_folder(place: Place, parent: Path, prefix: str = UNFINISHED) -> Path:
    """A new 0700 folder of the server's user, with a random name, to be filled and renamed."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # 0700
    if place.drops_root:
        os.chown(made, place.server_uid, place.server_gid)
    return made
