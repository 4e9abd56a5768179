"""Which release this is, as the installed distribution says."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("chengxin-ledger")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0"
