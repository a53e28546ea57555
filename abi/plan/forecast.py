"""What a scale of published models would take before any of its jobs was measured: estimates, marked as such.

Downloads, disk and memory follow from the files and sizes that `abi pin` found. Hours on a CPU are work over the speed
of the same rule in the jobs that were measured on the largest models, at scale `real` or else `tiny`, on a machine as
fast as this one (`measured.pace`); hours on a card are work over an assumed speed.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from abi.base.errors import ConfigError
from abi.base.machine import free_memory
from abi.plan.config import Config, load
from abi.plan.measured import Measured, grouped_by_rule, known_jobs, mean_seconds
from abi.plan.work import Work
from abi.plan.workflow import Workflow

BASE = "tiny"
"""The scale whose measured jobs tell how fast every rule is."""
MEASURED = "real", BASE
"""The scales that tell it of published models: the first that has the rule, on the largest models measured."""
LEFT = {
    "build_backbone": "backbones",
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
    work, base = Work(Workflow(config)), speeds_at(*MEASURED)
    by_rule = {rule: [wildcards for r, wildcards in jobs if r == rule] for rule, _ in jobs}
    built = by_rule.get("build_backbone", [])
    hubs = {name: config.scale.backbones[name].hub for name in built}
    files = {name: sum(file.bytes for file in hub.files.values()) for name, hub in hubs.items() if hub}
    for name in by_rule.get("build_text", []):
        for place in config.scale.sources[config.scale.texts[name].sources]:
            if place.kind == "hub":
                files[place.id] = sum(file.bytes for file in place.files.values())
    return Forecast(
        downloads=files,
        disk={"cache": sum(files.values())} | left_on_disk(work, jobs),
        memory={name: hub.sizes.memory_needed for name, hub in hubs.items() if hub and hub.sizes},
        rules=[_rule(rule, own, work, base) for rule, own in by_rule.items()],
        disk_free=shutil.disk_usage(Path.cwd()).free,
        memory_free=free_memory(),
    )


def left_on_disk(work: Work, jobs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return what -> bytes that jobs of a scale leave in its results; what is small is not counted.

    Args: work: of the scale; jobs: rule and wildcards of each.
    """
    left: dict[str, int] = {}
    for rule, wildcards in jobs:
        if size := int(work.stored(rule, wildcards) or 0):
            left[LEFT[rule]] = left.get(LEFT[rule], 0) + size
    return left


def disk_of(scale: str, known: Sequence[Measured], jobs: Mapping[str, int]) -> int:
    """Return the bytes that a run leaves, where jobs are as large as the known ones of their rule; 0 without any.

    Args: known: of the scale; jobs: rule -> how many of its jobs will run.
    """
    if not known:
        return 0
    work, left = Work(Workflow(load(scale))), 0.0
    for rule, own in grouped_by_rule(known).items():
        left += jobs.get(rule, 0) * fmean(work.stored(rule, job.wildcards) or 0 for job in own)
    return int(left)


class Speeds(NamedTuple):
    """How fast rules are on this machine.

    Args: at: rule -> the scale whose jobs tell; flops: rule -> FLOP per second, of rules whose work grows with the
        models; seconds: rule -> mean seconds of a job, of the others.
    """

    at: dict[str, str]
    flops: dict[str, float]
    seconds: dict[str, float]

    def expected(self, rule: str, wildcards: str, work: Work) -> float | None:
        """Return the seconds that a job of another scale should take, None where nothing tells. Args: work: of it."""
        if rule not in self.flops:
            return self.seconds.get(rule)
        flop = work.flop(rule, wildcards)
        return None if flop is None else flop / self.flops[rule]


def speeds_at(*scales: str) -> Speeds:
    """Return how fast each rule is at the first of some scales that has it measured.

    To bring a model here takes what it takes there, so it is left out. A scale that somebody's own claims have made
    invalid tells nothing.
    """
    found = Speeds({}, {}, {})
    for scale in scales:
        try:
            work = Work(Workflow(load(scale)))
        except ConfigError:
            continue
        known = known_jobs(scale).jobs
        flops, means = speeds(known, work), mean_seconds(known)
        for rule in means.keys() - found.at.keys() - {"build_backbone"}:
            found.at[rule] = scale
            told, speed = (found.flops, flops[rule]) if rule in flops else (found.seconds, means[rule])
            told[rule] = speed
    return found


def speeds(known: Sequence[Measured], work: Work) -> dict[str, float]:
    """Return rule -> FLOP per second of the measured jobs whose work is known."""
    done: dict[str, tuple[float, float]] = {}
    for job in known:
        flop = work.flop(job.rule, job.wildcards)
        if flop is not None:
            before = done.get(job.rule, (0.0, 0.0))
            done[job.rule] = before[0] + flop, before[1] + job.busy_s
    return {rule: flop / seconds for rule, (flop, seconds) in done.items() if seconds > 0}


def _rule(rule: str, wildcards: Sequence[str], work: Work, base: Speeds) -> RuleForecast:
    """Return what the jobs of a rule should take; where work does not grow with the models, a card is no faster."""
    seconds = [base.expected(rule, name, work) for name in wildcards]
    cpu = None if None in seconds else sum(filter(None, seconds))
    speed = base.flops.get(rule)
    card = cpu if cpu is None or speed is None else cpu * speed / CARD_FLOPS
    return RuleForecast(rule, len(wildcards), cpu, card)
