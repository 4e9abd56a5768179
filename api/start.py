"""Where the command `chengxin` begins: Ctrl-C is quiet while modules are imported, and in the end.

An interrupt in the middle of an import has nothing to end in order, and Python would tell where it
happened in a hundred lines. Imports nothing of ours before the signal is looked after.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Meanwhile SIGINT ends the process at once and says nothing; afterwards all is as before.

    A process that ignores SIGINT, as one in the background may, goes on ignoring it.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """The command `chengxin`, from its first import to its last exit handler."""
    with interruptible():
        from api.cli import main as command
    try:
        command()
    finally:
        # What there was to end in order has ended.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
