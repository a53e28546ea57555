"""Native modules: trained on the text of their own backbone's states by cross-entropy."""

from collections.abc import Sequence
from pathlib import Path

from abi.arms.gradient import Batch, FitData, Member, Objective, fit_gradients
from abi.base.files import sha256_tensors
from abi.base.manifests.modules import ModuleEntry, ModuleFacts
from abi.models.loop import Schedule, Trained
from abi.models.module import AbiModule, ModuleConfig, derive_seed, save_module
from abi.models.saved import shape
from abi.plan.specs.models import Training, TrainModules


def train_native(
    config: ModuleConfig, data: FitData, training: Training, place: Sequence[object], checkpoint: Path | None = None
) -> tuple[AbiModule, Trained]:
    """Return a module trained on the text of some states by cross-entropy, and its course.

    Args: place: all that says which module this is (backbone, text, role, shape, seed): modules are compared with each
        other, so no two of them share initial weights or an order of the text.
    """
    module = AbiModule(config, seed=derive_seed("module", *place)).to(data.states.device)
    schedule = Schedule.given(training.phases, training.weight_decay)
    label = " ".join(str(part) for part in place)
    [trained] = fit_gradients(
        [module],
        [Member(label, dict(module.named_parameters()), schedule, {"head": data.head.weight})],
        data,
        Objective("ce"),
        batch=Batch(training.batch, training.batch_of).at_most(data.states),
        seed=derive_seed("order", *place),
        checkpoint=checkpoint,
    )
    return module, trained


def trained_of_seed(spec: TrainModules, data: FitData, seed: int, folder: Path, scratch: Path) -> ModuleEntry:
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
