"""What jobs took: the committed table of a scale (`results/reference/<scale>/jobs.csv`), the benchmarks of a run."""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from abi.base.errors import DataError
from abi.base.files import ROOT, write_text
from abi.base.machine import gemm_gflops
from abi.base.tables import csv_rows, csv_text

COLUMNS = ("rule", "wildcards", "seconds", "cpu_s", "mem_mb")
JOBS = "jobs.csv"
REFERENCE = ROOT / "results" / "reference"
MACHINE, RATE = "machine.csv", ("gflops",)
"""Beside a committed table of jobs: how fast the machine that they were measured on multiplies matrices."""


@dataclass(frozen=True)
class Measured:
    """What one job took: seconds by the clock, MB at most and seconds of CPU, None where nothing told them."""

    rule: str
    wildcards: str
    seconds: float
    mem_mb: float | None
    cpu_s: float | None = None

    @property
    def busy_s(self) -> float:
        """Seconds that the job takes undisturbed: a machine that was halted counts by the clock alone."""
        return self.seconds if self.cpu_s is None else min(self.seconds, self.cpu_s)


def committed(scale: str) -> list[Path]:
    """Return the committed result files of a scale, none where no run of it is committed."""
    return sorted((REFERENCE / scale).glob("*.json"))


def read_measured(path: str | Path) -> list[Measured]:
    """Return a table of measured jobs, nothing where there is none. Raises: DataError: it is damaged."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        found = [
            Measured(rule, wildcards, float(seconds), *(float(cell) if cell else None for cell in (memory, cpu)))
            for rule, wildcards, seconds, cpu, memory in csv_rows(path.read_text(encoding="utf-8"), COLUMNS)
        ]
        if not all(0 <= value < math.inf for job in found for value in (job.seconds, job.cpu_s or 0.0)):
            raise ValueError("seconds")
    except ValueError:
        raise DataError(
            f"{path}: is no table of {', '.join(COLUMNS)}; write it again with `abi docs --adopt`"
        ) from None
    return found


def pace(folder: Path) -> float:
    """Return how many times as long a job takes here as on the machine that a folder's jobs were measured on.

    By how fast the two multiply matrices, which takes a second to measure; 1 where that machine's rate is not recorded.
    Raises: DataError: the record is damaged.
    """
    path = folder / MACHINE
    if not path.exists():
        return 1.0
    try:
        [[rate]] = csv_rows(path.read_text(encoding="utf-8"), RATE)
        recorded = float(rate)
        if not 0 < recorded < math.inf:
            raise ValueError("gflops")
    except ValueError:
        raise DataError(f"{path}: names no rate in `gflops`; write it again with `abi docs --adopt`") from None
    return recorded / gemm_gflops()


def at_pace(jobs: Iterable[Measured], factor: float) -> list[Measured]:
    """Return measured jobs as they should be where all of them take a factor as long."""
    return [replace(job, seconds=factor * job.busy_s, cpu_s=None) for job in jobs]


class Known(NamedTuple):
    """Measured jobs as they should be on this machine. Args: pace, scale: of those that are committed."""

    jobs: list[Measured]
    pace: float
    scale: str


def known_jobs(*scales: str, here: Sequence[Measured] = ()) -> Known:
    """Return the committed jobs of the first of some scales that has any, at the pace of this machine.

    Args: scales: a scale, and the one that it replicates, whose jobs are as large; here: jobs that ran here, which
        stand for the committed ones of their names.
    Raises: DataError: a table is damaged.
    """
    ran = {(job.rule, job.wildcards) for job in here}
    scale = next((name for name in scales if (REFERENCE / name / JOBS).exists()), scales[0])
    factor = pace(REFERENCE / scale)
    others = at_pace(read_measured(REFERENCE / scale / JOBS), factor)
    return Known([*here, *(job for job in others if (job.rule, job.wildcards) not in ran)], factor, scale)


def mean_seconds(jobs: Iterable[Measured]) -> dict[str, float]:
    """Return rule -> mean seconds that its measured jobs were busy."""
    return {rule: fmean(job.busy_s for job in found) for rule, found in grouped_by_rule(jobs).items()}


def grouped_by_rule(jobs: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Return rule -> its measured jobs."""
    found: dict[str, list[Measured]] = {}
    for job in jobs:
        found.setdefault(job.rule, []).append(job)
    return found


def wall(jobs: Iterable[Measured]) -> float:
    """Return minutes by the clock of some jobs, one after the other."""
    return sum(job.seconds for job in jobs) / 60


def work(jobs: Iterable[Measured]) -> float:
    """Return minutes that some jobs were busy, one after the other."""
    return sum(job.busy_s for job in jobs) / 60


def measured_jobs(folder: str | Path) -> list[Measured]:
    """Return what the benchmark files below a folder say, sorted. Raises: DataError: one of them is damaged.

    CPU and memory are those that the job's own log names: its process may be another than the one Snakemake started
    (`abi.base.warm`); of jobs that name none, those of the benchmark.
    """
    found = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        rule, _, wildcards = path.relative_to(folder).as_posix().removesuffix(".tsv").partition("/")
        try:
            row = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))[-1]
            seconds = float(row["s"])
            memory, cpu = (_known(row.get(column) or "") for column in ("max_rss", "cpu_time"))
        except (IndexError, KeyError, TypeError, ValueError):
            raise DataError(f"{path}: is no benchmark of Snakemake; delete it and run its job again") from None
        told = _told(Path(folder).with_name("logs") / path.relative_to(folder).with_suffix(".log"))
        cpu, memory = told or (cpu if memory else None, memory)  # one too short for Snakemake to see names 0 s of CPU
        found.append(Measured(rule, wildcards, seconds, memory, cpu))
    return found


def _told(log: Path) -> tuple[float, float] | None:
    """Return the CPU seconds and MB in the last line of a job's log, None where it has none."""
    last = log.read_text(encoding="utf-8", errors="replace").rpartition(" finished in ")[2] if log.is_file() else ""
    told = re.search(r"([\d.]+) s of CPU, (\d+) MB at most", last)
    return None if told is None else (float(told[1]), float(told[2]))


def _known(cell: str) -> float | None:
    """Return the number in a cell of a benchmark, None where Snakemake could not measure."""
    return float(cell) if re.fullmatch(r"[\d.]+", cell) else None


def _cell(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def adopt_jobs(scale: str, *, keep: bool = False) -> None:
    """Write the committed table of measured jobs of a scale from the benchmarks of its run, if it left any.

    With it goes the rate of this machine, which must be the one that ran: minutes elsewhere are scaled by it (`pace`).
    Args: keep: jobs of the table that were not run this time stay, at the pace of this machine.
    """
    found, folder = measured_jobs(Path("results") / scale / "benchmarks"), REFERENCE / scale
    if not found:
        return
    if keep:
        ran, factor = {(job.rule, job.wildcards) for job in found}, pace(folder)
        others = [job for job in read_measured(folder / JOBS) if (job.rule, job.wildcards) not in ran]
        found = sorted([*found, *at_pace(others, factor)], key=lambda job: (job.rule, job.wildcards))
    rows = [(job.rule, job.wildcards, f"{job.seconds:.1f}", _cell(job.cpu_s, 1), _cell(job.mem_mb, 0)) for job in found]
    write_text(REFERENCE / scale / JOBS, csv_text(COLUMNS, rows))
    write_text(REFERENCE / scale / MACHINE, csv_text(RATE, [[f"{gemm_gflops():.1f}"]]))
