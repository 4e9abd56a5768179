"""`python -m sbom [FILE]`: write the document to a file, by default `build/sbom.cdx.json`."""

from __future__ import annotations

import sys
from pathlib import Path

from sbom import ROOT, UnknownLicence, document


def main(arguments: list[str]) -> int:
    """Write the document; 1 where a licence is not known."""
    try:
        text = document()
    except UnknownLicence as error:
        sys.stderr.write(f"sbom: no licence is known of {error}\n")
        return 1
    target = Path(arguments[0]) if arguments else ROOT / "build" / "sbom.cdx.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
