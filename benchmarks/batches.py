"""What a step should read: whole windows, or positions drawn singly from all of them; and how much a closed form. Seconds and objective.

python benchmarks/batches.py [--scale tiny] [--claim t5_to_gpt2]   (after the inputs of that claim's calibration exist)

A native module (CE) and the arms `native` (of a reconstruction `candidate`) and `linear` of one seed are fitted with batches of
both kinds at the rates of the config, and solved in closed form on all positions and on fewer; the objective is measured on
calibration text. Whole windows and positions of a row pair hold about as many targets.
"""

import argparse
import csv
import sys
import time
from dataclasses import replace

import torch
from calibration_rates import SEED, held_out, objective_on, pilot

from abi.arms.closed_form import solve
from abi.arms.fitting import Budget, Solved, gradient_tasks, make, train_arms
from abi.arms.gradient import Batch, Objective
from abi.base.catalogue import ARMS
from abi.models.loop import Schedule
from abi.plan.config import load
from abi.plan.specs.arms import CalibrateArms
from abi.plan.workflow import Workflow
from abi.steps.calibrate_arms import teacher_of

NATIVE = (Batch(8), Batch(4), Batch(1024, "positions"), Batch(512, "positions"))
CALIBRATION = (Batch(4), Batch(2), Batch(512, "positions"), Batch(256, "positions"), Batch(128, "positions"))
ROWS = (None, 40000, 10000)
COLUMNS = ["claim", "fit", "batch", "of", "seconds", "objective_calibration"]


def main() -> None:
    """Print a row per fit and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", default="t5_to_gpt2")
    options = parser.parse_args()
    study = Workflow(load(options.scale))
    torch.set_num_threads(1)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    given = {**study.of(options.claim).calibration_spec(f"{SEED}-{SEED}"), "variants": []}
    spec = CalibrateArms.model_validate(given)
    teacher = teacher_of(spec, study.of(options.claim).calibration_input(f"{SEED}-{SEED}"))
    nets, data = teacher.of(SEED)
    check, budget = held_out(teacher, data), Budget.of(spec)
    claim = study.claim(options.claim)
    if claim.kind == "transfer":
        training = study.scale.modules[claim.module].training
        for batch in NATIVE:
            module, trained = pilot(teacher.config, data, Schedule.given(training.phases, training.weight_decay), batch)
            found = objective_on(module, check, Objective("ce"))
            writer.writerow([options.claim, "native", batch.size, batch.of, f"{trained.elapsed_s:.1f}", f"{found:.4f}"])
    for name in (arm for arm in ("native", "candidate", "linear") if arm in spec.arms):
        recipe = ARMS[name].recipes[spec.regime]
        for batch in CALIBRATION:
            [task] = gradient_tasks(data, budget, SEED)
            arm = make(recipe, name, teacher.config, nets, data, seed=SEED)
            course = train_arms(
                {name: arm}, task, replace(budget, batch=batch), SEED, Solved(budget.ridge_penalty), None
            )
            found = objective_on(arm.model, check, budget.objective)
            writer.writerow(
                [
                    options.claim,
                    f"{spec.fit} {name}",
                    batch.size,
                    batch.of,
                    course[name]["elapsed_s"],
                    f"{found:.4f}",
                ]
            )
            sys.stdout.flush()
        for rows in ROWS:
            few = data.at_most(rows)
            arm = make(recipe, name, teacher.config, nets, few, seed=SEED)
            began = time.perf_counter()
            solve(arm.model, few, budget.ridge_penalty)
            seconds, found = time.perf_counter() - began, objective_on(arm.model, check, budget.objective)
            n_rows = len(few.states) * few.states.manifest.positions
            writer.writerow(
                [options.claim, f"closed-form {name}", n_rows, "positions", f"{seconds:.2f}", f"{found:.4f}"]
            )


if __name__ == "__main__":
    main()
