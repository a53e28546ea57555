"""Step calibrate_arms: every arm of a claim for a batch of seeds, by gradient and in closed form, with one budget."""

from importlib import import_module
from pathlib import Path
from typing import Protocol

from abi.arms.fitting import Budget, Nets, fit_all
from abi.arms.gradient import FitData
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.arms import CalibrationManifest
from abi.base.manifests.rates import RatesManifest
from abi.base.regimes import REGIMES
from abi.models.module import ModuleConfig
from abi.models.states import States
from abi.plan.specs.arms import CalibrateArms as Spec
from abi.plan.specs.arms import TaughtArms


class Lesson(Protocol):
    """What the arms of a claim are fitted to, read once for all seeds of a batch: a class of the regime's file."""

    states: States
    """The target's, which the fits are on or are paired from."""
    config: ModuleConfig
    """Shape of the target's module."""

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets, and what its arms may be fitted with."""


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` and beside it one folder per seed, fit and arm."""
    spec, folder, arms = job.spec, Path(outputs["folder"]), []
    rates = RatesManifest.read(inputs["rates"][0]).rates(spec.arms) if "rates" in inputs.keys() else {}
    lesson, budget = lesson_of(spec, inputs), Budget.of(spec, rates)
    for seed in spec.seeds:
        nets, data = lesson.of(seed)
        arms += fit_all(
            spec.arms,
            lesson.config,
            nets,
            data,
            budget,
            seed=seed,
            folder=folder,
            base=lesson.states.manifest.base,
            text=spec.text,
            checkpoints=job.scratch,
            closed_only=seed in spec.closed_only,
        )
    CalibrationManifest(arms=arms, provenance=job.provenance(outputs)).write(outputs["manifest"])


def lesson_of(spec: TaughtArms, inputs: InputFiles) -> Lesson:
    """Return the lesson of a claim's regime.

    It is imported by the name that `REGIMES` gives, so that the code digest of one regime's jobs does not cover the
    lesson of another.
    """
    lesson: Lesson = import_module(f"abi.arms.{REGIMES[spec.regime].lesson}").read(spec, inputs)
    return lesson
