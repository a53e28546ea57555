"""Learning rates of the arms' forms, chosen on calibration text with one seed; test text is never read.

python benchmarks/calibration_rates.py [--scale tiny] [--claim ID ...]   (after the inputs of those claims' calibrations exist)

For each form (module, linear, bias) the rate with the lowest objective on the calibration split is what
config/scales/<scale>.yaml should hold. Every arm of a form shares it, so no choice favours an arm of interest. The module's
rate is chosen on an arm that is not the claim's: the positive control `native` (`kd`, `ce`), and in general-only, which has
none, the placebo `random`, so that the choice favours what the claim is compared with. `ce`: the mean over the ladder of
windows. `matched`: KL to the held-out general lesson, before any gain; no domain text is read for it.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from abi.arms.fitting import Budget, Solved, gradient_tasks, make, train_arms
from abi.arms.forms import StoredStates, corrections
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients, objectives
from abi.base.catalogue import ARMS, CANDIDATE, NATIVE, RANDOM
from abi.base.manifests import BackboneManifest
from abi.models.loop import Member, Schedule, Trained
from abi.models.module import AbiModule, derive_seed
from abi.models.saved import read_states
from abi.plan.config import load
from abi.plan.specs.arms import CalibrateArms, TrainLora
from abi.plan.workflow import Workflow
from abi.steps.calibrate_arms import Teacher, teacher_of

RATES = {
    "module": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "linear": (3e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "bias": (1e-2, 3e-2, 1e-1, 3e-1),
    "lora": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
ARM = {
    "oracle-kd": {"module": NATIVE, "linear": "linear", "bias": "bias"},
    "few-shot": {"module": NATIVE, "linear": "linear", "bias": "bias"},
    "general-only": {"module": RANDOM, "linear": "linear", "bias": "bias"},
    "reconstruction": {"module": CANDIDATE, "linear": "linear"},
}
SEED, POSITIONS = 1, 2048
COLUMNS = ["claim", "fit", "form", "lr", "objective_calibration", "objective_train"]


@torch.no_grad()
def objective_on(model, data: FitData, objective: Objective) -> float:
    """Return the mean objective of a fitted arm on all windows of `data`."""
    total, batch = 0.0, max(1, POSITIONS // data.states.manifest.positions)
    for start in range(0, len(data.states), batch):
        part = slice(start, min(start + batch, len(data.states)))
        total += (part.stop - start) * float(objectives([model], data, objective, part)[0])
    return total / len(data.states)


def scaled(schedule: Schedule, rate: float) -> Schedule:
    """Return a schedule with the peak rate put to `rate`, the ratios of its phases kept."""
    top = max(phase.lr for phase in schedule.phases)
    return replace(schedule, phases=[replace(phase, lr=phase.lr * rate / top) for phase in schedule.phases])


def held_out(teacher: Teacher, data: FitData) -> FitData:
    """Return what an arm is judged on: the held-out general lesson, or calibration text with what teaches there."""
    if data.held_out is not None:
        return FitData(data.held_out.states, data.head, shift=data.held_out.shift)
    states = read_states(Path(teacher.inputs["train"].replace(".train.", ".calibration.")), "calibration")
    role = teacher.teacher
    return FitData(states, data.head, None if role is None else corrections(teacher.own(role, SEED), states))


def rows_of(study: Workflow, claim_id: str, rates=RATES) -> Iterator[list]:
    """Yield a row of COLUMNS for every form and rate of a claim, and for its native modules where they are trained."""
    given = {**study.of(claim_id).calibration_spec(f"{SEED}-{SEED}"), "variants": []}
    spec = CalibrateArms.model_validate(given)
    teacher = teacher_of(spec, study.of(claim_id).calibration_input(f"{SEED}-{SEED}"))
    nets, data = teacher.of(SEED)
    check, budget = held_out(teacher, data), Budget.of(spec)
    for form, name in ARM[spec.regime].items():
        recipe = ARMS[name].recipes[spec.regime]
        for rate in rates[form]:
            schedules = {form: scaled(budget.schedules[form], rate)}
            found = []
            for task in gradient_tasks(data, replace(budget, schedules=schedules), SEED):
                arm = make(recipe, name, teacher.config, nets, task.data, seed=SEED)
                course = train_arms({name: arm}, task, budget, SEED, Solved(budget.ridge_penalty), None)[name]
                found.append((objective_on(arm.model, check, budget.objective), course["final_loss"]))
            yield [
                claim_id,
                spec.fit,
                form,
                rate,
                *(f"{sum(values) / len(found):.5f}" for values in zip(*found, strict=True)),
            ]
    if "lora" in study.claim(claim_id).arms and rates["lora"]:
        yield from lora_rows(study, claim_id, data, check, rates["lora"])
    if spec.regime == "oracle-kd":
        yield from native_rows(study, claim_id, teacher.config, data, check, rates["module"])


def lora_rows(study: Workflow, claim_id: str, data: FitData, check: FitData, rates) -> Iterator[list]:
    """Yield the objective on calibration text of the arm `lora` at several rates: the mean over the ladder of windows."""
    from abi.models.backbone import final_states, load_backbone
    from abi.models.lora import adapt
    from abi.steps.train_lora import LORA, Lora, train_adapter

    spec = TrainLora.model_validate({**study.of(claim_id).lora_spec(f"{SEED}-{SEED}"), "variants": []})
    base = BackboneManifest.read(study.of(claim_id).lora_input(f"{SEED}-{SEED}")["backbone"])
    backbone = load_backbone(study.backbone_folder(study.claim(claim_id).target))
    budget, lora = Budget.of(spec), Lora(backbone, base, spec.module, data.states)
    for rate in rates:
        found = []
        for task in gradient_tasks(data, budget, SEED):
            adapted = adapt(lora.backbone, lora.shape, derive_seed(LORA, SEED))
            trained = train_adapter(
                adapted,
                task.data,
                lora.window,
                budget.objective,
                scaled(task.schedules[LORA], rate),
                batch=budget.batch.as_windows(task.data.states),
                seed=derive_seed("calibration", SEED),
            )
            finals = final_states(adapted.backbone, check.states.tokens(slice(None)), lora.window)
            stored = StoredStates({check.states.manifest.tensors_sha256: (check.states.windows, finals)})
            last = trained.losses[-50:]
            found.append((objective_on(stored, check, budget.objective), sum(last) / len(last)))
            lora.backbone = adapted.remove()
        means = (f"{sum(values) / len(found):.5f}" for values in zip(*found, strict=True))
        yield [claim_id, spec.fit, LORA, rate, *means]


def native_rows(study: Workflow, claim_id: str, config, data: FitData, check: FitData, rates) -> Iterator[list]:
    """Yield the CE on calibration text of a native module of the target, trained at several rates."""
    claim = study.claim(claim_id)
    training = study.scale.modules[claim.module].training
    batch = Batch(training.batch, training.batch_of).at_most(data.states)
    for rate in rates:
        schedule = scaled(Schedule.given(training.phases, training.weight_decay), rate)
        module, trained = pilot(config, data, schedule, batch)
        last = trained.losses[-50:]
        own = objective_on(module, check, Objective("ce"))
        yield [claim.target, "ce", "native", rate, f"{own:.5f}", f"{sum(last) / len(last):.5f}"]


def pilot(config, data: FitData, schedule: Schedule, batch: Batch) -> tuple[AbiModule, Trained]:
    """Return a native module and what its training left."""
    module = AbiModule(config, seed=derive_seed("pilot", SEED))
    part = Member("pilot", dict(module.named_parameters()), schedule)
    [trained] = fit_gradients(
        [module], [part], data, Objective("ce"), batch=batch, seed=derive_seed("pilot-order", SEED)
    )
    return module, trained


def main() -> None:
    """Fit every form at every rate and print the objective on calibration text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", action="append", help="only this claim (repeat for several)")
    options = parser.parse_args()
    study = Workflow(load(options.scale))
    torch.set_num_threads(2)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for claim_id in options.claim or study.config.claims:
        for row in rows_of(study, claim_id):
            writer.writerow(row)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
