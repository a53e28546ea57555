"""Step calibrate_arms: every arm of a claim for a batch of seeds, by gradient and in closed form, with one budget."""

from collections.abc import Mapping
from pathlib import Path

from abi.arms.fitting import Budget, fit_all
from abi.arms.teacher import teacher_of
from abi.base.job import InputFiles, Job
from abi.base.manifests import CalibrationManifest
from abi.plan.specs.arms import CalibrateArms

Spec = CalibrateArms


def run(job: Job[CalibrateArms], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one folder per seed, fit and arm."""
    spec, folder, arms = job.spec, Path(outputs["folder"]), []
    teacher, budget = teacher_of(spec, inputs), Budget.of(spec)
    for seed in spec.seeds:
        nets, data = teacher.of(seed)
        entries = fit_all(
            spec.regime,
            spec.arms,
            teacher.config,
            nets,
            data,
            budget,
            seed=seed,
            folder=folder / f"seed{seed}",
            base=teacher.states.manifest.base,
            text=spec.text,
            checkpoints=job.scratch,
            closed_only=seed in spec.closed_only,
        )
        arms += [entry.model_copy(update={"folder": f"seed{seed}/{entry.folder}"}) for entry in entries]
    CalibrationManifest(arms=arms, provenance=job.provenance()).write(outputs["manifest"])
