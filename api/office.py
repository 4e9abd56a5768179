"""Where the operator works: the ledger as a command opens it, who acts, and a record of who looked.

What is erased is gone before a command sees the vault: a database may have been put back to a
backup from before (`Erasures.resume`). What goes beyond the public view is recorded as access
before it is shown, as at the doors of HTTP (`api/accesses.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from api.options import OPERATOR, docket_of, keyring_of, run, settings_of, tell_of_keys
from api.settings import Settings
from api.start import interruptible
from api.terminal import USAGE, fail, told, words
from ledger.identity import ACTOR, OPERATOR_REF, Actor
from ledger.store import Ledger, system_clock

if TYPE_CHECKING:
    from ledger.access import AccessDoor
    from ledger.database import Database
    from ledger.erasing import Erasures

Org = Annotated[str, typer.Option(help=words("For which organisation.", "所代表的机构代码。"))]
Ref = Annotated[
    str,
    typer.Option(
        envvar="CHENGXIN_REF",
        help=words("Who acts: a random reference (UUID).", "办理人员的随机编号（UUID）。"),
    ),
]
REFERENCE = dict(ACTOR)["ref"]


class Office(NamedTuple):
    """A ledger with its keys, where requests of persons are answered, and the settings."""

    ledger: Ledger
    erasures: Erasures
    settings: Settings

    def record(self, actor: Actor, door: AccessDoor, first: int, last: int) -> None:
        """Record that a range is about to be shown. Raises Unavailable."""
        from api.accesses import Accesses

        run(Accesses(self.ledger).of_actor(actor, door, first, last))


@contextmanager
def office_of(data_dir: Path | None, *, keys: bool = False) -> Iterator[Office]:
    """The ledger of a command; with `keys` it ends where there is no key folder.

    Raises LedgerError, KeyFileError, EmbeddedError, MigrationError, psycopg.Error.
    """
    with interruptible():
        from api.storage import database_of
    settings = settings_of(data_dir=data_dir)
    if keys and settings.keys() is None:
        tell_of_keys()
    with database_of(settings) as database, opened(database, settings) as office:
        yield office


@contextmanager
def opened(database: Database, settings: Settings) -> Iterator[Office]:
    """The ledger of a database, where what was erased is gone. Raises as `office_of`."""
    from api.intake.rejections import reject_again
    from api.intake.sought import erasures_of

    with Ledger(database, clock=system_clock, keyring=keyring_of(settings)) as ledger:
        docket = docket_of(settings)
        erasures = erasures_of(ledger, docket, clock=system_clock)
        erasures.resume()
        reject_again(ledger, docket)
        yield Office(ledger, erasures, settings)


def actor_of(org: str, role: str, ref: str) -> Actor:
    """Who acts; ends the command where that is nobody who could."""
    from api.bearer import NO_ORGANISATION

    if REFERENCE.fullmatch(ref) is None:
        fail(
            USAGE, words(f"--ref {ref!r} is no UUID in lower case", f"--ref {ref!r} 不是小写 UUID")
        )
    try:
        return Actor(org, role, ref)
    except ValueError:
        fail(USAGE, words(f"--org {org!r}: ", f"--org {org!r}：") + told(NO_ORGANISATION))


def looking(role: str, ref: str = OPERATOR_REF) -> Actor:
    """Whoever looks at the machine itself."""
    return actor_of(OPERATOR, role, ref)
