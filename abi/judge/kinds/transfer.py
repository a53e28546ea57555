"""Claims with evidence of their own: a module moved to another backbone in one of several regimes (protocol section 3),
and a second module regressed on the corrections of a first one (section 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from abi.base.catalogue import frozen_net
from abi.base.manifests.arms import ArmEntry
from abi.base.manifests.modules import ModuleEntry
from abi.base.names import (
    BIAS,
    CARRIED,
    CLOSED_FORM,
    DIRECT,
    HOME,
    LINEAR,
    LORA,
    NATIVE,
    NO_DOMAIN,
    ORACLE,
    PERMUTED,
    PERMUTED_TAUGHT,
    RANDOM,
    RAW,
    SOURCE_TAUGHT,
    TRANSFERRED,
    WRONG_TAUGHT,
)
from abi.base.regimes import MOVED, REGIMES, REGRESSED
from abi.judge.contrasts import Contrast, Plan
from abi.judge.fits import Curve, Fit, Series
from abi.judge.intervals import interval
from abi.judge.kinds import OfFits
from abi.judge.protocol import BESIDE_TAUGHT, BPB, Asks, transfer_plan
from abi.judge.tables import FitTables, fit_tables
from abi.judge.verdict import check_frozen, judge
from abi.plan.specs.judge import Criteria, JudgeClaim

if TYPE_CHECKING:
    import pandas as pd

DRAWN = (TRANSFERRED, RANDOM, PERMUTED, HOME, NATIVE, DIRECT, LORA, NO_DOMAIN, LINEAR, BIAS)
TAUGHT = (CARRIED, SOURCE_TAUGHT, PERMUTED_TAUGHT, WRONG_TAUGHT)
LEADS = (
    *((TRANSFERRED, arm) for arm in (RANDOM, PERMUTED, DIRECT)),
    *((SOURCE_TAUGHT, arm) for arm in BESIDE_TAUGHT),
)
"""Arms that are compared on every rung of a ladder of windows."""
BY_WINDOWS = "windows-lead"
Points = Sequence[tuple[float, float | None]]


def judge_transfer(
    evidence: pd.DataFrame, *, regime: str, fit: str, criteria: Criteria, frozen: bool, level: float | None = None
) -> Fit:
    """Return the verdict of a transfer in one regime and one way of fitting.

    Args: evidence: rows of `read_evidence`; frozen: whether backbone and domain net hashes are unchanged (test 7);
        level: of the intervals, the criteria's unless a headline counts several claims (`level_of_one`).
    Raises: TamperError: something frozen changed; EvidenceError: no honest verdict from these.
    """
    check_frozen(frozen)
    tables = fit_tables(evidence, fit=fit, criteria=criteria)
    return judge(tables, transfer_plan(regime, criteria, tables.arms), criteria, level)


def judge_reconstruction(
    evidence: pd.DataFrame, *, fit: str, criteria: Criteria, frozen: bool, level: float | None = None
) -> Fit:
    """Return the verdict of a reconstruction: a candidate regressed on a reference module's corrections.

    Args and Raises: as `judge_transfer`.
    """
    check_frozen(frozen)
    return judge(fit_tables(evidence, fit=fit, criteria=criteria), reconstruction_plan(criteria), criteria, level)


def reconstruction_plan(criteria: Criteria) -> Plan:
    """Return what a reconstruction is asked: the same, with U = C, and nothing about parity: the reference teaches.

    With U = C, retention is C - (C + P) / 2 = (C - P) / 2, so tests 1 and 2 coincide: C > P.
    Refutation (a) can therefore never hold (it needs C - P > 0 shown and refuted at once); (b), (d) and (e) can.
    C before the regression is a native module: the regression claims agreement, so JS alone is asked about it.
    """
    return Asks(REGRESSED, criteria).plan("reconstruction")


def frozen_nets_unmoved(arms: Sequence[ArmEntry], regime: str, modules: Mapping[str, Sequence[ModuleEntry]]) -> bool:
    """Return whether every net that an arm holds frozen is bit-identical to the one it came from."""
    known = {role: {module.seed: module.domain_sha256 for module in of_role} for role, of_role in modules.items()}
    givers = [(arm, frozen_net(arm.arm, regime)) for arm in arms]
    return all(arm.domain_sha256 == known[giver][arm.seed] for arm, giver in givers if giver)


def placebo_net_shared(arms: Sequence[ArmEntry], regime: str, modules: Mapping[str, Sequence[ModuleEntry]]) -> bool:
    """Return whether all fits of a seed hold one net as the placebo's: it is drawn once."""
    nets = {(arm.seed, arm.domain_sha256) for arm in arms if arm.arm == RANDOM and arm.draw == 0}
    return len(nets) == len({seed for seed, _ in nets})


# curves

WINDOWS = Curve(
    id="windows",
    title="Arms by windows of domain text",
    x_label="domain windows",
    y_label="bits per byte (less is better)",
    caption=(
        "Held-out domain text after a fit on so many domain windows; means over groups and seeds. "
        "The registered figure is the mean of the ladder."
    ),
    log_x=True,
    series=[],
)
LEADS_BY_WINDOWS = Curve(
    id=BY_WINDOWS,
    title="Leads by windows of domain text",
    x_label="domain windows",
    y_label="bits per byte",
    caption=(
        "One arm minus another in bits per byte on held-out domain text (above 0: the first is better) after a fit "
        "on so many domain windows, with 95 % intervals."
    ),
    log_x=True,
    series=[],
)
"""The curves of a ladder of windows, without their lines."""


def curves_of(spec: JudgeClaim, evidence: pd.DataFrame, fits: Mapping[str, Fit]) -> list[Curve]:
    """Return the curves of a transfer in its regime: a ladder of windows, or a ladder of steps (one fit makes none)."""
    regime, steps = REGIMES[spec.claim.regime], steps_of(spec)
    if regime.ladder:
        rungs = rungs_of(evidence, spec.claim.fit, spec.protocol.criteria)
        found = [windows_curve(rungs), windows_lead(rungs, spec.protocol.criteria)]
    elif not regime.has_control and len(steps) > 1:
        found = [steps_curve(fits, steps), lead_curve(fits, steps)]
    else:
        found = []
    return [curve for curve in found if curve.series]


def steps_of(spec: JudgeClaim) -> dict[str, int]:
    """Return fit -> steps of the fits that differ in steps alone, fewest first; the closed form has none."""
    found: dict[str, int] = {spec.claim.fit: spec.calibration_steps}
    for name, change in spec.changes.items():
        if change.model_fields_set == {"steps"} and change.steps is not None:
            found[name] = change.steps
    ladder = {CLOSED_FORM: 0, **found} if len(found) > 1 else found
    return dict(sorted(ladder.items(), key=lambda named: named[1]))


def rungs_of(evidence: pd.DataFrame, fit: str, criteria: Criteria) -> dict[float, FitTables]:
    """Return number of domain windows -> tables; the draws of a few-shot fit are its budgets."""
    budgets = sorted(set(evidence.loc[(evidence["fit"] == fit), "draw"]))
    return {
        float(n): fit_tables(evidence[(evidence["fit"] != fit) | (evidence["draw"] == n)], fit=fit, criteria=criteria)
        for n in budgets
    }


def windows_curve(rungs: Mapping[float, FitTables]) -> Curve:
    """Return bits per byte by number of domain windows."""
    by_budget = {n: {arm: float(x.mean()) for arm, x in found.tables[BPB].items()} for n, found in rungs.items()}
    last = by_budget[max(by_budget)]
    drawn = {arm: [(x, means[arm]) for x, means in by_budget.items() if arm in means] for arm in (*DRAWN, *TAUGHT)}
    level = {arm: [(x, last[arm]) for x in by_budget] for arm in (RAW, ORACLE)}
    return WINDOWS.model_copy(update={"series": _series(drawn | level)})


def windows_lead(rungs: Mapping[float, FitTables], criteria: Criteria) -> Curve:
    """Return how far one arm is ahead of another by number of domain windows, with intervals."""
    series, least = [], {"min_groups": criteria.min_groups, "min_seeds": criteria.min_seeds}
    for arm, other in LEADS:
        if not all({arm, other} <= set(found.tables[BPB]) for found in rungs.values()):
            continue
        lead = Contrast(BY_WINDOWS, BPB, {arm: 1, other: -1})
        tables = {n: lead.table(found.turned()) for n, found in rungs.items()}
        between = {n: interval(table, level=criteria.level, **least) for n, table in tables.items()}
        known = {n: found for n, found in between.items() if found is not None}
        means: list[float | None] = [float(table.mean()) for table in tables.values()]
        whole = len(known) == len(tables)
        series.append(Series.of(lead.words(), known) if whole else Series(name=lead.words(), x=list(tables), y=means))
    return LEADS_BY_WINDOWS.model_copy(update={"series": series})


def steps_curve(fits: Mapping[str, Fit], steps: Mapping[str, int]) -> Curve:
    """Return gap closure by number of steps; the closed form, which every fit starts from, stands at 0."""
    closures = {float(n): fits[fit].gap_closures for fit, n in steps.items()}
    drawn = {
        arm: [(x, of[arm].estimate) for x, of in closures.items() if arm in of and of[arm].estimate is not None]
        for arm in DRAWN
    }
    return Curve(
        id="steps",
        title="Gap closure by steps",
        x_label="steps",
        y_label="gap closure",
        caption=(
            "Part of the oracle's gain in bits per byte on held-out domain text, after so many steps on general text "
            "alone; 0 is the closed form."
        ),
        log_x=False,
        series=_series(drawn),
    )


def lead_curve(fits: Mapping[str, Fit], steps: Mapping[str, int]) -> Curve:
    """Return moved net minus placebo by number of steps, with intervals, for both placebos."""
    series = []
    for placebo in MOVED.placebos:
        asked = f"4.attribution.bits_per_byte.{placebo}"
        tests = {n: next(t for t in fits[fit].tests if t.id == asked) for fit, n in steps.items()}
        found = {float(n): test.interval for n, test in tests.items() if test.interval is not None}
        if found:
            series.append(Series.of(f"{MOVED.candidate} - {placebo}", found))
    return Curve(
        id="lead",
        title="Lead of the moved net by steps",
        x_label="steps",
        y_label="bits per byte",
        caption=(
            "The moved net's own part: moved net minus placebo in bits per byte (above 0: the moved net is better), "
            "95 % intervals; 0 steps is the closed form."
        ),
        log_x=False,
        series=series,
    )


def _series(by_arm: Mapping[str, Points]) -> list[Series]:
    found = {arm: points for arm, points in by_arm.items() if points}
    return [Series(name=arm, x=[x for x, _ in points], y=[y for _, y in points]) for arm, points in found.items()]


JUDGED = (
    *(
        OfFits(
            kind,
            asked=lambda claim, _, arms, criteria: transfer_plan(str(claim.regime), criteria, arms),
            unmoved=frozen_nets_unmoved,
            curves=curves_of,
        )
        for kind in ("transfer", "near_transfer")
    ),
    OfFits(
        "reconstruction",
        asked=lambda _claim, _, _arms, criteria: reconstruction_plan(criteria),
        unmoved=placebo_net_shared,
        curves=lambda *_: [],
    ),
)
