# The two commands of the README are `make demo` and `make test`; everything lands in .venv* and build/, which git ignores.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Random signatures in the oracle test of the main interpreter.
SIGNATURES ?= 10000

.PHONY: demo test check lint unit everywhere golden bench clean

demo: $(VENV)/installed
	$(BIN)/callgate demo

test: $(VENV)/installed-for-tests
	$(MAKE) check
	$(MAKE) everywhere

check: lint unit

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/installed-for-tests
	CALLGATE_SIGNATURES=$(SIGNATURES) $(BIN)/python -m pytest -q --junitxml=build/results-main.xml

# The live suite on every other CPython that is found (scripts/interpreters tells which), and on scripts/test-machines.
everywhere: $(VENV)/installed-for-tests
	PYTHON=$(BIN)/python scripts/test-everywhere

# Write the golden listings anew; review the difference as text.
golden: $(VENV)/installed-for-tests
	CALLGATE_UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/golden

bench: $(VENV)/installed-for-tests
	$(BIN)/callgate bench

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(PIP) install -e .
	touch $@

$(VENV)/installed-for-tests: $(VENV)/bin/python pyproject.toml
	$(PIP) install -e '.[test,check]'
	touch $(VENV)/installed $@

clean:
	rm -rf .venv* build .cache
