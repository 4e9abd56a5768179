"""What a bearer may be, whoever says so: a role of ours, for an organisation that fits it."""

from __future__ import annotations

import re

from api.roles import ROLES
from ledger.errors import InvalidIdentifier, Words
from ledger.identity import parse_identifier

ORGANISATION = re.compile(r"[A-Z0-9][A-Z0-9-]{1,59}")
NO_ORGANISATION = Words(
    "an organisation is written in A-Z, 0-9 and -, 2 to 60 characters",
    "机构代码由 A-Z、0-9 与 - 组成，长 2 至 60 个字符",
)


def flaw_of(role: str, organisation: str) -> Words | None:
    """What is wrong with a role and its organisation; None where nothing is."""
    if role not in ROLES:
        return Words(f"the roles are {', '.join(ROLES)}", f"角色只有：{'、'.join(ROLES)}")
    if role == "provider":
        return _flaw_of_identifier(organisation)
    if ORGANISATION.fullmatch(organisation) is None:
        return NO_ORGANISATION
    return None


def _flaw_of_identifier(organisation: str) -> Words | None:
    try:
        canonical = parse_identifier(organisation)
    except InvalidIdentifier as error:
        return Words(str(error), error.chinese())
    if canonical == organisation:
        return None
    return Words(f"the provider's identifier is {canonical}", f"服务商的规范代码为 {canonical}")
