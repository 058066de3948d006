# The commands of tracetune. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
# Usage telemetry of Kedro and of the training libraries is off.
export DO_NOT_TRACK := 1
export KEDRO_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help install dev dpo test lint viz phoenix notebook clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tracetune needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing tracetune into $(VENV) (about a minute) ..."
	@$(PIP) --editable ".[gguf,viz]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the tools for tests into $(VENV) ..."
	@$(PIP) --editable ".[dev]"
	@touch $@

install: $(VENV)/.installed  ## Build .venv with tracetune in it

dev: $(VENV)/.installed-dev  ## Build .venv with tests, linters and notebooks too

dpo: $(VENV)/.installed  ## Telemetry -> SFT -> DPO -> verdict, on the embedded defaults
	@$(BIN)/kedro run --pipeline=dpo

test: $(VENV)/.installed-dev  ## Run all tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev  ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

viz: $(VENV)/.installed  ## Look at the pipelines, rows and figures in kedro-viz
	@$(BIN)/kedro viz run

phoenix: $(VENV)/.installed  ## Start a local Phoenix server that holds the sample telemetry
	@$(BIN)/python tools/phoenix.py --venv .venv-phoenix --port 6006

notebook: $(VENV)/.installed-dev  ## Run the notebooks from start to end
	@$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

clean:  ## Remove what runs produced (not the raw data, not .venv)
	@rm -rf data/02_intermediate data/03_primary data/04_feature data/05_model_input data/06_models \
		data/07_model_output data/08_reporting data/locks .viz
