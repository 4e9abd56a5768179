"""One export as the operator sees it: the projections caught up, the file whole or not there.

What the public may see is the disclosure projection's to say, therefore it is brought to the head
of the log first: on a server that nobody serves from, nobody else does it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from api.catchup import catch_up
from api.intake.forms.export import Encoding, lines_of
from api.options import run
from ledger.calendar import local_day
from ledger.handle import Desk
from ledger.store import Ledger
from projections.decisions import Decisions, Kind
from projections.disclosure import Disclosure


def give_out(
    ledger: Ledger,
    kind: Kind,
    *,
    everything: bool,
    encoding: Encoding,
    output: Path | None,
    clock: Callable[[], datetime],
) -> int:
    """Write the decisions of a kind to a file or to stdout; how many rows.

    Raises LedgerNotOpened, Unavailable where the projection cannot be brought up to date, OSError.
    """
    rulebooks = run(Desk(ledger).rulebooks())
    disclosure = Disclosure(ledger)
    decisions = Decisions(ledger, disclosure, kind)
    today = local_day(clock())
    if everything:
        told = decisions.every()
    else:
        catch_up(ledger, disclosure, clock=clock)
        told = decisions.public(today=today)
    lines = lines_of(kind, told, rulebooks, encoding=encoding)
    if output is None:
        return _write(sys.stdout.buffer, lines)
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            rows = _write(file, lines)
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    return rows


def _write(file: BinaryIO, lines: Iterable[bytes]) -> int:
    """Write the lines; how many there are besides the header."""
    rows = -1
    for line in lines:
        file.write(line)
        rows += 1
    file.flush()
    return rows
