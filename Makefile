# make demo   watch a config that does not fit a GTX 1650 become one that does
# make test   all tests          make lint    style, types, layers, docs
# make truth  estimates against measured runs        make bench   speed
# make peers  the same runs through other estimators make docs    transcripts
# make formulas  FORMULAS.md from the simulator       make figures pictures, from real runs
PYTHON ?= python3
VENV ?= .venv
# The CPU build is enough: no test needs a GPU. Pinned, so that pip never resolves it on its own.
TORCH ?= torch==2.13.0
TRANSFORMERS ?= transformers>=5.23
PEFT ?= peft>=0.21
BITSANDBYTES ?= bitsandbytes>=0.50
WORKERS ?= 2

BIN := $(VENV)/bin

.PHONY: demo test lint truth peers bench docs figures formulas index clean

demo: $(VENV)/.installed
	@PATH="$(abspath $(BIN)):$$PATH" sh examples/demo.sh

test: $(VENV)/.torch
	$(BIN)/python -m pytest -n $(WORKERS) -q

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m memplan.profiles --check
	$(BIN)/python examples/transcripts.py --check
	$(BIN)/python docs/formulas.py --check

truth: $(VENV)/.installed
	$(BIN)/python benchmarks/truth.py

# Installs other projects' tools from PyPI, below the user's cache folder.
peers: $(VENV)/.installed
	$(BIN)/python benchmarks/peers.py

bench: $(VENV)/.torch
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/oracle.py
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/fit.py

docs: $(VENV)/.torch
	$(BIN)/python examples/transcripts.py --update

figures: $(VENV)/.torch
	$(BIN)/python -m docs.figures.episodic_memory
	$(BIN)/python -m docs.figures.neurogen
	$(BIN)/python -m docs.figures.buffer_preallocation
	$(BIN)/python -m docs.figures.large_context_ram
	$(BIN)/python -m docs.figures.large_context_checkpoints
	$(BIN)/memplan sweep examples/equilibrium-propagation --set batch=32 --over depth=100,500,1000,2000,5000,10000 \
		--over method=manual,autograd --measure --component activations --out docs/figures/equilibrium-transient.svg
	$(BIN)/memplan sweep examples/equilibrium-propagation --set batch=256 --over depth=100,200,500,1000,2000 \
		--over method=manual,autograd,backprop,checkpointed --measure --out docs/figures/equilibrium-totals.svg

formulas: $(VENV)/.installed
	$(BIN)/python docs/formulas.py --update

index: $(VENV)/.installed
	$(BIN)/python -m memplan.profiles --index

clean:
	rm -rf $(VENV) build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --editable .
	$(BIN)/python -m compileall -qq memplan
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --editable ".[dev]"
	@touch $@

$(VENV)/.torch: $(VENV)/.dev
	$(BIN)/python -m pip install -qq "$(TORCH)"
	$(BIN)/python -m pip install -qq "$(TORCH)" "$(TRANSFORMERS)" "$(PEFT)" "$(BITSANDBYTES)"
	@touch $@
