"""`abi run` as a person reads it: a line per job, with percent and time left, and whatever went wrong.

It is Snakemake with a logger of ours (its plugin interface: snakemake-interface-logger-plugins). Snakemake's full log
stays where it always is, `.snakemake/log`; what jobs print to stderr goes to `RUN_LOG` and to the log of each job.
"""

import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from pathlib import Path
from types import FrameType, MappingProxyType, ModuleType
from typing import NamedTuple, Self, TextIO

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from abi.base.compute import decided
from abi.base.files import ROOT, checkout
from abi.base.job import step_of
from abi.base.machine import GB
from abi.base.wording import number
from abi.cli.watching import CLEAR, duration
from abi.plan import DEFAULT
from abi.plan.forecast import disk_of
from abi.plan.measured import known_jobs, mean_seconds
from abi.plan.yaml_files import read_scale, scale_replicated_by

NAME = "abi"
RUN_LOG = Path(".snakemake/abi/run.log")

BESIDE = "For further error details see the cluster/cloud log and the log files of the involved rule(s)."
"""What Snakemake adds to the reason of every job that ran elsewhere."""
INTERRUPTED: list[int] = []
"""Signals by which somebody at the keyboard ended this process; its jobs get them too, and have failed at nothing."""
REPEATED = ("Exiting because a job execution failed", "At least one job did not complete successfully")
"""What Snakemake says at the end of a run in which a job failed."""
TIMED = frozenset({"crate", "measure_speed"})
"""Rules that take time and have no step."""
TRUST = 0.05
"""Share of the whole work for which the measured seconds are taken to hold here as well: the first jobs of a run are
short, and one that waits for a download says little of the rest."""


@dataclass
class Expected:
    """What is left of a run, from measured jobs of its scale, corrected by how long the finished ones took here."""

    left: Counter[str]
    means: Mapping[str, float]
    cores: int = 1
    done: int = 0
    spent: float = 0.0
    """Seconds that the finished jobs took here."""
    foreseen: float = 0.0
    """Seconds that they were measured to take."""

    def finish(self, rule: str, seconds: float) -> None:
        """Count a job as finished."""
        self.left[rule] -= 1
        self.done += 1
        self.spent += seconds
        self.foreseen += self.means.get(rule, 0.0)

    @property
    def work(self) -> float:
        """Measured seconds of all jobs that are left."""
        return sum(n * self.means.get(rule, 0.0) for rule, n in self.left.items())

    def percent(self) -> float:
        """Return how much is done: of the measured work, or else of the jobs."""
        if self.known():
            return 100 * self.foreseen / (self.foreseen + self.work)
        return 100 * self.done / max(self.done + self.left.total(), 1)

    def seconds(self) -> float | None:
        """Return how long the rest should take, None before anything can be said."""
        if self.known():
            trusted = TRUST * (self.foreseen + self.work)
            pace = (self.spent + trusted) / (self.foreseen + trusted)
            return self.work * pace / self.cores
        return self.spent / self.done * self.left.total() / self.cores if self.done else None

    def known(self) -> bool:
        """Return whether any job of this run was ever measured; one that was not counts as no time."""
        return self.foreseen + self.work > 0

    def whole(self) -> bool:
        """Return whether every job that is left belongs to a rule that was measured, or none ever was.

        One that only collects what others make has no step, and takes no time.
        """
        timed = [rule for rule, n in self.left.items() if n and (rule in TIMED or (ROOT / step_of(rule)).is_file())]
        return not self.known() or all(rule in self.means for rule in timed)


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Settings of the logger. Args: scale: whose measured jobs say how long a run takes."""

    scale: str = field(default=DEFAULT, metadata={"help": "scale whose measured jobs say how long a run takes"})


class Said(NamedTuple):
    """What Snakemake says in a record of its log; each event fills some of it."""

    event: LogEvent | None = None
    cores: int | None = None
    nodes: int | None = None
    stats: Mapping[str, int] = MappingProxyType({})
    jobid: int = -1
    job_id: int = -1
    """That of a job which ended."""
    rule_name: str = ""
    wildcards: Mapping[str, object] | None = None
    log: Sequence[str] | None = None
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    benchmark: str | None = None
    exception: str | None = None
    rule_msg: str | None = None
    """Why a job failed, as what ran it says: that a cluster refused it, or ended it."""

    @classmethod
    def of(cls, record: LogRecord) -> Self:
        """Return what a record says."""
        return cls(**{name: value for name, value in vars(record).items() if name in cls._fields})


@dataclass
class Started:
    """A job that runs: its rule, what it is about, when it began."""

    rule: str
    about: str
    began: float


def without_card(scale: str, jobs: Mapping[str, int]) -> int:
    """Return how many jobs ask for a card where there is one, on a machine where there is none.

    Args: jobs: rule -> how many of its jobs will run.
    """
    found = read_scale(scale, checkout() / "config" / "scales")
    asking = [rule for rule in jobs if found.jobs.of(rule).gpu and found.compute.of(rule).device == "auto"]
    return sum(jobs[rule] for rule in asking) if asking and decided("auto").device == "cpu" else 0


class LogHandler(LogHandlerBase):
    """Writes what a person wants to know of a run; the rest of what Snakemake says is dropped."""

    writes_to_stream = True  # so that Snakemake's own lines are not written beside
    has_filter = has_formatter = True  # what is shown, and how, is decided here
    writes_to_file = needs_rulegraph = False

    def __post_init__(self) -> None:
        """Start with nothing known."""
        self.stream: TextIO = sys.stderr
        self.began = time.monotonic()
        self.running: dict[int, Started] = {}
        self.stopped: list[int] = INTERRUPTED
        self.failed: set[int] = set()
        self.ended = False
        self.rest = Expected(Counter(), {})
        self.cores = 1  # or, on a cluster, jobs at once
        self.nodes = False

    def emit(self, record: LogRecord) -> None:
        """Show a record, if it is one that a person wants to see."""
        said = Said.of(record)
        event = said.event
        if event == LogEvent.RESOURCES_INFO:
            self.cores, self.nodes = said.cores or said.nodes or self.cores, bool(said.nodes) or self.nodes
        elif event == LogEvent.RUN_INFO:
            self.plan(said.stats)
        elif event == LogEvent.JOB_INFO:
            about = " ".join(str(value) for value in (said.wildcards or {}).values())
            self.running[said.jobid] = Started(said.rule_name, about, time.monotonic())
            self.show_running()
        elif event == LogEvent.JOB_FINISHED:
            self.finish(said.job_id)
        elif event == LogEvent.JOB_ERROR:
            self.fail(said.jobid, said.rule_name, said.log or [], said.rule_msg)
        elif event == LogEvent.ERROR and said.exception == "RuleException":
            pass  # the command line of a job that failed, which its own line tells better
        elif event is None and record.msg == NOTHING_TO_BE_DONE_MSG:
            self.line("Nothing to do: every file is there and up to date.")
        elif record.levelno >= WARNING and event in {None, LogEvent.ERROR} and not _repeats(record.getMessage()):
            self.line(record.getMessage().strip())

    def plan(self, stats: Mapping[str, int]) -> None:
        """Say how many jobs there are, and about how long they take."""
        scale = getattr(self.settings, "scale", DEFAULT)
        jobs = Counter({rule: n for rule, n in stats.items() if rule != "total"})
        known = known_jobs(scale, scale_replicated_by(scale)).jobs
        self.rest = Expected(jobs, mean_seconds(known), max(min(self.cores, jobs.total()), 1))
        at_once = f", at most {self.rest.cores} at once" if self.nodes else f" on {number(self.cores, 'core')}"
        self.line(f"{number(jobs.total(), 'job')}{at_once}{self.still('')}")
        needed, free = disk_of(scale, known, jobs), shutil.disk_usage(Path.cwd()).free
        if needed > free:
            self.line(f"warning: results take about {needed / GB:.1f} GB more, and {free / GB:.1f} GB are free here")
        if not self.nodes and (asking := without_card(scale, jobs)):
            jobs_asking = f"{number(asking, 'job')} {'asks' if asking == 1 else 'ask'} for a card"
            self.line(f"warning: {jobs_asking}, and torch can use none here: that is computed on the CPU")

    def finish(self, job: int) -> None:
        """Write the line of a finished job."""
        done = self.running.pop(job, None)
        if done is None:
            return
        self.failed.discard(job)  # tried again, and this time it went well
        seconds = time.monotonic() - done.began
        self.rest.finish(done.rule, seconds)
        count = f"{self.rest.done}/{self.rest.done + self.rest.left.total()}"
        left = self.still(" left").removeprefix(", ")
        what = f"{done.rule} {done.about}".rstrip()
        self.line(f"{self.rest.percent():3.0f} %  {count:>7}  {duration(seconds):>7}  {left:<17}  {what}")
        self.show_running()

    def fail(self, job: int, rule: str, logs: Sequence[str], reason: str | None) -> None:
        """Write the line of a failed job: the last word of its log, what ran it says of it, and where the log is."""
        about = self.running.pop(job).about if job in self.running else ""
        if job not in self.failed and not self.stopped:
            self.failed.add(job)
            told = last_words(rule, next((said for path in logs if (said := last_line(Path(path)))), ""))
            told += f"; {reason.replace(BESIDE, '').strip()}" if reason else ""
            self.line(f"FAILED  {f'{rule} {about}'.strip()}: {told} (log: {', '.join(logs) or '-'})")

    def close(self) -> None:
        """Say how the run ended, once."""
        if self.ended:
            return
        self.ended = True
        took = duration(time.monotonic() - self.began)
        if self.stopped:
            done = number(self.rest.done, "job")
            self.line(f"interrupted after {took}, {done} finished; the same command goes on from here")
        elif self.failed:
            failed = number(len(self.failed), "job")
            self.line(
                f"{failed} failed and {self.rest.done} finished in {took}. Mend the cause and give the same command "
                f"again: what is finished stays. What jobs said: {RUN_LOG}; what Snakemake said: .snakemake/log"
            )
        elif self.rest.done:
            self.line(f"{number(self.rest.done, 'job')} finished in {took}")
        super().close()

    def still(self, word: str) -> str:
        """Return how long the rest should take, in words."""
        seconds = self.rest.seconds()
        about = "about" if self.rest.whole() else "at least"  # what was never measured is not counted
        return f", {about} {duration(seconds)}{word}" if seconds is not None and self.rest.left.total() else ""

    def show_running(self) -> None:
        """Show on a terminal what runs now."""
        if self.stream.isatty() and self.running:
            now = "; ".join(f"{job.rule} {job.about}".strip() for job in self.running.values())
            self.stream.write(f"{CLEAR}running: {now}"[: os.get_terminal_size(self.stream.fileno()).columns])
            self.stream.flush()

    def line(self, text: str) -> None:
        """Write a line."""
        self.stream.write(f"{CLEAR if self.stream.isatty() else ''}{text}\n")
        self.stream.flush()


def _repeats(message: str) -> bool:
    """Return whether Snakemake only says that some job failed, which the line of that job said."""
    return any(words in message for words in REPEATED)


def last_words(rule: str, line: str) -> str:
    """Return what the last line of a job's log says of why it failed.

    `base.job` writes an error under the name of the rule a second time. After any other line of a job, such as one of
    its progress, something ended it from outside.
    """
    if not line:
        return "it left no message"
    told = re.sub(rf"^[\d:]+ {rule}: ", "", line)
    if told == line or told.startswith((f"{rule}: ", f"{rule} failed")):
        return told.removeprefix(f"{rule}: ")
    return f"it ended without an error of its own (killed? out of memory?); it last said: {told}"


def last_line(path: Path) -> str:
    """Return the last line of a log that says anything, "" where there is none."""
    if not path.is_file():
        return ""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def keep_stderr() -> None:
    """Let this process alone write to the terminal: what its jobs print to stderr goes to a file."""
    RUN_LOG.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    log = os.open(RUN_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 2)
    os.close(log)


def be_snakemake(logger: ModuleType) -> None:
    """Be Snakemake, with the words of the command line, and with the logger of a module under the name `NAME`."""
    from snakemake import cli

    LoggerPluginRegistry().register_plugin(f"snakemake_logger_plugin_{NAME}", logger)
    cli.main()


def main() -> None:
    """Be Snakemake, with its own words as arguments, and tell of it in our way."""
    keep_stderr()

    def note(number: int, frame: FrameType | None) -> None:
        INTERRUPTED.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        be_snakemake(sys.modules[__name__])
    except SystemExit as left:
        raise SystemExit(128 + signal.SIGINT if INTERRUPTED and left.code else left.code) from None


if __name__ == "__main__":
    main()
