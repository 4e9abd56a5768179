"""`make bench`: our figure, the peer's, and the ratio, in one run on one server.

Every row runs both sides on the same embedded PostgreSQL with fsync on. Writes `build/bench.json`.
Figures depend on the machine; only the ratios of one run are worth comparing. Nothing here gates a
test. `python -m bench NAME …` runs some parts only; `load`, a million events, only if it is named.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from api.options import collect_rarely
from bench import (
    appends,
    catchup,
    explaining,
    feeding,
    http,
    importing,
    latency,
    load,
    reading,
    sealing,
    timing,
)
from bench.place import Place, Row
from ledger.embedded import Embedded

PARTS: dict[str, Callable[[Place], Iterable[Row]]] = {
    "appends": appends.rows,
    "sealing": sealing.rows,
    "importing": importing.rows,
    "catchup": catchup.rows,
    "feeding": feeding.rows,
    "latency": latency.rows,
    "explaining": explaining.rows,
    "http": http.rows,
    "reading": reading.rows,
    "timing": timing.rows,
}
SLOW: dict[str, Callable[[Place], Iterable[Row]]] = {"load": load.rows}


def main() -> None:
    """Run every part, or those that are named, and print the table."""
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS | SLOW]:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS | SLOW)}")
    collect_rarely()  # as every command does
    folder = Path(tempfile.mkdtemp(prefix="chengxin-bench-"))
    folder.chmod(0o755)
    console = Console(stderr=True)
    found: list[Row] = []
    try:
        with Embedded(folder) as server:
            for name in wanted:
                console.print(f"… {name}")
                for row in (PARTS | SLOW)[name](Place(server)):
                    found.append(row)
                    console.print(f"  {row.what}: {row.ours:,.1f} {row.note}", highlight=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table("what", "ours", "peer", "peer's", "ratio", "note")
    for row in found:
        table.add_row(
            row.what,
            _shown(row.ours),
            row.peer,
            _shown(row.peers),
            _shown(row.ratio),
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
        "rows": [row.told() for row in found],
    }
    file = build / ("bench.json" if wanted == list(PARTS) else f"bench-{'-'.join(wanted)}.json")
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    console.print(f"written to {file}")


def _shown(figure: float | None) -> str:
    """A figure with as many digits as it deserves."""
    if figure is None:
        return ""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


if __name__ == "__main__":
    main()
