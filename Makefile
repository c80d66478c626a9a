# The commands of this project. `make up` needs Python 3.11 or newer (with venv) and nothing else.
SHELL := /bin/sh
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo ok),$(name))))
BIN := .venv/bin
RUN_SET := .venv/.installed-run
DEV_SET := .venv/.installed-dev

# Container images often set it. Without kept bytecode every process compiles the product anew: a start takes 2.5 s longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up test test-postgres check bench screenshots lock clean

up: $(RUN_SET)
	@exec $(BIN)/python manage.py up

test: $(DEV_SET)
	$(BIN)/python -m pytest $(ARGS)
	$(BIN)/python -m tests.on_postgres $(ARGS)

check: $(DEV_SET)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py check_config
	$(BIN)/djlint --check --lint --quiet templates
	@echo "All checks passed."

bench: $(DEV_SET)
	$(BIN)/python -m tests.bench $(ARGS)

screenshots: $(DEV_SET)
	$(BIN)/python -m tests.browser.screenshots

# Pins the whole tree; the running set first, the development set on top of it.
lock: $(DEV_SET)
	$(BIN)/uv pip compile -q pyproject.toml -o requirements.txt --python-version 3.11 --no-header --universal
	$(BIN)/uv pip compile -q pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt --python-version 3.11 --no-header --universal

clean:
	rm -rf .venv var

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "AICleaner Performance needs Python 3.11 or newer; none was found. Install it, or name it: make up PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "AICleaner Performance needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(RUN_SET): requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -qq -r requirements.txt
	@touch $@

$(DEV_SET): requirements-dev.txt $(RUN_SET)
	$(BIN)/python -m pip install --disable-pip-version-check -qq -r requirements-dev.txt
	@touch $@
