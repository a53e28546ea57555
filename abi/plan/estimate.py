"""How long jobs should take, before they run: from jobs that ran here, and from a committed table per scale.

The table is `results/reference/<scale>/jobs.csv`, which `abi docs --adopt` writes from the benchmarks of a run.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import NamedTuple

from abi.plan.forecast import Forecast, Speeds, speeds
from abi.plan.measured import Measured, mean_seconds
from abi.plan.work import Work


class PlannedJob(NamedTuple):
    """One job of a plan: its rule and its wildcards as in the name of its benchmark file ("" where it has none)."""

    rule: str
    wildcards: str


@dataclass(frozen=True)
class OfRule:
    """What the jobs of one rule should take.

    Args: measured: jobs that were; seconds: None where nothing tells; at: the other scale whose speed tells them, ""
        where a job of this one does.
    """

    rule: str
    jobs: int
    measured: int
    seconds: float | None
    mem_mb: float | None
    at: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a run would do and take: jobs and seconds per rule; wall minutes, seconds over cores or the longest chain.

    Args: longest_s: of the longest chain of jobs that wait for one another; pace: how many times as long as where the
        jobs were measured (`measured.pace`), counted in all times; measured_at: the scale whose committed jobs were,
        which a replicate may not be itself; "" where all ran here; disk: bytes that the jobs leave in the results;
        disk_free: bytes there are; forecast: in their place at a scale of published models, none of whose jobs was
        measured.
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
    measured_at: str = ""
    disk: int = 0
    disk_free: int = 0
    forecast: Forecast | None = None


def estimate(
    jobs: Sequence[PlannedJob],
    known: Sequence[Measured],
    scale: str,
    targets: list[str],
    cores: int,
    work: Work | None = None,
    after: Mapping[PlannedJob, Collection[PlannedJob]] | None = None,
    elsewhere: Speeds | None = None,
) -> Estimate:
    """Return what jobs should take.

    A job that was never measured takes its work over the speed of its rule, or where that is not known the mean of its
    rule; a rule that never was measured, here or `elsewhere`, is listed under `unknown`.
    Args: known: of the same scale; work: of its jobs, None where the sizes of its models say nothing; after: job ->
        those that it waits for; elsewhere: speeds at other scales, for rules that were never measured at this one.
    """
    own = {(m.rule, m.wildcards): m for m in known}
    means, rules = mean_seconds(known), list[OfRule]()
    fast = {} if work is None else speeds(known, work)

    def expected(job: PlannedJob) -> float | None:
        if measured := own.get(job):
            return measured.busy_s
        if job.rule not in means and work is not None and elsewhere is not None:
            return elsewhere.expected(*job, work)
        flop = work.flop(*job) if work is not None and job.rule in fast else None
        return means.get(job.rule) if flop is None else flop / fast[job.rule]

    found = {job: expected(job) for job in jobs}
    took = {job: seconds or 0.0 for job, seconds in found.items()}
    total, longest = sum(took.values()), longest_chain(took, after or {})
    for rule in dict.fromkeys(job.rule for job in jobs):
        of_rule = [job for job in jobs if job.rule == rule]
        others, foreseen = [m for m in known if m.rule == rule], None not in [found[job] for job in of_rule]
        rules.append(
            OfRule(
                rule,
                jobs=len(of_rule),
                measured=sum(job in own for job in of_rule),
                seconds=round(sum(took[job] for job in of_rule), 1) if foreseen else None,
                mem_mb=max((m.mem_mb for m in others if m.mem_mb is not None), default=None),
                at=elsewhere.at.get(rule, "") if elsewhere is not None and foreseen and not others else "",
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


def longest_chain(took: Mapping[PlannedJob, float], after: Mapping[PlannedJob, Collection[PlannedJob]]) -> float:
    """Return the seconds of the longest chain of jobs. Args: after: job -> those that it waits for."""
    ends: dict[PlannedJob, float] = {}
    for job in TopologicalSorter({job: after.get(job, ()) for job in took}).static_order():
        ends[job] = took[job] + max((ends[before] for before in after.get(job, ())), default=0.0)
    return max(ends.values(), default=0.0)
