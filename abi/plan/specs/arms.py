"""What alignments, fitted arms and their evidence depend on."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from abi.base.catalogue import Recipe
from abi.base.typed import Count, Fraction, Positive, Regime, Typed
from abi.plan.specs.models import NgramSection, Shape, WriteStates
from abi.plan.specs.shared import UNIQUE, BatchOf, Once, Phase, Rate, Seeds, Warmup, WeightDecay


def _read_recipe(value: object) -> object:
    try:
        return Recipe(**value) if isinstance(value, dict) else value
    except TypeError as error:
        raise ValueError(str(error)) from None


Made = Annotated[Recipe, BeforeValidator(_read_recipe), PlainSerializer(Recipe.given)]
"""How an arm is made, as JSON without defaults."""
BudgetName = Literal["kd", "ce", "matched", "correction-mse"]
"""Fits that a scale gives a budget."""
FitName = BudgetName | Literal["portable"]
"""How the arms of a claim come about; portable modules are placed as they are."""


class AlignmentSection(Typed):
    """How spaces are aligned."""

    text: str
    """text whose positions are paired"""
    split: Literal["train", "calibration"]
    """its split"""
    max_rows: Annotated[int, Field(ge=100)]
    """most paired rows, spread over all of the text"""


class EvaluationSection(Typed):
    """How evidence is made."""

    windows_per_batch: Positive
    """windows whose logits are in memory at once"""
    training_windows: Positive
    """train windows reported as on_training_text"""
    n_chunks: Positive
    """windows per published random draw"""
    rng_seeds: list[int]
    """the record's five draw seeds"""


class Looks(Typed):
    """Where a scaling law looks at one run of a fit."""

    steps: Annotated[list[Count], Field(min_length=2, json_schema_extra=UNIQUE), Once]
    """steps, ascending"""
    lr: Rate
    """constant rate"""
    warmup: Warmup


class VariantSection(Typed):
    """The same fit with other steps, a share of the text or other text."""

    steps: Positive | None = None
    """steps"""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """share of the paired positions"""
    text: Literal["", "written"] = ""
    """written: the lesson is on text that the source draws with its module, in place of general text"""


class WrittenDocuments(Typed):
    """Documents that a source writes, per split; those of calibration choose the gain."""

    train: Positive
    """documents"""
    calibration: Positive
    """documents"""


class WrittenSection(Typed):
    """Text that a source draws with its module, for variants on written text."""

    documents: WrittenDocuments
    """documents per split; calibration ones choose the gain"""
    sequences: Positive
    """sequences of a window's length in a document"""
    temperature: Rate
    """of the draws"""


class FitPhase(Phase):
    """A part of a fit, whose arms have learning rates of their own."""

    lr: Annotated[float, Field(gt=0, le=1)] = 1.0
    """peak, as a share of the arm's own learning rate"""


class StepOfFit(Typed):
    """What a step of a fit reads, and how it is taught by KD."""

    temperature: Rate = 2.0
    """KD temperature"""
    kd_weight: Fraction = 0.9
    """weight of the teacher against CE"""
    batch: Positive
    """windows or positions per step"""
    batch_of: BatchOf = "windows"


class FitSection(StepOfFit):
    """The budget that all arms of a pair and seed share."""

    weight_decay: WeightDecay = 0.01
    budgets: Looks | None = None
    """where a scaling law looks at one run of this fit"""
    windows: Annotated[list[Positive], Field(min_length=1, json_schema_extra=UNIQUE), Once] | None = None
    """ladder of domain windows (few-shot); the figure is its mean"""
    variants: dict[Annotated[str, Field(pattern="^[a-z]+-[a-z0-9]+$")], VariantSection] = {}
    """name -> the same fit with other steps, a share of the text or other text"""
    written: WrittenSection | None = None
    """text that a source draws with its module, for variants on written text"""
    ridge_penalty: Rate
    """closed form, relative to the mean diagonal"""
    closed_form_rows: Positive | None = None
    """positions a closed form reads at most, in windows spread evenly; all if absent"""
    phases: Annotated[list[FitPhase], Field(min_length=1)]
    """phases of every arm"""
    rates: Annotated[list[Rate], Field(min_length=2, json_schema_extra=UNIQUE), Once]
    """registered grid of learning rates, ascending: every arm's own is chosen among them on calibration text"""

    @property
    def steps(self) -> int:
        """Steps of every arm."""
        return sum(phase.steps for phase in self.phases)


class FitAlignment(Typed):
    """What the rotations of a batch of seeds depend on."""

    module: Shape
    max_rows: Positive
    split: Literal["train", "calibration"]
    seeds: Seeds


class Fitting(Typed):
    """What every fit of arms for a batch of seeds depends on."""

    regime: Regime
    fit: BudgetName
    budget: FitSection
    module: Shape
    seeds: Seeds
    variants: list[str]


class TaughtArms(Fitting):
    """What arms that are fitted on stored states, by what teaches in their regime, depend on."""

    arms: dict[str, Made]
    """arm -> how it is made: an arm that is added changes the spec of the claims that have it, and of no other"""
    closed_only: Seeds = []
    """seeds that only the closed form has"""
    max_rows: Positive | None = None
    """paired positions at most, where the source teaches"""


class ChooseRates(TaughtArms):
    """What the learning rates of the arms depend on: the budget of the fit that decides, at every rate of its grid."""


class CalibrateArms(TaughtArms):
    """What the fitted arms of a batch of seeds depend on."""

    text: str


class TrainLora(Fitting):
    """What the adapters of a batch of seeds depend on: the budget of the other arms, the size of their interface."""

    training_windows: Positive | None = None


class WriteLessonText(WrittenSection):
    """What the text that a batch of source modules writes, and the states on it, depend on."""

    seeds: Seeds
    source: WriteStates
    target: WriteStates


class EvaluateArms(EvaluationSection):
    """What the evidence of a batch of seeds depends on."""

    regime: Regime
    seeds: Seeds
    closed_only: Seeds
    placebos: dict[str, Positive] = {}
    """placebo of a portable module that is placed as it is -> its draws per seed"""
    ngram: NgramSection | None = None
    """what stands beside such a module"""
