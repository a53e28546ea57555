"""What a run took, and on which machines it ran."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from abi.base.wording import number
from abi.judge.results import AnyResult
from abi.plan.measured import Measured, wall
from abi.report.render import Cell, Table, link

TARGETS = "Per target: jobs that are its own; backbones, states and modules are shared and stand in the next table"


def effort_of_targets(results: Sequence[AnyResult], jobs: Sequence[Measured], scale: str) -> Table:
    """Return what each claim took in this run."""
    rows: list[list[Cell]] = []
    for result in results:
        claim, made = result.claim.id, result.provenance
        named = {claim, Path(result.claim.record.result_file or claim).stem}  # a verdict's job is named by its file
        own = [job for job in jobs if named & set(re.split(r"[./]", job.wildcards))]
        memory = max((job.mem_mb or 0.0 for job in own), default=made.peak_memory_mb)
        command = f"`snakemake --config scale={scale} -- {claim}`"
        times = [len(own), wall(own), _cpu(own)] if own else [None, None, None]
        rows.append([link(claim), command, *times, f"{memory:.0f}", f"`{made.code}`"])
    heads = ["target", "command", "own jobs", "wall (min)", "CPU (min)", "peak (MB)", "code of the verdict"]
    return Table(heads, rows, TARGETS)


def effort_of_rules(jobs: Sequence[Measured]) -> Table:
    """Return what each rule took in this run."""
    rows: list[list[Cell]] = []
    for rule in sorted({job.rule for job in jobs}):
        own = [job for job in jobs if job.rule == rule]
        memory, longest = max(job.mem_mb or 0.0 for job in own), max(job.seconds for job in own) / 60
        rows.append([f"`{rule}`", len(own), wall(own), longest, _cpu(own), f"{memory:.0f}" if memory else None])
    total = f"{number(len(jobs), 'job')}, {wall(jobs):.3g} minutes of wall time one after the other"
    caption = f"Per rule, as measured by this run: {total}"
    return Table(["rule", "jobs", "wall (min)", "longest (min)", "CPU (min)", "peak (MB)"], rows, caption)


def _cpu(jobs: Sequence[Measured]) -> float | None:
    """Return minutes of CPU of the jobs that told theirs."""
    told = [job.cpu_s for job in jobs if job.cpu_s is not None]
    return sum(told) / 60 if told else None


def machines(results: Sequence[AnyResult]) -> list[str]:
    """Return the machines and versions that the results name."""
    on, using = Counter[str](), Counter[str]()
    for made in (result.provenance for result in results):
        its = made.hardware
        system = f"{its.cpus} cores, {its.system} {its.machine}"
        on[f"{its.cpu or 'unknown processor'}, {system}, {number(made.threads, 'thread')} per job"] += 1
        using[", ".join(f"{name} {version}" for name, version in made.versions.items())] += 1
    found = {"on": on, "with": using}
    return [f"{number(n, 'result')} made {by} {what}" for by, of in found.items() for what, n in of.items()]
