"""Value tables that several fields of a mapping share, written once under `[table.NAME]`.

Each row of a table gives several members; a source takes one of them by `table` and `member`. They
are put in the place of that source's own `values` before the mapping is read any further.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.intake.complaint import MappingError, joined, placed
from ledger.errors import Words


def expanded(written: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping file's object without shared tables. Raises MappingError with every reason."""
    tables = written.get("table", {})
    reasons: list[Words] = []
    found = {name: value for name, value in written.items() if name != "table"}
    if isinstance(tables, dict) and isinstance(found.get("record"), list):
        found["record"] = [_filled(one, tables, reasons) for one in found["record"]]
    if reasons:
        raise MappingError(*joined(reasons))
    return found


def _filled(written: Any, tables: Mapping[str, Any], reasons: list[Words]) -> Any:
    """A part of a mapping whose sources have the values of the tables they name."""
    if not isinstance(written, dict):
        return written
    if "table" not in written:
        return {name: _filled(one, tables, reasons) for name, one in written.items()}
    name, member = written["table"], written.get("member")
    rows = tables.get(name) if isinstance(name, str) else None
    if not isinstance(rows, dict):
        known = ", ".join(tables)
        en, zh = f"there is no table {name!r}, only {known}", f"没有取值表 {name!r}，只有：{known}"
        reasons.append(placed("table", en, zh))
        return written
    lacking = [row for row, given in rows.items() if member not in given]
    if lacking:
        en = f"{lacking[0]!r} has no member {member!r}"
        reasons.append(placed(f"table.{name}", en, f"{lacking[0]!r} 没有成员 {member!r}"))
        return written
    kept = {key: value for key, value in written.items() if key not in ("table", "member")}
    return kept | {"values": {row: given[member] for row, given in rows.items()}}
