"""What updated backbones and the evidence of claims made of several studies depend on."""

from typing import Annotated, Literal

from pydantic import Field

from abi.base.typed import Positive, Typed
from abi.plan.specs.arms import BudgetName, EvaluationSection, Looks, StepOfFit
from abi.plan.specs.models import Shape
from abi.plan.specs.shared import Names, Phases, Rate, Seeds, WeightDecay, Window

Way = Literal["held", "free"]


class UpdateTraining(Typed):
    """How an updated backbone is trained."""

    batch: Positive
    """windows per step"""
    phases: Phases
    weight_decay: WeightDecay = 0.01


class UpdateSection(Typed):
    """How a backbone is updated on general text or on that of a new domain; the result is a backbone like any other."""

    backbone: str
    """backbone of the scale that is updated"""
    text: str
    """text it is updated on (train split only)"""
    holds: Names
    """domain texts whose modules' ABI states the stability term holds"""
    module: str
    """module shape of the scale"""
    rounds: Positive
    """rounds, each on its own part of the text, each from the one before"""
    trains: Literal["all", "body"]
    """`body` leaves embeddings and head as they are"""
    stability: Rate
    """weight of the stability term; every update is also made with weight 0"""
    training: UpdateTraining


class UpdateBackbone(Typed):
    """What the updated backbones of a batch of seeds depend on."""

    update: str
    way: Way
    round: Positive
    seeds: Seeds
    window: Window
    rounds: Positive
    trains: Literal["all", "body"]
    training: UpdateTraining
    holds: list[str]
    stability: Annotated[float, Field(ge=0)]


class GenerateText(Typed):
    """What generated texts depend on."""

    update: str
    seeds: Seeds


class StudyEvidence(EvaluationSection):
    """What the evidence of every claim made of several studies depends on, for a batch of seeds."""

    texts: list[str]
    seeds: Seeds


class UpdateEvidence(StudyEvidence):
    """What the evidence of single updates of a backbone, or of rounds of one, depends on."""

    kind: Literal["update", "succession"]
    updates: list[str]
    rounds: Positive


class AtlasEvidence(StudyEvidence):
    """What the evidence of an atlas depends on."""

    kind: Literal["atlas"]
    shared: str
    mixture: list[str] = []
    module: Shape
    ridge_penalty: Rate
    closed_form_rows: Positive | None


class LawBudget(StepOfFit):
    """The part of a fit that a scaling law runs."""

    budgets: Looks


class LawEvidence(StudyEvidence):
    """What the evidence of a scaling law depends on."""

    kind: Literal["scaling_law"]
    updates: list[str]
    fit: BudgetName
    budget: LawBudget


EvaluateStudies = Annotated[UpdateEvidence | AtlasEvidence | LawEvidence, Field(discriminator="kind")]
