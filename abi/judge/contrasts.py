"""The machinery of a verdict (protocol section 4), on tables: one study, or thousands of simulated ones at once.

Tables map a `Measure` and an arm to `[..., D, S]` (leading axes are studies), every sign turned so that more is better.
A contrast is a weighted sum of arms, formed per group and seed before anything is averaged. A test passes when its
lower bound is above its limit; a refutation holds when an upper bound is below it. The questions are in `protocol`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from abi.base.diagnostics import METRICS
from abi.base.names import RAW
from abi.base.regimes import Roles
from abi.judge.intervals import Array, Components, Numbers, components

Bools = NDArray[np.bool_]
Holds = Bools | bool
"""An answer for every study, or for the one that there is."""
TEACHER = "teacher_"


class Measure(NamedTuple):
    """A metric on one scope of text."""

    metric: str
    scope: str

    @property
    def sign(self) -> float:
        """Factor that turns its figures so that more is better."""
        return -1.0 if lower_is_better(self.metric) else 1.0


def lower_is_better(metric: str) -> bool:
    """Return whether less of a metric is better; `teacher_<metric>` is the same agreement, with the teacher."""
    return METRICS[metric.removeprefix(TEACHER)].lower_is_better


Tables = Mapping[Measure, Mapping[str, Array]]
Key = tuple[Measure, tuple[tuple[str, float], ...]]
"""What a figure is of: a measure and weighted arms."""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms in one measure, and its limit: `by` and `margin` times the size of raw's mean.

    `required`: SUPPORTED needs it, the others are reported. `closed`: an upper bound at the limit refutes too.
    """

    id: str
    measure: Measure
    weights: Mapping[str, float]
    margin: float = 0.0
    required: bool = True
    closed: bool = False
    by: float = 0.0

    @property
    def key(self) -> Key:
        """What its figures are of; contrasts of one key differ in what is asked of it."""
        return self.measure, tuple(self.weights.items())

    def words(self) -> str:
        """Return the contrast as a formula, for example `transferred - 0.5 home - 0.5 random`."""
        parts = [
            ("- " if weight < 0 else "+ ") + ("" if abs(weight) == 1 else f"{abs(weight):.3g} ") + arm
            for arm, weight in self.weights.items()
        ]
        return " ".join(parts).removeprefix("+ ")

    def table(self, tables: Tables) -> Array:
        """Return the contrast per group and seed, [..., D, S]."""
        arms = tables[self.measure]
        (first, weight), *rest = self.weights.items()
        total = weight * arms[first]
        for arm, weight in rest:
            total += weight * arms[arm]
        return total


class Figures(Protocol):
    """Where the figures of contrasts come from: tables of evidence, or what a result file stores."""

    def parts(self, contrast: Contrast) -> Components:
        """Return mean and mean squares of a contrast, each of the leading shape."""
        ...

    def mean(self, contrast: Contrast) -> float:
        """Return the mean of a contrast of one study that is too small for mean squares."""
        ...

    def plain(self, measure: Measure) -> Numbers:
        """Return the mean of the plain backbone in one measure, of the leading shape."""
        ...


class FromTables:
    """Figures of one set of tables; the mean squares of a contrast are computed once for all levels."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.seen: dict[Key, Components] = {}

    def parts(self, contrast: Contrast) -> Components:
        """Return mean and mean squares of a contrast."""
        if contrast.key not in self.seen:
            self.seen[contrast.key] = components(contrast.table(self.tables))
        return self.seen[contrast.key]

    def mean(self, contrast: Contrast) -> float:
        """Return the mean of a contrast of one study."""
        return float(contrast.table(self.tables).mean())

    def plain(self, measure: Measure) -> Array:
        """Return the mean of the plain backbone."""
        mean: Array = self.tables[measure][RAW].mean((-2, -1))
        return mean


@dataclass(frozen=True)
class Refutation:
    """One of the ways to be refuted: an upper bound below the limit for some of its contrasts.

    `needs_sensitive`: it says nothing about a study that cannot tell the right net from a placebo.
    """

    id: str
    contrasts: tuple[Contrast, ...]
    needs_sensitive: bool = False


@dataclass(frozen=True)
class Questions:
    """Tests in the protocol's order and refutations; "sensitive" means that the tests whose id starts with 1 pass."""

    tests: tuple[Contrast, ...]
    refutations: tuple[Refutation, ...]


@dataclass(frozen=True)
class Plan:
    """What one fit or study is asked: who plays which role, and the questions in the measure that decides.

    `vacuous`: when there is nothing to transfer; `secondary`: the same questions of each metric that is reported.
    """

    kind: str
    regime: str | None
    roles: Roles
    measure: Measure
    own: Questions
    vacuous: tuple[Contrast, ...]
    secondary: Mapping[str, Questions]

    def contrasts(self) -> tuple[Contrast, ...]:
        """Return every contrast that is asked anywhere; ids are different."""
        asked = (self.own, *self.secondary.values())
        refuting = [c for questions in asked for refutation in questions.refutations for c in refutation.contrasts]
        return (*(test for questions in asked for test in questions.tests), *refuting, *self.vacuous)


@dataclass(frozen=True)
class Outcome:
    """One contrast at one level: `holds` says of every study whether the test passes, or whether the bound refutes."""

    contrast: Contrast
    parts: Components
    level: float
    limit: Numbers
    holds: Holds

    def clearance(self) -> float:
        """Return how far the mean of one study lies above its limit in half widths; arms equal everywhere have none."""
        half = float(self.parts.half(self.level))
        return float(self.parts.mean - self.limit) / half if half else float("inf")


@dataclass(frozen=True)
class Refuted:
    """One way to be refuted: whether it applies to and holds for every study, and what each of its contrasts says."""

    id: str
    applies: Bools
    holds: Bools
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Answers:
    """The outcomes of `Questions`."""

    tests: tuple[Outcome, ...]
    refutations: tuple[Refuted, ...]

    def passed(self) -> Bools:
        """Return whether every required test passes, per study."""
        return every(o.holds for o in self.tests if o.contrast.required)

    def refuted(self) -> Bools:
        """Return whether some refutation holds, per study."""
        return some(item.holds for item in self.refutations)

    def refuting(self) -> list[tuple[Refuted, Outcome]]:
        """Return the refutations that hold for one study, each with the first of its contrasts that refutes."""
        holding = (item for item in self.refutations if item.holds)
        return [(way, next(outcome for outcome in way.outcomes if outcome.holds)) for way in holding]


@dataclass(frozen=True)
class Decision:
    """The verdicts of all studies, of the leading shape, and everything they rest on."""

    verdict: NDArray[np.str_]
    own: Answers
    vacuous: tuple[Outcome, ...]
    secondary: Mapping[str, Answers]

    def deciding(self) -> Outcome:
        """Return what decides one study: what makes it vacuous or refutes it, the required test that holds by least,
        the first one that fails, or where all hold what refutes another metric.
        """
        required = [test for test in self.own.tests if test.contrast.required]
        match str(self.verdict):
            case "VACUOUS":
                return next(outcome for outcome in self.vacuous if outcome.holds)
            case "REFUTED":
                return self.own.refuting()[0][1]
            case "SUPPORTED":
                return min(required, key=Outcome.clearance)
        contrary = (answers.refuting()[0][1] for answers in self.secondary.values() if answers.refuted())
        return next((test for test in required if not test.holds), None) or next(contrary)


def decide(figures: Figures, plan: Plan, *, level: float) -> Decision:
    """Return the verdict of every study: VACUOUS, else REFUTED, else SUPPORTED, else INCONCLUSIVE.

    SUPPORTED and REFUTED are found independently of each other and never coincide.

    Args: level: of the intervals, 0.95 unless a headline counts several claims.
    """
    own = answer(figures, plan.own, level)
    secondary = {metric: answer(figures, questions, level) for metric, questions in plan.secondary.items()}
    vacuous = tuple(outcome(figures, contrast, level, below=True) for contrast in plan.vacuous)
    supported = own.passed() & ~some(answers.refuted() for answers in secondary.values())
    assert not np.any(supported & own.refuted()), "a claim cannot be SUPPORTED and REFUTED"
    conditions = [some(o.holds for o in vacuous), own.refuted(), supported]
    verdict = np.select(conditions, ["VACUOUS", "REFUTED", "SUPPORTED"], default="INCONCLUSIVE")
    return Decision(verdict, own, vacuous, secondary)


def outcome(figures: Figures, contrast: Contrast, level: float, *, below: bool) -> Outcome:
    """Return whether the lower bound of a contrast lies above its limit, or its upper bound `below` it."""
    parts = figures.parts(contrast)
    limit: Numbers = contrast.by
    if contrast.margin:
        limit = contrast.margin * np.abs(figures.plain(contrast.measure)) + contrast.by
    if not below:
        return Outcome(contrast, parts, level, limit, parts.mean - parts.half(level) > limit)
    upper = parts.mean + parts.half(level)
    return Outcome(contrast, parts, level, limit, upper <= limit if contrast.closed else upper < limit)


def answer(figures: Figures, questions: Questions, level: float) -> Answers:
    """Return the outcomes of tests and refutations in one metric."""
    tests = tuple(outcome(figures, test, level, below=False) for test in questions.tests)
    sensitive = every(o.holds for o in tests if o.contrast.id.startswith("1."))
    return Answers(tests, tuple(_refute(figures, item, sensitive, level) for item in questions.refutations))


def _refute(figures: Figures, item: Refutation, sensitive: Bools, level: float) -> Refuted:
    """Return whether some of the K contrasts refutes at level 1 - alpha / K, where the refutation applies."""
    at = 1 - (1 - level) / len(item.contrasts)
    outcomes = tuple(outcome(figures, contrast, at, below=True) for contrast in item.contrasts)
    found = some(o.holds for o in outcomes)
    applies = sensitive if item.needs_sensitive else np.ones_like(found)
    return Refuted(item.id, applies, applies & found, outcomes)


def some(masks: Iterable[Holds]) -> Bools:
    """Return where some mask is true; nowhere if there is none."""
    return reduce(np.logical_or, masks, np.asarray(False))


def every(masks: Iterable[Holds]) -> Bools:
    """Return where every mask is true; everywhere if there is none."""
    return reduce(np.logical_and, masks, np.asarray(True))
