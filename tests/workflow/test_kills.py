"""Kills: whatever part of a run is killed, in whichever rule, the next `abi run` goes on by itself and nothing differs.

Every case works in a copy of one finished run: the outputs of one job are removed, the run that makes them again is
killed, and `abi run` is called once more. `make kills` runs this file; `make test` leaves it out.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from outputs import content, files

from abi.base.files import ROOT
from abi.base.recovery import LOCKS, MARK, TEMPORARY

pytestmark = [pytest.mark.kills, pytest.mark.workflow, pytest.mark.timeout(900)]

LEFT_OUT = {"simulate_studies", "admit_update"}
"""No part of a run, and part of near transfers alone, which would make the run a third longer."""
STEPS = {path.stem for path in (ROOT / "abi/steps").glob("*.py")} - {"__init__"}
RULES = sorted(STEPS - LEFT_OUT)
CLAIMS = ("t5_same_backbone", "gpt2_to_qwen", "gpt2_update", "ranking_quality")
BENCHMARKS = "results/smoke/benchmarks"
VICTIMS = ("fork", "job", "warm", "group")
"""What else is killed in a rule, in turn: a forked job, the process that waits for it, the server, all at once."""
CASES = [(rule, victim) for rule in RULES for victim in ("scheduler", "cold scheduler")]
CASES += [(rule, VICTIMS[i % len(VICTIMS)]) for i, rule in enumerate(RULES)]
STARTS = [0.0, 0.02, 0.05, 0.3, 1.0, 2.0]
"""Seconds from the start of the warm server to the scheduler's death."""
COUNTED = Counter()


def environment(root, warm):
    """The environment of a run; `warm`: what `ABI_WARM` says."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return kept | {"OMP_NUM_THREADS": "1", "ABI_WARM": warm, "PATH": path, "PYTHONPATH": str(root)}


def command(*targets):
    return [sys.executable, "-m", "abi.cli", "run", *targets, "--cores", "1", "--scale", "smoke"]


def start(root, target, *, warm):
    return subprocess.Popen(
        command(target), cwd=root, env=environment(root, warm), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def finished(tmp_path_factory, copied):
    """A finished run of every rule, with the outputs of each job and the hash of every file."""
    copy = copied(tmp_path_factory.mktemp("finished") / "repo")

    def fewer(content):
        claims = {name: content["claims"][name] for name in CLAIMS}
        content["headline"] = [*CLAIMS[:2]]
        ladder = {"kind": "ladder", "title": "two rungs", "statement": "Both rungs hold.", "record": {}}
        content["claims"] = {**claims, "two_rungs": {**ladder, "rungs": ["gpt2_to_qwen", "t5_same_backbone"]}}

    copy.edit("config/claims.yaml", fewer)

    def run(*words):
        done = subprocess.run(
            command(*words),
            cwd=copy.root,
            env=environment(copy.root, "1"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    jobs = {}
    run("all")
    rows = [line.split("\t") for line in copy.run("all", "--summary").stdout.splitlines()]
    for file, _, rule, log, *_ in rows[1:]:
        jobs.setdefault(rule, {}).setdefault(log, set()).add(file)
    # The report shows what the jobs of a run took, of which no case has the benchmarks.
    shutil.rmtree(copy.root / BENCHMARKS)
    run("results/smoke/report.html", "--forcerun", "write_report")
    return copy.root, jobs, {path: content(copy.root / path) for path in files(copy.root)}


@pytest.fixture
def unfinished(finished, tmp_path):
    """Return a copy of the finished run without the outputs of one job of a rule: its root, an output, the job's log."""
    root = tmp_path / "repo"

    def make(rule, draw):
        log = draw.choice(sorted(finished[1][rule]))
        outputs = sorted(finished[1][rule][log])
        # `results` at the top alone: a package of the engine has that name, too.
        top, named = str(finished[0]), shutil.ignore_patterns("__pycache__")

        def ignored(folder, names):
            return named(folder, names) | ({"results"} if folder == top else set())

        shutil.copytree(top, root, symlinks=True, ignore=ignored, copy_function=shutil.copy2)
        # Outputs are replaced, never written in place, so that links to those of the finished run will do.
        shutil.copytree(finished[0] / "results", root / "results", copy_function=os.link)
        for place in ("results/smoke/logs", BENCHMARKS):
            shutil.rmtree(root / place)
        for output in outputs:
            path = root / output
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return root, outputs[0], root / log

    yield make
    shutil.rmtree(root, ignore_errors=True)


def marked(root):
    """Return the processes that runs of a folder have started and that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def victim_of(running, name, root):
    """Return the process to kill, or None where it does not live yet."""
    if name.endswith("scheduler"):
        return psutil.Process(running.pid)
    alive = marked(root)
    servers = [p for p in alive if "abi.base.warm" in words(p) and p.ppid() == running.pid]
    found = {
        "warm": servers,
        "fork": [p for server in servers for p in server.children()],
        "job": [p for p in alive if any(".snakemake/scripts/" in word for word in words(p)[1:2])],
    }[name]
    return found[0] if found else None


def wait_for(condition, running, seconds=120):
    """Wait until something is so; return whether the run still lives."""
    end = time.monotonic() + seconds
    while not condition():
        if running.poll() is not None:
            return False
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)
    return running.poll() is None


def kill(running, name, root):
    """Kill a part of a run; return whether it still lived."""
    try:
        if name == "group":
            os.killpg(running.pid, signal.SIGKILL)
            return True
        victim = victim_of(running, name, root)
        if victim is None:
            return False
        victim.kill()
        return True
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def recovered(root, target, finished, *, warm="1"):
    """Run the one command and check that nothing is lost, torn, left or different."""
    done = subprocess.run(
        command(target), cwd=root, env=environment(root, warm), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("abi: an earlier run")]
    present = files(root)
    assert not [path for path in present if TEMPORARY.fullmatch(path.name)], "an unfinished file was left"
    assert not list((root / LOCKS).glob("*")), "a lock was left"
    assert marked(root) == [], "a process was left"
    assert set(present) == set(finished[2]), "files are missing, or there are others"
    differing = [str(path) for path in present if content(root / path) != finished[2][path]]
    assert differing == []
    COUNTED["recovered"] += 1
    COUNTED["files compared"] += len(present)
    return told


@pytest.mark.parametrize(("rule", "victim"), CASES)
def test_one_command_goes_on_after_a_kill(finished, unfinished, rule, victim):
    draw = random.Random(f"{rule} {victim}")
    root, target, log = unfinished(rule, draw)
    warm = {"cold scheduler": "0", "fork": "wait", "warm": "wait"}.get(victim, "1")
    for delay in (draw.uniform(0.0, 0.8), draw.uniform(0.0, 0.2), 0.0):
        running = start(root, target, warm=warm)
        if wait_for(log.exists, running):
            time.sleep(delay)
            at_work = any((root / LOCKS).glob("*"))  # without its lock a run has nothing left to lose
            if at_work and running.poll() is None and kill(running, victim, root):
                break
        assert running.wait(300) == 0
        log.unlink()  # the job was done before the kill: once more, and quicker
        shutil.rmtree(root / BENCHMARKS)
        path = root / target
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        pytest.fail("the job was always done before it could be killed")
    COUNTED[f"killed: {victim}"] += 1
    if not victim.endswith("scheduler"):
        running.wait(300)
    told = recovered(root, target, finished, warm=warm)
    running.wait(10)
    assert told or victim in ("warm", "fork", "job"), "it did not say what it cleared"


@pytest.mark.parametrize("seconds", STARTS)
def test_a_scheduler_that_dies_at_its_start_takes_the_warm_process_with_it(finished, unfinished, seconds):
    root, target, _ = unfinished("write_states", random.Random(seconds))
    running = start(root, target, warm="1")
    assert wait_for(lambda: victim_of(running, "warm", root), running)
    time.sleep(seconds)
    running.kill()
    running.wait(10)
    end = time.monotonic() + 30
    while any("abi.base.warm" in words(process) for process in marked(root)):
        assert time.monotonic() < end, "the warm process waits for a scheduler that is dead"
        time.sleep(0.05)
    COUNTED["killed: scheduler at its start"] += 1
    recovered(root, target, finished)


def test_a_run_that_lives_is_left_alone(finished, unfinished):
    root, target, log = unfinished("evaluate_arms", random.Random(0))
    running = start(root, target, warm="0")
    assert wait_for(log.exists, running)
    locks = {path: path.read_text() for path in (root / LOCKS).glob("*")}
    done = subprocess.run(
        command(target), cwd=root, env=environment(root, "1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    [sentence] = done.stderr.splitlines()
    assert f"another run (process {running.pid} on " in sentence
    assert running.poll() is None
    assert {path: path.read_text() for path in (root / LOCKS).glob("*")} == locks
    assert locks
    assert running.wait(300) == 0
    recovered(root, target, finished)


def test_a_plain_snakemake_is_a_run_as_well(finished, unfinished):
    root, target, log = unfinished("evaluate_arms", random.Random(1))
    plain = [sys.executable, "-m", "snakemake", target, "--cores", "1", "--config", "scale=smoke"]
    running = subprocess.Popen(plain, cwd=root, env=environment(root, "0"), start_new_session=True)
    assert wait_for(lambda: any((root / LOCKS).glob("*")), running)
    done = subprocess.run(
        command(target), cwd=root, env=environment(root, "0"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"process {running.pid} " in done.stderr
    assert wait_for(log.exists, running)
    running.kill()
    running.wait(10)
    COUNTED["killed: plain snakemake"] += 1
    [told] = recovered(root, target, finished, warm="0")
    assert "its lock cleared" in told
    assert "processes ended that it had left" in told


def test_the_count():
    """Say what was tried; at least fifty kills in the whole file, each of which was recovered from."""
    print("\n" + "\n".join(f"{what}: {number}" for what, number in sorted(COUNTED.items())))
    kills = sum(number for what, number in COUNTED.items() if what.startswith("killed"))
    assert COUNTED["recovered"] >= kills >= 50
