"""When the vault's keys are changed and destroyed, and the steps that do it.

An epoch's key wraps new persons for so many days. Then the next one begins, all living keys are
wrapped anew and all traces made anew, and from the day on which that is done only backups still
need the old key. When the last of them is gone, the key is destroyed, and with it whatever those
backups held of somebody who was erased since. A crash anywhere is mended by doing the same again:
what is done already changes nothing. Knows days and no tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

from ledger.keyring import Epoch
from ledger.persons import Persons
from ledger.traces import TABLES, Place, Table, Traces
from ledger.vault import Vault


@dataclass(frozen=True, slots=True)
class Terms:
    """How many days an epoch's key wraps new persons, and how many days backups are kept."""

    epoch_days: int
    backup_days: int

    def ends_on(self, epoch: Epoch) -> date:
        """The day on which the next epoch is due."""
        return epoch.made_on + timedelta(days=self.epoch_days)

    def dies_on(self, epoch: Epoch) -> date:
        """The day on which the key is destroyed; while it wraps, the last day that may be.

        A backup of the day of retirement may still need it.
        """
        retired = epoch.retired_on or self.ends_on(epoch)
        return epoch.destroyed_on or retired + timedelta(days=self.backup_days + 1)

    def over_on(self, epoch: Epoch, today: date) -> date:
        """The day from which the key opens nothing, as far as that can be promised today."""
        if epoch.destroyed_on is not None:
            return epoch.destroyed_on
        if epoch.retired_on is None and self.ends_on(epoch) < today:
            epoch = replace(epoch, retired_on=today)
        return max(self.dies_on(epoch), today)


def last_key_dies_on(
    epochs: Sequence[Epoch], terms: Terms, *, erased_on: date, today: date
) -> date | None:
    """The day from which no backup opens anything of somebody; None where there never was a key.

    Every epoch that had begun by the erasure counts: some backup may hold the person's key as it
    was wrapped under any of them, whichever database was put back since. What is overdue (nobody
    rotated, or destroyed) is not over.
    """
    days = [terms.over_on(one, today) for one in epochs if one.made_on <= erased_on]
    return max(days, default=None)


def steps_due(
    vault: Vault, terms: Terms, today: date, *, at_once: bool = False
) -> Iterator[Callable[[], object]]:
    """What is to be done now, each step in its order and short; nothing where no key was made.

    `at_once`: the next epoch begins whether or not it is due. A step raises VaultKeyMissing or
    Unavailable; whoever goes through them may stop anywhere.
    """
    persons = vault.persons
    epochs = persons.keyring.epochs()
    if not epochs:
        return
    newest = epochs[-1]
    if at_once or today >= terms.ends_on(newest):
        yield partial(persons.keyring.begin, newest.number, today)
    if len(persons.keyring.epochs()) > 1:
        # Also after the last one was retired: a restored backup is wrapped as it was then.
        yield from _rewrapping(persons)
        for table in TABLES:
            yield from _retracing(vault.traces, table)
    for one in persons.keyring.epochs()[:-1]:
        if one.retired_on is None:
            yield partial(persons.retire, one.number)
    for one in persons.keyring.epochs():
        if one.retired_on and not one.destroyed_on and today >= terms.dies_on(one):
            yield partial(persons.destroy, one.number)


def _rewrapping(persons: Persons) -> Iterator[Callable[[], object]]:
    last: list[str | None] = [None]

    def rewrap() -> None:
        last[0] = persons.rewrap() if last[0] is None else persons.rewrap(after=last[0])

    yield rewrap
    while last[0] is not None:
        yield rewrap


def _retracing(traces: Traces, table: Table) -> Iterator[Callable[[], object]]:
    last: list[Place | None] = [table.start]

    def retrace() -> None:
        assert last[0] is not None
        last[0] = traces.retrace(table, last[0])

    while last[0] is not None:
        yield retrace
