"""Configuration, digests and paths that all rules share."""

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(ROOT))

from abi.base import planned, recovery, warm
from abi.base.digest import code_digest, remember
from abi.base.errors import AbiError, ConfigError
from abi.base.files import require_folder, sha256_file
from abi.base.job import code_of, noted_code, share_paths, software_of
from abi.base.names import PAGES
from abi.plan.config import load, targets_of, workflow_config
from abi.plan.workflow import Workflow

share_paths(ROOT)
remember(Path(".snakemake") / "abi")
if sys.executable != shlex.quote(sys.executable):
    # Snakemake hands the interpreter's path to a shell as it stands. Jobs start in this folder.
    sys.executable = os.path.relpath(sys.executable)

try:
    if sys.executable != shlex.quote(sys.executable):
        raise ConfigError(
            f"{sys.executable}: Snakemake starts no job with an interpreter whose path needs quotes; put the "
            "environment into this folder or into one without spaces"
        )
    WORKFLOW = Workflow(load(workflow_config(config), ROOT))
    # The main process knows what is asked for; a job of it was admitted with it, and with its code and configuration.
    if workflow.is_main_process:
        planned.begin(ROOT)
        WORKFLOW.config.require_pinned(targets_of(sys.argv))
        WORKFLOW.config.require_inputs(targets_of(sys.argv))
    else:
        planned.check_config(ROOT)
    require_folder(WORKFLOW.results)
except AbiError as error:
    for sentence in str(error).splitlines():
        print(f"abi: {sentence}", file=sys.stderr)
    raise SystemExit(2)


pathvars:
    results=f"results/{WORKFLOW.config.name}",
    logs=f"results/{WORKFLOW.config.name}/logs",
    benchmarks=f"results/{WORKFLOW.config.name}/benchmarks",


wildcard_constraints:
    text="[a-z][a-z0-9_]*",
    backbone="[a-z][a-z0-9_]*",
    shape="[a-z][a-z0-9_]*",
    role="source|oracle|reference|home",
    lineage="[a-z][a-z0-9_]*",
    stage=r"(held|free)\.\d+",
    claim="[a-z][a-z0-9_]*",
    batch=r"\d+-\d+",
    result="[a-z0-9_]+",


def code(rule, spec=None):
    """Return the digest of all code that a job runs, what its spec names included."""
    digest = noted_code if workflow.is_main_process else code_of
    return digest(rule, spec or {}, ROOT)


def one_of(names):
    """Return a wildcard constraint: one of some names, or nothing where there is none."""
    return "|".join(names) or "(?!)"


def results_of(claims):
    """Return a wildcard constraint: the stems of the result files of some claims."""
    return one_of(Path(path).stem for path in WORKFLOW.result_files(claims))


def resource(rule, key):
    """Return a resource of a rule at this scale."""
    return getattr(WORKFLOW.scale.jobs.of(rule), key)


def resources_of(rule, *keys, of=None):
    """Return several of them by name; of memory and time as much again at every further attempt.

    Args: of: the wildcard that names a backbone; memory is at least what loading it takes, where its sizes are pinned.
    """
    found = {
        key: per_attempt(key, resource(rule, key), of) for key in keys if key != "gpu"
    }
    if "gpu" in keys:
        found["gpu"] = resource(rule, "gpu")
        # A resource, since a job does not run again where one changes: figures of two devices are equivalent.
        found["device"] = WORKFLOW.scale.compute.of(rule).device
    return found


def per_attempt(key, amount, of=None):
    """Return a resource of which a job gets more whenever it is tried again: on a cluster alone."""

    def asked(wildcards, attempt):
        loads = of is not None and key == "mem_mb"
        least = WORKFLOW.memory_mb(getattr(wildcards, of)) if loads else 0
        return WORKFLOW.scale.jobs.growing(key, amount, attempt, least=least)

    return asked


def documents():
    """Return the documents that the report quotes, those that this checkout has."""
    names = ("docs/architecture.md", "docs/deviations.md", "CITATION.cff")
    return [os.path.relpath(ROOT / name) for name in names if (ROOT / name).exists()]
