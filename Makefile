# Needs make, python3 (3.11 or newer) with pip and venv, and nothing else.
# Everything installed comes from the lock files, with hashes, into $(VENV).

PYTHON ?= python3
VENV ?= .venv
# Two workers, a test file to one worker: the database of a session is never shared between them.
XDIST ?= -n 2 --dist loadfile
PYTEST_ARGS ?=
# `make lock UPGRADE=--upgrade` takes newer releases; without it only what pyproject.toml asks for.
UPGRADE ?=
UV_VERSION = 0.13.9
PIP_AUDIT_VERSION = 2.10.1

SHELL = /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test bench bench-load chaos sbom audit lock fmt clean runtime dev

# Wheels only: building a source distribution would fetch a build backend that no hash covers.
PIP_INSTALL = "$(VENV)/bin/python" -m pip install --quiet --no-input --disable-pip-version-check

# $(call install,LOCK,LOCKS): install LOCK and this project, unless a stamp tells it was done for this
# very lock, pyproject.toml and folder; then stamp LOCKS, all that LOCK holds. An environment that was
# moved, or left half made, is made anew.
define install
	@state() { echo "$$(pwd) $$(cat "$$1" pyproject.toml | cksum)"; }; \
	if [ "$$(cat "$(VENV)/.installed-$(1)" 2>/dev/null)" = "$$(state $(1))" ] \
		&& "$(VENV)/bin/python" -c '' 2>/dev/null; then exit 0; fi; \
	if [ "$$(cat "$(VENV)/.home" 2>/dev/null)" != "$$(pwd)" ] \
		|| ! "$(VENV)/bin/python" -c '' 2>/dev/null; then \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "Chengxin Ledger needs Python 3.11 or newer, and $(PYTHON) is" \
				"$$("$(PYTHON)" --version 2>/dev/null || echo missing)." \
				"Name another: make PYTHON=python3.12 ..." >&2; exit 1; }; \
		echo "Making $(VENV) ..."; \
		"$(PYTHON)" -m venv --clear "$(VENV)" && pwd > "$(VENV)/.home" || exit 1; \
	fi; \
	echo "Installing $(1) into $(VENV) (once; about half a minute) ..."; \
	$(PIP_INSTALL) --only-binary :all: --require-hashes -r $(1) || exit 1; \
	$(PIP_INSTALL) --no-deps --no-build-isolation -e . || exit 1; \
	for lock in $(2); do state "$$lock" > "$(VENV)/.installed-$$lock"; done
endef

# $(call step,COMMAND): run one tool from the environment; name it first, and again if it fails.
define step
	@printf '\n== %s\n' '$(1)'; "$(VENV)/bin/"$(1) \
		|| { printf '\nmake $@: FAILED at: %s\n' '$(1)' >&2; exit 1; }
endef

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

run: runtime ## Start the whole system with invented demonstration data
	@exec "$(VENV)/bin/chengxin" serve --demo

test: dev ## Run every check: format, lint, types, layers, tests (warnings are errors)
	$(call step,ruff format --check --quiet .)
	$(call step,ruff check .)
	$(call step,mypy)
	$(call step,lint-imports)
	$(call step,pytest $(XDIST) $(PYTEST_ARGS))

bench: dev ## Measure speed against the plain library
	@exec "$(VENV)/bin/python" -m bench

bench-load: dev ## Measure a million events (ten minutes, 6 GB of disk)
	@exec "$(VENV)/bin/python" -m bench load

chaos: dev ## Kill the server 200 times while it writes, and look for losses
	@CHAOS_ROUNDS=200 exec "$(VENV)/bin/python" -m pytest -s tests/test_chaos.py $(PYTEST_ARGS)

sbom: dev ## Write build/sbom.cdx.json: every package with version, hashes and licence
	@exec "$(VENV)/bin/python" -m sbom

audit: ## Ask a vulnerability database about the locked packages (needs the network)
	@"$(PYTHON)" -m venv "$(VENV)-audit"
	@"$(VENV)-audit/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit==$(PIP_AUDIT_VERSION)
	@"$(VENV)-audit/bin/pip-audit" --requirement requirements.lock --require-hashes --disable-pip
	@"$(VENV)-audit/bin/pip-audit" --requirement requirements-dev.lock --require-hashes --disable-pip

lock: ## Resolve the dependencies anew into the two lock files
	@"$(PYTHON)" -m venv "$(VENV)-lock"
	@"$(VENV)-lock/bin/python" -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@set -e; compile() { UV_CUSTOM_COMPILE_COMMAND='make lock' "$(VENV)-lock/bin/uv" pip compile \
		--no-config --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		$(UPGRADE) pyproject.toml "$$@"; }; \
	compile --extra build --output-file requirements.lock; \
	compile --extra build --extra dev --constraints requirements.lock \
		--output-file requirements-dev.lock

fmt: dev ## Format the code and fix what the linter can fix
	@"$(VENV)/bin/python" -m ruff check --fix-only --quiet . && "$(VENV)/bin/python" -m ruff format .

clean: ## Remove environments, caches and builds (never data)
	@rm -rf "$(VENV)" "$(VENV)-lock" "$(VENV)-audit" build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

runtime:
	$(call install,requirements.lock,requirements.lock)

dev:
	$(call install,requirements-dev.lock,requirements-dev.lock requirements.lock)
