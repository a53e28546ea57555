"""Job: modules trained natively (CE on domain train text), one per seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.fitting import FitData, Objective, ToFit, derive_seed, fit_gradients
from abi.module import AbiModule, save_module
from abi.provenance import Job, write_json
from abi.stages.store import base_facts, read_head, read_states, shape
from abi.training import Phase, Schedule


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one module folder per seed."""
    spec: dict[str, Any] = dict(job.spec)
    states = read_states(inputs["train"], "train")
    data = FitData(states, read_head(inputs["head"], states))
    config, training = shape(spec["module"], states), spec["module"]["training"]
    schedule = Schedule([Phase(**phase) for phase in training["phases"]], training.get("weight_decay", 0.01))
    folder, modules = Path(outputs["folder"]), []
    for seed in spec["seeds"]:
        module = AbiModule(config, seed=derive_seed("module", spec["role"], spec["name"], seed))
        [trained] = fit_gradients(
            [ToFit(module, dict(module.named_parameters()), {"head": data.head.weight}, schedule, f"{spec['role']} seed {seed}")],
            data, Objective("ce"), batch=training["batch"], seed=derive_seed("order", spec["role"], spec["name"], seed),
            checkpoint=job.scratch / f"{seed}.safetensors",
        )  # fmt: skip
        facts = {**base_facts(states), "name": spec["name"], "role": spec["role"], "text": spec["text"], "seed": seed}
        digest = save_module(module, folder / f"seed{seed}", facts)
        last = trained.losses[-50:]
        modules.append({
            "seed": seed, "folder": f"seed{seed}", "sha256": digest, "domain_sha256": module.domain_hash(), "steps": schedule.steps,
            "final_loss": sum(last) / len(last), "elapsed_s": round(trained.elapsed_s, 2),
            "n_parameters": sum(p.numel() for p in module.parameters()),
        })  # fmt: skip
    write_json(outputs["manifest"], "modules", {"modules": modules, "provenance": job.provenance()})
