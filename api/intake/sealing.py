"""Rows of an earlier version that wait in clear are sealed, once, before anybody asks for them.

Any number of processes may do it at once, and a crash leaves each row whole, in clear or sealed.
In the end the tables are written anew, so that their files hold no more of it either.
"""

from __future__ import annotations

from typing import Any

import psycopg

from api.intake.content import Content, box_of, content_of, plain_problems, plain_subject
from api.intake.quarantine import SCHEMA
from ledger.database import Database
from ledger.entropy import Entropy
from ledger.persons import Persons
from ledger.sealing import NONCE_BYTES

SOME = 200
UNSEALED = f"SELECT FROM {SCHEMA}.unsealed LIMIT 1".encode()
NEXT = (
    f"SELECT id, digest, u.content FROM {SCHEMA}.unsealed u"
    f" JOIN (SELECT id, content AS digest FROM {SCHEMA}.rows) r ON id = row_id"
    " ORDER BY id LIMIT %s FOR UPDATE OF u"
).encode()
SEAL = (
    f"UPDATE {SCHEMA}.rows SET subject = %s, problems = %s::json, person = %s, box = %s"
    " WHERE id = %s AND state = 'waiting'"
).encode()
SEALED = f"DELETE FROM {SCHEMA}.unsealed WHERE row_id = ANY (%s)".encode()
REWRITE = f"VACUUM FULL {SCHEMA}.rows, {SCHEMA}.steps, {SCHEMA}.unsealed".encode()


def are_unsealed(database: Database) -> bool:
    """Whether rows wait in clear. Raises psycopg.Error."""
    with database.connect(role=None) as connection:
        return connection.execute(UNSEALED).rowcount > 0


def seal_rows(database: Database, persons: Persons) -> None:
    """Seal the rows that wait in clear.

    Raises SealingOff where there is no keyring, VaultKeyMissing, Unavailable; nothing is lost then.
    """
    random = Entropy()
    with database.connect(role=None) as connection:
        while _seal_some(connection, persons, random):
            pass
        connection.execute(REWRITE)


def _seal_some(connection: psycopg.Connection[Any], persons: Persons, random: Entropy) -> bool:
    new = persons.new(SOME)
    with connection.transaction():
        rows = connection.execute(NEXT, [SOME]).fetchall()
        for (id, digest, stored), (person, key) in zip(rows, new, strict=False):
            content: Content = content_of(stored)
            nonce = random(NONCE_BYTES)
            box = box_of(content, key, person=person, digest=digest, nonce=nonce)
            plain = (plain_subject(content.subject), plain_problems(content.problems))
            connection.execute(SEAL, [*plain, person, box, id])
        connection.execute(SEALED, [[row[0] for row in rows]])
    return len(rows) == SOME
