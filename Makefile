# Set-up and the two commands. Needs python3 (3.11 or 3.12) and make; brings everything else.
# Files made by the set-up lie under .cache/ and .venv/.

PYTHON ?= python3
UV_VERSION := 0.13.8
BOOT := .cache/bootstrap
# Behind a proxy with its own certificate authority uv finds no registry without the system's store.
export UV_SYSTEM_CERTS := 1
# Kept, or each process compiles its libraries anew, which takes longer than most commands.
unexport PYTHONDONTWRITEBYTECODE
export SEXTANT_SHARED_DATA ?= $(abspath ../shared/data)
UV := $(shell command -v uv 2>/dev/null || echo $(BOOT)/bin/uv)

# Two processes, each with a Spark of its own: what two cores can take.
PYTEST := .venv/bin/python -m pytest -n 2 --dist loadfile
SLOW ?= slow or shared_data or system or browser

.PHONY: run test test-all test-chaos check lock clean setup
.DEFAULT_GOAL := run

run: setup  ## the demo pipeline, from nothing
	@.venv/bin/sextant run demo

test: setup  ## the quick tests
	@$(PYTEST)

test-all: test  ## every test; needs PostgreSQL, Chromium and the data sets that SEXTANT_SHARED_DATA names
	@$(PYTEST) -m "$(SLOW)" --durations=15

test-chaos: setup  ## kills, random worlds and scale, at length
	@$(PYTEST) -m chaos

check: setup  ## lint, types, layers, freshness of generated files
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(UV) lock --check
	@.venv/bin/sextant lint

setup: .venv/.ready

.venv/.ready: pyproject.toml uv.lock pipelines/bootstrap.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in {(3, 11), (3, 12)} else "Sextant needs Python 3.11 or 3.12, and $(PYTHON) is %d.%d. Run: make $(MAKECMDGOALS) PYTHON=python3.12" % v)'
	@test -x "$(UV)" || { echo "Setting up uv $(UV_VERSION) ..."; $(PYTHON) -m venv $(BOOT) && $(BOOT)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); } \
	  || { echo "Could not set up uv. Install it (Debian: apt-get install python3-venv, then again), or put uv on the PATH." >&2; exit 1; }
	@echo "Setting up the Python environment (.venv) ..."
	@$(UV) sync --frozen --quiet --python "$(PYTHON)"
	@.venv/bin/python -m pipelines.bootstrap
	@touch $@

lock:  ## resolve the dependencies again
	@$(UV) lock

clean:  ## remove what runs made; keeps the environment
	rm -rf lake reports mlruns/mlflow.db mlruns/artifacts
