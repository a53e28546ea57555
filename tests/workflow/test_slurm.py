"""A real Slurm: a claim from nothing through `sbatch`; a job cancelled, its node lost, its memory exceeded, its run ended.

The Slurm is this one machine (one_host_slurm.py). Every case after the first takes a copy of the finished run without
the outputs of one job, and disturbs the job that makes them again. Whatever happens, all files are those of a local run.
`make test-slurm` runs this file and prints what Slurm did; `make test` leaves it out.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from one_host_slurm import OVER, Job, OneHost, called, lacking
from outputs import content, files

from abi.base.recovery import MARK

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.timeout(7200)]

CLAIM = "t5_same_backbone"
JOBS = {
    "choose_rates": ["rates/t5_same_backbone.json"],
    "calibrate_arms": ["calibration/t5_same_backbone/1-3.json", "calibration/t5_same_backbone/1-3"],
    "evaluate_arms": [f"evidence/t5_same_backbone/1-3.{end}" for end in ("json", "csv.gz", "draws.csv.gz")],
}
"""Rules of which the claim has one job, with its outputs."""
OFTEN = ["--slurm-init-seconds-before-status-checks", "2"]
"""This Slurm forgets no job: it may be asked at once, as often as one likes."""


@dataclass
class Run:
    """Snakemake in a copy, which hands its jobs to Slurm."""

    copy: Any
    """The `Copy` of conftest.py."""
    slurm: OneHost
    process: subprocess.Popen[bytes]
    last: int
    """The number of the last job before."""

    def jobs(self) -> list[Job]:
        return [job for job in self.slurm.jobs() if int(job.number) > self.last]

    def wait(self, condition, seconds=1800):
        """Return what a condition is as soon as it is true."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.5)
        return found

    def begun(self, log: Path) -> Job:
        """Return the job that runs, as soon as its step has begun."""
        self.wait(log.exists)
        [job] = [job for job in self.jobs() if job.state == "RUNNING"]
        return job

    def said(self) -> str:
        return (self.copy.root / "slurm.log").read_text()

    def finished(self, expected) -> list[Job]:
        """Return what Slurm ran, after the run has ended well with every file as in another run and nothing left."""
        assert self.process.wait(3600) == 0, self.said()[-5000:]
        jobs = self.jobs()
        print(f"\n{self.slurm.table(self.last)}", flush=True)
        assert all(job.state in OVER for job in jobs)
        assert all(job.number in self.said() for job in jobs)
        assert {path: content(self.copy.root / path) for path in files(self.copy.root)} == expected
        assert not left(self.copy.root), "a process was left"
        return jobs


def left(root):
    """Return the processes that a run has started and that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm on this machine."""
    why = lacking()
    if why:
        pytest.skip(why)
    host = OneHost(tmp_path_factory.mktemp("slurm"))
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="module")
def started(slurm):
    """Starts Snakemake in a copy, as the document says and with the surroundings that `make` gives it."""
    running = []

    def start(copy, target):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV", "SLURM"))}
        path = f"{Path(sys.executable).parent}:{kept['PATH']}"
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *OFTEN]
        last = max((int(job.number) for job in slurm.jobs()), default=0)
        with (copy.root / "slurm.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--config", "scale=smoke", "--", target],
                cwd=copy.root,
                env=kept | {"OMP_NUM_THREADS": "1", "ABI_WARM": "1", "PATH": path, "PYTHONPATH": str(copy.root)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        running.append(process)
        return Run(copy, slurm, process, last)

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def local(tmp_path_factory, copied):
    """The claim from nothing without Slurm: path -> what the file says."""
    copy = copied(tmp_path_factory.mktemp("local") / "repo")
    copy.run(CLAIM)
    return {path: content(copy.root / path) for path in files(copy.root)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, copied, started):
    """The claim from nothing through Slurm, ended."""
    run = started(copied(tmp_path_factory.mktemp("whole") / "repo"), CLAIM)
    run.process.wait(7200)
    return run


@pytest.fixture
def again(whole, tmp_path):
    """Returns a copy of the finished run that lacks the outputs of the one job of a rule, an output, the job's log."""
    assert whole.process.returncode == 0, whole.said()[-5000:]

    def make(rule):
        copy = whole.copy.sibling(tmp_path / "repo")
        outputs = [copy.root / "results/smoke" / name for name in JOBS[rule]]
        for path in outputs:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        [log] = (copy.root / f"results/smoke/logs/{rule}").iterdir()
        log.unlink()
        return copy, str(outputs[0].relative_to(copy.root)), log

    return make


def memory(jobs):
    """Return the MB that each job asked for."""
    return [int(job.memory.removesuffix("M")) for job in jobs]


def test_a_claim_from_nothing_gives_the_files_of_a_local_run(whole, local, tmp_path, copied):
    planned = sum(copied(tmp_path / "planned").planned(CLAIM).values())
    jobs = whole.finished(local)
    assert len(jobs) == planned
    assert {(job.state, job.restarts) for job in jobs} == {("COMPLETED", 0)}


def test_a_cancelled_job_is_tried_again(again, started, local):
    copy, target, log = again("calibrate_arms")
    run = started(copy, target)
    first = run.begun(log)
    called("scancel", first.number)
    jobs = run.finished(local)
    assert [job.state for job in jobs] == ["CANCELLED", "COMPLETED"]
    assert memory(jobs)[1] == 2 * memory(jobs)[0]
    assert "Trying to restart job" in run.said()


def test_an_interrupted_run_cancels_its_job_and_the_same_command_goes_on(again, started, local):
    copy, target, log = again("evaluate_arms")
    run = started(copy, target)
    first = run.begun(log)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(600) != 0
    assert {job.number: job.state for job in run.jobs()} == {first.number: "CANCELLED"}
    [job] = started(copy, target).finished(local)
    assert job.state == "COMPLETED"


def test_a_job_that_exceeds_its_memory_is_tried_again_with_more(again, started, local):
    copy, target, _ = again("choose_rates")
    few = {"mem_mb": 350, "runtime": 60, "threads": 1, "gpu": 0}
    copy.edit("config/scales/smoke.yaml", lambda scale: scale["jobs"].update(resources={"choose_rates": few}))
    run = started(copy, target)
    *killed, done = run.finished(local)
    assert killed
    assert {job.state for job in killed} <= {"FAILED", "OUT_OF_MEMORY"}
    assert done.state == "COMPLETED"
    assert memory([*killed, done]) == [350 * (attempt + 1) for attempt in range(len(killed) + 1)]
    logs = (path.read_text() for path in (copy.root / ".snakemake/slurm_logs/rule_choose_rates").rglob("*.log"))
    assert any("exceeded memory limit" in text for text in logs)


def test_a_job_whose_node_fails_goes_on_when_it_is_back(again, started, slurm, local):
    copy, target, log = again("evaluate_arms")
    run = started(copy, target)
    first = run.begun(log)
    slurm.fail("the test took it down")
    for process in left(copy.root):  # a node without power has no processes; one that is only called down may keep some
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    run.wait(lambda: [job.state for job in run.jobs()] != ["RUNNING"])
    print(f"\n{slurm.table(run.last)}", flush=True)
    slurm.wait("down")
    log.unlink(missing_ok=True)
    time.sleep(5)
    assert not log.exists(), "it runs on a node that is down"
    slurm.resume()
    [job] = run.finished(local)
    assert (job.number, job.state, job.restarts) == (first.number, "COMPLETED", 1)
