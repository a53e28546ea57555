"""How many jobs a run has and how long they should take, before it runs: `abi plan` (no torch).

The jobs are those of Snakemake's own dry run; the minutes come from a committed table of measured jobs per scale
(`results/reference/<scale>/jobs.csv`), which `abi docs --adopt` writes from the benchmarks of a run.
"""

import argparse
import csv
import io
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abi.base.errors import ConfigError, DataError
from abi.base.files import ROOT, write_text
from abi.plan.config import load
from abi.plan.transfers import Study
from abi.plan.yaml_files import require_pinned, scales

COLUMNS = ("rule", "wildcards", "seconds", "mem_mb")
REFERENCE = ROOT / "results" / "reference"


@dataclass(frozen=True)
class Planned:
    """One job of a plan: its rule and its wildcards as in the name of its benchmark file ("" where it has none)."""

    rule: str
    wildcards: str


@dataclass(frozen=True)
class Measured:
    """What one job took."""

    rule: str
    wildcards: str
    seconds: float
    mem_mb: float | None
    cpu_s: float | None = field(default=None, compare=False)


def plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi plan`."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="as for snakemake (default: all)")
    parser.add_argument("--scale", default="tiny", help=f"one of {', '.join(scales())} (default: tiny)")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that run side by side (default: 2)")
    parser.add_argument("--json", action="store_true", help="one JSON document for machines instead of text")


def plan(options: argparse.Namespace) -> int:
    """Say what a run of some targets would do from here, rule by rule, and about how long it takes."""
    if options.cores < 1:
        raise ConfigError(f"plan: --cores is {options.cores}; give 1 or more")
    config = load(options.scale)
    require_pinned(config.scale, config.name)
    targets = options.targets
    for target in targets:
        if target in config.pending:
            Study(config).claim(target)  # says at which scales it runs
    known = read_measured(REFERENCE / options.scale / "jobs.csv")
    made = estimate(dry_run(targets, options.scale, options.cores), known, options.cores)
    made = {"scale": options.scale, "targets": targets or ["all"], "cores": options.cores, **made}
    print(json.dumps(made, indent=1) if options.json else as_text(made))
    return 0


def dry_run(targets: Sequence[str], scale: str, cores: int) -> list[Planned]:
    """Return the jobs that Snakemake would run for some targets; rules that only collect are left out.

    Raises: DataError: Snakemake cannot plan, with its reason.
    """
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", str(cores), *targets, "--config", f"scale={scale}"]
    place = Path.cwd() if Path("Snakefile").exists() else ROOT
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
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
            "plan: the plan that Snakemake writes has a form unknown to abi; use the pinned version (envs/requirements.lock)"
        )
    return jobs


def estimate(jobs: Sequence[Planned], known: Sequence[Measured], cores: int) -> dict[str, Any]:
    """Return jobs and seconds per rule, and the wall minutes of all: seconds over cores, at least the longest job.

    A job that was never measured counts as the mean of its rule; a rule that never was is listed under `unknown`.
    """
    own = {(m.rule, m.wildcards): m for m in known}
    of_rule: dict[str, list[float]] = {}
    for measured in known:
        of_rule.setdefault(measured.rule, []).append(measured.seconds)
    rules: dict[str, dict[str, Any]] = {}
    longest = 0.0
    for job in jobs:
        row = rules.setdefault(job.rule, {"rule": job.rule, "jobs": 0, "measured": 0, "seconds": None, "mem_mb": None})
        row["jobs"] += 1
        found, mean = own.get((job.rule, job.wildcards)), of_rule.get(job.rule)
        row["measured"] += found is not None
        if found is None and mean is None:
            continue
        seconds = found.seconds if found else sum(mean or ()) / len(mean or (0,))
        row["seconds"] = (row["seconds"] or 0.0) + seconds
        longest = max(longest, seconds)
        memory = [m.mem_mb for m in known if m.rule == job.rule and m.mem_mb is not None]
        row["mem_mb"] = max(memory, default=None)
    total = sum(row["seconds"] or 0.0 for row in rules.values())
    return {
        "rules": [row | {"seconds": None if row["seconds"] is None else round(row["seconds"], 1)} for row in rules.values()],
        "jobs": len(jobs),
        "unknown": [row["rule"] for row in rules.values() if row["seconds"] is None],
        "seconds": round(total, 1),
        "longest_s": round(longest, 1),
        "minutes": round(max(total / cores, longest) / 60, 1),
    }  # fmt: skip


def as_text(made: Mapping[str, Any]) -> str:
    """Return a plan as a small table and a sentence."""
    if not made["jobs"]:
        return (
            f"scale {made['scale']}: nothing to do, every file of {', '.join(made['targets'])} is there and up to date"
        )
    lines = [f"{'rule':<16}{'jobs':>6}{'minutes':>10}{'MB':>8}  from"]
    for row in made["rules"]:
        minutes = "?" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"
        memory = "?" if row["mem_mb"] is None else f"{row['mem_mb']:.0f}"
        source = "never measured" if row["seconds"] is None else _source(row)
        lines.append(f"{row['rule']:<16}{row['jobs']:>6}{minutes:>10}{memory:>8}  {source}")
    lines.append("")
    if made["seconds"]:
        lines.append(
            f"scale {made['scale']}: {made['jobs']} jobs, about {made['minutes']:.1f} minutes on {made['cores']} cores "
            f"({made['seconds'] / 60:.1f} of work, the longest job {made['longest_s'] / 60:.1f})"
        )
    else:
        lines.append(f"scale {made['scale']}: {made['jobs']} jobs; how long they take was never measured")
    if made["unknown"] and made["seconds"]:
        lines.append(f"not counted, never measured at this scale: {', '.join(made['unknown'])}")
    return "\n".join(lines)


def _source(row: Mapping[str, Any]) -> str:
    if row["measured"] == row["jobs"]:
        return "measured"
    return "the rule's mean" if not row["measured"] else f"{row['measured']} measured, the others the rule's mean"


def read_measured(path: str | Path) -> list[Measured]:
    """Return a table of measured jobs, nothing where there is none. Raises: DataError: it is damaged."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        found = [
            Measured(
                row["rule"], row["wildcards"], float(row["seconds"]), float(row["mem_mb"]) if row["mem_mb"] else None
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: is no table of {', '.join(COLUMNS)}; write it again with `abi docs --adopt`"
        ) from None
    bad = next((m for m in found if not (math.isfinite(m.seconds) and m.seconds >= 0)), None)
    if bad:
        raise DataError(
            f"{path}: {bad.rule} {bad.wildcards} has {bad.seconds} seconds; write it again with `abi docs --adopt`"
        )
    return found


def measured_jobs(folder: str | Path) -> list[Measured]:
    """Return what the benchmark files below a folder say, sorted. Raises: DataError: one of them is damaged.

    CPU and memory are those that the job's own log names: its process may be another than the one Snakemake started
    (`abi.warm`); of jobs that name none, those of the benchmark.
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
        cpu, memory = told or (cpu, memory)
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


def adopt_jobs(scale: str) -> None:
    """Write the committed table of measured jobs of a scale from the benchmarks of its run, if it left any."""
    found = measured_jobs(Path("results") / scale / "benchmarks")
    if not found:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for job in found:
        memory = "" if job.mem_mb is None else f"{job.mem_mb:.0f}"
        writer.writerow([job.rule, job.wildcards, f"{job.seconds:.1f}", memory])
    write_text(REFERENCE / scale / "jobs.csv", text.getvalue())
