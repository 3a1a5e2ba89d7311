# Each target sets up what it needs: a virtual environment in .venv, with the versions of constraints.txt.
# A second call does not install again.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

LESSONS := $(patsubst lessons/%/lesson.toml,%,$(wildcard lessons/*/lesson.toml))

# Tiny networks train several times faster on one thread than on two that wait for each other.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-gpu verify lint bench clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(STAMP) ## Install everything into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"coursekit needs Python 3.11 or newer. Got {v[0]}.{v[1]}. Fix: make setup PYTHON=python3.12")'
	@echo "Setting up $(VENV) (PyTorch and its friends are about 2 GB to download; this happens once) ..."
	@if command -v uv >/dev/null 2>&1; then \
	   test -x $(BIN)/python || uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV); \
	   uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev; \
	 else \
	   test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	   $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev; \
	 fi
	@touch $@
	@echo "Done. The program is $(BIN)/coursekit; 'source $(BIN)/activate' puts it on your path."

run: $(STAMP) ## Run lesson 1 (optimization) on the embedded digits, and write a report
	$(BIN)/coursekit run optimization --quick --check

test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest

test-slow: $(STAMP) ## Run the slow tests: every claim of every lesson, over its seeds
	$(BIN)/python -m pytest -m slow --timeout 3600

test-gpu: $(STAMP) ## Run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu --timeout 3600

verify: $(LESSONS:%=verify-%) ## Prove every lesson's checks: known answers and machine-made mutants (-j2: two at a time)

verify-%: $(STAMP)
	$(BIN)/coursekit verify $*

lint: $(STAMP) ## Check style (ruff), types (pyright) and who imports whom (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .bench-venv/.installed ## Measure training, grading and the lessons' fast paths against their peers
	.bench-venv/bin/python benchmarks/training_step.py mlp
	.bench-venv/bin/python benchmarks/training_step.py cnn
	.bench-venv/bin/python benchmarks/grading.py
	.bench-venv/bin/python benchmarks/class_of_200.py
	.bench-venv/bin/python benchmarks/regularization.py
	.bench-venv/bin/python benchmarks/attention.py
	.bench-venv/bin/python benchmarks/attribution.py
	.bench-venv/bin/python benchmarks/gans.py --width 32
	.bench-venv/bin/python benchmarks/gans.py --width 64
	.bench-venv/bin/python benchmarks/dqn.py speed
	.bench-venv/bin/python benchmarks/dqn.py solve

# The other trainers live in an environment of their own.
.bench-venv/.installed: $(STAMP) benchmarks/requirements.txt
	@echo "Setting up .bench-venv ..."
	@PATH="$(BIN):$$PATH"; test -x .bench-venv/bin/python || uv venv --quiet --python $(BIN)/python .bench-venv
	@PATH="$(BIN):$$PATH"; uv pip install --quiet --python .bench-venv/bin/python --constraint constraints.txt --editable . -r benchmarks/requirements.txt
	@touch $@

clean: ## Delete the virtual environment, caches and runs
	rm -rf $(VENV) .bench-venv runs .pytest_cache .ruff_cache .hypothesis
