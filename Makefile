# One front door. `make demo` and `make test` need Python 3.11 with its pip, and make; nothing else.
# Everything is installed into a virtual environment of this clone's own, anew when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .mosaik/venv
BIN := $(VENV)/bin
SOURCES := mosaik tests bench migrations examples

KEY := $(shell cat pyproject.toml | cksum | cut -d' ' -f1)
USER_STAMP := $(VENV)/.user-$(KEY)
DEV_STAMP := $(VENV)/.dev-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench cards soak clean

help:
	@echo "make demo              three real nodes, a leader killed ten times, nothing lost"
	@echo "make test              every test, in parts, with the time of each"
	@echo "make check             format, lint, types, imports, docs; changes nothing"
	@echo "make fix               format and mend what ruff can mend"
	@echo "make bench             storage, group and peers side by side"
	@echo "make cards             what each store survives: the report cards of the conformance kit"
	@echo "make soak PART=...     long runs: consensus, demo; resumable"
	@echo "make clean             remove the virtual environment and all caches"

# Options of the demo: make demo ARGS="--backend lmdb --kills 3"
demo: $(USER_STAMP)
	@$(BIN)/mosaik demo $(ARGS)

# Some parts only: make test ARGS="unit storage"
test: $(DEV_STAMP)
	@$(BIN)/python tests/run_parts.py $(ARGS)

# Every check runs, so that one failure does not hide the next.
check: $(DEV_STAMP)
	@status=0; check() { echo "== $$*"; "$$@" || status=1; }; \
	check $(BIN)/ruff format --check $(SOURCES); \
	check $(BIN)/ruff check --no-fix $(SOURCES); \
	check $(BIN)/mypy; \
	check $(BIN)/basedpyright --pythonpath $(BIN)/python; \
	check $(BIN)/lint-imports --no-cache; \
	check $(BIN)/python -m pytest -q tests/docs tests/test_tidy.py; \
	exit $$status

fix: $(DEV_STAMP)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(DEV_STAMP)
	@$(BIN)/python -m bench $(ARGS)

# Options: make cards ARGS="--backend sqlite --write"
cards: $(DEV_STAMP)
	@$(BIN)/python -m tests.cards $(ARGS)

soak: $(DEV_STAMP)
	@$(BIN)/python -m tests.soak $(PART)

clean:
	rm -rf .mosaik .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

# The pip of Python 3.11 is too old for dependency groups, so it is upgraded first.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mosaik needs Python 3.11 or newer; name one with PYTHON=...")'
	@echo "Making a virtual environment in $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(USER_STAMP): | $(VENV)/bin/python
	@echo "Installing mosaik and its backends" >&2
	@$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

$(DEV_STAMP): $(USER_STAMP)
	@echo "Installing the tools" >&2
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@
