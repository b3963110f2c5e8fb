# Everything happens in .venv, which is made once and again only when pyproject.toml or constraints.txt change.
#
#   make demo DEMO=--quick     passes options on to `landscape demo`
#   make test TESTS=tests/docs WORKERS=4
#   make demo PYTHON=python3.13
#   make bench-spectra CIFAR=cifar10-5k.npz   (x_train, y_train in uint8; without it, scikit-learn's digits)

PYTHON  ?= python3
WORKERS ?= 2
TESTS   ?= tests
DEMO    ?=
OUT     ?= runs/demo
CIFAR   ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
PINS := pyproject.toml constraints.txt

PYTEST := $(BIN)/python -m pytest
BENCH  := $(PYTEST) -m "" -W default -s -q

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs bench bench-products bench-spectra bench-minima clean

help: ## say what there is
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.base ## train a small network, watch it, draw its landscape: runs/demo/report.html
	$(BIN)/landscape demo --out $(OUT) $(DEMO)

test: $(VENV)/.base ## the whole default test suite (minutes)
	$(PYTEST) -n $(WORKERS) $(TESTS)

test-slow: $(VENV)/.base ## the tests that take long
	$(PYTEST) -n $(WORKERS) -m slow $(TESTS)

check: $(VENV)/.check ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.docs ## build the documentation strictly into docs/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/mkdocs.yml

bench: $(VENV)/.base ## time the engine beside other libraries; prints tables
	$(BENCH) tests/benchmarks/bench_curvature.py

bench-products: $(VENV)/.base ## time and memory of one product, in gradients, beside other libraries
	$(BENCH) tests/benchmarks/bench_products.py tests/benchmarks/bench_large.py

bench-spectra: $(VENV)/.base ## eigenpairs, traces and densities of trained networks, beside other libraries
	CIFAR="$(CIFAR)" $(BENCH) tests/benchmarks/bench_spectra_*.py

bench-minima: $(VENV)/.base ## spectra of minima found with small and with large batches
	CIFAR="$(CIFAR)" $(BENCH) tests/benchmarks/bench_minima.py

clean: ## remove .venv and everything that was built; runs/ stays
	rm -rf $(VENV) build dist docs/site .pytest_cache .mypy_cache .ruff_cache
	find landscape cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) on this machine; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1); name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "$(PYTHON) could not make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; }

$(VENV)/.base: $(PINS) | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV) (about 1.6 GB; a minute or two on a fast line)"
	$(PIP) -e ".[demo,test]"
	@touch $@

$(VENV)/.check: $(VENV)/.base
	$(PIP) -e ".[check]"
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(PIP) -e ".[docs]"
	@touch $@
