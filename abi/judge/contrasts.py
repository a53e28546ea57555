"""The machinery of a verdict (protocol section 4), on tables: one study, or thousands of simulated ones at once.

Tables map a `Measure` and an arm to `[..., D, S]` (leading axes are studies), every sign turned so that more is better.
A contrast is a weighted sum of arms, formed per group and seed before anything is averaged. A test passes when its
lower bound is above its limit; a refutation holds when an upper bound is below it. The questions are in `abi.plans`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from abi.base.errors import ConfigError
from abi.base.names import AGREEMENT
from abi.judge.intervals import Array, Components, components

Bools = NDArray[np.bool_]


class Measure(NamedTuple):
    """A metric on one scope of text."""

    metric: str
    scope: str


Tables = Mapping[Measure, Mapping[str, Array]]


@dataclass(frozen=True)
class Criteria:
    """The numbers of the protocol, as they stand in `config/protocol.yaml` under `criteria`."""

    level: float
    half: float
    share: float
    parity: float
    harm: float
    vacuous: float
    min_groups: int
    min_seeds: int
    min_positions: int
    primary_metric: str
    resolvable: tuple[tuple[int, float], ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Criteria:
        """Return the criteria of a validated mapping; `resolvable` is a list of `{seeds, standard_errors}`.

        Raises: ConfigError: a key is missing or unknown, or the primary metric is no agreement metric.
        """
        names = [item.name for item in fields(cls)]
        where = "config/protocol.yaml: criteria"
        if wrong := sorted(set(names) ^ set(mapping)):
            raise ConfigError(f"{where}: missing or unknown {', '.join(wrong)}; the keys are {', '.join(names)}")
        if (primary := mapping["primary_metric"]) not in AGREEMENT:
            raise ConfigError(f"{where}.primary_metric: {primary!r} is none of {', '.join(AGREEMENT)}")
        points = tuple((int(p["seeds"]), float(p["standard_errors"])) for p in mapping["resolvable"])
        return cls(**{**mapping, "resolvable": points})


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms in one measure, and its limit: `margin` times the size of raw's mean.

    `required`: SUPPORTED needs it, the others are reported. `closed`: an upper bound at the limit refutes too.
    """

    id: str
    measure: Measure
    weights: tuple[tuple[str, float], ...]
    margin: float = 0.0
    required: bool = True
    closed: bool = False

    def words(self) -> str:
        """Return the contrast as a formula, for example `transferred - 0.5 native - 0.5 random`."""
        sizes = ("" if abs(w) == 1 else f"{abs(w):.3g} " for _, w in self.weights)
        signs = ("- " if w < 0 else "+ " for _, w in self.weights)
        parts = (sign + size + arm for sign, size, (arm, _) in zip(signs, sizes, self.weights, strict=True))
        return " ".join(parts).removeprefix("+ ")

    def table(self, tables: Tables) -> Array:
        """Return the contrast per group and seed, [..., D, S]."""
        arms = tables[self.measure]
        (first, weight), *rest = self.weights
        total = weight * arms[first]
        for arm, weight in rest:
            total += weight * arms[arm]
        return total

    def limit(self, tables: Tables, raw: str) -> Array:
        """Return the limit, of the leading shape; raw's mean is taken as a constant."""
        if self.margin == 0:
            return np.asarray(0.0)
        return self.margin * np.abs(tables[self.measure][raw].mean((-2, -1)))


@dataclass(frozen=True)
class Refutation:
    """One of the ways to be refuted: an upper bound below the limit for some of its contrasts."""

    id: str
    contrasts: tuple[Contrast, ...]
    needs_sensitive: bool | None = None


@dataclass(frozen=True)
class Questions:
    """Tests in the protocol's order and refutations; "sensitive" means that the tests whose id starts with 1 pass."""

    tests: tuple[Contrast, ...]
    refutations: tuple[Refutation, ...]


@dataclass(frozen=True)
class Plan:
    """What a claim is asked in its own metric, when it is vacuous, and the same questions of each reported metric."""

    raw: str
    own: Questions
    vacuous: tuple[Contrast, ...]
    secondary: Mapping[str, Questions]

    def contrasts(self) -> tuple[Contrast, ...]:
        """Return every contrast that is asked anywhere."""
        asked = (self.own, *self.secondary.values())
        refuting = [c for questions in asked for refutation in questions.refutations for c in refutation.contrasts]
        return (*(test for questions in asked for test in questions.tests), *refuting, *self.vacuous)


@dataclass(frozen=True)
class Outcome:
    """One contrast at one level: `holds` says of every study whether the test passes, or whether the bound refutes."""

    contrast: Contrast
    parts: Components
    level: float
    limit: Array
    holds: Bools


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


@dataclass(frozen=True)
class Decision:
    """The verdicts of all studies, of the leading shape, and everything they rest on."""

    verdict: NDArray[np.str_]
    own: Answers
    vacuous: tuple[Outcome, ...]
    secondary: Mapping[str, Answers]


def decide(tables: Tables, plan: Plan, *, level: float) -> Decision:
    """Return the verdict of every study: VACUOUS, else REFUTED, else SUPPORTED, else INCONCLUSIVE.

    SUPPORTED and REFUTED are found independently of each other and never coincide.

    Args: tables: more is better; level: of the intervals, 0.95 unless a headline counts several claims.
    """
    look = _Look(tables, plan.raw)
    own = look.answer(plan.own, level)
    secondary = {metric: look.answer(questions, level) for metric, questions in plan.secondary.items()}
    vacuous = tuple(look(contrast, level, below=True) for contrast in plan.vacuous)
    supported = own.passed() & ~some(answers.refuted() for answers in secondary.values())
    assert not np.any(supported & own.refuted()), "a claim cannot be SUPPORTED and REFUTED"
    conditions = [some(o.holds for o in vacuous), own.refuted(), supported]
    verdict = np.select(conditions, ["VACUOUS", "REFUTED", "SUPPORTED"], default="INCONCLUSIVE")
    return Decision(verdict, own, vacuous, secondary)


class _Look:
    """Looks at contrasts of one set of tables; the mean squares of a contrast are computed once for all levels."""

    def __init__(self, tables: Tables, raw: str) -> None:
        self.tables, self.raw = tables, raw
        self.seen: dict[tuple[Measure, tuple[tuple[str, float], ...]], Components] = {}

    def __call__(self, contrast: Contrast, level: float, *, below: bool) -> Outcome:
        key = (contrast.measure, contrast.weights)
        if key not in self.seen:
            self.seen[key] = components(contrast.table(self.tables))
        parts, limit = self.seen[key], contrast.limit(self.tables, self.raw)
        if not below:
            return Outcome(contrast, parts, level, limit, np.asarray(parts.mean - parts.half(level) > limit))
        upper = parts.mean + parts.half(level)
        return Outcome(contrast, parts, level, limit, np.asarray(upper <= limit if contrast.closed else upper < limit))

    def answer(self, questions: Questions, level: float) -> Answers:
        tests = tuple(self(test, level, below=False) for test in questions.tests)
        sensitive = every(o.holds for o in tests if o.contrast.id.startswith("1."))
        return Answers(tests, tuple(self.refute(item, sensitive, level) for item in questions.refutations))

    def refute(self, item: Refutation, sensitive: Bools, level: float) -> Refuted:
        """Return whether some of the K contrasts refutes at level 1 - alpha / K, where the refutation applies."""
        at = 1 - (1 - level) / len(item.contrasts)
        outcomes = tuple(self(contrast, at, below=True) for contrast in item.contrasts)
        found = some(o.holds for o in outcomes)
        applies = np.ones_like(found) if item.needs_sensitive is None else np.asarray(sensitive == item.needs_sensitive)
        return Refuted(item.id, applies, np.asarray(applies & found), outcomes)


def some(masks: Iterable[Bools]) -> Bools:
    """Return where some mask is true; nowhere if there is none."""
    return reduce(np.logical_or, masks, np.asarray(False))


def every(masks: Iterable[Bools]) -> Bools:
    """Return where every mask is true; everywhere if there is none."""
    return reduce(np.logical_and, masks, np.asarray(True))
