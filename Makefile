# The two commands are `make run` and `make test`; `make help` lists the rest.
# Settings: PYTHON=python3.12 (which interpreter makes the environment), VENV=.venv, JOBS=2 (test processes).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV ?= .venv
JOBS ?= 2
OUT ?= runs/quickstart
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

# An install is redone when what it was made from has changed, and only then: the stamp carries a checksum.
SUM := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.installed-base-$(SUM)
DEV := $(VENV)/.installed-dev-$(SUM)

# The first of these that runs, is new enough and can make environments is taken: names alone do not tell.
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3 python)

# The tests and the workers use processes; threads inside them would only compete for the same cores.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# Where Python may keep no byte code, each of the hundreds of commands that tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test slow gpu flower laws lint format docs bench install dev clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: $(BASE) ## environment, install, quick start: FedAvg beside FedSep on real data
	$(BIN)/fedsep run --out $(OUT) --overwrite

test: $(DEV) ## environment if missing, then the tests
	$(THREADS) $(PY) -m pytest -q -n $(JOBS) --dist worksteal

slow: $(DEV) ## the tests that take longer
	$(THREADS) $(PY) -m pytest -q -n $(JOBS) --dist worksteal -m "slow and not gpu and not flower" || [ $$? -eq 5 ]  # 5: there are none

gpu: $(DEV) ## the tests that need a CUDA device
	$(PY) -m pytest -q -m gpu

flower: $(DEV) ## sites over the loopback interface, with certificates: some minutes
	$(THREADS) $(PY) -m pytest -q -m flower || [ $$? -eq 5 ]  # 5: Flower is not installed

laws: $(DEV) ## only the laws that every method must keep
	$(THREADS) $(PY) -m pytest -q -n $(JOBS) --dist worksteal tests/laws

lint: $(DEV) ## style, formatting, types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

format: $(DEV) ## rewrites the code in the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(DEV) ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "site/index.html"

bench: $(DEV) ## speed, scale, memory and faults: records and docs/results (an hour or so)
	$(PY) -m benchmarks.rounds --out records/rounds.json
	$(PY) -m benchmarks.speed --rounds 10 --out records/speed.json
	$(PY) -m benchmarks.speed --rounds 10 --out records/speed_bfloat16.json bfloat16
	$(PY) -m benchmarks.steps --out records/steps.json
	$(PY) -m benchmarks.draws --out records/draws.json
	$(PY) -m benchmarks.scale --out records/scale.json
	$(PY) -m benchmarks.told --out records/memory.json
	$(PY) -m benchmarks.faults --out records/faults.json
	$(PY) -m benchmarks.tables

install: $(BASE) ## the environment for `fedsep`

dev: $(DEV) ## the environment with what the tests, lint and docs need

clean: ## removes what builds and tests leave behind; keeps the environment and the runs
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## removes the environment too
	rm -rf $(VENV)

define install
	@$(PIP) --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	@echo "Installing into $(VENV), some minutes the first time"
	$(PIP) install -q $(TORCH) -c constraints.txt
	$(PIP) install -q -e "$(1)" -c constraints.txt
	@rm -f $(VENV)/.installed-*
endef

$(BASE): | $(PY)
	$(call install,.)
	@touch $@

$(DEV): | $(PY)
	$(call install,.[dev])
	@touch $(BASE) $@

$(PY):
	@for python in $(CANDIDATES); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$("$$python" --version), $$(command -v "$$python")"; \
	    "$$python" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	  fi; \
	done; \
	echo "No Python 3.11 or newer that can make environments among: $(CANDIDATES)" >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)" >&2; \
	echo "or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	exit 1
