# Every target sets up what it needs: a virtual environment in .venv, once, renewed when the
# dependencies change. Needs Python 3.11 or newer and nothing else.
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python,$(if $(shell $(name) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null | grep True),$(name))))
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
FAST := not slow and not gpu and not ray and not weights and not e2e
# Tests share the cores; those of a Ray cluster and of coverage run by themselves.
WORKERS ?= -n 2 --dist worksteal
URL ?= http://127.0.0.1:8000
LOAD ?= -u 10 -r 5 -t 60s
# One thread a process: two busy OpenMP teams on the same cores slow each other many times over.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help install fmt check test test-fast test-fleet test-all cov run serve demo fleet load bench picture hooks wheel clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.dev ## Install all that development, training and tests need

fmt: $(VENV)/.dev ## Format the code and put right what ruff can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

check: $(VENV)/.dev ## Lint, types (pyright, strict) and walls between rooms (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: $(VENV)/.dev ## Run the tests, with the shipped weights and a started server
	$(BIN)/pytest $(WORKERS)

test-fast: $(VENV)/.dev ## Run the tests that need neither weights nor a server
	$(BIN)/pytest $(WORKERS) -m "$(FAST)"

test-fleet: $(VENV)/.dev ## Run the tests on a Ray cluster of this machine, but the slow ones
	$(BIN)/pytest -m "ray and not slow"

test-all: $(VENV)/.dev ## Run every test, also the slow ones, those for a GPU and those on a Ray cluster
	$(BIN)/pytest $(WORKERS) -m "not ray"
	$(BIN)/pytest -m ray

cov: $(VENV)/.dev ## Measure branch coverage; fails under the floors
	$(BIN)/pytest --cov --cov-report=
	$(BIN)/coverage report --include='service/*' --fail-under=95
	$(BIN)/coverage report --include='model_store/*' --omit='model_store/recipes/*' --fail-under=90

run: $(VENV)/.serve ## Serve the shipped model on HOST and PORT (127.0.0.1, 8000)
	$(BIN)/asr build-engine
	$(BIN)/asr serve

serve: run ## The same as run

demo: $(VENV)/.serve ## Serve a made-up engine: the whole API without a model
	$(BIN)/asr serve --engine fake

fleet: $(VENV)/.fleet ## Serve as many replicas as the load needs, with Ray: PORT, HOST, REPLICAS_MAX (docs/fleet.md)
	$(BIN)/asr build-engine
	$(BIN)/asr fleet

load: $(VENV)/.load ## Put load on a running service: URL, and LOAD as for locust (docs/load.md)
	$(BIN)/locust --headless --host $(URL) $(LOAD)

bench: $(VENV)/.bench ## Install the peers that benchmarks compare with, and list the programs
	@grep -rl --include='*.py' '^if __name__' benchmarks | sed 's|/|.|g; s|\.py$$||; s|^|$(BIN)/python -m |' | sort

picture: $(VENV)/.dev ## Take the picture of the caption page for the README; needs Chromium
	$(BIN)/python -m tests.e2e.screenshot docs/figures/captions.png

hooks: $(VENV)/.dev ## Run formatting and checks before each commit (pre-commit)
	$(BIN)/pre-commit install

wheel: $(VENV)/.dev ## Build the wheel, weights included, into dist/
	$(BIN)/hatchling build --target wheel

clean: ## Remove the environment, caches and what was built
	rm -rf $(VENV) build dist .coverage .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer on the PATH, found none" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "expected Python's venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[serve,torch,onnx]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[serve,torch,train,hub,dev]'
	@touch $@ $(VENV)/.serve

$(VENV)/.fleet: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[serve,torch,onnx,ray]'
	@touch $@ $(VENV)/.serve

$(VENV)/.load: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[load]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[serve,torch,train,hub,bench,dev]'
	@touch $@ $(VENV)/.dev $(VENV)/.serve
