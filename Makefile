# `make` lists the targets. The environment is a file that make knows: it is built when it is
# missing, or when pyproject.toml or its lock has changed, and otherwise left alone.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
TORCH_LOWEST ?= torch==2.7.0

VENV := .venv
LOCK := requirements-lock.txt
BIN  := $(VENV)/bin
ENV  := $(VENV)/.installed
QUICK := store devices recurrence mean_attention features* metrics corpus fusion model train sweep cli pipeline plots book stats*

.DEFAULT_GOAL := help
.PHONY: help study book test test-all test-lowest quick lab refresh wheel clean

help: ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer), TORCH=$(TORCH); pip reads its own PIP_*."

study: $(ENV) ## the quick study: notebooks, figures and the verdict table
	@$(BIN)/mmer study

book: $(ENV) ## the study as a book to read in a browser: runs/quick/book/index.html
	@$(BIN)/mmer study
	@echo "The book: runs/quick/book/index.html"

test: $(ENV) ## everything that is checked: lint, types, tests, notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

test-all: $(ENV) ## the same with the slow tests
	$(MAKE) test
	$(BIN)/pytest -m slow

test-lowest: ## the quick tests with the oldest versions that are admitted, in .venv-lowest
	$(MAKE) quick VENV=.venv-lowest LOCK=requirements-lowest.txt TORCH=$(TORCH_LOWEST)

quick: $(ENV)
	$(BIN)/pytest -m "not slow" $(wildcard $(QUICK:%=tests/test_%.py))
	$(BIN)/mmer study --profile ci --out runs/lowest

wheel: $(ENV) ## what is published, in dist/: a wheel with the notebooks, and the sources
	$(BIN)/python -c "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"

# For this machine alone: other machines cannot reach it, and other users lack the token in the
# address that it prints. Notebooks run code, so that whoever reaches JupyterLab is the user.
lab: $(ENV) ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks --ip=127.0.0.1

refresh: $(ENV) ## run the quick study and write its outputs back into notebooks/
	@$(BIN)/ruff format --quiet notebooks
	@$(BIN)/mmer study --refresh

clean: ## remove the environment, the runs and every cache
	rm -rf .venv .venv-lowest runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ENV): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is not Python 3.11 or newer: name one that is, e.g. make study PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "Building the environment in $(VENV): a few minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet $(TORCH) -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@
