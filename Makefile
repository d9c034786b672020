# Every target works on a fresh clone: it makes .venv, installs Octavo with everything optional, and runs.
# Another interpreter: make test PYTHON=python3.13      More arguments: make test ARGS="-k filters -x"

PYTHON ?= python3
VENV ?= .venv
MILLION ?= million
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.release
# The million has a target of its own: it takes hours, and rivals to compare with.
# Those that need no arguments.
BENCHMARKS ?= $(filter-out benchmarks/bench_million.py,$(sort $(shell grep -LE 'required=True|add_argument."[a-z]' benchmarks/bench_*.py)))

# Tests, demo and benchmarks bring their model with them; nothing has to be asked of a model hub.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs package lowest dspy licences notebooks bench million clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED) ## Index and search a real corpus offline, compressed and uncompressed, and survive a kill
	$(BIN)/octavo demo $(ARGS)

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest $(ARGS)

lint: $(INSTALLED) ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs ## Build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: $(INSTALLED) ## Run the notebooks of docs/notebooks top to bottom, and keep what they show
	$(BIN)/python docs/notebooks/run.py $(ARGS)

package: $(TOOLS) ## Build what would be published, and try it as a stranger would
	$(BIN)/python release/check.py

lowest: $(TOOLS) ## Run the unit tests with the oldest versions that pyproject.toml admits
	$(BIN)/python release/lowest.py $(ARGS)

dspy: $(TOOLS) ## Run the tests of the DSPy adapter, in an environment of their own
	$(BIN)/python release/dspy_tests.py $(ARGS)

licences: $(TOOLS) ## Write docs/licences.md: what Octavo and its extras bring, and under which licence
	$(BIN)/python release/licences.py

bench: $(INSTALLED) ## Run the benchmarks that need no arguments, or BENCHMARKS=benchmarks/bench_cells.py with ARGS
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

million: $(INSTALLED) ## A million documents beside rivals (docs/benchmarks.md says which to install); MILLION=folder for its files
	$(BIN)/python benchmarks/corpora.py --data ../shared/data --out $(MILLION)/embeddings
	@set -e; E="--embeddings $(MILLION)/embeddings"; for part in "$$E" "$$E --growth 10000,100000,1000000,3000000" \
	  "$$E --documents 100000" "$$E --documents 100000 --insertion random,clustered,lid,lid-up" "--documents 200000 --dim 1024"; do \
	  $(BIN)/python benchmarks/bench_million.py --work $(MILLION) $$part $(ARGS); done

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

# The stamp is written last, so that an interrupted installation is taken up again. pip first: dependency groups need 25.1.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes, most of it PyTorch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

$(TOOLS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --group release
	@touch $@

$(VENV)/.docs: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	@touch $@
