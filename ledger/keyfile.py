"""Files of keys: for this user only, whole or not there at all.

Knows files and their modes, and nothing of what is in them.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RANDOM_CHARACTERS = 8
"""With so many ends the name of a file that `tempfile` makes."""


class KeyFileError(RuntimeError):
    """A key file cannot be used: which one and why are in the message."""


def private_folder(folder: Path) -> None:
    """Make the folder where there is none. Raises KeyFileError where others may look into it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyFileError(
            f"{folder} must belong to the user running this and be closed to others (chmod 700);"
            f" it has mode {stat.S_IMODE(status.st_mode):o} and belongs to user {status.st_uid}"
        )


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Meanwhile nobody else changes the file, in this process or in another; whether that is so.

    Without `wait` it may be that somebody else does. A process that dies lets go.
    """
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    name = path.parent / f".{path.stem}.lock"
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def key_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a key file, made first where there is none.

    A file of that name is always whole: it is written under another name, made durable, and then
    linked; of two processes that do so at once the later takes the file of the earlier.
    """
    sweep(path)
    with suppress(FileNotFoundError):
        return read_private(path)
    with locked(path), suppress(FileExistsError), _durable(path, make()) as unfinished:
        path.hardlink_to(unfinished)
        _sync(path.parent)
    return read_private(path)


def replace_key_file(path: Path, content: bytes) -> None:
    """Put other content in the place of a key file, whole and durable, or leave it as it is.

    For whoever holds its lock.
    """
    _sweep(path)
    with _durable(path, content) as unfinished:
        unfinished.replace(path)
    _sync(path.parent)


def sweep(path: Path) -> None:
    """Remove what writers that were killed have left: it may hold a key that is destroyed since.

    Nothing while somebody writes: that is the lock's holder, who has done this first.
    """
    if _unfinished(path):
        with locked(path, wait=False) as alone:
            if alone:
                _sweep(path)


def _sweep(path: Path) -> None:
    left = _unfinished(path)
    for one in left:
        one.unlink(missing_ok=True)
    if left:
        _sync(path.parent)


def _unfinished(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{path.name}.{'?' * RANDOM_CHARACTERS}"))


@contextmanager
def _durable(path: Path, content: bytes) -> Iterator[Path]:
    """A new file beside `path` that holds the content on disk, until the end at the latest."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """The content of a file. Raises KeyFileError where others may read or change it, OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or mode & 0o077:
            raise KeyFileError(
                f"{path} must be a file of the user running this, closed to others (chmod 600);"
                f" it has mode {mode:o} and belongs to user {status.st_uid}"
            )
        return file.read()
