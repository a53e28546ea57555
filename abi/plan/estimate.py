"""How long jobs should take, before they run: from a committed table of measured jobs per scale.

The table is `results/reference/<scale>/jobs.csv`, which `abi docs --adopt` writes from the benchmarks of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from abi.plan.forecast import Forecast
from abi.plan.measured import Measured, mean_seconds


class Planned(NamedTuple):
    """One job of a plan: its rule and its wildcards as in the name of its benchmark file ("" where it has none)."""

    rule: str
    wildcards: str


@dataclass(frozen=True)
class OfRule:
    """What the jobs of one rule should take. Args: measured: jobs that were; seconds: None where none ever was."""

    rule: str
    jobs: int
    measured: int
    seconds: float | None
    mem_mb: float | None


@dataclass(frozen=True)
class Estimate:
    """What a run would do and take: jobs and seconds per rule; wall minutes, seconds over cores or the longest job.

    Args: pace: how many times as long as where the jobs were measured (`measured.pace`), counted in all times;
        forecast: in their place at a scale of published models, none of whose jobs was measured.
    """

    scale: str
    targets: list[str]
    cores: int
    rules: list[OfRule]
    jobs: int
    unknown: list[str]
    seconds: float
    longest_s: float
    minutes: float
    pace: float = 1.0
    forecast: Forecast | None = None


def estimate(
    jobs: Sequence[Planned], known: Sequence[Measured], scale: str, targets: list[str], cores: int
) -> Estimate:
    """Return what jobs should take.

    A job that was never measured counts as the mean of its rule; a rule that never was is listed under `unknown`.
    """
    own = {(m.rule, m.wildcards): m for m in known}
    means, rules = mean_seconds(known), list[OfRule]()
    total, longest = 0.0, 0.0
    for rule in dict.fromkeys(job.rule for job in jobs):
        measured = [own.get((rule, job.wildcards)) for job in jobs if job.rule == rule]
        others = [m for m in known if m.rule == rule]
        took = [m.busy_s if m else means.get(rule, 0.0) for m in measured]
        total, longest = total + sum(took), max(longest, *took)
        rules.append(
            OfRule(
                rule,
                jobs=len(took),
                measured=len(list(filter(None, measured))),
                seconds=round(sum(took), 1) if others else None,
                mem_mb=max((m.mem_mb for m in others if m.mem_mb is not None), default=None),
            )
        )
    return Estimate(
        scale=scale,
        targets=targets,
        cores=cores,
        rules=rules,
        jobs=len(jobs),
        unknown=[rule.rule for rule in rules if rule.seconds is None],
        seconds=round(total, 1),
        longest_s=round(longest, 1),
        minutes=round(max(total / cores, longest) / 60, 1),
    )
