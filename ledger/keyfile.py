"""Files of keys: for this user only, whole or not there at all.

Knows files and their modes, and nothing of what is in them.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


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


def key_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a key file, made first where there is none.

    A file of that name is always whole: it is written under another name, made durable, and then
    linked; of two processes that do so at once the later takes the file of the earlier.
    """
    with suppress(FileNotFoundError):
        return read_private(path)
    unfinished = _durable(path, make())
    with suppress(FileExistsError):
        path.hardlink_to(unfinished)
    unfinished.unlink()
    return read_private(path)


def replace_key_file(path: Path, content: bytes) -> None:
    """Put other content in the place of a key file, whole and durable, or leave it as it is."""
    _durable(path, content).replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _durable(path: Path, content: bytes) -> Path:
    """A new file beside `path` that holds the content on disk."""
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return Path(unfinished)


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
