# `make help` lists the targets. Every target that needs the environment sets it up where it is missing.
VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
JOBS ?=
RESIDENT ?=

BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
# The commands in dvc.yaml say `python`: it must be the environment's, whether or not that is activated.
export PATH := $(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce summary verify dag restore prune reruns failures measures commands docs notebook mutants check format test test-all bench chaos

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make the environment in .venv; PIP_ARGS is handed to pip (for instance to choose CPU builds of torch)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: found $$($(PYTHON) --version); expected Python 3.11 or later; name one with: make setup PYTHON=python3.11" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

reproduce: $(READY)  ## Check, run the whole pipeline, name its report, summarise; JOBS=N and RESIDENT=1: docs/running.md
	$(BIN)/pessimism check
	$(BIN)/pessimism prune
	$(BIN)/pessimism repro $(if $(JOBS),--jobs $(JOBS)) $(if $(RESIDENT),--resident)
	$(BIN)/pessimism summary

summary: $(READY)  ## Show where the report is, the main numbers per beta, and the time each stage took
	@$(BIN)/pessimism summary

verify: $(READY)  ## Read DVC's cache, and compare this run's metrics with the committed ones, within stated tolerances
	@$(BIN)/pessimism verify --cache
	@$(BIN)/pessimism verify

dag: $(READY)  ## Draw the pipeline, one node per stage
	@$(BIN)/pessimism dag

restore: $(READY)  ## The way back from an experiment: parameters and results of the last commit, proved by content
	$(BIN)/pessimism restore
	$(BIN)/pessimism verify --cache
	$(BIN)/dvc checkout
	$(BIN)/pessimism prune

prune: $(READY)  ## Remove files and dvc.lock entries of cells that params.yaml no longer lists
	@$(BIN)/pessimism prune

reruns: $(READY)  ## Write docs/reruns.md: which stages a change of each file and parameter runs again
	PYTHONPATH=tests $(BIN)/python -m support.reruns

measures: $(READY)  ## Write docs/measures.md: the functions of pessimism.measures, by their docstrings
	PYTHONPATH=tests $(BIN)/python -m support.measures_page

commands: $(READY)  ## Write docs/commands.md: every command with its options, from their help
	PYTHONPATH=tests $(BIN)/python -m support.commands_page

notebook: $(READY)  ## Run docs/examples/notebook anew, on the committed run; installs the extra `notebook` first
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[notebook]'
	PYTHONPATH=tests $(BIN)/python -m support.notebook

failures: $(READY)  ## Write docs/failure-modes.md: what bad inputs get
	PYTHONPATH=tests $(BIN)/python -m support.failures

mutants: $(READY)  ## Plant bugs one at a time, see that tests notice each, write docs/mutants.md; takes half an hour
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m support.mutants

SITE := build/site_source

docs: $(READY)  ## Build the documentation site in build/site; a broken link ends it
	rm -rf $(SITE) build/site && mkdir -p $(SITE)
	git ls-files '*.md' CITATION.cff LICENSE docs plots/report | tar -cf - -T - | tar -xf - -C $(SITE)
	$(BIN)/zensical build --strict

check: $(READY)  ## Lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)  ## Sort imports and format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Two processes, one file at a time each: tests/test_smoke.py runs the pipeline while the other does the rest.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(READY)  ## The tests, with one small run of the whole pipeline among them
	$(PYTEST) -m "not slow"

test-all: $(READY)  ## Every test, the slow ones included
	$(PYTEST)

bench: $(READY)  ## Measure work, time and memory beside a naive loop and TRL's own trainers; writes docs/bench.json
	$(BIN)/python -m benchmarks

chaos: $(READY)  ## Kill, fill up and damage a small run fifty times, count what is lost, write docs/chaos.md
	$(BIN)/python -m benchmarks.chaos
