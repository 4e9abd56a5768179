"""What the product is made of: a CycloneDX 1.6 document of every package in the lock file.

The same lock gives the same bytes: no time, no random number. Versions and hashes come from the
lock, licences from the metadata of what is installed from it. A package whose licence is not known,
or that the lock holds for other systems only and nobody has read, ends it: nothing is guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"
SPDX = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Public Domain": "LicenseRef-Public-Domain",
}
"""The names of licences before there were SPDX expressions."""
ELSEWHERE = {"colorama": "BSD-3-Clause", "tzdata": "Apache-2.0", "win32-setctime": "MIT"}
"""Packages that the lock holds for other systems, with the licences that were read there."""


class UnknownLicence(Exception):
    """No licence is known of a package: which is in the message."""


class Locked(NamedTuple):
    """One package of a lock: its name, version, condition and the hashes of its files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def locked(text: str) -> Iterator[Locked]:
    """The packages of a lock file, in its order."""
    for entry in re.split(r"^(?=[a-z0-9][a-z0-9._-]*==)", text, flags=re.MULTILINE)[1:]:
        head = entry.split("\n", 1)[0].removesuffix("\\").strip()
        pinned, _, marker = head.partition(";")
        name, _, version = pinned.strip().partition("==")
        hashes = tuple(sorted(set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))))
        yield Locked(name, version, marker.strip(), hashes)


def licence_of(package: Locked) -> str:
    """The SPDX expression of a package's licence. Raises UnknownLicence."""
    try:
        about: Mapping[str, Any] = metadata.distribution(package.name).metadata.json
    except metadata.PackageNotFoundError:
        if package.marker and package.name in ELSEWHERE:
            return ELSEWHERE[package.name]
        raise UnknownLicence(f"{package.name} is not installed: make dev") from None
    if expression := about.get("license_expression"):
        return str(expression)
    named = [
        one.rpartition(" :: ")[2]
        for one in about.get("classifier") or []
        if one.startswith("License :: ") and one != "License :: OSI Approved"
    ] or [str(about.get("license") or "")]
    known = sorted({SPDX.get(one, one) for one in named})
    for one in known:
        if re.fullmatch(r"[A-Za-z0-9.+-]+", one) is None:
            raise UnknownLicence(f"{package.name} {package.version}: {one[:80]!r}")
    return " OR ".join(known)


def component(package: Locked) -> dict[str, Any]:
    """One package as the document names it."""
    purl = f"pkg:pypi/{package.name}@{package.version}"
    found = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "scope": "optional" if package.marker else "required",
        "licenses": [{"expression": licence_of(package)}],
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": one} for one in package.hashes],
    }
    if package.marker:
        found["properties"] = [{"name": "chengxin:marker", "value": package.marker}]
    return found


def document(root: Path = ROOT) -> str:
    """The document. Raises UnknownLicence."""
    lock = (root / LOCK).read_text(encoding="utf-8")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = sorted(locked(lock))
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    digest = hashlib.sha256(f"{own}\n{lock}".encode()).hexdigest()
    components = [component(one) for one in packages]
    found = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "licenses": [{"expression": project["license"]}],
                "purl": own,
            },
            "properties": [
                {"name": "chengxin:lock", "value": LOCK},
                {
                    "name": "chengxin:lock-sha256",
                    "value": hashlib.sha256(lock.encode()).hexdigest(),
                },
            ],
        },
        "components": components,
        "dependencies": [
            {"ref": own, "dependsOn": [one["bom-ref"] for one in components]},
        ],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
