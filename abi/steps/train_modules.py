"""Step train_modules: modules trained natively (CE on domain train text), one per seed."""

from collections.abc import Mapping
from pathlib import Path

from abi.arms.data import Batch, FitData, Objective
from abi.arms.gradient import ToFit, fit_gradients
from abi.base.job import Job
from abi.base.manifests import ModuleEntry, ModuleFacts, ModulesManifest
from abi.base.seeds import derive_seed
from abi.models.loop import Schedule
from abi.models.module import AbiModule, save_module
from abi.models.saved import read_head, read_states, shape
from abi.plan.specs.models import TrainModules

Spec = TrainModules


def run(job: Job[TrainModules], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one module folder per seed."""
    states = read_states(inputs["train"], "train")
    data = FitData(states, read_head(inputs["head"], states))
    folder = Path(outputs["folder"])
    modules = [train_native(job.spec, data, seed, folder, job.scratch) for seed in job.spec.seeds]
    ModulesManifest(modules=modules, provenance=job.provenance()).write(outputs["manifest"])


def train_native(spec: TrainModules, data: FitData, seed: int, folder: Path, scratch: Path) -> ModuleEntry:
    """Train and save the module of a seed; return its entry of the manifest. Args: scratch: folder of checkpoints."""
    states, training = data.states, spec.module.training
    schedule = Schedule.given(training.phases, training.weight_decay)
    module = AbiModule(shape(spec.module, states), seed=derive_seed("module", spec.role, spec.name, seed))
    label = f"{spec.role} seed {seed}"
    [trained] = fit_gradients(
        [ToFit(module, dict(module.named_parameters()), {"head": data.head.weight}, schedule, label)],
        data,
        Objective("ce"),
        batch=Batch(training.batch, training.batch_of),
        seed=derive_seed("order", spec.role, spec.name, seed),
        checkpoint=scratch / f"{seed}.safetensors",
    )
    facts = ModuleFacts(**dict(states.manifest.base), name=spec.name, role=spec.role, text=spec.text, seed=seed)
    last = trained.losses[-50:]
    return ModuleEntry(
        seed=seed,
        folder=f"seed{seed}",
        sha256=save_module(module, folder / f"seed{seed}", facts),
        domain_sha256=module.domain_hash(),
        steps=schedule.steps,
        final_loss=sum(last) / len(last),
        elapsed_s=round(trained.elapsed_s, 2),
        n_parameters=sum(p.numel() for p in module.parameters()),
    )
