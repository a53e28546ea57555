"""The jobs that Snakemake would run: its own dry run, told by a logger of ours (as `abi/cli/progress.py`)."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from logging import LogRecord
from pathlib import PurePosixPath

from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from abi.base.errors import DataError
from abi.base.files import checkout
from abi.cli import progress
from abi.plan.estimate import PlannedJob

LogHandlerSettings = LogHandlerSettingsBase


class LogHandler(progress.LogHandler):
    """Writes every job to stdout, a line of JSON, and what goes wrong to stderr."""

    def emit(self, record: LogRecord) -> None:
        """Write a record, if it is a job or tells why there is no plan."""
        said = progress.Said.of(record)
        if said.event == LogEvent.JOB_INFO:
            print(json.dumps([said.rule_name, said.benchmark, said.input, said.output]), flush=True)
        elif said.event in {None, LogEvent.ERROR}:
            super().emit(record)


def dry_run(
    targets: Sequence[str], scale: str, cores: int, *, force: bool = False
) -> dict[PlannedJob, list[PlannedJob]]:
    """Return the jobs that Snakemake would run for some targets, and those that each waits for.

    Rules that only collect are left out.

    Args: force: also those whose files are there and up to date.
    Raises: DataError: Snakemake cannot plan, with its reason.
    """
    words = ["-n", *(["--forceall"] if force else []), "--cores", str(cores), "--logger", progress.NAME]
    asked = ["--config", f"scale={scale}", "--", *targets]
    command = [sys.executable, "-m", "abi.cli.dry_run", *words, *asked]
    done = subprocess.run(command, cwd=checkout(), capture_output=True, text=True, check=False)
    if done.returncode:
        why = reason(done.stderr)
        about_files = why.startswith(("OSError", "PermissionError", "FileNotFoundError"))
        mend = "make the folder writable" if about_files else "`snakemake --list-target-rules` names the targets"
        raise DataError(f"plan: Snakemake cannot plan ({why}); {mend}")
    return in_order([json.loads(line) for line in done.stdout.splitlines()])


def in_order(told: Iterable[tuple[str, str | None, list[str], list[str]]]) -> dict[PlannedJob, list[PlannedJob]]:
    """Return job -> the jobs that it waits for. Args: told: rule, benchmark, inputs and outputs of each."""
    jobs = [(named(rule, benchmark), read, wrote) for rule, benchmark, read, wrote in told if benchmark]
    made_by = {file: job for job, _, wrote in jobs for file in wrote}
    return {job: list(dict.fromkeys(made_by[file] for file in read if file in made_by)) for job, read, _ in jobs}


def named(rule: str, benchmark: str) -> PlannedJob:
    """Return a job by the place of its benchmark: `benchmarks/<rule>/<wildcards>.tsv`."""
    parts = PurePosixPath(benchmark).with_suffix("").parts
    return PlannedJob(rule, "/".join(parts[parts.index("benchmarks") + 2 :]))


def reason(said: str) -> str:
    """Return the line of what Snakemake said that tells best why it stopped."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(abi: |\w*(Exception|Error)\b)", line)]
    at = lines.index(telling[0]) if telling else -1
    more = lines[at + 1] if telling and telling[0].endswith(":") and at + 1 < len(lines) else ""
    return f"{telling[0] if telling else (lines or ['no word of why'])[-1]} {more}".strip()[:200]


def main() -> None:
    """Be Snakemake, with the logger of this module."""
    progress.be_snakemake(sys.modules[__name__])


if __name__ == "__main__":
    main()
