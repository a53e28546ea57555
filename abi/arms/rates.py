"""Every arm's own learning rate: the one of the registered grid with the lowest objective on calibration text.

Protocol section 2: the same grid and number of trials for every arm of a claim, and a seed that no study has. A trial
is the fit that decides, with its own steps, data and objective; test text is never read.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from abi.arms.fitting import Budget, Nets, Solved, gradient_tasks, make, scale_arms, train_arms
from abi.arms.forms import FittableForm, StoredStates
from abi.arms.gradient import FitData, Objective, objectives
from abi.base.catalogue import Recipe
from abi.base.errors import DataError
from abi.base.manifests.rates import TriedArm, best_of
from abi.models.module import ModuleConfig

POSITIONS = 2048
"""Positions whose objective is computed at once."""

JUDGED = 8192
"""Positions of calibration text, in windows spread evenly over it, that a trial is judged on. They are the same for
every rate and arm, so what makes them harder or easier than the rest cancels; all of them took as long as the fits."""


def tried_rates(
    recipes: Mapping[str, Recipe],
    config: ModuleConfig,
    nets: Nets,
    data: FitData,
    held_out: FitData,
    budget: Budget,
    grid: Sequence[float],
    *,
    seed: int,
    checkpoints: Path | None = None,
) -> dict[str, list[float]]:
    """Return arm -> its objective on held-out data at every rate, the mean over a ladder of windows; NaN: it diverged.

    All arms are fitted together, one rate after the other: so the trials take no more memory than the fits themselves.
    """
    tasks, solved = gradient_tasks(data, budget, seed), Solved(budget.ridge_penalty)
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for rate in grid:
        at_rate = replace(budget, rates=dict.fromkeys(recipes, rate))
        below = None if checkpoints is None else checkpoints / repr(rate)
        sums = torch.zeros(len(recipes), dtype=torch.float64)
        for task in tasks:
            arms = {name: make(recipe, name, config, nets, task.data, seed=seed) for name, recipe in recipes.items()}
            train_arms(arms, task, at_rate, seed, solved, below, may_diverge=True)
            scale_arms(arms, task)
            sums += mean_objectives([arm.model for arm in arms.values()], held_out, budget.objective)
        for name, total in zip(recipes, sums.tolist(), strict=True):
            found[name].append(total / len(tasks))
    return found


def mean_objectives(models: Sequence[FittableForm | StoredStates], data: FitData, objective: Objective) -> Tensor:
    """Return the objective `[A]` of every fitted arm on all windows of some data, float64: a mean over positions."""
    return mean_over(data, lambda part: objectives(models, data, objective, part))


@torch.no_grad()
def mean_over(data: FitData, values: Callable[[slice], Iterable[Tensor]]) -> Tensor:
    """Return the means `[A]` over all windows of some data of what arms have on a part of them, float64."""
    total, batch = torch.zeros((), dtype=torch.float64), max(1, POSITIONS // data.states.manifest.positions)
    for start in range(0, len(data.states), batch):
        part = slice(start, min(start + batch, len(data.states)))
        total = total + (part.stop - start) * torch.stack(list(values(part))).double().cpu()
    return total / len(data.states)


def choose(arm: str, grid: Sequence[float], values: Sequence[float]) -> TriedArm:
    """Return the rate of an arm with the lowest of its objectives, one per rate of the grid.

    Raises: DataError: none of them is finite.
    """
    known = [value if math.isfinite(value) else None for value in values]
    rate = best_of(grid, known)
    if rate is None:
        raise DataError(
            f"rates: the objective of {arm} is finite at none of {', '.join(f'{r:g}' for r in grid)}; "
            "put lower rates into `rates` of its fit"
        )
    return TriedArm(arm=arm, objectives=known, rate=rate, at_end=rate in (grid[0], grid[-1]))
