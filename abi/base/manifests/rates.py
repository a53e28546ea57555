"""The manifest of the learning rates that arms chose, and what a result repeats of it."""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from abi.base.errors import DataError
from abi.base.typed import Count, Document, Provenance, Typed

Rate = Annotated[float, Field(gt=0)]


class ChosenRate(Typed):
    """The learning rate of an arm."""

    rate: Rate
    at_end: bool
    """Whether it is the first or last of the grid: a rate outside might have been better."""


class ChosenRates(Typed):
    """Learning rates as a result repeats them."""

    grid: list[Rate]
    seed: Count
    """Of the trials; no study has it."""
    arms: dict[str, ChosenRate]


class TriedArm(ChosenRate):
    """What an arm made of every rate of the grid."""

    arm: str
    objectives: list[float | None]
    """Per rate the objective of the fit on calibration text, mean over a ladder of windows; null: not finite."""


class RatesManifest(Document):
    """rates/<claim>.json."""

    kind: ClassVar[str] = "rates"
    seed: Count
    """Of the trials; no study has it."""
    grid: Annotated[list[Rate], Field(min_length=2)]
    arms: Annotated[list[TriedArm], Field(min_length=1)]
    provenance: Provenance

    @model_validator(mode="after")
    def _as_chosen(self) -> Self:
        for tried in self.arms:
            if len(tried.objectives) != len(self.grid):
                raise ValueError(f"{tried.arm} has {len(tried.objectives)} objectives for {len(self.grid)} rates")
            best = best_of(self.grid, tried.objectives)
            if tried.rate != best:
                raise ValueError(f"{tried.arm} has the rate {tried.rate:g}, and its lowest objective is that of {best}")
            if tried.at_end != (tried.rate in (self.grid[0], self.grid[-1])):
                raise ValueError(f"{tried.arm}: at_end is {tried.at_end} of the rate {tried.rate:g} in {self.grid}")
        return self

    def rates(self, arms: Iterable[str]) -> dict[str, float]:
        """Return arm -> its rate. Raises: DataError: one of the arms was not tried."""
        chosen = {tried.arm: tried.rate for tried in self.arms}
        wanted = list(dict.fromkeys(arms))
        if missing := [arm for arm in wanted if arm not in chosen]:
            raise DataError(f"rates: {missing[0]} chose none; delete the manifest of the rates and rebuild it")
        return {arm: chosen[arm] for arm in wanted}

    def chosen(self) -> ChosenRates:
        """Return what a result repeats."""
        arms = {tried.arm: ChosenRate(rate=tried.rate, at_end=tried.at_end) for tried in self.arms}
        return ChosenRates(grid=self.grid, seed=self.seed, arms=arms)


def best_of(grid: Sequence[float], objectives: Collection[float | None]) -> float | None:
    """Return the rate with the lowest objective, the lowest rate of equals; None where no objective is finite."""
    found = [(value, rate) for value, rate in zip(objectives, grid, strict=True) if value is not None]
    return min(found)[1] if found else None
