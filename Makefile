# Two commands do all the set-up: `make demo` and `make test`. Both make and use .venv.
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed

.PHONY: demo test check lint types layers focus live clean

demo: $(STAMP)
	$(PY) -m orchestrator demo

test: $(STAMP)
	$(PY) -m pytest

check: lint types layers test

lint: $(STAMP)
	.venv/bin/ruff check .

types: $(STAMP)
	.venv/bin/mypy

layers: $(STAMP)
	.venv/bin/lint-imports

# The FOCUS file of 1.0 by the specification's own validator, which can't be installed beside this package.
focus: $(STAMP) .venv-focus/.installed
	FOCUS_VALIDATOR=.venv-focus/bin/focus-validator $(PY) -m pytest tests/test_focus.py

.venv-focus/.installed: requirements/focus.txt
	$(PYTHON) -m venv .venv-focus
	.venv-focus/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/focus.txt
	touch .venv-focus/.installed

live: $(STAMP)
	bash .ci/vllm.sh
	$(PY) -m pytest -m live tests/live

$(STAMP): pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint requirements/dev.txt --editable '.[embedded,quality,finance,telemetry,dev]'
	touch $(STAMP)

clean:
	rm -rf .venv .venv-vllm .venv-focus
