"""How the rows of an import were read, so that one of them can be read again later."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, NamedTuple


class Recipe(NamedTuple):
    """What reading a row again needs: the kind of its source, and the text of its mapping."""

    kind: Literal["mapping", "json-lines"]
    text: str = ""

    @property
    def digest(self) -> str:
        """The recipe's name in storage: the SHA-256 of all of it."""
        return sha256(f"{self.kind}\n{self.text}".encode()).hexdigest()
