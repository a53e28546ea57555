"""How many jobs a run has and how long they should take, before it runs: `abi plan` (no torch).

The jobs are those of Snakemake's own dry run; the minutes come from a committed table of measured jobs per scale
(`results/reference/<scale>/jobs.csv`), which `abi docs --adopt` writes from the benchmarks of a run.
"""

import dataclasses
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from abi.base.errors import ConfigError, DataError
from abi.base.files import checkout
from abi.plan.config import load
from abi.plan.forecast import Forecast, forecast
from abi.plan.measured import REFERENCE, Measured, at_pace, mean_seconds, pace, read_measured
from abi.plan.workflow import Workflow


@dataclass(frozen=True)
class Planned:
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

    def row(self) -> str:
        """Return its line of the table."""
        minutes = "?" if self.seconds is None else f"{self.seconds / 60:.1f}"
        memory = "?" if self.mem_mb is None else f"{self.mem_mb:.0f}"
        source = f"{self.measured} measured, the others the rule's mean" if self.measured else "the rule's mean"
        if self.seconds is None:
            source = "never measured"
        elif self.measured == self.jobs:
            source = "measured"
        return f"{self.rule:<16}{self.jobs:>6}{minutes:>10}{memory:>8}  {source}"


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


def plan(targets: Sequence[str], scale: str, cores: int) -> Estimate:
    """Return what a run of some targets would do from here, rule by rule, and about how long it takes.

    Raises: ConfigError: no cores, or a target that this scale cannot run; DataError: Snakemake cannot plan.
    """
    if cores < 1:
        raise ConfigError(f"plan: --cores is {cores}; give 1 or more")
    config = load(scale)
    config.scale.require_pinned()
    config.require_backbones()
    for target in targets:
        if target in config.pending:
            Workflow(config).claim(target)  # says at which scales it runs
    known = read_measured(REFERENCE / scale / "jobs.csv")
    jobs = dry_run(targets, scale, cores)
    factor = pace(REFERENCE / scale)
    made = estimate(jobs, at_pace(known, factor), scale, list(targets) or ["all"], cores)
    made = dataclasses.replace(made, pace=round(factor, 2))
    if known or not any(backbone.hub for backbone in config.scale.backbones.values()):
        return made
    return dataclasses.replace(made, forecast=forecast(config, [(job.rule, job.wildcards) for job in jobs]))


def dry_run(targets: Sequence[str], scale: str, cores: int) -> list[Planned]:
    """Return the jobs that Snakemake would run for some targets; rules that only collect are left out.

    Raises: DataError: Snakemake cannot plan, with its reason.
    """
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", str(cores), *targets, "--config", f"scale={scale}"]
    done = subprocess.run(command, cwd=checkout(), capture_output=True, text=True, check=False)
    said = f"{done.stdout}\n{done.stderr}"
    if done.returncode:
        raise DataError(
            f"plan: Snakemake cannot plan ({reason(said)}); `snakemake --list-target-rules` names the targets"
        )
    return read_plan(said)


def reason(said: str) -> str:
    """Return the line of what Snakemake said that tells best why it stopped."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(abi: |\w*(Exception|Error)\b)", line)]
    at = lines.index(telling[0]) if telling else -1
    more = lines[at + 1] if telling and telling[0].endswith(":") and at + 1 < len(lines) else ""
    return f"{telling[0] if telling else (lines or ['no word of why'])[-1]} {more}".strip()[:200]


def read_plan(said: str) -> list[Planned]:
    """Return the jobs of a dry run's output, each from its own block, checked against Snakemake's table of counts.

    Raises: DataError: blocks and table differ, so this Snakemake writes its plan in a form unknown here.
    """
    jobs, counted = [], Counter[str]()
    for block in re.split(r"\n(?=\s*(?:local)?rule \w+:\n)", said)[1:]:
        rule = re.match(r"\s*(?:local)?rule (\w+):", block)
        assert rule is not None
        counted[rule[1]] += 1
        benchmark = re.search(r"(?m)^    benchmark: \S*?benchmarks/(\S+)\.tsv$", block)
        if benchmark:
            jobs.append(Planned(rule[1], benchmark[1].partition("/")[2]))
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", said, re.DOTALL)
    wanted = {name: int(n) for name, n in (line.split() for line in table[1].splitlines())} if table else {}
    if dict(counted) != wanted:
        raise DataError(
            "plan: the plan that Snakemake writes has a form unknown to abi; "
            "use the pinned version (envs/requirements.lock)"
        )
    return jobs


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
        took = [m.seconds if m else means.get(rule, 0.0) for m in measured]
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


def as_text(made: Estimate) -> str:
    """Return a plan as a small table and a sentence."""
    if not made.jobs:
        return f"scale {made.scale}: nothing to do, every file of {', '.join(made.targets)} is there and up to date"
    if made.forecast:
        return "\n".join(
            [f"scale {made.scale}: {made.jobs} jobs for {', '.join(made.targets)}", "", *made.forecast.lines()]
        )
    lines = [f"{'rule':<16}{'jobs':>6}{'minutes':>10}{'MB':>8}  from", *(rule.row() for rule in made.rules), ""]
    if not made.seconds:
        return "\n".join([*lines, f"scale {made.scale}: {made.jobs} jobs; how long they take was never measured"])
    lines.append(
        f"scale {made.scale}: {made.jobs} jobs, about {made.minutes:.1f} minutes on {made.cores} cores "
        f"({made.seconds / 60:.1f} of work, the longest job {made.longest_s / 60:.1f})"
    )
    if made.pace != 1:
        rate = f"this machine multiplies matrices {_against(made.pace)} the one that was measured"
        lines.append(f"{rate}; minutes are scaled")
    if made.unknown:
        lines.append(f"not counted, never measured at this scale: {', '.join(made.unknown)}")
    return "\n".join(lines)


def _against(factor: float) -> str:
    """Return in words how fast a machine is on which all takes a factor as long."""
    return f"{1 / factor:.1f} times as fast as" if factor < 1 else f"at {1 / factor:.0%} of the rate of"
