"""The event types by their stable names, and the JSON Schema of each.

Knows which models are events; what they mean is said where they are written (`ledger/events.py`,
`ledger/qualification.py`, `ledger/referral.py`, `ledger/access.py`, `ledger/proposal.py`,
`ledger/erasure.py`).
"""

from __future__ import annotations

from typing import Any

from ledger import access, erasure, events, proposal, qualification, referral
from ledger.events import Data

SCHEMA_PREFIX = "urn:chengxin:schema:"


def _named() -> dict[str, type[Data]]:
    modules = (events, qualification, referral, access, proposal, erasure)
    models = [one for each in modules for one in vars(each).values() if isinstance(one, type)]
    named = {one.type: one for one in models if issubclass(one, Data) and one.type}
    return dict(sorted(named.items()))


EVENT_TYPES = _named()
"""Every event type by its short name, e.g. `penalty.imposed.v1`."""


def json_schema(type_name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one type's `data`; KeyError for an unknown type."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    kind = {"$schema": draft, "$id": SCHEMA_PREFIX + type_name}
    return kind | EVENT_TYPES[type_name].model_json_schema(mode="serialization")
