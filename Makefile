# The command list: `make help`. Everything lives in .venv/; a fresh machine needs Python 3.11+, pip, make and git.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUITE := tests/openai_suite/requirements.txt
SUITE_STAMP := $(VENV)/.installed-openai-suite
TEST_BASE := $(VENV)/test-bases/smollm2-135m-instruct
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help init up demo test check static fix openai-suite faults docs migrate revision clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

init: $(STAMP) ## virtual environment with pinned dependencies; quick when it is there

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tunesmith needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make init PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

$(SUITE_STAMP): $(STAMP) $(SUITE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement $(SUITE)
	@touch $(SUITE_STAMP)

up: init ## run the whole service here until Ctrl-C
	@exec $(BIN)/tunesmith up

demo: init ## the main job, end to end; DATA=FILE [HELDOUT=FILE] [TASK=…] [METHOD=dpo] [BASE=…] takes your own rows
	@exec $(BIN)/tunesmith demo $(if $(DATA),--data "$(DATA)") $(if $(HELDOUT),--heldout "$(HELDOUT)") \
	  $(if $(TASK),--task $(TASK)) $(if $(METHOD),--method $(METHOD)) $(if $(BASE),--base "$(BASE)")

$(TEST_BASE): $(STAMP)
	$(BIN)/python -m app.cli.smollm2 $@

test: init $(TEST_BASE) ## all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: init static ## format, lint, types, import contracts, quick tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

static: init ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: init ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openai-suite: $(SUITE_STAMP) ## openai-python's own API tests against a service of ours
	@exec $(BIN)/python -m tests.openai_suite

faults: init ## nothing lost, nothing done twice: every goal at full length; SEED=… repeats a run, GOALS="races torn" chooses
	@exec $(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(GOALS)

docs: init ## write docs/reference/ from the OpenAPI document and the settings
	$(BIN)/python docs/generate_api_reference.py
	$(BIN)/python docs/generate_settings_reference.py

migrate: init ## bring the database of TUNESMITH_DATABASE_URL up to date
	$(BIN)/python -m app.db.migrate

revision: init ## a new migration from the tables; MESSAGE="what changes"
	$(BIN)/python -m tests.support.new_revision "$(MESSAGE)"

clean: ## remove .venv and caches; the data in .tunesmith stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
