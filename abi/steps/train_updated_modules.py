"""Step train_updated_modules: native modules (oracles), each beside its own seed's updated backbone."""

from collections.abc import Mapping
from pathlib import Path

from abi.arms.data import FitData
from abi.base.job import Job
from abi.base.manifests import ModulesManifest
from abi.models.saved import UpdatedBackbone, member, read_head, read_states
from abi.plan.specs.models import TrainUpdatedModules
from abi.steps.train_modules import train_native

Spec = TrainUpdatedModules


def run(job: Job[TrainUpdatedModules], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one module folder per seed, trained on the states of that seed's backbone."""
    modules, folder = [], Path(outputs["folder"])
    for seed in job.spec.seeds:
        states = read_states(member([inputs["states"]], seed, f"seed{seed}.train.json"), "train")
        data = FitData(states, read_head(UpdatedBackbone.of([inputs["updated"]], seed).head, states))
        modules.append(train_native(job.spec, data, seed, folder, job.scratch))
    ModulesManifest(modules=modules, provenance=job.provenance()).write(outputs["manifest"])
