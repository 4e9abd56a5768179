"""`make bench`: our figure, the peer's, and the ratio, in one run on one server.

Every row runs both sides on the same embedded PostgreSQL with fsync on. Writes `build/bench.json`.
Figures depend on the machine; only the
ratios of one run are worth comparing. Nothing here gates a test.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import appends, catchup, http, importing
from bench.place import Place, Row
from ledger.embedded import Embedded

PARTS: tuple[Callable[[Place], Iterable[Row]], ...] = (
    appends.rows,
    importing.rows,
    catchup.rows,
    http.rows,
)


def main() -> None:
    """Run every part and print the table."""
    folder = Path(tempfile.mkdtemp(prefix="chengxin-bench-"))
    folder.chmod(0o755)
    console = Console(stderr=True)
    found: list[Row] = []
    try:
        with Embedded(folder) as server:
            for part in PARTS:
                console.print(f"… {part.__module__}")
                found.extend(part(Place(server)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table("what", "ours", "peer", "peer's", "ratio", "note")
    for row in found:
        table.add_row(
            row.what,
            f"{row.ours:,.0f}",
            row.peer,
            f"{row.peers:,.0f}",
            f"{row.ratio:.2f}",
            row.note,
        )
    Console(width=150).print(table)
    build = Path("build")
    build.mkdir(exist_ok=True)
    record = {
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "rows": [row._asdict() | {"ratio": round(row.ratio, 3)} for row in found],
    }
    (build / "bench.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    console.print(f"written to {build / 'bench.json'}")


if __name__ == "__main__":
    main()
