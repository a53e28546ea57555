"""Learning rates of the arms' forms, chosen on calibration text with one seed; test text is never read.

python benchmarks/calibration_rates.py [--scale tiny]   (after `snakemake t5_to_gpt2 t5_same_backbone`)

For each form (module by its positive control, linear, bias) the rate with the lowest objective on the calibration split is what
config/scales/<scale>.yaml should hold. Every arm of a form shares it, so no choice favours an arm of interest.
"""

import argparse
import csv
import sys
from pathlib import Path

import torch

from abi.arms import RECIPES, Nets, make
from abi.config import load
from abi.fitting import FitData, Objective, correction_of, corrections, derive_seed, fit_gradient, logit_bias_of
from abi.losses import correction_mse, head_loss
from abi.module import AbiModule
from abi.specs import Study
from abi.stages.alignments import read_rotations
from abi.stages.store import module_of_seed, read_head, read_states, shape
from abi.training import Phase, Schedule

RATES = {
    "module": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "linear": (1e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "bias": (1e-2, 3e-2, 1e-1, 3e-1),
}
ARM = {
    "kd": {"module": "native", "linear": "linear", "bias": "bias"},
    "correction-mse": {"module": "candidate", "linear": "linear"},
}
SEED = 1


@torch.no_grad()
def objective_on(model, data, objective):
    """Return the mean objective of a fitted arm on all windows of `data`."""
    total = 0.0
    for start in range(0, len(data.states), 16):
        part = slice(start, start + 16)
        final, correction = data.states.final(part), correction_of(model, data.states, part)
        n = final.shape[0]
        if objective.kind == "correction-mse":
            total += n * float(correction_mse(correction, data.teacher[part]))
            continue
        student = final if correction is None else final + correction
        taught = None if objective.kind == "ce" else (final + data.teacher[part]).flatten(0, 1)
        targets = data.states.targets(part).flatten()
        loss = head_loss(student.flatten(0, 1), data.head, targets, teacher=taught, logit_bias=logit_bias_of(model))
        total += n * float(loss)
    return total / len(data.states)


def scaled(phases, rate):
    """Return phases with the peak rate put to `rate`, their ratios kept."""
    top = max(phase["lr"] for phase in phases)
    return [Phase(**{**phase, "lr": phase["lr"] * rate / top}) for phase in phases]


def main() -> None:
    """Fit every form at every rate and print the objective on calibration text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", help="only this claim")
    options = parser.parse_args()
    study = Study(load(options.scale))
    torch.set_num_threads(2)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["claim", "fit", "form", "lr", "objective_calibration", "objective_train"])
    for claim_id, claim in study.config.claims.items():
        if options.claim not in (None, claim_id):
            continue
        inputs = study.calibration_input(claim_id, f"{SEED}-{SEED}")
        train = read_states(inputs["train"], "train")
        held = read_states(Path(inputs["train"].replace(".train.", ".calibration.")), "calibration")
        head, settings = read_head(inputs["head"], train), study.scale["calibration"][claim["fit"]]
        teacher = module_of_seed(inputs["oracle" if claim["kind"] == "transfer" else "reference"], SEED, train)
        data, check = FitData(train, head, corrections(teacher, train)), FitData(held, head, corrections(teacher, held))
        if claim["kind"] == "transfer":
            rotations = read_rotations(inputs["alignment"], SEED)
            nets = Nets(oracle=teacher, own=rotations["own"], aligned=rotations["aligned"])
        else:
            nets = Nets(before=module_of_seed(inputs["before"], SEED, train))
        objective = Objective(claim["fit"])
        config = shape(study.scale["modules"][claim["module"]], train)
        for form, arm_name in ARM[claim["fit"]].items():
            for rate in RATES[form]:
                arm = make(RECIPES[claim["kind"]][arm_name], arm_name, config, nets, data, seed=SEED)
                schedule = Schedule(scaled(settings["phases"][form], rate), settings.get("weight_decay", 0.01))
                trained = fit_gradient(
                    arm.model, data, objective, schedule, trainable=arm.trainable, frozen=arm.frozen, batch=settings["batch"],
                    seed=derive_seed("calibration", SEED),
                )  # fmt: skip
                last = sum(trained.losses[-50:]) / 50
                writer.writerow(
                    [
                        claim_id,
                        claim["fit"],
                        form,
                        rate,
                        f"{objective_on(arm.model, check, objective):.5f}",
                        f"{last:.5f}",
                    ]
                )
                sys.stdout.flush()
        if claim["kind"] == "transfer":
            native_rates(study, claim, data, check, writer)


def native_rates(study, claim, data, check, writer) -> None:
    """Fit a native module at several rates and print its CE on calibration text."""
    definition = study.scale["modules"][claim["module"]]
    for rate in RATES["module"]:
        module = AbiModule(shape(definition, data.states), seed=derive_seed("pilot", SEED))
        schedule = Schedule(scaled(definition["training"]["phases"], rate))
        trained = fit_gradient(
            module, data, Objective("ce"), schedule, trainable=dict(module.named_parameters()), frozen={},
            batch=definition["training"]["batch"], seed=derive_seed("pilot-order", SEED),
        )  # fmt: skip
        last = sum(trained.losses[-50:]) / 50
        writer.writerow(
            [
                claim["target"],
                "ce",
                "native",
                rate,
                f"{objective_on(module, check, Objective('ce')):.5f}",
                f"{last:.5f}",
            ]
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
