"""A row of our own: what the form has no column for stands in the remark, so that nothing is lost.

The remark begins with 「诚信账本」 and holds one JSON object. Whoever does not know it reads a
remark; we read the whole decision back, the same to the byte: the columns say what they say, the
remark the rest, and nothing stands twice. A cell that a spreadsheet would take for a formula gets
an apostrophe in front, and loses it when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from api.intake.forms.form import Form
from api.intake.forms.header import PERSON, VERSION
from api.intake.rows import Entry, Problem, Proof, Row, Unread, proof_of
from api.problems import broken
from ledger.errors import InvalidIdentifier, Words
from ledger.events import Data, ProviderRegistered
from ledger.evidence import EvidenceDigest
from ledger.findings import ImposePenalty
from ledger.identity import parse_identifier
from ledger.qualification import QualificationVerified
from ledger.withdrawals import (
    NamedDecision,
    NamedQualification,
    WithdrawDecision,
    WithdrawQualification,
)
from projections.decisions import ADMINISTRATIVE, LICENCE, PENALTY, Kind, Subject, Told

MARK = "诚信账本"
GIVEN, WITHDRAWN = "正常", "撤销"
NO_CODE = "0" * 17 + "X"
FORMULA = frozenset("=+-@＝＋－＠'")
"""First characters that make a cell a formula; the apostrophe, so that taking it away is exact."""
CUSTODIAN = "SHUANGGONGSHI"
INDIVIDUAL, ORGANISATION = "个体工商户", "法人及非法人组织"
ENDLESS = "2099-12-31"
"""What the form writes for “without end”."""
UNREADABLE = Words("the remark is not what was written there", "备注中的内容已不是原先写入的内容")
ADDED = ("publicity", "late_entry")
"""Fields of an event that are the ledger's own judgement, made anew where it is read."""
BY = ("issuer", "document_no", "on", "evidence")

Cells = dict[str, str]


class Ours(NamedTuple):
    """How a form carries one kind of decision: its columns by field, and the commands."""

    kind: Kind
    columns: Mapping[str, str]
    command: type[Data]
    withdrawal: type[WithdrawDecision | WithdrawQualification]
    named: type[NamedDecision | NamedQualification]


OURS = {
    "shuanggongshi-penalty": Ours(
        PENALTY,
        {
            "document_no": "CF_WSH",
            "law_article": "CF_YJ",
            "decided_on": "CF_JDRQ",
            "public_until": "CF_GSJZQ",
        },
        ImposePenalty,
        WithdrawDecision,
        NamedDecision,
    ),
    "shuanggongshi-licence": Ours(
        LICENCE,
        {
            "document_no": "XK_WSH",
            "certificate": "XK_XKZS",
            "certificate_no": "XK_XKBH",
            "decided_on": "XK_JDRQ",
            "valid_from": "XK_YXQZ",
            "valid_until": "XK_YXQZI",
        },
        QualificationVerified,
        WithdrawQualification,
        NamedQualification,
    ),
}


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in FORMULA else text


def unguarded(text: str) -> str:
    """The cell that `guarded` was given."""
    return text.removeprefix("'")


def row_of(form: Form, told: Told, *, title: str) -> Cells:
    """The row of what is told. `title`: what the decision is about, in words."""
    roles, data = form.roles, told.data
    cells = _named(form, told.subject, data["issuer"]["name"], data["document_no"])
    left: dict[str, Any] = {"number": told.number} if told.number > 1 else {}
    if not form.by_name[roles.status].older:
        cells[roles.status] = WITHDRAWN if told.withdrawn else GIVEN
    if told.withdrawn:
        left |= {"status": WITHDRAWN}
        left |= {one: data[one] for one in OURS[form.name].kind.name if told.alone}
        if told.act is not None:
            left["by"] = clear({name: told.act[name] for name in BY})
        return _remarked(form, cells, told.subject, left)
    columns = OURS[form.name].columns
    apart = {*columns, *ADDED, "issuer"}
    left |= {name: value for name, value in clear(data).items() if name not in apart}
    cells |= {roles.subject: title, roles.source: data["issuer"]["name"]}
    cells |= {column: data[name] or "" for name, column in columns.items()}
    if data.get("valid_until", "") is None:
        cells[columns["valid_until"]], left["endless"] = ENDLESS, True
    individual = told.subject.entity_kind == "INDIVIDUAL_BUSINESS"
    cells[roles.name] = told.subject.name
    cells[roles.party] = INDIVIDUAL if individual else ORGANISATION
    return _remarked(form, cells, told.subject, left | {"entity_kind": told.subject.entity_kind})


def clear(data: Any) -> Any:
    """Data without its sealed groups: no file tells whose text there is, or takes it along."""
    if isinstance(data, dict):
        members = data.items()
        return {name: clear(one) for name, one in members if not _is_sealed_group(one)}
    return [clear(one) for one in data] if isinstance(data, list) else data


def _is_sealed_group(data: Any) -> bool:
    return isinstance(data, dict) and "person" in data


def _named(form: Form, subject: Subject, authority: str, document_no: str) -> Cells:
    roles = form.roles
    country, _, rest = subject.identifier.partition("-")
    register, _, number = rest.partition("-")
    cells = {roles.authority: authority, roles.document: document_no}
    cells[roles.code] = NO_CODE if rest else subject.identifier
    if country == "CN" and register in roles.codes:
        cells[roles.codes[register]] = number
    return cells


def _remarked(form: Form, cells: Cells, subject: Subject, left: dict[str, Any]) -> Cells:
    if cells[form.roles.code] == NO_CODE:
        left["identifier"] = subject.identifier
    kept = {name: value for name, value in left.items() if value not in (None, [])}
    text = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()
    safe = {name: guarded(text) for name, text in cells.items()}
    return safe | {form.roles.remark: f"{MARK} {text}"}


def is_own(form: Form, cells: Mapping[str, str]) -> bool:
    """Whether a row was written by this system."""
    return cells.get(form.roles.remark, "").startswith(MARK)


def read_own(form: Form, line: int, cells: Mapping[str, str], raw: bytes | Proof) -> Row | Unread:
    """The row's command, whole; or why it is none: somebody has changed it."""
    plain = {name: unguarded(text) for name, text in cells.items() if name not in (VERSION, PERSON)}
    changed = Unread(line, [], f"own/{proof_of(raw).sha256[:32]}", cells=cells, raw=raw)
    try:
        left = orjson.loads(plain[form.roles.remark].removeprefix(MARK))
        subject = parse_identifier(left.pop("identifier", plain[form.roles.code]))
        number = left.pop("number", 1)
        if left.pop("status", None) == WITHDRAWN:
            registration, what = None, "withdrawn"
            command, name = _withdrawal(form, plain, left, raw)
        else:
            registration, what = _registration(form, plain, left), "decided"
            command, name = _decision(form, plain, left)
    except ValidationError as error:
        first = broken(error, ()).flaws[0]
        place = ".".join(map(str, first.loc))
        told = Words(f"{place}: {first.msg.en}", f"{place}：{first.msg.zh}")
        return _changed(changed, form, told)
    except InvalidIdentifier as error:
        return _changed(changed, form, Words(str(error), error.chinese()))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return _changed(changed, form, UNREADABLE)
    named = orjson.dumps([form.name, what, number, *name])
    key = f"own/{sha256(named).hexdigest()[:32]}"
    return Row(line, key, subject, registration, [Entry(command, key)], raw=raw)


def _changed(row: Unread, form: Form, told: Words) -> Unread:
    why = Words(
        f"a row of this system's own that was changed: {told.en}",
        f"本系统导出的行已被改动：{told.zh}",
    )
    return replace(row, problems=[Problem(form.roles.remark, "own-row-changed", why, True)])


Named = tuple[Data, list[Any]]
"""A command, and what tells it from others."""


def _registration(form: Form, cells: Cells, left: dict[str, Any]) -> Data:
    name, kind = cells[form.roles.name], left.pop("entity_kind")
    return ProviderRegistered(name=name, entity_kind=kind, origin="IMPORT")


def _decision(form: Form, cells: Cells, left: dict[str, Any]) -> Named:
    ours = OURS[form.name]
    columns = {name: cells[column] or None for name, column in ours.columns.items()}
    if left.pop("endless", False):
        columns["valid_until"] = None
    issuer = {"kind": ADMINISTRATIVE, "name": cells[form.roles.authority]}
    command = ours.command.model_validate({**left, **columns, "issuer": issuer})
    fields = dict(command)
    return command, [
        issuer["name"],
        fields["document_no"],
        *(fields[one] for one in ours.kind.name),
    ]


def _withdrawal(form: Form, cells: Cells, left: dict[str, Any], raw: bytes | Proof) -> Named:
    ours = OURS[form.name]
    authority, document_no = cells[form.roles.authority], cells[form.roles.document]
    by = left.pop("by", None)
    if by is None:
        proof = proof_of(raw)._asdict()
        row = EvidenceDigest(**proof, media_type="text/csv", custodian=CUSTODIAN)
        issuer = {"kind": ADMINISTRATIVE, "name": authority}
        by = {"issuer": issuer, "document_no": document_no, "evidence": [row]}
    named = ours.named.model_validate(
        {**left, "issuer_name": authority, "document_no": document_no}
    )
    command = ours.withdrawal.model_validate({**by, "withdrawn": named})
    return command, list(dict(named).values())
