# make demo   sets up and runs the main job on the example that ships with the project
# make test   sets up and runs lint, types and tests
#
# Both set up .venv once and again only when pyproject.toml changes. Name another interpreter with
# make demo PYTHON=/path/to/python3.11

PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

.PHONY: demo test clean

demo: $(VENV)/installed
	$(BIN)/mvai demo -o $(OUT)

test: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/pytest

$(VENV)/installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "mvai needs Python 3.11 or 3.12 and none was found; install \
	one, or name it: make demo PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV): a few minutes, once."
	@$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) out build dist
