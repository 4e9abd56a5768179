"""What proves a fact: a file that its custodian keeps, by its digest."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ledger.private import Description


class EvidenceDigest(BaseModel):
    """What proves a fact, by digest; the custodian keeps the file itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    media_type: Annotated[
        str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9][a-z0-9.+-]*$", max_length=80)
    ]
    size_bytes: Annotated[int, Field(ge=0, le=2**53 - 1)]
    custodian: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9-]{1,59}$")]
    described: Description | None = None
