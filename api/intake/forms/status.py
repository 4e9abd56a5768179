"""Whether a row of a form gives a decision or withdraws it: the status, and nothing guessed.

A digit has one meaning in the older form and perhaps another in the newer one; what is not known
is for a person. A remark that speaks of a withdrawal where no status does is so too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from api.intake.column import shown
from api.intake.forms.cells import Read, doubt, is_nothing, note
from api.intake.forms.form import Form
from api.intake.forms.header import OLDER, VERSION
from ledger.identity import FULL_WIDTH

NORMAL, WITHDRAWN = "NORMAL", "WITHDRAWN"
SPEAKS_OF_IT = re.compile("撤销|撤回|作废|注销|吊销")


def read_status(form: Form, cells: Mapping[str, str]) -> tuple[str, Read]:
    """NORMAL or WITHDRAWN (nothing where it is doubtful), and the column it is told of."""
    column, status = form.roles.status, form.status
    written = cells.get(column, "").translate(FULL_WIDTH).strip()
    older = cells.get(VERSION) == OLDER
    if written in status.withdrawn or (older and written in status.older_withdrawn):
        return column, Read(WITHDRAWN)
    if written in status.normal or written in (
        status.older_normal if older else status.newer_normal
    ):
        return column, Read(NORMAL)
    if written and not is_nothing(written):
        en = f"{shown(written)}: what status is that?"
        zh = f"无法确定状态 {shown(written)} 的含义"
        return column, Read("", doubts=doubt("unknown-status", en, zh))
    remark = cells.get(form.roles.remark, "")
    if SPEAKS_OF_IT.search(remark):
        en, zh = (
            "the remark speaks of a withdrawal, no status does",
            "备注提到撤销等情形，但没有相应状态",
        )
        return form.roles.remark, Read("", doubts=doubt("remark-of-withdrawal", en, zh))
    if column in cells and written:
        return column, Read(
            NORMAL, note("nothing-there", f"{shown(written)}: nothing", f"{shown(written)}：无")
        )
    return column, Read(NORMAL)
