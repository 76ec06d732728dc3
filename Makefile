# Every target makes its own .venv first when there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check format bench soak clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("PlantFed needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,check,bench]'
	touch $@

demo: $(STAMP)
	$(BIN)/plantfed demo $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m 'not soak' $(TEST)

soak: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m soak --timeout 7200 $(TEST)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy shared coordinator edge_agent broker_config lab benchmarks
	$(BIN)/python -m pytest -q tests/rules

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info plantfed-demo
