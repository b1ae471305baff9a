# The verbs of the project. `make` alone explains them; every verb does its own set-up first.
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check format bench load compose-chaos reliability docs clean
BIN := .venv/bin
ARGS ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  then: .venv/bin/shortlist --help"

setup:  ## make .venv from the locks (uv if it is there, else pip; TORCH=cpu|cuda)
	@infra/setup.sh

demo: setup  ## the whole line on a simulated shop: data to drift-triggered retraining, then the page
	@$(BIN)/shortlist demo $(ARGS)

serve: setup  ## the API and the page on loopback (after `make demo` or `shortlist run`)
	@$(BIN)/shortlist serve $(ARGS)

test: setup  ## all tests of the default run, on two processes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(ARGS)

check: setup  ## format, lint, types, import layers, generated pages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m docs.collect --check
	@$(BIN)/python -m pipelines.experiments.board --check
	@$(BIN)/python -m docs.world_card --check
	@$(BIN)/python -m docs.feature_table --check

format: setup  ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup  ## stage times of the current bundle, fast way beside plain way
	@$(BIN)/shortlist bench $(ARGS)

load: setup  ## open-loop load on a stack of its own: latency, time by stage, CPU by request
	@$(BIN)/shortlist load $(ARGS)

compose-chaos: setup  ## kill the parts of the running compose stack while it is used (after docker compose up)
	@$(BIN)/python -m tests.chaos.compose $(ARGS)

reliability: setup  ## drills with figures to reach: kills, poison, lost stores and records, clocks (ARGS="--only C6")
	@$(BIN)/python -W ignore -m tests.reliability $(ARGS)

docs: setup  ## regenerate docs/interview.md, the experiments' board, the figures and the screenshot
	@$(BIN)/python -m docs.collect
	@$(BIN)/python -m pipelines.experiments.board
	@$(BIN)/python -m docs.world_card
	@$(BIN)/python -m docs.feature_table
	@$(BIN)/python -m docs.figures

clean:  ## remove all state (var/) and caches; .venv stays
	@rm -rf var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
