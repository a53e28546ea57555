"""Step train_modules: modules trained natively (CE on domain train text), one per seed."""

from pathlib import Path

from abi.arms.gradient import FitData
from abi.arms.native import trained_of_seed
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.modules import ModulesManifest
from abi.models.saved import read_head, read_states
from abi.plan.specs.models import TrainModules as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it one module folder per seed."""
    states = read_states(inputs["train"], "train")
    data = FitData(states, read_head(inputs["head"], states))
    folder = Path(outputs["folder"])
    modules = [trained_of_seed(job.spec, data, seed, folder, job.scratch) for seed in job.spec.seeds]
    ModulesManifest(modules=modules, provenance=job.provenance(outputs)).write(outputs["manifest"])
