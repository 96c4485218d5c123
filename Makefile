# Two commands do everything on a machine that has Python 3.11, git and make:
#   make demo    run the main job on the nano model that is included, write ./sa2va-demo/
#   make test    lint, strict types, all fast tests
# JOBS=1 runs the tests in one process, JOBS=2 (as they come) in two.
# BENCH=--quick shortens `make bench`.
# CLIENTS="--long agno" passes words on to `make clients`.
# TORCH_INDEX_URL names another index for torch, e.g. https://download.pytorch.org/whl/cpu

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
TORCH_INDEX_URL ?=
DEMO_OUT ?= ./sa2va-demo
SIZE ?= nano
BENCH ?=
CLIENTS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types pytest test-slow test-gpu test-versions train-smoke format docs card bench clients wheel clean

help:  ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/.engine  ## Find, mask and describe things in a small clip with the nano model
	$(BIN)/sa2va demo --out $(DEMO_OUT)

test: lint types pytest  ## Lint, strict types, all fast tests

setup: $(VENV)/.dev  ## The development environment in .venv

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

pytest: $(VENV)/.dev
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.dev  ## Tests that take minutes
	$(BIN)/pytest -q -m slow

test-gpu: $(VENV)/.dev  ## Tests that need CUDA
	$(BIN)/pytest -q -m gpu

test-versions:  ## Parity at the oldest and newest transformers that pyproject.toml allows
	PYTHON=$(PYTHON) TORCH_INDEX_URL=$(TORCH_INDEX_URL) JOBS=$(JOBS) tests/versions.sh

train-smoke: $(VENV)/.dev  ## A hundredth of the nano's training, as it really runs; minutes
	$(BIN)/pytest -q -m slow tests/test_training_course.py

format: $(VENV)/.dev  ## Put the code into the style that `make test` checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## What is generated in README.md and docs/ARCHITECTURE.md
	$(BIN)/python docs/layout.py
	$(BIN)/python docs/snippets.py

card: $(VENV)/.dev  ## Scores, words and pictures of the nano's model card, from its files
	$(BIN)/python docs/nano_card.py

bench: $(VENV)/.dev  ## Time and memory, on whatever device there is; SIZE=hiera-l for SAM-2's full size
	$(BIN)/python -m benchmarks --size $(SIZE) --results benchmarks/RESULTS.md $(BENCH)

clients: $(VENV)/.dev  ## Agent frameworks of others with the MCP server, in environments in .clients; needs an index, not in `make test`
	PYTHONPATH=integrations $(BIN)/python -m clients $(CLIENTS)

wheel: $(VENV)/.dev  ## The wheel, in dist/
	$(PIP) wheel . --no-deps --wheel-dir dist

clean:  ## Remove what these commands made, the environment included
	rm -rf $(VENV) .versions .clients dist build runs/smoke $(DEMO_OUT) .mypy_cache .ruff_cache .pytest_cache

# Stamps: set up again only when the requirements change.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.made constraints.txt
	$(PIP) install -q $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) $(PINS) torch
	@touch $@

$(VENV)/.engine: $(VENV)/.torch pyproject.toml
	$(PIP) install -q $(PINS) -e ".[engine]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install -q $(PINS) -e ".[dev]"
	@touch $@ $(VENV)/.engine
