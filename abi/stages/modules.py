"""Job: modules trained natively (CE on domain train text), one per seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.fitting import Batch, FitData, Objective, ToFit, derive_seed, fit_gradients
from abi.module import AbiModule, save_module
from abi.provenance import Job, write_json
from abi.stages.store import UpdatedBackbone, base_facts, member, read_head, read_states, shape
from abi.training import Schedule


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one module folder per seed."""
    states = read_states(inputs["train"], "train")
    data = FitData(states, read_head(inputs["head"], states))
    modules = [train_native(job, data, seed, Path(outputs["folder"])) for seed in job.spec["seeds"]]
    write_json(outputs["manifest"], "modules", {"modules": modules, "provenance": job.provenance()})


def run_updated(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write the same, each seed's module beside that seed's own updated backbone."""
    modules = []
    for seed in job.spec["seeds"]:
        states = read_states(member([inputs["states"]], seed, f"seed{seed}.train.json"), "train")
        data = FitData(states, read_head(UpdatedBackbone.of([inputs["updated"]], seed).head, states))
        modules.append(train_native(job, data, seed, Path(outputs["folder"])))
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
