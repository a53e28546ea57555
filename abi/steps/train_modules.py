"""Step train_modules: modules trained natively (CE on domain train text), one per seed."""

from pathlib import Path

from abi.arms.gradient import FitData, train_native
from abi.base.files import sha256_tensors
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.modules import ModuleEntry, ModuleFacts, ModulesManifest
from abi.models.module import save_module
from abi.models.saved import read_head, read_states, shape
from abi.plan.specs.models import TrainModules as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it one module folder per seed."""
    states = read_states(inputs["train"], "train")
    data = FitData(states, read_head(inputs["head"], states))
    folder = Path(outputs["folder"])
    modules = [trained_of_seed(job.spec, data, seed, folder, job.scratch) for seed in job.spec.seeds]
    ModulesManifest(modules=modules, provenance=job.provenance(outputs)).write(outputs["manifest"])


def trained_of_seed(spec: Spec, data: FitData, seed: int, folder: Path, scratch: Path) -> ModuleEntry:
    """Train and save the module of a seed; return its entry of the manifest. Args: scratch: folder of checkpoints."""
    states, training = data.states, spec.module.training
    module, trained = train_native(
        shape(spec.module, states),
        data,
        training,
        (states.manifest.base_model, spec.text, spec.role, spec.name, seed),
        scratch / f"{seed}.safetensors",
    )
    facts = ModuleFacts(**dict(states.manifest.base), name=spec.name, role=spec.role, text=spec.text, seed=seed)
    return ModuleEntry(
        seed=seed,
        folder=f"seed{seed}",
        sha256=save_module(module, folder / f"seed{seed}", facts),
        domain_sha256=sha256_tensors(module.domain_parameters()),
        steps=len(trained.losses),
        final_loss=trained.last_loss(),
        elapsed_s=round(trained.elapsed_s, 2),
        n_parameters=sum(p.numel() for p in module.parameters()),
    )
