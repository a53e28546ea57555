# The words of the README. `make reproduce` and `make test` set everything up themselves.
PYTHON ?= python3
SCALE ?= tiny
READY := .venv/.ready
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
# Jobs are forked from one process that has loaded torch (abi/base/warm.py).
export ABI_WARM ?= 1

.PHONY: reproduce reproduce-all test quick lint setup verify smoke lock docs clean

reproduce: $(READY)  ## environment + DAG: both headline claims, from text to verdict, and a readable summary
	@$(BIN)/abi status headline --scale $(SCALE) --mend
	$(BIN)/snakemake --config scale=$(SCALE) -- headline
	@cat results/$(SCALE)/headline.txt

reproduce-all: $(READY)  ## environment + the whole DAG: every claim in every regime, and the summary
	@$(BIN)/abi status --scale $(SCALE) --mend
	$(BIN)/snakemake --config scale=$(SCALE)
	@cat results/$(SCALE)/summary.txt

test: $(READY)  ## environment + lint + the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile -q tests/workflow tests/unit  # one worker per file: the DAG is built once
	$(MAKE) --no-print-directory lint

quick: $(READY)  ## the unit tests that neither run Snakemake nor sweep: about a minute on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not slow and not workflow" tests/unit

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/snakefmt --check workflow Snakefile && $(BIN)/snakemake --lint

setup: $(READY)

verify: $(READY)  ## the published record and the results here, judged by themselves, in about a second
	$(BIN)/abi verify

smoke: $(READY)  ## the whole DAG in some minutes; its verdicts mean nothing
	$(MAKE) --no-print-directory reproduce-all SCALE=smoke

$(READY): envs/requirements.lock envs/torch.txt pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "installing the pinned environment into .venv (about 900 MB, some minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q --use-pep517 --require-hashes --no-deps -r envs/requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -r envs/torch.txt
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q --no-deps -e .
	@touch $(READY)

lock:  ## new pins from envs/requirements.in
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -q pip-tools
	.venv-lock/bin/python envs/lock.py && rm -r .venv-lock

docs: $(READY)  ## write what documents quote from results/reference
	$(BIN)/abi docs

clean:  ## remove what the DAG made at SCALE
	rm -rf results/$(SCALE)

.DEFAULT: # any other word is a claim id
	@$(MAKE) --no-print-directory setup
	@$(BIN)/abi check --scale $(SCALE) --claim $@
	@$(BIN)/abi status $@ --scale $(SCALE) --mend
	$(BIN)/snakemake --config scale=$(SCALE) -- $@
