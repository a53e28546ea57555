"""The command `abi plan`: what a run would do, and about how long it takes, before it runs (no torch)."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from abi.base.errors import ConfigError
from abi.base.machine import GB
from abi.cli.dry_run import dry_run
from abi.cli.options import AsJson, Scale
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.estimate import Estimate, OfRule, PlannedJob, estimate
from abi.plan.forecast import BASE, CARD, MEASURED, Forecast, forecast, left_on_disk, speeds_at
from abi.plan.measured import known_jobs, measured_jobs
from abi.plan.work import Work
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import scale_replicated_by
from abi.report.render import Cell, Table, terminal

SMALL = GB / 10
"""Bytes of results that no disk lacks."""


def plan(
    targets: Annotated[
        list[str] | None, Argument(metavar="TARGET", help="as for snakemake", show_default="all")
    ] = None,
    scale: Scale = DEFAULT,
    cores: Annotated[int, Option(metavar="N", help="cores that run side by side")] = 2,
    as_json: AsJson = False,
) -> int:
    """Say what a run of some targets would do from here, rule by rule, and about how long it takes."""
    made = planned(targets or [], scale, cores)
    print(json.dumps(asdict(made), indent=1) if as_json else as_text(made))
    return 0


def planned(targets: Sequence[str], scale: str, cores: int) -> Estimate:
    """Return what a run of some targets would do from here, rule by rule, and about how long it takes.

    Raises: ConfigError: no cores, or a target that this scale cannot run; DataError: Snakemake cannot plan.
    """
    if cores < 1:
        raise ConfigError(f"plan: --cores is {cores}; give 1 or more")
    config = load(scale)
    config.require_targets(targets)
    for target in targets:
        if target in config.pending:
            Workflow(config).claim(target)  # says at which scales it runs
    config.require_pinned(targets)
    config.require_inputs(targets)
    jobs, here = dry_run(targets, scale, cores), measured_jobs(Path("results", scale, "benchmarks"))
    known = known_jobs(scale, scale_replicated_by(scale), here=here)
    unmeasured = {job.rule for job in jobs} - {job.rule for job in known.jobs}
    published = any(backbone.hub for backbone in config.scale.backbones.values())
    elsewhere = speeds_at(BASE) if unmeasured and not published and scale != BASE else None
    work, asked = Work(Workflow(config)), list(targets) or ["all"]
    made = estimate([*jobs], known.jobs, scale, asked, cores, work, after=jobs, elsewhere=elsewhere)
    if {*jobs} - {PlannedJob(job.rule, job.wildcards) for job in here}:
        made = replace(made, pace=round(known.pace, 2), measured_at=known.scale)
    left, free = sum(left_on_disk(work, jobs).values()), shutil.disk_usage(Path.cwd()).free
    made = replace(made, disk=left, disk_free=free)
    if not unmeasured or not published:
        return made
    return replace(made, forecast=forecast(config, [*jobs]))


def as_text(made: Estimate) -> str:
    """Return a plan as a small table and a sentence."""
    if not made.jobs:
        return f"scale {made.scale}: nothing to do, every file of {', '.join(made.targets)} is there and up to date"
    if made.forecast:
        head = f"scale {made.scale}: {made.jobs} jobs for {', '.join(made.targets)}"
        return "\n".join([head, "", *foreseen(made.forecast), *_paced(made)])
    lines = [*terminal(Table(["rule", "jobs", "minutes", "MB", "from"], [_row(rule) for rule in made.rules]), ""), ""]
    if not made.seconds:
        return "\n".join([*lines, f"scale {made.scale}: {made.jobs} jobs; how long they take was never measured"])
    lines.append(
        f"scale {made.scale}: {made.jobs} jobs, about {made.minutes:.1f} minutes on {made.cores} cores "
        f"({made.seconds / 60:.1f} of work, the longest chain of jobs {made.longest_s / 60:.1f})"
    )
    if made.measured_at not in ("", made.scale):
        lines.append(f"measured at scale {made.measured_at}, which this one replicates")
    if made.disk >= SMALL:
        lines.append(f"about {made.disk / GB:.1f} GB of results; {_enough(made.disk, made.disk_free)}")
    lines += _paced(made)
    if made.unknown:
        lines.append(f"not counted, never measured at this scale: {', '.join(made.unknown)}")
    return "\n".join(lines)


def _paced(made: Estimate) -> list[str]:
    """Return how fast this machine is, where times were scaled by it."""
    told = f"this machine multiplies matrices {_against(made.pace)} the one that was measured; times are scaled"
    return [told] if made.pace != 1 else []


def _row(rule: OfRule) -> list[Cell]:
    """Return the line of a rule: its jobs, minutes, most memory, and where these come from."""
    source = (
        f"{rule.measured} measured, the rest estimated from other jobs" if rule.measured else "other jobs of the rule"
    )
    if rule.seconds is None:
        source = "never measured"
    elif rule.at:
        source = f"its work, at the speed of scale {rule.at}"
    elif rule.measured == rule.jobs:
        source = "measured"
    memory = None if rule.mem_mb is None else f"{rule.mem_mb:.0f}"
    return [rule.rule, rule.jobs, _tenths(rule.seconds, 60), memory, source]


def _tenths(seconds: float | None, unit: int) -> str | None:
    """Return seconds in a unit of some seconds, with one decimal."""
    return None if seconds is None else f"{seconds / unit:.1f}"


def _against(factor: float) -> str:
    """Return in words how fast a machine is on which all takes a factor as long."""
    return f"{1 / factor:.1f} times as fast as" if factor < 1 else f"at {1 / factor:.0%} of the rate of"


def foreseen(found: Forecast) -> list[str]:
    """Return a forecast as a table and sentences."""
    cpu = sum(rule.cpu_s or 0.0 for rule in found.rules) / 3600
    card = sum(rule.card_s or 0.0 for rule in found.rules) / 3600
    unknown = [rule.rule for rule in found.rules if rule.cpu_s is None]
    most, largest = max(((size, name) for name, size in found.memory.items()), default=(0, "none is to be made"))
    rows = [[rule.rule, rule.jobs, _tenths(rule.cpu_s, 3600), _tenths(rule.card_s, 3600)] for rule in found.rules]
    measured = " or ".join(MEASURED)
    return [
        *terminal(Table(["rule", "jobs", "CPU hours", "card hours"], rows), ""),
        "",
        "estimates, not all of this was measured at this scale:",
        f"  download  {_sum(found.downloads)}",
        f"  disk      {_sum(found.disk)}; {_enough(sum(found.disk.values()), found.disk_free)}",
        f"  memory    {most / GB:.1f} GB for one backbone ({largest}); {_enough(most, found.memory_free)}",
        f"  CPU       {cpu:.0f} hours of one job at a time: work over the speed of each rule at scale {measured}",
        f"  card      {card:.1f} hours: the same work over {CARD}",
        *([f"  not counted, no estimate: {', '.join(unknown)}"] if unknown else []),
    ]


def _sum(parts: dict[str, int]) -> str:
    told = ", ".join(f"{name} {size / GB:.2f}" for name, size in sorted(parts.items(), key=lambda part: -part[1]))
    return f"{sum(parts.values()) / GB:.1f} GB ({told})"


def _enough(needed: int, free: int) -> str:
    return f"{free / GB:.1f} GB are free" + (", TOO LITTLE" if needed > free else "")
