"""After a kill: a dead run is told from a live one, and what it left is cleared. `make kills` does it to real runs."""

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from abi.base import recovery
from abi.base.errors import DataError
from abi.base.job import Job

SLEEPS = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEPS}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a run that was killed: its locks, a half-written output, a script; the environment as it was."""
    monkeypatch.setenv(recovery.MARK, "")
    for name in (
        ".snakemake/locks/0.output.lock",
        ".snakemake/scripts/tmpab12.job.py",
        "results/tiny/a/.b.json.ab12cd_9.tmp",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "results/tiny/a/b.json").touch()
    return tmp_path


@pytest.fixture
def began(place):
    """Begin runs of the folder in this process; give their lease back at the end."""
    before = set(os.listdir("/proc/self/fd"))
    yield lambda: recovery.begin(place)
    for number in set(os.listdir("/proc/self/fd")) - before:
        try:
            if os.readlink(f"/proc/self/fd/{number}").endswith(recovery.LEASE.name):
                os.close(int(number))
        except OSError:
            continue


@contextmanager
def child(program, **environment):
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **environment}, stdout=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_what_a_dead_run_left_is_cleared_and_told(place, began):
    assert began() == ["its lock cleared", "unfinished files removed: 2"]
    left = {path.name for path in place.rglob("*") if path.is_file()}
    assert left == {"b.json", recovery.LEASE.name}
    assert os.environ[recovery.MARK] == str(place)


def test_files_of_the_future_are_dated_now(place, began):
    """With them Snakemake fails after every job that reads one, until that time has come."""
    ahead, known = time.time() + 2 * 86400, place / "results/tiny/a/b.json"
    known.with_name("c.json").touch()
    os.utime(known.with_name("c.json"), (ahead - 3 * 86400,) * 2)
    os.utime(known, (ahead,) * 2)
    began()
    assert abs(known.stat().st_mtime - time.time()) < 60
    assert known.with_name("c.json").stat().st_mtime == pytest.approx(ahead - 3 * 86400)


def test_resumable_work_is_kept_for_a_month_after_it_was_last_touched(place, began):
    folder, month = place / ".snakemake/abi", recovery.KEPT_DAYS * 86400
    names = [Job("train_modules", {}, digest, [], 1).scratch.name for digest in "abc"]
    for name, age in zip([*names, "notes"], (month + 60, month - 60, month + 60, month + 60), strict=True):
        (folder / name / "seeds").mkdir(parents=True)
        for file in ("1.safetensors", "seeds/2.safetensors"):
            (folder / name / file).touch()
            os.utime(folder / name / file, (time.time() - age,) * 2)
    os.utime(folder / names[2] / "seeds/2.safetensors")  # the last checkpoint of a job
    assert began()[-1] == "work removed that no job has gone on with for 30 days: 1"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {*names[1:], "notes"}


def test_after_a_run_that_ended_by_itself_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv(recovery.MARK, "")
    assert recovery.begin(tmp_path) == []


def test_orphans_are_ended_even_those_that_will_not_and_others_are_not(place, began, monkeypatch):
    monkeypatch.setattr(recovery, "GRACE_S", 0.5)
    own, others = {recovery.MARK: str(place)}, {recovery.MARK: f"{place}/other"}
    with child(SLEEPS, **own) as orphan, child(STUBBORN, **own) as stubborn, child(SLEEPS, **others) as other:
        stubborn.stdout.readline()
        [told] = [words for words in began() if words.startswith("processes ended")]
        assert set(told.partition(": ")[2].split(", ")) == {str(orphan.pid), str(stubborn.pid)}
        assert orphan.poll() is not None
        assert stubborn.poll() is not None
        assert other.poll() is None


def test_a_live_run_is_refused_by_its_number_and_nothing_is_touched(place, began):
    program = f"""
import os, sys
from pathlib import Path
from abi.base import recovery
recovery.begin(Path({str(place)!r}))
(Path({str(place)!r}) / ".snakemake/locks/1.output.lock").touch()
print(flush=True)
os.execv(sys.executable, [sys.executable, "-c", {SLEEPS!r}])  # as `abi run` becomes snakemake
"""
    with child(program) as running:
        running.stdout.readline()
        time.sleep(0.3)
        with pytest.raises(DataError, match=f"another run .process {running.pid} on .*is running here; wait for it"):
            began()
        assert running.poll() is None
        assert (place / ".snakemake/locks/1.output.lock").exists()
    assert "its lock cleared" in began()


def test_no_run_begins_while_a_folder_is_held_and_none_is_held_that_runs(place, began):
    with recovery.alone(place):
        program = f"from pathlib import Path; from abi.base import recovery; recovery.begin(Path({str(place)!r}))"
        refused = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "is running here; wait for it" in refused.stderr
    began()
    with pytest.raises(DataError, match="is running here; wait for it"), recovery.alone(place):
        pass


def test_a_plain_snakemake_without_a_lease_is_refused(place, began):
    script = place / "snakemake"
    script.write_text(SLEEPS)
    named = subprocess.Popen(["tail", "-f", str(script)], cwd=place, stdout=subprocess.DEVNULL)
    plain, looking = (
        subprocess.Popen([sys.executable, str(script), *words], cwd=place, env={**os.environ, recovery.MARK: ""})
        for words in (["target"], ["-np"])
    )
    with pytest.raises(DataError, match=f"process {plain.pid} .snakemake. is running here"):
        began()
    plain.kill()
    plain.wait()
    assert (place / ".snakemake/locks/0.output.lock").exists()
    for other in (looking, named):
        assert other.poll() is None
        other.kill()
        other.wait()


def test_the_lock_of_another_machine_is_left(place, began):
    path = place / recovery.LEASE
    path.parent.mkdir(parents=True)
    path.write_text(recovery.Holder(host="elsewhere", pid=7).model_dump_json())
    with pytest.raises(DataError, match=r"process 7 on elsewhere.*cannot be seen from this machine.*--unlock"):
        began()
    assert (place / ".snakemake/locks/0.output.lock").exists()
    assert "elsewhere" in path.read_text()


def test_a_scheduler_that_was_called_plainly_takes_the_lease(place):
    recovery.hold(place)
    with (place / recovery.LEASE).open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert recovery.Holder.model_validate_json((place / recovery.LEASE).read_text()).pid == os.getpid()


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path, monkeypatch, refuses):
    monkeypatch.setenv(recovery.MARK, "")
    (tmp_path / ".snakemake").touch()
    with refuses("is not a folder"):
        recovery.begin(tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-n"], True), (["-np", "x"], True), (["x", "--dry-run"], True), (["--list-target-rules"], True),
        (["--detailed-summary"], True), (["x"], False), (["--cores", "2"], False), (["--unlock"], False), (["-c", "1"], False),
        (["-junlimited"], False), (["-Rheadline"], False), (["all", "-Rverify"], False), (["-nc1"], True), (["-npj1"], True),
        (["-Fn"], True), (["--dag=dot"], True), (["--lint=text"], True), (["--list"], True), (["-D"], True), (["-c1"], False),
        (["--notemp"], False), (["--directory=n"], False),
    ],
)  # fmt: skip
def test_what_only_looks_is_known(words, expected):
    assert recovery.looks(words) is expected
