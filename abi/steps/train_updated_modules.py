"""Step train_updated_modules: native modules, each beside its own seed's updated backbone."""

from pathlib import Path

from abi.arms.gradient import FitData
from abi.arms.native import trained_of_seed
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.modules import ModulesManifest
from abi.models.saved import UpdatedBackbone, member, read_head, read_states
from abi.plan.specs.models import TrainUpdatedModules as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it one module folder per seed, trained on the states of that seed's backbone."""
    modules, folder = [], Path(outputs["folder"])
    for seed in job.spec.seeds:
        states = read_states(member([inputs["states"]], seed, f"seed{seed}.train.json"), "train")
        data = FitData(states, read_head(UpdatedBackbone.of([inputs["updated"]], seed).head, states))
        modules.append(trained_of_seed(job.spec, data, seed, folder, job.scratch))
    ModulesManifest(modules=modules, provenance=job.provenance(outputs)).write(outputs["manifest"])
