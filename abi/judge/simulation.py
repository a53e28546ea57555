"""The instrument is tested like a product: simulations of protocol section 5, with the code that gives the verdicts.

Coverage asks whether the interval means what it says; the simulated studies ask the whole rule about candidates whose
truth is known; the power curve says how large a placebo gap a study must have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np

from abi.base.manifests.pages import Cell as MeasuredCell
from abi.base.manifests.pages import Coverage, Grid, InstrumentFigures, InstrumentSettings, SimulatedKind
from abi.base.names import AGREEMENT, HOME, ORACLE, PERMUTED, RANDOM, RAW, TRANSFERRED
from abi.base.regimes import MOVED
from abi.base.typed import Regime
from abi.judge.contrasts import Decision, FromTables, Measure, Tables, decide
from abi.judge.intervals import Array, components
from abi.judge.protocol import BPB, GENERAL, transfer_plan
from abi.plan.specs.judge import Criteria

CHUNK = 250  # studies or tables at a time: 250 x 200 groups x 10 seeds of ten arms and six measures are 0.6 GB


@dataclass(frozen=True)
class Cell:
    """One kind of table: sizes, standard deviations and shapes of its group, seed and residual effects."""

    n_seeds: int
    n_groups: int
    groups: str
    group_sd: float
    seeds: str
    seed_sd: float
    residual_sd: float


@dataclass(frozen=True)
class Design:
    """A simulated study. Levels count in gaps U - P, a gap is `gap_se` standard errors of U - P.

    `room` is F - R in gaps: 4 leaves parity easier than retention, so that the placebo gap decides. Harm is not at
    stake: on general text the oracle loses `harm_se` standard errors more than the candidate. With a `room` of
    `WHOLE_ROOM` a candidate as good as the right net owns exactly a tenth of its gain: against every placebo in
    "share", against the best one in "share of the best".
    """

    kind: str
    gap_se: float
    n_seeds: int = 5
    seed_sd: float = 0.005
    regime: Regime = "oracle-kd"
    n_groups: int = 60
    group_sd: float = 0.03
    residual_sd: float = 0.04
    correlation: float = 0.7
    room: float = 4.0
    raw_bpb: float = 2.5
    harm_se: float = 40.0

    def standard_error(self) -> float:
        """Return the true standard error of U - P: arms are independent once what they share has cancelled."""
        size = self.n_groups * self.n_seeds
        groups, seeds = self.group_sd**2 / self.n_groups, self.seed_sd**2 / self.n_seeds
        return float(np.sqrt(2 * (groups + seeds + self.residual_sd**2 / size)))

    def levels(self) -> dict[str, float]:
        """Return the true level of every arm, in gaps; raw is 0, controls are as good as the placebos."""
        if self.kind == "no net":  # C = P = U > F, with .1 (C - R) at `gap_se` standard errors of (C - P) - .1 (C - R)
            gain = 10 * np.sqrt((0.9**2 + 1 + 0.1**2) / 2)
            same = dict.fromkeys((HOME, TRANSFERRED, *MOVED.placebos), gain)
            return {RAW: 0.0, ORACLE: 0.9 * gain, **same, **dict.fromkeys(MOVED.controls, 0.8 * gain)}
        candidate = {RANDOM: -1.0, "half": -0.5}.get(self.kind, 0.0) + self.room
        others = dict.fromkeys((*MOVED.placebos, *MOVED.controls), self.room - 1)
        if self.kind == "share of the best":
            others[PERMUTED] = self.room - 3
        return {RAW: 0.0, ORACLE: self.room, HOME: self.room, TRANSFERRED: candidate, **others}


@dataclass(frozen=True)
class Effort:
    """How much is simulated: `FULL` is what the protocol asks, `FAST` a smoke test of the same code."""

    tables: int
    rerun: int
    studies: int
    power: int
    n_seeds: tuple[int, ...]
    n_groups: tuple[int, ...]
    seed_sds: tuple[float, ...]
    gaps: tuple[float, ...]
    rooms: tuple[float, ...]
    harm_margins: tuple[float, ...]


FULL = Effort(
    tables=4000,
    rerun=20000,
    studies=2000,
    power=1000,
    n_seeds=(3, 5, 10),
    n_groups=(60, 200),
    seed_sds=(0.002, 0.005, 0.01, 0.02),
    gaps=tuple(range(2, 21, 2)),
    rooms=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0),
    harm_margins=(2.0, 4.0, 6.0, 8.0),
)
FAST = Effort(400, 400, 100, 50, (3, 5), (60,), (0.005,), (4, 12), (2.0, 4.0), (4.0,))
RESOLVED = {3: 12.0, 5: 8.0, 10: 6.0}  # standard errors of U - P; protocol section 5
NO_NET_SE = 3.5
WHOLE_ROOM = 10.0  # gaps; C - P is one, and so a tenth of C - R
SURE = 2.0  # times the gap that is resolved: sensitivity and retention are then not what fails
COVERAGE, SECOND_COVERAGE = (0.93, 0.97), 0.91
# kind of candidate -> rate -> (least, most); protocol section 5
LIMITS: dict[str, dict[str, tuple[float, float]]] = {
    RANDOM: {"SUPPORTED": (0.0, 0.01)},
    "half": {"SUPPORTED": (0.0, 0.025), "a": (0.0, 0.05)},
    "share": {"SUPPORTED": (0.0, 0.025), "b": (0.0, 0.05)},
    "share of the best": {"SUPPORTED": (0.0, 0.025), "b": (0.0, 0.05)},
    HOME: {"SUPPORTED": (0.8, 1.0), "a or c": (0.0, 0.01)},
    "no net": {"SUPPORTED": (0.0, 0.0), "REFUTED": (0.75, 1.0)},
}


def run(criteria: Criteria, effort: Effort = FULL, *, seed: int = 0) -> InstrumentFigures:
    """Return everything section 5 asks of the statistics. FULL takes some minutes on one core."""
    rng = np.random.default_rng(seed)
    level = criteria.level
    first = [measure_cell(cell, effort, level, rng) for cell in first_grid(effort)]
    second = [measure_cell(cell, replace(effort, rerun=effort.tables), level, rng) for cell in second_grid(effort)]
    studies = [measure_design(design, effort.studies, criteria, rng, effort.rerun) for design in designs(effort)]
    power = [measure_design(design, effort.power, criteria, rng) for design in power_designs(effort)]
    conditions = [measure_design(design, effort.power, criteria, rng) for design in condition_designs(effort, criteria)]
    told = {**criteria.plain(), "resolvable": [[point.seeds, point.standard_errors] for point in criteria.resolvable]}
    return InstrumentFigures(
        settings=InstrumentSettings(seed=seed, level=level, effort=asdict(effort), criteria=told),
        coverage=Coverage(first=_summary(first, *COVERAGE), second=_summary(second, SECOND_COVERAGE, 1.0)),
        studies=studies,
        power=power,
        conditions=conditions,
    )


def first_grid(effort: Effort) -> Iterator[Cell]:
    """Yield the cells whose coverage must lie in 93-97 %."""
    sds = (0.0, *effort.seed_sds)
    shapes = (("normal", 0.03), ("normal", 0.10), ("skewed", 0.03), ("skewed", 0.10))
    for n_seeds, n_groups, (groups, sd), seed_sd, rest in product(
        effort.n_seeds, effort.n_groups, shapes, sds, (0.03, 0.05)
    ):
        yield Cell(n_seeds, n_groups, groups, sd, "normal", seed_sd, rest)


def second_grid(effort: Effort) -> Iterator[Cell]:
    """Yield the unfriendly cells, whose coverage must stay above 91 %."""
    shapes = (("t3", "normal"), ("normal", "uniform"), ("normal", "outlying"), ("t3", "outlying"))
    for n_seeds, n_groups, (groups, seeds), sd, seed_sd in product(
        effort.n_seeds, effort.n_groups, shapes, (0.03, 0.10), effort.seed_sds
    ):
        yield Cell(n_seeds, n_groups, groups, sd, seeds, seed_sd, 0.04)


def draw(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> Array:
    """Return effects with mean 0 and standard deviation 1 of a named shape.

    skewed: exponential; outlying: one in ten has a fivefold standard deviation.
    """
    match shape:
        case "normal":
            effects = rng.standard_normal(size)
        case "skewed":
            effects = rng.standard_exponential(size) - 1
        case "t3":
            effects = rng.standard_t(3, size) / np.sqrt(3)
        case "uniform":
            effects = rng.uniform(-np.sqrt(3), np.sqrt(3), size)
        case "outlying":
            effects = rng.standard_normal(size)
            effects = effects * np.where(rng.random(size) < 0.1, 5.0, 1.0) / np.sqrt(0.9 + 0.1 * 25)
        case _:
            raise ValueError(f"no effect is called {shape!r}")
    return effects


def coverage(cell: Cell, tables: int, level: float, rng: np.random.Generator) -> float:
    """Return the part of simulated tables whose interval contains their true mean, 0."""
    covered = 0
    for n in _chunks(tables):
        parts = components(_noise(cell, n, rng, cell.groups, cell.seeds))
        covered += int((np.abs(parts.mean) <= parts.half(level)).sum())
    return covered / tables


def measure_cell(cell: Cell, effort: Effort, level: float, rng: np.random.Generator) -> MeasuredCell:
    """Return a cell's coverage; just outside the limits, by less than two Monte Carlo errors, it is rerun with more."""
    tables, found = effort.tables, coverage(cell, effort.tables, level, rng)
    if effort.rerun > tables and just_outside(found, *COVERAGE, tables):
        tables, found = effort.rerun, coverage(cell, effort.rerun, level, rng)
    return MeasuredCell(**asdict(cell), tables=tables, coverage=found)


def just_outside(rate: float, least: float, most: float, n: int) -> bool:
    """Return whether a rate of `n` lies outside its limits by less than two Monte Carlo standard errors."""
    return bool(0 < max(least - rate, rate - most) < 2 * np.sqrt(rate * (1 - rate) / n))


def simulate(design: Design, n: int, rng: np.random.Generator) -> Tables:
    """Return the tables of `n` studies, [n, D, S] per measure and arm, more is better.

    Every arm has its own group, seed and residual effects, correlated over the six measures through a common part.
    """
    gap, levels = design.gap_se * design.standard_error(), design.levels()
    general = {ORACLE: -design.harm_se * design.standard_error()}
    measures = (*(Measure(metric, "domain") for metric in AGREEMENT), BPB, GENERAL)
    tables: dict[Measure, dict[str, Array]] = {measure: {} for measure in measures}
    for arm, arm_level in levels.items():
        common = np.sqrt(design.correlation) * _noise(design, n, rng)
        for measure in measures:
            table = common + np.sqrt(1 - design.correlation) * _noise(design, n, rng)
            table += general.get(arm, 0.0) if measure == GENERAL else gap * arm_level
            tables[measure][arm] = table - (design.raw_bpb if measure in (BPB, GENERAL) else 0.0)
    return tables


def measure_design(
    design: Design, studies: int, criteria: Criteria, rng: np.random.Generator, rerun: int = 0
) -> SimulatedKind:
    """Return the rates of verdicts and refutations over simulated studies, and whether they meet the protocol.

    Args: rerun: how many studies are simulated where a rate is just outside, as of a table's coverage.
    """
    plan = transfer_plan(design.regime, criteria)
    chunks = [decide(FromTables(simulate(design, n, rng)), plan, level=criteria.level) for n in _chunks(studies)]
    masks = [_masks(decision) for decision in chunks]
    rates = {name: float(np.concatenate([mask[name] for mask in masks]).mean()) for name in masks[0]}
    limits = {name: limit for name, limit in LIMITS[design.kind].items() if asked(design.kind, name, design.n_seeds)}
    if rerun > studies and any(
        just_outside(rates[name], *limit, studies) for name, limit in limits.items() if name in rates
    ):
        return measure_design(design, rerun, criteria, rng)
    faults = [
        f"{name} {rates[name]:.2%} outside {least:.1%} - {most:.1%}"
        for name, (least, most) in limits.items()
        if name in rates and not least <= rates[name] <= most
    ]
    return SimulatedKind(
        kind=design.kind,
        regime=design.regime,
        n_seeds=design.n_seeds,
        seed_sd=design.seed_sd,
        gap_se=design.gap_se,
        seed_share=2 * design.seed_sd**2 / design.n_seeds / design.standard_error() ** 2,  # of a mean's variance
        studies=studies,
        room=design.room,
        harm_margin_se=design.harm_se + _margin(design, criteria),
        rates=rates,
        faults=faults,
    )


def designs(effort: Effort) -> Iterator[Design]:
    """Yield every kind of candidate in every size and seed spread, the first one in every regime.

    A share of a tenth is asked without a positive control too, where bits per byte alone decides.
    """
    for n_seeds, seed_sd in product(effort.n_seeds, effort.seed_sds):
        gap = RESOLVED[n_seeds]
        for kind in (RANDOM, "half", HOME):
            yield Design(kind, gap, n_seeds, seed_sd)
        yield Design("no net", NO_NET_SE, n_seeds, seed_sd)
        yield Design(RANDOM, gap, n_seeds, seed_sd, regime="few-shot")
        yield Design(RANDOM, gap, n_seeds, seed_sd, regime="general-only")
        for kind in ("share", "share of the best"):
            owned = Design(kind, SURE * gap, n_seeds, seed_sd, room=WHOLE_ROOM)
            yield from (owned, replace(owned, regime="general-only"))


def power_designs(effort: Effort) -> Iterator[Design]:
    """Yield right candidates over a range of placebo gaps: the power curve."""
    for seed_sd, n_seeds, gap in product(effort.seed_sds, effort.n_seeds, effort.gaps):
        yield Design(HOME, gap, n_seeds, seed_sd)


def condition_designs(effort: Effort, criteria: Criteria) -> Iterator[Design]:
    """Yield right candidates at the gap that is to be resolved, with less room, and nearer to the harm limit."""
    for n_seeds in effort.n_seeds:
        for room in effort.rooms:
            yield Design(HOME, RESOLVED[n_seeds], n_seeds, room=room)
        for margin in effort.harm_margins:
            design = Design(HOME, RESOLVED[n_seeds], n_seeds)
            yield replace(design, harm_se=margin - _margin(design, criteria))


def _margin(design: Design, criteria: Criteria) -> float:
    """Return what the candidate may lose against the oracle on general text, in standard errors of U - P."""
    return criteria.harm * design.raw_bpb / design.standard_error()


def _noise(of: Cell | Design, n: int, rng: np.random.Generator, groups: str = "normal", seeds: str = "normal") -> Array:
    x = of.residual_sd * rng.standard_normal((n, of.n_groups, of.n_seeds))
    x += of.group_sd * draw(rng, groups, (n, of.n_groups, 1))
    x += of.seed_sd * draw(rng, seeds, (n, 1, of.n_seeds))
    return x


def _masks(decision: Decision) -> dict[str, Array]:
    masks = {name: decision.verdict == name for name in ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS")}
    holds = {item.id: item.holds for item in decision.own.refutations}
    masks |= {name: holds[name] for name in ("a", "b", "c") if name in holds}
    if "a" in holds:
        masks["a or c"] = holds["a"] | holds.get("c", False)
    return masks


def asked(kind: str, rate: str, n_seeds: int) -> bool:
    """Return whether a limit is asked of studies with so many seeds: REFUTED of "no net" with 5 alone."""
    return (kind, rate) != ("no net", "REFUTED") or n_seeds == 5


def _summary(cells: Sequence[MeasuredCell], least: float, most: float) -> Grid:
    found = [cell.coverage for cell in cells]
    outside = [cell for cell in cells if not least <= cell.coverage <= most]
    return Grid(least=min(found), most=max(found), limits=[least, most], outside=outside, cells=list(cells))


def _chunks(total: int) -> Iterator[int]:
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)
