"""The eventsourcing library's recorder interface over the appender; reads are the library's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from eventsourcing.persistence import IntegrityError, OperationalError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from ledger import errors
from ledger.appender import Appender, Entry


class Recorder(PostgresApplicationRecorder):
    """The library's recorder interface over the appender. Reads are the library's own."""

    def __init__(
        self, datastore: PostgresDatastore, *, events_table_name: str, appender: Appender
    ) -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        self.appender = appender
        self.channel_name = f"{datastore.schema}.{events_table_name.removesuffix('_events')}"

    def create_table(self) -> None:
        """Nothing: migrations make the tables (`ledger.database.migrate`)."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Append atomically; the positions. Raises the library's own errors."""
        if not stored_events:
            return None
        entries = [
            Entry(
                str(event.originator_id),
                event.originator_version,
                str(uuid4()),
                event.topic,
                event.state,
                -1,
            )
            for event in stored_events
        ]
        try:
            answer = self.appender.append(entries)
        except errors.WrongVersion as error:
            raise IntegrityError(str(error)) from error
        except (errors.Unavailable, errors.OutcomeUnknown) as error:
            raise OperationalError(str(error)) from error
        return list(range(answer.first_position, answer.first_position + len(entries)))
