# Everything runs from .venv, which is rebuilt only when pyproject.toml or constraints.txt change.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

BIN := .venv/bin
STAMP := .venv/.installed
PROJECTS := .venv-projects
# The first Python on the path that is new enough, unless PYTHON names one.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo "$$python"; break; }; done)

.PHONY: help .venv venv demo dev test fuzz matrix projects coverage audit bench bench-all bench-docs lint format clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.venv venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed: install one, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@# A venv that a broken installation left behind is made again from nothing.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || rm -rf .venv
	@# Debian's python3 has no ensurepip unless python3-venv is installed: its pip can fill a venv from outside.
	@test -d .venv || "$(PYTHON)" -m venv .venv >/dev/null 2>&1 || { rm -rf .venv \
		&& "$(PYTHON)" -m venv --without-pip .venv && "$(PYTHON)" -m pip --python $(BIN)/python install --quiet pip; } \
		|| { rm -rf .venv; echo "$(PYTHON) cannot create a venv: install python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	@echo "Installing into .venv, which takes a minute or two"
	@# Older releases of pip show build warnings, such as setuptools' on editable installs; errors still show.
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		-c constraints.txt -e '.[demo,test]'
	@touch $@

demo: $(STAMP) ## Start two PostgreSQL servers, sync sample tables, change them, sync again
	@$(BIN)/python -m xmin_assets.demo

dev: $(STAMP) ## Start the demo servers and the Dagster UI
	@$(BIN)/xmin-assets demo up
	@exec $(BIN)/dagster dev

# Three at a time, since tests wait for servers as often as they work; each with servers of its own. A file's tests stay
# together, as some share a server.
test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

fuzz: $(STAMP) ## Play random histories against the engine for SECONDS=600, from SEED on
	@$(BIN)/python -m xmin_assets_tests.adversary --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

matrix: $(STAMP) ## Run the engine's tests on PostgreSQL 14 to 17, as far as they are to be had
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[matrix]'
	@$(BIN)/python -m xmin_assets_tests.matrix $(VERSIONS)

# In an environment of its own, as mypy and dbt-core want different releases of one package.
projects: $(STAMP) ## Run whole projects of Dagster, with dbt models below the copies
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 14))'; then \
		echo "dagster-dbt has no release for this Python: the projects are not run" >&2; exit 0; fi; \
	test -d $(PROJECTS) || $(BIN)/python -m venv --without-pip $(PROJECTS); \
	$(BIN)/python -m pip --python $(PROJECTS)/bin/python install --quiet --disable-pip-version-check --no-input \
		-c constraints.txt -e '.[projects]'; \
	$(PROJECTS)/bin/python -m pytest xmin_assets_tests/projects

coverage: $(STAMP) ## Run the tests and say which branches of the package they have not taken
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

audit: $(STAMP) ## Ask PyPI's advisory database about the pinned dependencies
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[audit]'
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

# ROWS and RUNS make it shorter or longer, ONLY=full,idle picks scenarios, PEERS=none leaves other programs out.
BENCH = $(BIN)/python -m benchmarks
BENCH_SIZE = $(if $(ROWS),--rows $(ROWS)) $(if $(RUNS),--runs $(RUNS))

bench: $(STAMP) ## Measure against PostgreSQL's own tools and other programs
	@$(BENCH) scenarios $(BENCH_SIZE) $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS))

bench-all: bench ## Measure that, and many rows, many workers, and what others notice
	@$(BENCH) scale $(if $(SIZES),--sizes $(SIZES)) $(if $(RUNS),--runs $(RUNS))
	@$(BENCH) blocks $(if $(SIZES),--sizes $(SIZES)) $(if $(RUNS),--runs $(RUNS))
	@$(BENCH) workers $(BENCH_SIZE)
	@$(BENCH) interference $(BENCH_SIZE)
	@$(MAKE) bench-docs

bench-docs: $(STAMP) ## Write docs/benchmarks.md from what was measured
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[bench]'
	@$(BENCH) docs

lint: $(STAMP) ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Stop the demo servers, delete their data and the caches (.venv and .env stay)
	@if [ -d .demo ] && [ -x $(BIN)/xmin-assets ]; then $(BIN)/xmin-assets demo down --purge; fi
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
