"""What a step should read: whole windows, or positions drawn singly from all of them. Seconds and objective of both.

python benchmarks/batches.py [--scale tiny] [--claim t5_to_gpt2]   (after the inputs of that claim's calibration exist)

A native module (CE) and the arms `native` and `linear` (KD) of one seed are fitted with batches of both kinds at the rates of
the config; the objective is measured on calibration text. Whole windows and positions of a row pair hold about as many targets.
"""

import argparse
import csv
import sys
from dataclasses import replace

import torch
from calibration_rates import SEED, held_out, objective_on, pilot

from abi.arms import RECIPES, Solved, gradient_tasks, make, train_arms
from abi.config import load
from abi.fitting import Batch, Objective
from abi.specs import Study
from abi.stages.calibration import Taught, budget_of
from abi.training import Phase, Schedule

NATIVE = (Batch(8), Batch(4), Batch(1024, "positions"), Batch(512, "positions"))
KD = (Batch(4), Batch(2), Batch(512, "positions"), Batch(256, "positions"), Batch(128, "positions"))
COLUMNS = ["claim", "fit", "batch", "of", "seconds", "objective_calibration"]


def main() -> None:
    """Print a row per fit and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", default="t5_to_gpt2")
    options = parser.parse_args()
    study = Study(load(options.scale))
    torch.set_num_threads(1)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    spec = {**study.calibration_spec(options.claim, f"{SEED}-{SEED}"), "variants": []}
    teaching = Taught(spec, study.calibration_input(options.claim, f"{SEED}-{SEED}"))
    nets, data = teaching.of(SEED)
    check, budget = held_out(teaching, data), budget_of(spec)
    phases = study.scale["modules"][study.claim(options.claim)["module"]]["training"]["phases"]
    for batch in NATIVE:
        module, trained = pilot(teaching.config, data, Schedule([Phase(**phase) for phase in phases]), batch)
        found = objective_on(module, check, Objective("ce"))
        writer.writerow([options.claim, "native", batch.size, batch.of, f"{trained.elapsed_s:.1f}", f"{found:.4f}"])
    for name in ("native", "linear"):
        for batch in KD:
            [task] = gradient_tasks(data, budget, SEED)
            arm = make(RECIPES[spec["regime"]][name], name, teaching.config, nets, data, seed=SEED)
            record = train_arms(
                {name: arm}, task, replace(budget, batch=batch), SEED, Solved(budget.ridge_penalty), None
            )
            found = objective_on(arm.model, check, budget.objective)
            writer.writerow(
                [options.claim, f"kd {name}", batch.size, batch.of, record[name]["elapsed_s"], f"{found:.4f}"]
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
