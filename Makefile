# `make demo`: a trial on real data, from nothing.  `make test`: all tests, from nothing.  `make lint`: lint, format, types.
# `make docs`: the documentation site, into `site`.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/demo
BIN := $(VENV)/bin
JOBS ?= $(shell $(PYTHON) -c "import os; print(min(8, max(2, os.cpu_count() or 2)))")

# Small networks on few cores run faster on one thread each than when threads wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint format docs evidence flatness fidelity search variants speed reading retuning validation operation confidence robustness clean

demo: $(VENV)/.trial
	@echo "39 training runs on real digits with 40% wrong labels, in $(JOBS) processes: about 40 seconds on 2 free cores"
	$(BIN)/letsam trial digits --label-noise 0.4 --jobs $(JOBS) --out $(OUT) --resume
	@echo "open it in a browser: file://$(abspath $(OUT))/report.html"

test: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev
	$(BIN)/python tools/build_site.py

# The results are in the repository: these measure them again. `.dev` holds what they need.
evidence variants: $(VENV)/.dev
	$(BIN)/python -m benchmarks.$@ run
	$(BIN)/python -m benchmarks.$@ table

flatness fidelity search speed reading retuning validation operation confidence robustness: $(VENV)/.dev
	$(BIN)/python -m benchmarks.$@ run --again
	$(BIN)/python -m benchmarks.$@ table

# tools/install.py says what it installs, and how long that takes.
$(VENV)/.trial: pyproject.toml constraints.txt tools/install.py
	@$(PYTHON) tools/install.py $(VENV) --extras trial
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt tools/install.py
	@$(PYTHON) tools/install.py $(VENV) --groups evidence dev
	@touch $@

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache
