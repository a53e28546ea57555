"""The arm `lora`: adapters trained by the objective, windows and steps of every other arm, through the backbone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from abi.arms.fitting import Budget, Task, course
from abi.arms.forms import FINALS, StoredStates
from abi.arms.gradient import FitData, Objective
from abi.arms.losses import head_loss
from abi.arms.rates import mean_objectives
from abi.base.errors import DataError
from abi.base.files import sha256_file, sha256_tensors, write_tensors
from abi.base.manifests.arms import LoraEntry, LoraManifest
from abi.base.manifests.backbones import BackboneManifest
from abi.base.names import LORA
from abi.models.backbone import Backbone, final_states
from abi.models.identity import check_weights
from abi.models.loop import BatchOrder, Schedule, Trained, fit
from abi.models.lora import Adapted, LoraShape, adapt, lora_shape
from abi.models.module import AbiModule, derive_seed
from abi.models.saved import check_backbone, shape
from abi.models.states import States, Window
from abi.plan.specs.models import Shape


@dataclass
class Lora:
    """The backbone that adapters are put on and taken off again, its manifest, and the adapters' shape.

    Raises: TamperError: the weights are not the manifest's; DataError: the states are another backbone's.
    """

    backbone: Backbone
    base: BackboneManifest
    module: Shape
    train: States

    def __post_init__(self) -> None:
        manifest = self.train.manifest
        check_backbone(self.train, self.base.weights_sha256, self.base.name)
        check_weights(self.backbone, self.base, LORA)
        prefix = manifest.length - manifest.positions if self.backbone.is_encoder_decoder else 0
        self.window = Window(manifest.length, prefix, self.train.skip)
        self.n_interface = n_interface(self.module, self.train)
        self.shape: LoraShape = lora_shape(self.backbone, self.n_interface)

    def manifest(self, **written: Any) -> LoraManifest:
        """Return the manifest of a batch. Args: written: scopes, arms and provenance."""
        return LoraManifest(
            base_model=self.base.name,
            base_sha256=self.base.weights_sha256,
            rank=self.shape.rank,
            alpha=self.shape.alpha,
            target_modules=list(self.shape.layers),
            n_interface=self.n_interface,
            n_trainable=self.shape.n_parameters,
            **written,
        )

    def fit(
        self,
        task: Task,
        budget: Budget,
        seed: int,
        scopes: Mapping[str, States],
        root: Path,
        name: str,
        checkpoint: Path | None = None,
    ) -> LoraEntry:
        """Train, run and save the adapter of a task; return its entry.

        Args: scopes: the states whose windows it is run on; root, name: its folder is `name` below `root`.
        Raises: TamperError: the backbone changed.
        """
        adapted = adapt(self.backbone, self.shape, derive_seed(LORA, seed))
        folder, frozen = root / name, sha256_tensors(adapted.base)
        trained, schedule = self.trained(adapted, task, budget, seed, checkpoint)
        digest = adapted.save(folder, self.base.name)
        write_finals(adapted.backbone, self.window, scopes, folder / FINALS)
        self.backbone = adapted.remove()
        check_weights(self.backbone, self.base, LORA)
        return LoraEntry(
            arm=LORA,
            fit=task.fit,
            draw=task.draw,
            seed=seed,
            n_trainable=self.shape.n_parameters,
            frozen_sha256=frozen,
            **course(trained, schedule),
            folder=name,
            adapter_sha256=digest,
            finals_sha256=sha256_file(folder / FINALS),
        )

    def tried(self, task: Task, budget: Budget, seed: int, held_out: FitData, checkpoint: Path | None = None) -> float:
        """Return the objective of a task's adapter on held-out data, NaN where its training diverged.

        Raises: TamperError: the backbone changed.
        """
        adapted, states = adapt(self.backbone, self.shape, derive_seed(LORA, seed)), held_out.states
        self.trained(adapted, task, budget, seed, checkpoint, may_diverge=True)
        finals = final_states(adapted.backbone, states.tokens(slice(None)), self.window)
        self.backbone = adapted.remove()
        check_weights(self.backbone, self.base, LORA)
        stored = StoredStates({states.manifest.tensors_sha256: (states.windows, finals)})
        return float(mean_objectives([stored], held_out, budget.objective))

    def trained(
        self,
        adapted: Adapted,
        task: Task,
        budget: Budget,
        seed: int,
        checkpoint: Path | None,
        *,
        may_diverge: bool = False,
    ) -> tuple[Trained, Schedule]:
        """Train the adapter of a task at the rate of the budget; return what that left, and its schedule."""
        schedule = task.schedule.at(budget.rates[LORA])
        trained = train_adapter(
            adapted,
            task.data,
            self.window,
            budget.objective,
            schedule,
            batch=budget.batch.as_windows(task.data.states),
            seed=derive_seed("calibration", seed),
            checkpoint=checkpoint,
            label=f"{LORA} seed {seed}",
            may_diverge=may_diverge,
        )
        return trained, schedule


def n_interface(module: Shape, states: States) -> int:
    """Return the trainable parameters of the interface of a claim's module: what an adapter is made as large as."""
    return sum(p.numel() for p in AbiModule(shape(module, states)).interface_parameters().values())


def train_adapter(
    adapted: Adapted,
    data: FitData,
    window: Window,
    objective: Objective,
    schedule: Schedule,
    *,
    batch: int,
    seed: int,
    checkpoint: Path | None = None,
    label: str = LORA,
    may_diverge: bool = False,
) -> Trained:
    """Train an adapter by the objective, the windows and the steps of every other arm of a seed; only the final state
    moves.

    A step reads whole windows, as a backbone must: at least as many positions as a step of the other arms.

    The teacher is the plain final state with the teacher's correction, as in `gradient.objectives`.
    Raises: DataError: an objective other than `ce` or `kd`, or `kd` without a teacher.
    """
    states, head, teacher = data.states, data.head, data.teacher
    if objective.kind not in {"ce", "kd"} or (objective.kind == "kd" and teacher is None):
        raise DataError(f"{label}: an adapter is trained by ce, or by kd with a teacher, not by {objective.kind}")
    order = BatchOrder(len(states), batch, seed)

    def loss(step: int) -> Tensor:
        index = order[step]
        student = adapted.backbone.hidden_states(states.tokens(index), window)[-1]
        taught = (
            states.final(index) + teacher[index].to(states.device)
            if objective.kind == "kd" and teacher is not None
            else None
        )
        return head_loss(
            student.float().flatten(0, 1),  # as states are: the head is in fp32 beside a backbone in bf16
            head,
            states.targets(index).flatten(),
            teacher=None if taught is None else taught.flatten(0, 1),
            temperature=objective.temperature,
            kd_weight=objective.kd_weight,
        )

    frozen = {**adapted.base, "head": head.weight}
    given: dict[str, Any] = {"checkpoint": checkpoint, "label": label, "may_diverge": may_diverge}
    return fit(loss, adapted.trainable, schedule, frozen=frozen, **given)


def write_finals(backbone: Backbone, window: Window, scopes: Mapping[str, States], path: Path) -> None:
    """Write `<scope>.final` `[N, T, D]` and `<scope>.windows` `[N]`; the header names each scope's states."""
    tensors, of = {}, {}
    for name, states in scopes.items():
        tensors[f"{name}.final"] = final_states(backbone, states.tokens(slice(None)), window)
        tensors[f"{name}.windows"] = states.windows.int()
        of[name] = states.manifest.tensors_sha256
    write_tensors(path, tensors, {"scopes": json.dumps(of)})  # one key: safetensors writes several in any order
