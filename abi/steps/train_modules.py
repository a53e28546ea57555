"""Job: modules trained natively (CE on domain train text), one per seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.arms.data import Batch, FitData, Objective
from abi.arms.gradient import ToFit, fit_gradients
from abi.base.files import write_json
from abi.base.job import Job
from abi.base.seeds import derive_seed
from abi.models.loop import Schedule
from abi.models.module import AbiModule, save_module
from abi.models.saved import base_facts, read_head, read_states, shape


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one module folder per seed."""
    states = read_states(inputs["train"], "train")
    data = FitData(states, read_head(inputs["head"], states))
    modules = [train_native(job, data, seed, Path(outputs["folder"])) for seed in job.spec["seeds"]]
    write_json(outputs["manifest"], "modules", {"modules": modules, "provenance": job.provenance()})


def train_native(job: Job, data: FitData, seed: int, folder: Path) -> dict[str, Any]:
    """Train and save the module of a seed; return its entry of the manifest."""
    spec: dict[str, Any] = dict(job.spec)
    states = data.states
    config, training = shape(spec["module"], states), spec["module"]["training"]
    schedule = Schedule.given(training, training["phases"])
    module = AbiModule(config, seed=derive_seed("module", spec["role"], spec["name"], seed))
    [trained] = fit_gradients(
        [ToFit(module, dict(module.named_parameters()), {"head": data.head.weight}, schedule, f"{spec['role']} seed {seed}")],
        data, Objective("ce"), batch=Batch.given(training), seed=derive_seed("order", spec["role"], spec["name"], seed),
        checkpoint=job.scratch / f"{seed}.safetensors",
    )  # fmt: skip
    facts = {**base_facts(states), "name": spec["name"], "role": spec["role"], "text": spec["text"], "seed": seed}
    digest = save_module(module, folder / f"seed{seed}", facts)
    last = trained.losses[-50:]
    return {
        "seed": seed, "folder": f"seed{seed}", "sha256": digest, "domain_sha256": module.domain_hash(), "steps": schedule.steps,
        "final_loss": sum(last) / len(last), "elapsed_s": round(trained.elapsed_s, 2),
        "n_parameters": sum(p.numel() for p in module.parameters()),
    }  # fmt: skip
