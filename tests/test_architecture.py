"""The style, enforced: what `tidy` is to TigerBeetle. Reads files only; runs none of our code.

Every check is a function from one file to its offences, each told as `file:line: what`, so that
it can be tried on a bad sample (`test_every_check_can_fail`) as well as on the tree.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ledger", "projections", "api")
MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 350
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "service"}
# Points are decimals and money is fen: these modules may not even spell a float.
EXACT_MODULES = {
    "ledger/events.py",
    "ledger/provider.py",
    "ledger/calendar.py",
    "ledger/scale.py",
    "projections/case.py",
    "projections/demerits.py",
    "projections/forecast.py",
    "projections/known.py",
    "projections/scoring.py",
}
# Everything else takes a clock as a parameter: `store` has the one default clock, `keeper` stamps
# the lines of its server's log.
MAY_READ_CLOCK = {"ledger/store.py", "ledger/keeper.py"}
CLOCKS = re.compile(r"(^|\.)(datetime\.(now|utcnow|today)|date\.today|time\.(time|time_ns))$")
# Written in pieces so that this file does not offend against itself.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:wor" r"k|roo" r"t|op" r"t/pypi|op" r"t/wheels)/")
REGISTRY_HOST = re.compile(
    r"\b(?:pypi\." r"org|pythonhosted\." r"org|npmjs\." r"org|deb\.debian\." r"org)\b"
)
LOCKS = ("requirements.lock", "requirements-dev.lock")
LOCK_LOCATION = re.compile(
    r"://|--(?:extra-)?index|--find-links|--trusted-host|\b[\w-]+\.(?:org|com|io|net|cn|dev)\b"
    r"|(?:^|[\s(])/\w"
)

ALLOWED_LICENCES = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "Unlicense",
        "MIT-0",
        "PSF-2.0",
    ),
    *("LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later"),
    # before SPDX expressions: trove classifiers and the older free text
    *("MIT License", "BSD License", "BSD 2-Clause License", "Apache Software License"),
    *("Apache 2.0", "Apache License 2.0", "ISC License (ISCL)", "Public Domain"),
    *("Python Software Foundation License",),
    "GNU Lesser General Public License v2 or later (LGPLv2+)",
}
# The MPL binds only changes to the MPL files themselves, and we change none: by name, not by rule.
MPL_PACKAGES = {"certifi", "hypothesis", "orjson", "pathspec"}
MPL = {"MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"}

Check = Callable[[str, str], Iterator[str]]


@cache
def tracked_files() -> tuple[str, ...]:
    """Paths of all files that belong to the project, new ones included, with `/`, from ROOT."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        names = listed.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # a release archive, or no git here
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
        hidden = re.compile(r"(^|/)(\.(?!ci/|gitignore)|__pycache__/|build/|dist/)")
        names = [name for name in names if not hidden.search(name)]
    return tuple(sorted({name for name in names if name and (ROOT / name).is_file()}))


def python_files(*tops: str) -> list[str]:
    """The tracked Python files in the folders named."""
    return [name for name in tracked_files() if name.endswith(".py") and name.startswith(tops)]


def text_of(name: str) -> str:
    """A tracked file as text; what is not UTF-8 has no text to check."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def assert_none(check: Check, names: Iterable[str]) -> None:
    """Fail with every offence that `check` finds in the files named."""
    offences = [offence for name in names for offence in check(name, text_of(name))]
    assert not offences, "\n" + "\n".join(offences)


def long_functions(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines > {MAX_FUNCTION_LINES}"


def long_modules(name: str, text: str) -> Iterator[str]:
    lines = len(text.splitlines())
    if lines > MAX_MODULE_LINES:
        yield f"{name}:{MAX_MODULE_LINES + 1}: module has {lines} lines > {MAX_MODULE_LINES}"


def vague_names(name: str, text: str) -> Iterator[str]:
    for part in Path(name).with_suffix("").parts:
        if part.removeprefix("test_") in VAGUE_NAMES:
            yield f"{name}:1: {part!r} names no noun of the domain"


def floats(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name(id="float")):
                yield f"{name}:{node.lineno}: float(...) where numbers must be exact"
            case ast.Constant(value=float() as value):
                yield f"{name}:{node.lineno}: float literal {value!r} where numbers must be exact"


def clock_reads(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and CLOCKS.search(dotted := ast.unparse(node)):
            yield f"{name}:{node.lineno}: {dotted} (the clock is a parameter)"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if alias.name in {"time", "time_ns"}:
                    yield f"{name}:{node.lineno}: from time import {alias.name}"


def missing_docstrings(name: str, text: str) -> Iterator[str]:
    if not ast.get_docstring(ast.parse(text)):
        yield f"{name}:1: module has no docstring"


def lines_matching(pattern: re.Pattern[str], why: str) -> Check:
    """A check that refuses every line in which `pattern` is found."""

    def check(name: str, text: str) -> Iterator[str]:
        for number, line in enumerate(text.splitlines(), 1):
            if found := pattern.search(line):
                yield f"{name}:{number}: {found[0]!r} {why}"

    return check


unfinished = lines_matching(UNFINISHED, "marks unfinished work: do it or open an issue")
machine_paths = lines_matching(MACHINE_PATH, "is a path of one machine")
registry_hosts = lines_matching(REGISTRY_HOST, "names a registry's host")
lock_locations = lines_matching(LOCK_LOCATION, "tells where packages come from")


def licences_of(distribution: metadata.Distribution) -> set[str]:
    """What its metadata claims: the SPDX expression's terms, else classifiers, else free text."""
    about = distribution.metadata.json
    if expression := about.get("license_expression"):
        return set(re.findall(r"[\w.+-]+", str(expression))) - {"AND", "OR", "WITH"}
    classifiers = about.get("classifier") or []
    prefixes = ("License :: OSI Approved :: ", "License :: ")
    named = {
        next(c.removeprefix(prefix) for prefix in prefixes if c.startswith(prefix))
        for c in classifiers
        if c.startswith("License :: ") and c != "License :: OSI Approved"
    }
    return named or {str(about.get("license", "no licence named"))}


def refused_licences(name: str, licences: set[str]) -> set[str]:
    """Those of `licences` that a dependency called `name` may not have."""
    return licences - ALLOWED_LICENCES - (MPL if name in MPL_PACKAGES else set())


def locked_names(lock: str) -> list[str]:
    """Normalised names of the distributions in one lock file."""
    return re.findall(r"^([a-z0-9-]+)==", text_of(lock), flags=re.MULTILINE)


def test_functions_are_short() -> None:
    assert_none(long_functions, python_files("ledger/", "projections/", "api/"))


def test_modules_are_short() -> None:
    assert_none(long_modules, python_files("ledger/", "projections/", "api/"))


def test_modules_are_named_after_domain_nouns() -> None:
    assert_none(vague_names, [name for name in tracked_files() if name.endswith(".py")])


def test_exact_modules_hold_no_floats() -> None:
    assert_none(floats, [name for name in python_files(*PACKAGES) if name in EXACT_MODULES])


def test_only_composition_roots_read_the_clock() -> None:
    assert_none(clock_reads, [n for n in python_files(*PACKAGES) if n not in MAY_READ_CLOCK])


def test_every_module_says_what_it_knows() -> None:
    assert_none(missing_docstrings, python_files("ledger/", "projections/", "api/"))


def test_nothing_is_marked_unfinished() -> None:
    assert_none(unfinished, tracked_files())


def test_no_machine_path_in_the_tree() -> None:
    assert_none(machine_paths, tracked_files())


def test_no_registry_host_in_the_tree() -> None:
    assert_none(registry_hosts, tracked_files())


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_place(lock: str) -> None:
    assert locked_names(lock), f"{lock}: no pinned package"
    assert_none(lock_locations, [lock])


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_a_hash_for_every_package(lock: str) -> None:
    entries = re.split(r"^(?=\S+==)", text_of(lock), flags=re.MULTILINE)[1:]
    bare = [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert not bare, f"{lock}: without a hash: {bare}"


def test_dev_lock_holds_the_runtime_lock() -> None:
    runtime, dev = (set(re.findall(r"^\S+==\S+", text_of(lock), re.MULTILINE)) for lock in LOCKS)
    assert runtime <= dev, f"pinned otherwise in the dev lock: {sorted(runtime - dev)}"


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in wanted}
    missing = names - set(locked_names("requirements-dev.lock"))
    assert not missing, f"pyproject.toml names, no lock has: {sorted(missing)}; run `make lock`"


def test_dependencies_have_permissive_licences() -> None:
    checked, refused = 0, []
    for name in locked_names("requirements-dev.lock"):
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # locked for another platform or Python
            continue
        checked += 1
        refused += [f"{name}: {bad}" for bad in refused_licences(name, licences_of(distribution))]
    assert checked > 30, f"only {checked} locked distributions are installed: run `make test`"
    assert not refused, "\n" + "\n".join(refused)


@pytest.mark.parametrize(
    ("check", "name", "text"),
    [
        (long_functions, "a.py", "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES),
        (long_functions, "a.py", "async def f():\n" + "    pass\n" * MAX_FUNCTION_LINES),
        (long_modules, "a.py", "pass\n" * (MAX_MODULE_LINES + 1)),
        (vague_names, "ledger/utils.py", ""),
        (vague_names, "api/common/page.py", ""),
        (floats, "a.py", "x = float('1')"),
        (floats, "a.py", "x = 0.5"),
        (clock_reads, "a.py", "datetime.now(UTC)"),
        (clock_reads, "a.py", "datetime.date.today()"),
        (clock_reads, "a.py", "def f(clock=time.time): ..."),
        (clock_reads, "a.py", "from time import time"),
        (missing_docstrings, "a.py", "x = 1"),
        (unfinished, "a.md", "TO~DO: later"),
        (machine_paths, "a.md", "see /wor~k/main"),
        (machine_paths, "a.py", "open('/roo~t/x')"),
        (registry_hosts, "a.md", "from https://pypi~.org/simple"),
        (lock_locations, "a.lock", "--index-url=x"),
        (lock_locations, "a.lock", "a @ file:x.example.com"),
        (lock_locations, "a.lock", "    # via a (/home/me/pyproject.toml)"),
    ],
)
def test_every_check_can_fail(check: Check, name: str, text: str) -> None:
    # `~` keeps a sample from offending against the very check it is for.
    assert list(check(name, text.replace("~", ""))), f"{text[:60]!r} passed"


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (long_functions, "def f():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1)),
        (floats, "x = isinstance(y, float) or Decimal('0.5')"),
        (clock_reads, "clock.now(); time.monotonic(); datetime.fromisoformat(s)"),
        (lock_locations, "a==1.0 ; sys_platform == 'win32' \\"),
        (lock_locations, "    #   chengxin-ledger (pyproject.toml)"),
    ],
)
def test_no_check_refuses_what_is_right(check: Check, text: str) -> None:
    assert not list(check("a.py", text))


@pytest.mark.parametrize(
    ("name", "licence"),
    [("x", "GPL-3.0-only"), ("x", "MPL-2.0"), ("orjson", "AGPL-3.0-only"), ("x", "UNKNOWN")],
)
def test_licence_check_can_fail(name: str, licence: str) -> None:
    assert refused_licences(name, {licence, "MIT"}) == {licence}
