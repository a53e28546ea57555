"""Job: every arm of a claim for a batch of seeds, fitted by gradient and in closed form against the same teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.arms import Budget, Nets, fit_all
from abi.fitting import FitData, Objective, corrections
from abi.provenance import Job, write_json
from abi.stages.alignments import read_rotations
from abi.stages.store import base_facts, module_of_seed, read_head, read_states, shape
from abi.states import States
from abi.training import Phase, Schedule


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one folder per seed, fit and arm."""
    spec: dict[str, Any] = dict(job.spec)
    states = read_states(inputs["train"], "train")
    head, config = read_head(inputs["head"], states), shape(spec["module"], states)
    budget, folder, arms = budget_of(spec), Path(outputs["folder"]), []
    for seed in spec["seeds"]:
        nets, teacher = nets_of(spec["kind"], inputs, seed, states), teacher_of(spec["kind"], inputs, seed, states)
        data = FitData(states, head, corrections(teacher, states))
        facts = {**base_facts(states), "text": spec["text"]}
        records = fit_all(
            spec["kind"], spec["arms"], config, nets, data, budget, seed=seed, folder=folder / f"seed{seed}", facts=facts,
            checkpoints=job.scratch,
        )  # fmt: skip
        arms += [{**record, "folder": f"seed{seed}/{record['folder']}"} for record in records]
    write_json(outputs["manifest"], "calibration", {"arms": arms, "provenance": job.provenance()})


def budget_of(spec: Mapping[str, Any]) -> Budget:
    """Return the budget that all arms of a pair and seed share."""
    given = spec["budget"]
    decay = given.get("weight_decay", 0.01)
    schedules = {
        form: Schedule([Phase(**phase) for phase in phases], decay) for form, phases in given["phases"].items()
    }
    objective = Objective(spec["fit"], given.get("temperature", 2.0), given.get("kd_weight", 0.9))
    return Budget(schedules, given["batch"], objective, given["ridge_penalty"])


def nets_of(kind: str, inputs: Mapping[str, Any], seed: int, states: States) -> Nets:
    """Return the trained nets and rotations that a seed's arms are made of."""
    if kind == "reconstruction":
        return Nets(before=module_of_seed(inputs["before"], seed, states))
    rotations = read_rotations(inputs["alignment"], seed)
    source, oracle = module_of_seed(inputs["source"], seed), module_of_seed(inputs["oracle"], seed, states)
    return Nets(source=source, oracle=oracle, aligned=rotations["aligned"], own=rotations["own"])


def teacher_of(kind: str, inputs: Mapping[str, Any], seed: int, states: States) -> Any:
    """Return the teacher: the native oracle of a transfer, the reference of a reconstruction."""
    return module_of_seed(inputs["oracle" if kind == "transfer" else "reference"], seed, states)
