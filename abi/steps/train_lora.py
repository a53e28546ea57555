"""Job: the arm `lora` for a batch of seeds: adapters trained like every other arm, and what their backbone then says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from abi.arms.data import Batch, FitData, Objective
from abi.arms.forms import FINALS, corrections
from abi.arms.losses import head_loss
from abi.arms.recipes import Task, budget_of, figures_of, gradient_tasks
from abi.base.errors import DataError
from abi.base.files import read_json, sha256_file, sha256_tensors, write_json, write_tensors
from abi.base.job import Job
from abi.base.seeds import derive_seed
from abi.models.backbone import Backbone, Window, check_weights, final_states, load_backbone
from abi.models.loop import BatchOrder, Schedule, Trained, fit
from abi.models.lora import Adapted, LoraShape, adapt, lora_shape
from abi.models.module import AbiModule
from abi.models.saved import check_same_text, module_of_seed, read_head, read_states, shape, spread
from abi.models.states import States

ARM = "lora"


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one folder per seed and fit: the adapter, and the final states it gives."""
    spec: dict[str, Any] = dict(job.spec)
    train = read_states(inputs["train"], "train")
    scopes = {name: read_states(inputs[name], "test") for name in ("domain", "general")}
    check_same_text(train, scopes["domain"])
    if "training_windows" in spec:
        scopes["on_training_text"] = train.select(spread(train, spec["training_windows"]))
    budget = budget_of(spec)
    [head, *_] = [read_head(inputs["head"], states) for states in (train, *scopes.values())]
    lora = Lora(load_backbone(inputs["model"]), read_json(inputs["backbone"], "backbone"), spec["module"], train)
    folder, arms = Path(outputs["folder"]), []
    for seed in spec["seeds"]:
        oracle = module_of_seed(inputs["oracle"], seed, train) if spec["fit"] == "kd" else None
        data = FitData(train, head, None if oracle is None else corrections(oracle, train))
        for task in gradient_tasks(data, budget, seed):
            place = folder / f"seed{seed}" / task.fit / f"{ARM}-{task.draw}"
            record = lora.fit(
                task, budget.objective, batch=budget.batch, seed=seed, scopes=scopes, folder=place,
                checkpoint=job.scratch / f"{seed}-{task.fit}-{task.draw}.safetensors",
            )  # fmt: skip
            arms.append({**record, "folder": str(place.relative_to(folder))})
    of_scopes = {name: {"tensors_sha256": states.manifest["tensors_sha256"], "n_windows": len(states)}
                 for name, states in scopes.items()}  # fmt: skip
    write_json(outputs["manifest"], "lora", {
        **lora.facts(), "scopes": of_scopes, "arms": arms, "provenance": job.provenance(),
    })  # fmt: skip


@dataclass
class Lora:
    """The backbone that adapters are put on and taken off again, its manifest, and the adapters' shape.

    Raises: TamperError: the weights are not the manifest's; DataError: the states are another backbone's.
    """

    backbone: Backbone
    base: Mapping[str, Any]
    module: Mapping[str, Any]
    train: States

    def __post_init__(self) -> None:
        manifest = self.train.manifest
        if manifest["base_sha256"] != self.base["weights_sha256"]:
            raise DataError(
                f"{self.train.path}: was made by another backbone than {self.base['name']}; rebuild the states"
            )
        check_weights(self.backbone, self.base, "lora")
        prefix = manifest["length"] - manifest["positions"] if self.backbone.is_encoder_decoder else 0
        self.window = Window(manifest["length"], prefix, self.train.skip)
        self.n_interface = n_interface(self.module, self.train)
        self.shape: LoraShape = lora_shape(self.backbone, self.n_interface)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of backbone and adapters."""
        return {
            "base_model": self.base["name"], "base_sha256": self.base["weights_sha256"], "rank": self.shape.rank,
            "alpha": self.shape.alpha, "target_modules": list(self.shape.layers), "n_interface": self.n_interface,
            "n_trainable": self.shape.n_parameters,
        }  # fmt: skip

    def fit(
        self, task: Task, objective: Objective, *, batch: Batch, seed: int, scopes: Mapping[str, States], folder: Path,
        checkpoint: Path | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Train, run and save the adapter of a task; return its record. Raises: TamperError: the backbone changed."""
        adapted = adapt(self.backbone, self.shape, derive_seed(ARM, seed))
        schedule = task.schedules[ARM]
        frozen = sha256_tensors(adapted.base)
        trained = train_adapter(
            adapted, task.data, self.window, objective, schedule, batch=batch.as_windows(task.data.states),
            seed=derive_seed("calibration", seed), checkpoint=checkpoint, label=f"{ARM} seed {seed}",
        )  # fmt: skip
        digest = adapted.save(folder, self.base["name"])
        write_finals(adapted.backbone, self.window, scopes, folder / FINALS)
        self.backbone = adapted.remove()
        check_weights(self.backbone, self.base, "lora")
        return {
            "arm": ARM, "fit": task.fit, "draw": task.draw, "seed": seed, "n_trainable": self.shape.n_parameters,
            "frozen_sha256": frozen, **figures_of(trained, schedule), "adapter_sha256": digest,
            "finals_sha256": sha256_file(folder / FINALS),
        }  # fmt: skip


def n_interface(module: Mapping[str, Any], states: States) -> int:
    """Return the trainable parameters of the interface of a claim's module: what an adapter is made as large as."""
    return sum(p.numel() for p in AbiModule(shape(module, states)).interface_parameters().values())


def train_adapter(
    adapted: Adapted, data: FitData, window: Window, objective: Objective, schedule: Schedule, *, batch: int, seed: int,
    checkpoint: Path | None = None, label: str = ARM,
) -> Trained:  # fmt: skip
    """Train an adapter by the objective, the windows and the steps of every other arm of a seed; only the final state moves.

    A step reads whole windows, as a backbone must: at least as many positions as a step of the other arms.

    The teacher is the plain final state with the teacher's correction, as in `fitting.fit_gradients`.
    Raises: DataError: an objective other than `ce` or `kd`, or `kd` without a teacher.
    """
    states, head, teacher = data.states, data.head, data.teacher
    if objective.kind not in {"ce", "kd"} or (objective.kind == "kd" and teacher is None):
        raise DataError(f"{label}: an adapter is trained by ce, or by kd with a teacher, not by {objective.kind}")
    order = BatchOrder(len(states), batch, seed)

    def loss(step: int) -> Tensor:
        index = order[step]
        student = adapted.backbone.hidden_states(states.tokens(index), window)[-1]
        taught = states.final(index) + teacher[index] if objective.kind == "kd" and teacher is not None else None
        return head_loss(
            student.flatten(0, 1), head, states.targets(index).flatten(),
            teacher=None if taught is None else taught.flatten(0, 1),
            temperature=objective.temperature, kd_weight=objective.kd_weight,
        )  # fmt: skip

    frozen = {**adapted.base, "head": head.weight}
    return fit(loss, adapted.trainable, schedule, frozen=frozen, checkpoint=checkpoint, label=label)


def write_finals(backbone: Backbone, window: Window, scopes: Mapping[str, States], path: Path) -> None:
    """Write `<scope>.final` `[N, T, D]` and `<scope>.windows` `[N]`; the header names the states each scope belongs to."""
    tensors, of = {}, {}
    for name, states in scopes.items():
        tensors[f"{name}.final"] = final_states(backbone, states.tokens(slice(None)), window)
        tensors[f"{name}.windows"] = states.windows.int()
        of[name] = str(states.manifest["tensors_sha256"])
    write_tensors(path, tensors, {"scopes": json.dumps(of)})  # one key: safetensors writes several in any order
