"""Step train_updated_modules: native modules (oracles), each beside its own seed's updated backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.arms.data import FitData
from abi.base.files import write_json
from abi.base.job import Job
from abi.models.saved import UpdatedBackbone, member, read_head, read_states
from abi.steps.train_modules import train_native


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one module folder per seed, trained on the states of that seed's backbone."""
    modules = []
    for seed in job.spec["seeds"]:
        states = read_states(member([inputs["states"]], seed, f"seed{seed}.train.json"), "train")
        data = FitData(states, read_head(UpdatedBackbone.of([inputs["updated"]], seed).head, states))
        modules.append(train_native(job, data, seed, Path(outputs["folder"])))
    write_json(outputs["manifest"], "modules", {"modules": modules, "provenance": job.provenance()})
