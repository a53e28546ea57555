"""Warm start: a job forked from a process that has loaded the libraries is the job that its own process would be."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abi.base import warm

ROOT = Path(__file__).parents[2]
HAND_OVER = "from abi.base import warm\nwarm.hand_over()\n"
SEEN = """
import json, os, sys
from abi.base import warm
warm.hand_over()
print("out", json.dumps([os.getcwd(), os.environ["COLOUR"], sys.argv, "colorsys" in sys.modules, os.getpid() != os.getppid()]))
print("err", file=sys.stderr)
"""


def serving(name, library="colorsys"):
    command = [sys.executable, "-m", "abi.base.warm", name, library]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)


@pytest.fixture
def served():
    """The environment of a job for which a server listens that has loaded `colorsys` (which nothing else loads)."""
    server = serving(name := f"abi-warm-test-{os.getpid()}")
    wait(lambda: f"@{name}" in Path("/proc/net/unix").read_text())
    yield {**os.environ, "PYTHONPATH": str(ROOT), "COLOUR": "red", warm.SOCKET: name}
    server.stdin.close()  # as when the scheduler dies
    assert server.wait(10) == 0


def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.fixture
def script(tmp_path):
    """Write a script where Snakemake puts those of its jobs."""
    folder = tmp_path / ".snakemake" / "scripts"
    folder.mkdir(parents=True)

    def write(text):
        (folder / "job.py").write_text(text)
        return folder / "job.py"

    return write


def run(path, environment, **options):
    return subprocess.run(
        [sys.executable, str(path), "one"],
        env=environment,
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_a_job_is_forked_with_its_streams_folder_environment_and_arguments(served, script):
    done = run(script(SEEN), served)
    path = Path.cwd() / script(SEEN)
    assert done.stdout == f'out ["{path.parent}", "red", ["{path}", "one"], true, true]\n'
    assert (done.stderr, done.returncode) == ("err\n", 0)


def test_the_garbage_collector_of_a_job_passes_over_what_the_server_loaded(served, script):
    counted = "import gc, colorsys\nprint(any(one is vars(colorsys) for one in gc.get_objects()), gc.get_freeze_count() > 1000)"
    assert run(script(f"{HAND_OVER}{counted}"), served).stdout == "False True\n"


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("sys.exit(2)", 2, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("raise ValueError('odd')", 1, "ValueError: odd\n"),
        ("os._exit(3)", warm.LOST, ""),
        ("os.kill(os.getpid(), 9)", warm.LOST, ""),
    ],
)
def test_a_job_ends_as_in_its_own_process(served, script, ending, code, said):
    done = run(script(f"import os, sys\n{HAND_OVER}{ending}"), served)
    assert done.returncode == code
    assert done.stderr.endswith(said)
    assert run(script(SEEN), served).returncode == 0  # the server has outlived it


def test_without_a_server_and_elsewhere_a_job_runs_in_its_own_process(served, script, tmp_path):
    path = script(SEEN)
    for environment in (
        served | {warm.SOCKET: str(tmp_path / "nobody")},
        {k: v for k, v in served.items() if k != warm.SOCKET},
    ):
        done = run(path, environment)
        assert (done.returncode, ", false, true]" in done.stdout) == (0, True)
    other = tmp_path / "tool.py"
    other.write_text(SEEN)
    assert ", false, true]" in run(other, served).stdout


def test_a_cold_job_loads_its_libraries_with_one_thread_like_a_warm_one(script):
    told = "import os\nprint([os.environ[name] for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')])"
    asked = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    done = run(script(f"{HAND_OVER}{told}"), {**os.environ, "PYTHONPATH": str(ROOT), **asked})
    assert done.stdout == "['1', '1', '1']\n"


def test_a_job_of_another_python_is_not_taken(served, script):
    path = script("import sys\nsys.prefix = '/elsewhere'\n" + SEEN)
    assert ", false, true]" in run(path, served).stdout


def test_a_killed_job_takes_the_forked_process_with_it(served, script, tmp_path):
    path = script(HAND_OVER + "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    waiting = subprocess.Popen([sys.executable, str(path)], env=served, cwd=path.parent)
    number = path.parent / "pid"
    wait(lambda: number.exists() and number.read_text())
    forked = int(number.read_text())
    assert forked != waiting.pid
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    wait(lambda: not Path(f"/proc/{forked}").exists())


def test_a_job_ends_with_the_scheduler_although_its_own_process_waits_on(script):
    """The other end of the server's pipe is held by a scheduler that is killed while a job runs."""
    name = f"abi-warm-test-{os.getpid()}"
    server = serving(name)
    wait(lambda: f"@{name}" in Path("/proc/net/unix").read_text())
    path = script(HAND_OVER + "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), warm.SOCKET: name}
    waiting = subprocess.Popen([sys.executable, str(path)], env=environment, cwd=path.parent)
    number = path.parent / "pid"
    wait(lambda: number.exists() and number.read_text())
    server.stdin.close()
    assert server.wait(10) == 0
    assert waiting.wait(10) == warm.LOST
    wait(lambda: not Path(f"/proc/{number.read_text()}").exists())


def test_a_run_forks_jobs_with_every_step_loaded_and_an_edit_is_seen_by_the_next(script, tmp_path):
    """A library that starts a thread when it is loaded would make every job of every run start cold."""
    root, name = tmp_path / "copy", f"abi-warm-all-{os.getpid()}"
    shutil.copytree(ROOT / "abi", root / "abi", ignore=shutil.ignore_patterns("__pycache__"))
    command, environment = [sys.executable, "-m", "abi.base.warm", name], {**os.environ, "PYTHONPATH": str(root)}
    server = subprocess.Popen(command, cwd=root, env=environment | warm.SINGLE, stdin=subprocess.PIPE)
    wait(lambda: f"@{name}" in Path("/proc/net/unix").read_text() or server.poll() is not None, seconds=60)
    assert server.poll() is None
    loaded = f"{HAND_OVER}import sys\nprint('abi.steps.build_text' in sys.modules)\nfrom abi.steps import build_text\n"
    told = "from abi.base import digest, typed\nprint(len(digest._known) > 100, typed.Document.__pydantic_complete__)\n"
    job = script(f"{loaded}{told}print(getattr(build_text, 'EDITED', None), build_text.__file__)")
    environment |= {warm.SOCKET: name}
    step = root / "abi/steps/build_text.py"
    assert run(job, environment).stdout == f"True\nTrue True\nNone {step}\n"
    step.write_text(f"{step.read_text()}\nEDITED = 1\n")
    assert run(job, environment).stdout == f"False\nFalse False\n1 {step}\n"
    other = environment | {"PYTHONPATH": str(ROOT)}
    assert run(job, other).stdout == f"False\nFalse False\nNone {ROOT / 'abi/steps/build_text.py'}\n"
    server.stdin.close()
    assert server.wait(10) == 0


def test_a_server_whose_scheduler_died_before_it_looked_ends_at_once():
    server = serving("abi-warm-test-orphan", "wsgiref")
    server.stdin.close()
    assert server.wait(10) == 0


def test_a_server_is_started_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(warm.subprocess, "Popen", lambda *_, **__: pytest.fail("a server was started"))
    for asked in ("0", ""):
        monkeypatch.setenv(warm.WANTED, asked)
        warm.start()
    monkeypatch.setenv(warm.WANTED, "1")
    monkeypatch.setenv(warm.SOCKET, "/there/is/one")
    warm.start()
    monkeypatch.delenv(warm.SOCKET)
    monkeypatch.setattr(warm.sys, "platform", "darwin")
    warm.start()
    assert warm.SOCKET not in os.environ


def test_a_run_whose_server_ended_early_says_that_jobs_started_cold(tmp_path):
    start = "from abi.base import warm\nwarm.sys.executable = '/bin/false'\nwarm.start()\nimport time; time.sleep(1)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), warm.WANTED: "1"}
    done = subprocess.run([sys.executable, "-c", start], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "abi: the process that jobs are forked from ended early, so they started cold" in done.stderr
