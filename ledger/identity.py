"""Who an event is about and who recorded it: identifiers, actors, random references.

A provider's identifier is a unified social credit code (USCC, 统一社会信用代码, GB 32100-2015:
18 characters, check digit MOD 31-3) or, for organisations without one, `<country>-<register>-
<number>` with the country of ISO 3166-1. Nothing here names a natural person: people are random
references. This module imports nothing of ours but the errors.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints
from stdnum.cn import uscc
from stdnum.iso7064 import mod_11_2

from ledger.errors import InvalidIdentifier, Words

# GB 32100-2015: the first two may be letters too (A 军委, N 农业, Y 其他), which stdnum refuses.
USCC = re.compile(r"[0-9A-HJ-NPQRTUWXY]{2}[0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}")
MASKED_USCC = re.compile(r"(?=.*\*)[0-9A-HJ-NPQRTUWXY*]{18}")
RESIDENT = re.compile(
    r"[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9X]"
)
"""A resident's identity number (GB 11643), but for its check character."""
FOREIGN = re.compile(r"([A-Z]{2})-[A-Z0-9]+-[A-Z0-9]+")
MAX_IDENTIFIER_CHARACTERS = 60
COINED_CHARACTERS = 16
NO_USCC = Words(
    "a USCC has 18 characters of 0-9 and A-Z without I, O, S, V, Z and no separators; "
    "other registers are written COUNTRY-REGISTER-NUMBER",
    "统一社会信用代码为 18 位，由 0-9 与 A-Z（不含 I、O、S、V、Z）组成，不含分隔符；"
    "其他登记号写作 国家-登记机关-号码",
)
NO_FOREIGN = Words(
    "an organisation without a USCC is written COUNTRY-REGISTER-NUMBER in A-Z and 0-9, "
    f"at most {MAX_IDENTIFIER_CHARACTERS} characters",
    "无统一社会信用代码的组织写作 国家-登记机关-号码，只用 A-Z 与 0-9，"
    f"全长不超过 {MAX_IDENTIFIER_CHARACTERS} 个字符",
)
MASKED = Words(
    "characters of the code are masked with *; the licence has all of them",
    "代码中有字符以 * 遮盖，完整代码见营业执照",
)
A_PERSON = Words(
    "this is a resident's identity number, and natural persons have no place here",
    "此为公民身份号码，自然人不得入账",
)
TOO_LONG = Words("it is far too long", "过长")
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
COUNTRIES = frozenset(
    re.findall(
        "..",
        "ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCG"
        "CHCICKCLCMCNCOCRCUCVCWCXCYCZDEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGL"
        "GMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLA"
        "LBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONP"
        "NRNUNZOMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSV"
        "SXSYSZTCTDTFTGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSYEYTZAZMZW",
    )
)
"""ISO 3166-1 alpha-2, the 249 officially assigned codes."""


@lru_cache(maxsize=65536)
def parse_identifier(text: str) -> str:
    """The canonical form of a provider's identifier; full width and lower case are mended.

    Raises InvalidIdentifier, naming the check character a USCC should have had.
    """
    if len(text) > 4 * MAX_IDENTIFIER_CHARACTERS:
        raise InvalidIdentifier(value=text[:40] + "…", why=TOO_LONG)
    value = _mended(text)
    if "-" in value:
        return _parse_foreign(value)
    if USCC.fullmatch(value) is None:
        why = MASKED if MASKED_USCC.fullmatch(value) else NO_USCC
        raise InvalidIdentifier(value=value, why=why)
    wanted = uscc.calc_check_digit(value[:-1])
    if value[-1] != wanted:
        if _is_resident(value):
            # The number itself is repeated nowhere.
            raise InvalidIdentifier(value="…", why=A_PERSON)
        why = Words(
            f"the check character should be {wanted}, not {value[-1]} (GB 32100-2015)",
            f"校验码应为 {wanted}，而不是 {value[-1]}（GB 32100-2015）",
        )
        raise InvalidIdentifier(value=value, why=why)
    return value


def is_doubtful(text: str) -> bool:
    """Whether an invalid identifier is a USCC all the same, which a person could tell.

    One with a wrong check character, as real licences have, or with masked characters.
    """
    value = _mended(text)
    found = USCC.fullmatch(value) or MASKED_USCC.fullmatch(value)
    return found is not None and not _is_resident(value)


def _is_resident(value: str) -> bool:
    """Whether it is the number of a natural person, whom nobody may take for a wrong USCC."""
    return RESIDENT.fullmatch(value) is not None and mod_11_2.is_valid(value)


def _mended(text: str) -> str:
    value = text.translate(FULL_WIDTH).strip()
    # Beyond ASCII, upper() would turn what nobody meant (ſ, ﬁ, ı) into letters.
    return value.upper() if value.isascii() else value


def _parse_foreign(value: str) -> str:
    match = FOREIGN.fullmatch(value)
    if match is None or len(value) > MAX_IDENTIFIER_CHARACTERS:
        raise InvalidIdentifier(value=value, why=NO_FOREIGN)
    if match[1] not in COUNTRIES:
        why = Words(
            f"{match[1]} is no country code of ISO 3166-1", f"{match[1]} 不是 ISO 3166-1 国家代码"
        )
        raise InvalidIdentifier(value=value, why=why)
    return value


def coined_number(parts: Sequence[str]) -> str:
    """Sixteen characters (80 bits) that stand for an entry whose register gives it no number.

    RFC 4648 base32 of the SHA-256 of the parts in NFKC and UTF-8, joined by `|`. The same entry
    has the same number in whatever width it is written; another spelling is another number.
    """
    text = unicodedata.normalize("NFKC", "|".join(parts))
    return base64.b32encode(sha256(text.encode()).digest()).decode()[:COINED_CHARACTERS]


def group_identifier(identifier: str) -> str:
    """A USCC in the groups a person reads (1-1-6-9-1 characters); others as they are."""
    if len(identifier) != 18 or "-" in identifier:
        return identifier
    return " ".join(
        (identifier[:2], identifier[2:8], identifier[8:12], identifier[12:17], identifier[17:])
    )


Ref = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
]
"""A random reference (UUID, lower case) that stands for a person or a counterparty."""


OPERATOR_REF = "00000000-0000-4000-8000-000000000000"
"""The reference of an operator, who acts for the system and not for a person."""
WORKER_REF = "00000000-0000-0000-0000-000000000000"
"""The reference of the worker, which records what the passing of time makes due."""
NOBODYS = "8"
"""The version (RFC 9562: custom) of the references of bearers of whom nobody knows who they are."""
ACTOR = (
    ("organisation", re.compile(r"[A-Z0-9][A-Z0-9-]{1,59}")),
    ("role", re.compile(r"[a-z][a-z_]{1,29}")),
    ("ref", re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")),
)
"""How each field of an actor is written: no name of a person fits."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who records: the organisation, the role it acts in, and a random reference to the person.

    Raises ValueError for a field that is written otherwise (`ACTOR`).
    """

    organisation: str
    role: str
    ref: str

    @property
    def is_person(self) -> bool:
        """Whether the reference stands for a person: not the operator, the worker, or nobody."""
        return self.ref not in (OPERATOR_REF, WORKER_REF) and self.ref[14] != NOBODYS

    def __post_init__(self) -> None:
        for name, pattern in ACTOR:
            if pattern.fullmatch(getattr(self, name)) is None:
                raise ValueError(f"actor: {name} {getattr(self, name)!r} is not {pattern.pattern}")


def nobody(random: bytes) -> str:
    """A reference for a bearer of whom nobody knows who it is, from sixteen random bytes.

    It tells one token from another, and from a person: who bears two such tokens is not two people.
    """
    drawn = str(UUID(bytes=random, version=4))
    return f"{drawn[:14]}{NOBODYS}{drawn[15:]}"
