"""What a step should read, whole windows or single positions, and how much a closed form: seconds and objective.

python benchmarks/batches.py [--scale tiny] [--claim t5_to_gpt2]   (after the rates of that claim were chosen)

A native module (CE) and the arms `native` (of a reconstruction `candidate`) and `linear` of one seed are fitted with
batches of both kinds at their rates, and solved in closed form on all positions and on fewer; the objective is measured
on calibration text. Whole windows and positions of a row pair hold about as many targets.
"""

import argparse
import csv
import sys
import time
from dataclasses import replace

import torch

from abi.arms.closed_form import solve
from abi.arms.fitting import Budget, Solved, gradient_tasks, make, train_arms
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients
from abi.arms.rates import mean_objectives
from abi.base.catalogue import ARMS
from abi.base.manifests.rates import RatesManifest
from abi.models.loop import Member, Schedule, Trained
from abi.models.module import AbiModule, derive_seed
from abi.plan.config import load
from abi.plan.specs.arms import ChooseRates
from abi.plan.workflow import Workflow
from abi.steps.calibrate_arms import teacher_of
from abi.steps.choose_rates import held_out_of

NATIVE = (Batch(8), Batch(4), Batch(1024, "positions"), Batch(512, "positions"))
CALIBRATION = (Batch(4), Batch(2), Batch(512, "positions"), Batch(256, "positions"), Batch(128, "positions"))
ROWS = (None, 40000, 10000)
COLUMNS = ["claim", "fit", "batch", "of", "seconds", "objective_calibration"]


def pilot(config, data: FitData, schedule: Schedule, batch: Batch, seed: int) -> tuple[AbiModule, Trained]:
    """Return a native module and what its training left."""
    module = AbiModule(config, seed=derive_seed("pilot", seed))
    part = Member("pilot", dict(module.named_parameters()), schedule)
    [trained] = fit_gradients(
        [module], [part], data, Objective("ce"), batch=batch, seed=derive_seed("pilot-order", seed)
    )
    return module, trained


def main() -> None:
    """Print a row per fit and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", default="t5_to_gpt2")
    options = parser.parse_args()
    workflow = Workflow(load(options.scale))
    torch.set_num_threads(1)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    spec = ChooseRates.model_validate(workflow.of(options.claim).rates_spec())
    [seed], inputs = spec.seeds, workflow.of(options.claim).rates_input()
    rates = RatesManifest.read(f"{workflow.results}/rates/{options.claim}.json").rates(spec.arms)
    teacher = teacher_of(spec, inputs)
    nets, data = teacher.of(seed)
    check, budget = held_out_of(spec, inputs, data, seed), Budget.of(spec, rates)
    claim = workflow.claim(options.claim)
    if claim.kind == "transfer":
        training = workflow.scale.modules[claim.module].training
        for batch in NATIVE:
            module, trained = pilot(
                teacher.config, data, Schedule.given(training.phases, training.weight_decay), batch, seed
            )
            found = float(mean_objectives([module], check, Objective("ce")))
            writer.writerow([options.claim, "native", batch.size, batch.of, f"{trained.elapsed_s:.1f}", f"{found:.4f}"])
    for name in (arm for arm in ("native", "candidate", "linear") if arm in spec.arms):
        recipe = ARMS[name].recipes[spec.regime]
        for batch in CALIBRATION:
            [task] = gradient_tasks(data, budget, seed)
            arm = make(recipe, name, teacher.config, nets, data, seed=seed)
            course = train_arms(
                {name: arm}, task, replace(budget, batch=batch), seed, Solved(budget.ridge_penalty), None
            )
            found = float(mean_objectives([arm.model], check, budget.objective))
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
            arm = make(recipe, name, teacher.config, nets, few, seed=seed)
            began = time.perf_counter()
            solve(arm.model, few, budget.ridge_penalty)
            seconds, found = time.perf_counter() - began, float(mean_objectives([arm.model], check, budget.objective))
            n_rows = len(few.states) * few.states.manifest.positions
            writer.writerow(
                [options.claim, f"closed-form {name}", n_rows, "positions", f"{seconds:.2f}", f"{found:.4f}"]
            )


if __name__ == "__main__":
    main()
