"""Step choose_rates: the learning rate of every arm of a claim, chosen on calibration text with a seed of no study."""

from importlib import import_module
from pathlib import Path
from typing import Protocol

from abi.arms.fitting import Budget
from abi.arms.forms import corrections
from abi.arms.gradient import FitData
from abi.arms.rates import JUDGED, choose, tried_rates
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.rates import RatesManifest
from abi.base.names import LORA
from abi.base.regimes import REGIMES
from abi.models.saved import check_same_text, module_of_seed, read_states
from abi.plan.specs.arms import ChooseRates as Spec
from abi.steps.calibrate_arms import lesson_of


class Adapters(Protocol):
    """The part of `train_lora` that is read here, by name: a claim without the arm `lora` depends on none of it."""

    def tried_rates(
        self, spec: Spec, inputs: InputFiles, data: FitData, held_out: FitData, budget: Budget, checkpoints: Path
    ) -> list[float]:
        """Return the objective of the arm on held-out data at every rate of the grid."""


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest`."""
    spec, grid, budget = job.spec, job.spec.budget.rates, Budget.of(job.spec)
    [seed] = spec.seeds
    lesson = lesson_of(spec, inputs)
    nets, data = lesson.of(seed)
    held_out = held_out_of(spec, inputs, data, seed).at_most(JUDGED)
    recipes = {arm: recipe for arm, recipe in spec.arms.items() if arm != LORA}
    found = tried_rates(recipes, lesson.config, nets, data, held_out, budget, grid, seed=seed, checkpoints=job.scratch)
    if LORA in spec.arms:
        adapters: Adapters = import_module("abi.steps.train_lora")
        found[LORA] = adapters.tried_rates(spec, inputs, data, held_out, budget, job.scratch)
    arms = [choose(arm, grid, found[arm]) for arm in spec.arms]
    RatesManifest(seed=seed, grid=grid, arms=arms, provenance=job.provenance()).write(outputs["manifest"])


def held_out_of(spec: Spec, inputs: InputFiles, data: FitData, seed: int) -> FitData:
    """Return what trials are judged on: the held-out general lesson, or domain calibration text and what teaches there.

    Raises: DataError: the calibration text is another than the one of the fits.
    """
    if data.held_out is not None:
        return data.held_out
    states, role = read_states(inputs["calibration"], "calibration"), REGIMES[spec.regime].taught_by
    check_same_text(data.states, states)
    taught = None if role is None else corrections(module_of_seed(inputs[role], seed, states), states)
    return FitData(states, data.head, taught)
