# make demo   set up, then train and evaluate a tiny model on the built-in text (no GPU, no network but for the packages)
# make coverage   the tests, with the lines and branches that they do not reach
# make docs   write the tables of the docs anew: keys from the fields of the configuration, dependencies from the environment
# make site   the documentation as pages in site/, built strictly (no torch needed)
# make test   set up, then check and test everything that runs on two cores in minutes
#
# CONSTRAINTS=oldest and CONSTRAINTS=newest take the ends of the range of versions, in environments of their own.
PYTHON ?= python3
CONSTRAINTS ?= pinned
VENV ?= .venv$(if $(filter pinned,$(CONSTRAINTS)),,-$(CONSTRAINTS))
BIN := $(VENV)/bin
PINS := constraints/$(CONSTRAINTS).txt
TORCH_VERSION := $(shell sed -n 's/^torch==//p' $(PINS))

.PHONY: demo docs site test check tests coverage slow survival format clean

demo: $(VENV)/.demo
	$(BIN)/lmtune train

docs: $(VENV)/.dev
	$(BIN)/python -m lmtune.cli.reference docs/configuration.md docs/coming-from.md
	$(BIN)/python docs/tools/dependencies.py docs/dependencies.md

site: .venv-docs/.done
	.venv-docs/bin/mkdocs build --strict

# The checks read the libraries' types, which are those of the pinned versions.
test: $(if $(filter pinned,$(CONSTRAINTS)),check) tests

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes with a thread each; of several threads, those of one process would wait for those of the other.
tests: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Half as slow again; what child processes run is not counted.
coverage: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --cov=lmtune --cov-branch --cov-report=term:skip-covered

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow"

# make survival N=200   kill trainings N times at random instants and count what survives
survival: $(VENV)/.dev
	$(BIN)/python tests/survival/killing.py --kills $(or $(N),200)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-docs site build dist .pytest_cache .mypy_cache .ruff_cache

# torch goes first and by its exact version: a later step that found none would take the newest build there is.
$(VENV)/.torch: $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==$(TORCH_VERSION)"
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --constraint $(PINS) --editable .
	touch $@

# The extra `docs` alone, without lmtune: the pages are built from text.
.venv-docs/.done: constraints/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement constraints/docs.txt
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint $(PINS) --editable ".[audit,dev,export,lora,serve]"
	touch $@
