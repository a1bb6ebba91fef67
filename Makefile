# Every target sets up what it needs: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
RUN    := $(BIN)/python
FILES  := langchain_tokopt tests benchmarks compat

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo test lint type imports format docs notebooks bench compat clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and by its exact version: a range that another package asks for would bring another build.
$(VENV)/demo: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -c constraints.txt -e ".[offline]"
	@touch $@

$(VENV)/dev: $(VENV)/demo
	$(PIP) install -c constraints.txt -e ".[offline,onnx-export,postgres,redis,otel,test,compat,docs,notebooks,bench,lint]"
	@touch $@

demo: $(VENV)/demo  ## an agent at work, bare and optimised: what it cost and whether the answers are the same
	$(BIN)/tokopt demo $(ARGS)

# A process for each core; `make test ARGS="-n 0"` has but one.
test: $(VENV)/dev  ## every test
	$(RUN) -m pytest -n logical --dist worksteal $(ARGS)

lint: $(VENV)/dev  ## ruff, format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/dev  ## mypy --strict
	$(BIN)/mypy

imports: $(VENV)/dev  ## each module imports only from the floors below it
	$(BIN)/lint-imports

format: $(VENV)/dev  ## ruff, with its fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/dev  ## run every example of README and docs, then build the pages into site/
	$(RUN) -m pytest README.md docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/dev  ## run every notebook
	$(RUN) -m pytest notebooks

bench: $(VENV)/dev  ## the benchmarks on their own samples (see benchmarks/README.md for real data)
	$(RUN) -m benchmarks.cache_pairs --edits
	$(RUN) -m benchmarks.cache_stream --data notebooks/stream.jsonl
	$(RUN) -m benchmarks.cache_speed --entries 1000 --calls 200
	$(RUN) -m benchmarks.cache_eviction --requests 20000 --seeds 1
	$(RUN) -m benchmarks.cache_prediction --requests 5000
	$(RUN) -m benchmarks.cache_hammer --seconds 10
	$(RUN) -m benchmarks.tools --feedback 4 --sizes 100 1000 --regimes 15 60 --threads 2
	$(RUN) -m benchmarks.history
	$(RUN) -m benchmarks.documents
	$(RUN) -m benchmarks.agent_runs
	$(RUN) -m benchmarks.importance
	$(RUN) -m benchmarks.budget --shapes 1x1 2x8 --seconds 2
	$(RUN) -m benchmarks.budget_reserved
	$(RUN) -m benchmarks.budget_forecast --series 3
	$(RUN) -m benchmarks.telemetry --seconds 5 --events 20000
	$(RUN) -m benchmarks.dashboard --events 10000 --runs 3
	$(RUN) -m benchmarks.overhead $(ARGS)

compat: $(VENV)/dev  ## LangChain's own agent tests with the optimiser in every agent
	$(RUN) -m compat.run $(ARGS)

clean:  ## remove the virtual environment and what was built
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
