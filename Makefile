# Two commands do all the set-up on a machine that has Python >= 3.11 and make:
#   make demo    the main job on built-in phantom radiographs
#   make test    every check: format, lint, types, import contract, tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/pneumoseg demo -o demo --overwrite

test: $(VENV)/.installed-test check
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable '.[test]' --constraint constraints.txt
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo runs build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
