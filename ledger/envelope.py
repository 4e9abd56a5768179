"""One event, one byte string: the envelope around an event's data.

A stored event is a CloudEvents 1.0 object in canonical JSON (RFC 8785): sorted ASCII keys, no
floats, integers within ±(2^53-1), no NUL and no lone surrogate. orjson with sorted keys gives
exactly these bytes for the types allowed here (tests hold it against `rfc8785`). The appender
stamps `time` while it holds the head row: `Event.encode` therefore leaves a place of fixed width
for it and says where. Bytes once stored are served as they are; nobody re-serialises them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from ledger.errors import EventTooLarge, UnknownEventType
from ledger.events import RULEBOOK_STREAM, Data
from ledger.identity import Actor
from ledger.private import members
from ledger.sealing import STORED
from ledger.vocabulary import EVENT_TYPES, SCHEMA_PREFIX

TYPE_PREFIX = "cn.chengxin."
MAX_EVENT_BYTES = 16 * 1024
MAX_RULEBOOK_BYTES = 64 * 1024
TIME_PLACE = "0000-00-00T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Event:
    """One event with its envelope. `time` is None until the appender has stamped it."""

    id: str
    stream: str
    version: int
    data: Data
    actor: Actor
    nonce: str
    subject: str | None = None
    time: datetime | None = None
    correlation: str | None = None
    causation: str | None = None

    @property
    def originator_id(self) -> str:
        """The stream, as the eventsourcing library calls it."""
        return self.stream

    @property
    def originator_version(self) -> int:
        """The version, as the eventsourcing library calls it."""
        return self.version

    @property
    def type(self) -> str:
        """The short type name."""
        return type(self.data).type

    def encode(self, data: Any = None) -> tuple[bytes, int]:
        """Canonical bytes, and the offset (bytes) of the 27 characters of `time`.

        `data`: what is written of the event's data, if not they themselves (`ledger/vault.py`).
        Raises EventTooLarge.
        """
        stamp = TIME_PLACE if self.time is None else format_time(self.time)
        envelope: dict[str, Any] = {
            "actororg": self.actor.organisation,
            "actorref": self.actor.ref,
            "actorrole": self.actor.role,
            "data": self.data if data is None else data,
            "dataschema": SCHEMA_PREFIX + self.type,
            "id": self.id,
            "nonce": self.nonce,
            "source": f"/streams/{self.stream}",
            "specversion": "1.0",
            "streamversion": self.version,
            "time": stamp,
            "type": TYPE_PREFIX + self.type,
            "visibility": self.data.visibility(),
        }
        if self.subject is not None:
            envelope["subject"] = self.subject
        if self.correlation is not None:
            envelope["correlationid"] = self.correlation
        if self.causation is not None:
            envelope["causationid"] = self.causation
        # orjson walks the fields of a model in less time than a dump would take, and fails on any
        # text that was not sealed.
        state = orjson.dumps(envelope, default=members, option=orjson.OPT_SORT_KEYS)
        limit = MAX_RULEBOOK_BYTES if self.stream == RULEBOOK_STREAM else MAX_EVENT_BYTES
        if len(state) > limit:
            raise EventTooLarge(type=self.type, size=len(state), limit=limit)
        # `type` and `visibility` are the only keys after `time`, and neither holds a quote.
        return state, state.rindex(b'"time":"') + 8


def decode(state: bytes) -> Event:
    """The event of stored bytes. Raises UnknownEventType."""
    return from_envelope(orjson.loads(state))


def from_envelope(envelope: Mapping[str, Any]) -> Event:
    """The event of a parsed envelope. Raises UnknownEventType."""
    short = envelope["type"].removeprefix(TYPE_PREFIX)
    stream = envelope["source"].removeprefix("/streams/")
    cls = EVENT_TYPES.get(short)
    if cls is None:
        raise UnknownEventType(id=envelope["id"], stream=stream, type=envelope["type"])
    return Event(
        id=envelope["id"],
        stream=stream,
        version=envelope["streamversion"],
        data=cls.model_validate(envelope["data"], context=STORED),
        actor=Actor(envelope["actororg"], envelope["actorrole"], envelope["actorref"]),
        nonce=envelope["nonce"],
        subject=envelope.get("subject"),
        time=parse_time(envelope["time"]),
        correlation=envelope.get("correlationid"),
        causation=envelope.get("causationid"),
    )


def format_time(time: datetime) -> str:
    """UTC with microseconds, always 27 characters."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`."""
    return datetime.fromisoformat(text)


def new_id(time: datetime, random: bytes) -> str:
    """A UUIDv7 (RFC 9562) from a time and ten random bytes."""
    milliseconds = int(time.timestamp() * 1000) & (2**48 - 1)
    number = milliseconds << 80 | int.from_bytes(random[:10])
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_nonce(random: bytes) -> str:
    """16 random bytes as unpadded base64url."""
    return base64.urlsafe_b64encode(random[:16]).rstrip(b"=").decode()
