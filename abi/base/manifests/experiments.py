"""The manifest of the fits of an experiment."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.manifests.arms import FitFigures
from abi.base.manifests.rates import ChosenRates, Rate, TriedArm
from abi.base.typed import Count, Document, Provenance


class FitOfArm(FitFigures):
    """What a fit left of an arm of a seed."""

    arm: str
    seed: Count


class FitsManifest(Document):
    """evidence/<experiment>/<batch>.fits.json: what was fitted, and how learning rates were chosen."""

    kind: ClassVar[str] = "fits"
    seed: Count
    """Of the trials; no study has it."""
    grid: Annotated[list[Rate], Field(min_length=2)]
    tried: list[TriedArm]
    arms: list[FitOfArm]
    provenance: Provenance

    def chosen(self) -> ChosenRates:
        """Return grid and choices as a result repeats them."""
        rates = {one.arm: one.given("rate", "at_end") for one in self.tried}
        return ChosenRates.model_validate({"grid": self.grid, "seed": self.seed, "arms": rates})
