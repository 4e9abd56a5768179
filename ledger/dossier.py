"""What the vault holds of one person: whether it is known, in which events, what was left of it.

Reads of the vault's tables (`ledger/sql/0004_vault.sql`, `0008_erasure.sql`). Blocking.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from ledger.vault import Vault

ACTOR = "actor"
"""The kind of reference (`Vault.reference`) that stands for somebody who acts."""


class Tombstone(NamedTuple):
    """What is left of an erased person: since when; how many events of each type held a text."""

    erased_at: datetime
    held: Mapping[str, int]


class Dossiers:
    """Reads what the vault holds of persons. All raise Unavailable."""

    def __init__(self, vault: Vault) -> None:
        self._persons = vault.persons
        prefix = vault.persons.prefix
        self._known = f"SELECT FROM {prefix}persons WHERE person = %s".encode()
        self._events = f"SELECT event_id FROM {prefix}sealed WHERE person = %s".encode()
        self._acts = (
            f"SELECT FROM {prefix}references WHERE person = %s AND kind = '{ACTOR}'".encode()
        )
        self._tombstone = (
            f"SELECT erased_at, held FROM {prefix}persons WHERE person = %s AND wrapped IS NULL"
        ).encode()
        self._not_forgotten = (
            f"SELECT asked.person FROM unnest(%s::uuid[]) AS asked (person)"
            f" LEFT JOIN {prefix}persons p ON p.person = asked.person AND p.wrapped IS NULL"
            " WHERE p.person IS NULL"
        ).encode()

    def known(self, person: str) -> bool:
        """Whether a key was ever made for this reference, be it gone."""
        with self._persons.connected() as connection:
            return connection.execute(self._known, [person]).rowcount > 0

    def acts(self, person: str) -> bool:
        """Whether the reference is what somebody who logs in is known by."""
        with self._persons.connected() as connection:
            return connection.execute(self._acts, [person]).rowcount > 0

    def events(self, person: str) -> list[str]:
        """The ids of the events that hold something sealed for a person."""
        with self._persons.connected() as connection:
            return [str(id) for (id,) in connection.execute(self._events, [person])]

    def tombstone(self, person: str) -> Tombstone | None:
        """What is left of an erased person; None for who is none."""
        with self._persons.connected() as connection:
            row = connection.execute(self._tombstone, [person]).fetchone()
        return None if row is None else Tombstone(*row)

    def not_forgotten(self, persons: Collection[str]) -> list[str]:
        """Those who have no tombstone."""
        with self._persons.connected() as connection:
            rows = connection.execute(self._not_forgotten, [list(persons)])
            return [str(person) for (person,) in rows]
