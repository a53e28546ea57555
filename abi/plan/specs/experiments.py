"""What an experiment is: arms that differ in one thing, and statements about them as tests between arms.

An experiment is data: another is an entry of `config/claims.yaml`. What a reader of a statement sees (`says`) is no
part of the evidence, so another wording runs nothing again.
"""

from typing import Annotated, Literal

from pydantic import Field

from abi.base.diagnostics import CODE
from abi.base.names import ORACLE, RAW, REFERENCE
from abi.base.typed import Fraction, Positive, Sha256, Typed
from abi.plan.specs.arms import FitPhase, Made, StepOfFit
from abi.plan.specs.models import ModuleSection
from abi.plan.specs.shared import Rate, WeightDecay, Window
from abi.plan.specs.studies import StudyEvidence, Way

ObjectiveName = Literal[
    "ce", "kd", "kl", "correction-mse", "entropy-weighted-mse", "confidence-weighted-mse", "logit-mse", "local-kl"
]
"""What steps minimise: cross-entropy; KD; the whole KL at temperature 1; the mean squared error of corrections, as it
is or with weights by the teacher's entropy or its inverse; that of logits; KL among the teacher's ten likeliest tokens.
"""
Noise = Literal["state", "abi", "null"]
"""Where it is put: on the final state, on the ABI state, or in the part of it that `proj_out` does not read."""
ArmName = Annotated[str, Field(pattern="^[a-z][a-z0-9.-]*$")]
BOUNDS = (RAW, ORACLE, REFERENCE)
"""Arms that every study has."""


class ArmOfExperiment(Typed):
    """How an arm is made and fitted; what is left out is as in the budget of the experiment's fit."""

    recipe: str
    """arm of the catalogue that it is made as, or a trained module as it is: `oracle`, `source`"""
    start: ArmName | None = None
    """arm of the experiment that it goes on from, in place of its recipe"""
    by: Literal["steps", "solve", "nothing"] = "nothing"
    """how it is fitted: by gradient steps, in closed form, or not at all"""
    objective: ObjectiveName = "kd"
    steps: Annotated[float, Field(gt=0, le=1)] = 1.0
    """share of the budget's steps"""
    rate_of: ArmName | None = None
    """arm whose learning rate it takes; without it the arm chooses its own"""
    temperature: Rate | None = None
    """of KD"""
    kd_weight: Fraction | None = None
    """weight of the teacher against CE"""
    local: Annotated[float, Field(ge=0)] = 0.0
    """weight of KL among the ten likeliest tokens, beside KD"""
    width: Positive | None = None
    """width of the ABI space; a net of this width is trained here"""
    of_state: Annotated[float, Field(gt=0)] | None = None
    """the same as a multiple of the state's width"""
    expansion: Positive | None = None
    """hidden width of its domain net over that of the ABI space"""
    text: str | None = None
    """text it is fitted on and whose oracle teaches it; the experiment's first text if absent"""
    noise: Noise | None = None
    """where it is disturbed: the final state, the ABI state, or the part of it that `proj_out` does not read"""
    size: Annotated[float, Field(ge=0)] = 0.0
    """of the noise: standard deviation of logits where it is on the final state, else a multiple of the ABI state"""
    precision: Literal["bf16", "fp16"] | None = None
    """number format in which the backbone runs again"""
    net: Literal["on", "off"] = "on"
    """whether the arm that it goes on from is read with its domain net, or with the interface alone"""
    backbone: str | None = None
    """other backbone that is disturbed, with the experiment's tokenizer; the experiment's own if absent"""
    update: str | None = None
    """updated backbone that it is read on"""
    way: Way = "held"
    """of the update"""


class Asked(Typed):
    """One test: the lower bound of a weighted sum of arms lies above its limit; an upper bound below it refutes."""

    weights: Annotated[dict[ArmName, float], Field(min_length=1)]
    """arm -> weight; figures are turned so that more is better"""
    metric: str = "js_nats"
    scope: Literal["domain", "general"] = "domain"
    margin: float = 0.0
    """limit, as a part of the plain backbone's figure"""
    by: float = 0.0
    """limit in the unit of the metric, beside `margin`"""
    required: bool = True
    """whether it decides, or is reported"""


class Statement(Typed):
    """A sentence of the original in our words, and what decides it."""

    says: Annotated[str, Field(min_length=10)]
    """the original's sentence in our words"""
    about: ArmName
    """arm that it is about, the candidate"""
    placebo: ArmName
    """arm that moves no knowledge; if made as the arm is, it is asked the same against bounds, which decides nothing"""
    ours: bool = False
    """whether it is a question of ours, which the original does not answer"""
    text: str | None = None
    """text it is measured on; the experiment's first text if absent"""
    tests: Annotated[dict[Annotated[str, Field(pattern="^[a-z0-9.-]+$")], Asked], Field(min_length=1)]
    floors: dict[str, Annotated[float, Field(gt=0)]] = {}
    """figure of generated code -> what the oracle has to reach for the statement to say anything"""

    def of_code(self) -> list[str]:
        """Return the figures of generated code that it asks for."""
        asked = dict.fromkeys([*(test.metric for test in self.tests.values()), *self.floors])
        return [metric for metric in asked if metric in CODE]


def said(statement: Statement) -> str:
    """Return a statement as readers see it, who are told where it is none of the original's."""
    return f"Asked by us: {statement.says}" if statement.ours else statement.says


class StudyOf(Typed):
    """A statement as evidence knows it: which arm is its candidate, on which text, and which arms stand beside it."""

    about: ArmName
    text: str
    arms: list[ArmName]
    code: list[str] = []
    """figures of generated code that it asks for"""

    def shows(self, arm: str) -> bool:
        """Return whether an arm stands in the study; bounds stand in every one."""
        return arm in (*BOUNDS, *self.arms)


class CodeSection(Typed):
    """How much code is generated where an experiment asks for it."""

    tasks: Positive = 60
    """tasks, the first of config/tasks.yaml"""
    tokens: Positive = 48
    """tokens per task and sample"""


class CodeOfExperiment(CodeSection):
    """What the evidence about generated code depends on."""

    sha256: Sha256
    """of the file of tasks"""
    metrics: list[str]
    arms: list[ArmName]


class BudgetOfExperiment(StepOfFit):
    """The part of a fit of the scale that an experiment runs."""

    weight_decay: WeightDecay = 0.01
    ridge_penalty: Rate
    closed_form_rows: Positive | None = None
    phases: Annotated[list[FitPhase], Field(min_length=1)]
    rates: list[Rate]

    def of_steps(self, share: float) -> list[FitPhase]:
        """Return the phases with a share of their steps and of their warm-up."""
        return [
            phase.model_copy(
                update={"steps": max(1, round(share * phase.steps)), "warmup": round(share * phase.warmup)}
            )
            for phase in self.phases
        ]


class ExperimentEvidence(StudyEvidence):
    """What the evidence of an experiment depends on."""

    arms: dict[ArmName, ArmOfExperiment]
    recipes: dict[str, Made]
    """recipe that some arm names -> what it is in the experiment"""
    studies: dict[str, StudyOf]
    scopes: list[Literal["domain", "general"]]
    diagnostics: dict[str, dict[str, list[str]]] = {}
    """scope -> metric that no other claim has -> the arms that tests ask about in it there"""
    with_teacher: bool = False
    """whether a test asks for agreement with what teaches"""
    code: CodeOfExperiment | None = None
    """generated code, where a statement asks for it"""
    module: ModuleSection
    name: str
    """of the module's shape"""
    taught_by: Literal["oracle", "reference"]
    """whose corrections are taught"""
    budget: BudgetOfExperiment
    max_rows: Positive
    """rows of an alignment at most"""
    window: Window


class TabulateExperiments(Typed):
    """What the page of all experiments depends on besides result files."""

    scale: str
