"""What a scale of published models would take before any of its jobs was measured: estimates, marked as such.

Downloads, disk and memory follow from the files and sizes that `abi pin` found. Hours on a CPU are work over the speed
of the same rule in the jobs measured at scale `tiny`, on a machine as fast as this one (`measured.pace`); hours on a
card are work over an assumed speed.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abi.base.machine import free_memory
from abi.plan.config import Config, load
from abi.plan.measured import Measured, known_jobs, mean_seconds
from abi.plan.work import Work
from abi.plan.workflow import Workflow

BASE = "tiny"
"""The scale whose measured jobs tell how fast each rule is."""
LEFT = {
    "write_states": "states",
    "write_updated_states": "states after updates",
    "update_backbone": "updated backbones",
    "train_modules": "modules",
    "train_updated_modules": "modules",
    "calibrate_arms": "arms",
    "train_lora": "states of adapters",
    "write_lesson_text": "states of written text",
}
"""What fills the disk: rule -> what its jobs leave."""
CARD_FLOPS, CARD = 2e13, "an assumed 20 TFLOP/s, a third of what an H100 has in fp32"


@dataclass(frozen=True)
class RuleForecast:
    """What the jobs of a rule should take. Args: cpu_s, card_s: seconds in all, None where nothing tells."""

    rule: str
    jobs: int
    cpu_s: float | None
    card_s: float | None


@dataclass(frozen=True)
class Forecast:
    """What a run should take. Args: downloads, memory: backbone or data set -> bytes; disk: what -> bytes."""

    downloads: dict[str, int]
    disk: dict[str, int]
    memory: dict[str, int]
    rules: list[RuleForecast]
    disk_free: int
    memory_free: int


def forecast(config: Config, jobs: Sequence[tuple[str, str]]) -> Forecast:
    """Return what jobs of a scale should take. Args: jobs: rule and wildcards of each, as in its benchmark's name."""
    work, known = Work(Workflow(config)), known_jobs(BASE).jobs
    fast = speeds(known, Work(Workflow(load(BASE))))
    by_rule = {rule: [wildcards for r, wildcards in jobs if r == rule] for rule, _ in jobs}
    built = by_rule.get("build_backbone", [])
    hubs = {name: config.scale.backbones[name].hub for name in built}
    files = {name: sum(file.bytes for file in hub.files.values()) for name, hub in hubs.items() if hub}
    for name in by_rule.get("build_text", []):
        for place in config.scale.sources[config.scale.texts[name].sources]:
            if place.kind == "hub":
                files[place.id] = sum(file.bytes for file in place.files.values())
    copies = sum(files[name] for name in built if name in files)
    disk = {"cache": sum(files.values()), "backbones": copies}
    for rule, what in LEFT.items():
        left = sum(int(work.stored(rule, wildcards) or 0) for wildcards in by_rule.get(rule, []))
        disk |= {what: disk.get(what, 0) + left} if left else {}
    return Forecast(
        downloads=files,
        disk=disk,
        memory={name: hub.sizes.memory_needed for name, hub in hubs.items() if hub and hub.sizes},
        rules=[_rule(rule, own, work, known, fast.get(rule)) for rule, own in by_rule.items()],
        disk_free=shutil.disk_usage(Path.cwd()).free,
        memory_free=free_memory(),
    )


def speeds(known: Sequence[Measured], work: Work) -> dict[str, float]:
    """Return rule -> FLOP per second of the measured jobs whose work is known."""
    done: dict[str, tuple[float, float]] = {}
    for job in known:
        flop = work.flop(job.rule, job.wildcards)
        if flop is not None:
            before = done.get(job.rule, (0.0, 0.0))
            done[job.rule] = before[0] + flop, before[1] + job.busy_s
    return {rule: flop / seconds for rule, (flop, seconds) in done.items() if seconds > 0}


def _rule(
    rule: str, wildcards: Sequence[str], work: Work, known: Sequence[Measured], speed: float | None
) -> RuleForecast:
    """Return what the jobs of a rule should take.

    A rule whose work does not grow with the models takes what it takes at the measured scale; to bring a published
    model here is no such rule.
    """
    if speed is None:
        mean = mean_seconds(known).get(rule) if rule != "build_backbone" else None
        seconds = None if mean is None else len(wildcards) * mean
        return RuleForecast(rule, len(wildcards), seconds, seconds)
    flops = [work.flop(rule, name) for name in wildcards]
    total = None if None in flops else sum(filter(None, flops))
    cpu, card = (None, None) if total is None else (total / speed, total / CARD_FLOPS)
    return RuleForecast(rule, len(wildcards), cpu, card)
