# The targets a person or a machine needs; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

DEMO_ARGUMENTS ?=
BENCH_ARGUMENTS ?=
TEST_ARGUMENTS ?= -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(STAMP) ## Simulate an organization for two weeks, score it, print the scores
	$(BIN)/posture demo $(DEMO_ARGUMENTS)

.PHONY: test
test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest $(TEST_ARGUMENTS)

.PHONY: bench
bench: $(STAMP) ## Measure speed and memory beside rivals; writes docs/performance.md (hours; 20 GB)
	$(BIN)/python -m bench --docs docs/performance.md $(BENCH_ARGUMENTS)

.PHONY: bench-history
bench-history: $(STAMP) ## Measure a year of history: sizes, and how long questions take (an hour; 2 GB)
	$(BIN)/python -m bench.history $(BENCH_ARGUMENTS)

.PHONY: up
up: $(STAMP) ## Start the Dagster UI on the demo's lake and history
	$(BIN)/posture up

.PHONY: lint
lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## Put the code into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(STAMP) ## Write docs/tables.md anew, and the answers in docs/queries.md
	$(BIN)/python -m posture_pipeline.table_docs > docs/tables.md
	$(BIN)/python -m posture_pipeline_tests.query_examples

.PHONY: screenshots
screenshots: $(STAMP) ## Make the pictures in docs/images anew (needs Chromium)
	$(BIN)/python -m posture_pipeline_tests.screenshots

.PHONY: setup
setup: $(STAMP) ## Set up the environment in .venv

.PHONY: lock
lock: $(STAMP) ## Choose the newest allowed versions and write both requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra dev setup.cfg -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra deploy --constraint requirements.lock setup.cfg \
		-o deploy/requirements.lock

.PHONY: clean
clean: ## Remove the environment, the caches and the demo
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Everything is in the lock with its hashes, uv among it, so nothing is resolved here. uv is quick;
# where it has no wheel or cannot reach the index that pip is set up for, pip does the same. Both
# compile the modules: where Python may not keep what it compiled, every start would take twice as long.
$(STAMP): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python has no venv module (on Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@awk '/^uv==/ {on=1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@{ $(PIP) --require-hashes --no-deps -r $(VENV)/uv.lock \
		&& $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --no-deps -r requirements.lock; } \
		|| $(PIP) --require-hashes --no-deps -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
