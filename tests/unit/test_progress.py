"""What a person reads of a run: a line per job, how much is left, and what went wrong."""

import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from snakemake_interface_logger_plugins.common import LogEvent

from abi.api.progress import Course
from abi.base.errors import ConfigError
from abi.base.files import ROOT
from abi.cli import run
from abi.cli.progress import BESIDE, Expected, LogHandler, LogHandlerSettings, duration
from abi.plan.measured import Measured, mean_seconds


def test_time_left_is_that_of_measured_jobs_at_the_pace_of_this_machine():
    rest = Expected(Counter(build=1, fit=4), {"build": 100.0, "fit": 10.0}, cores=2)
    assert (rest.percent(), rest.seconds()) == (0, 70)
    rest.finish("build", 200.0)  # twice as slow as where it was measured
    assert rest.percent() == pytest.approx(100 * 100 / 140)
    assert 0.95 * 40 < rest.seconds() < 40  # 40 s of work for two cores, at half the pace
    for _ in range(4):
        rest.finish("fit", 20.0)
    assert (rest.percent(), rest.seconds()) == (100, 0)


def test_a_short_job_that_waits_at_the_beginning_says_little_of_the_rest():
    rest = Expected(Counter(load=1, fit=100), {"load": 1.0, "fit": 99.99})
    rest.finish("load", 120.0)
    assert 9_999 < rest.seconds() < 13_000


def test_a_rule_that_was_never_measured_makes_the_time_a_least_one():
    rest = Expected(Counter(judge_claim=1, train_lora=1), {"judge_claim": 10.0})
    assert not rest.whole()
    rest.finish("train_lora", 5.0)
    assert rest.whole()


def test_a_rule_that_only_collects_makes_no_time_a_least_one():
    assert Expected(Counter(judge_claim=1, headline=1, t5_to_gpt2=1), {"judge_claim": 10.0}).whole()
    assert not Expected(Counter(judge_claim=1, train_modules=1), {"judge_claim": 10.0}).whole()


def test_without_measured_jobs_the_finished_ones_tell():
    rest = Expected(Counter(fit=4), {}, cores=1)
    assert (rest.percent(), rest.seconds()) == (0, None)
    rest.finish("fit", 30.0)
    assert (rest.percent(), rest.seconds()) == (25, 90)


def test_what_was_never_measured_beside_other_rules_that_were_is_not_done_before_it_begins():
    """Benchmarks were told to take no time, since jobs of the scale were measured."""
    rest = Expected(Counter(measure_speed=1, benchmarks=1), {"train_modules": 10.0})
    assert (rest.percent(), rest.seconds()) == (0, None)
    assert not Expected(Counter(measure_speed=1, judge_claim=1), {"judge_claim": 10.0}).whole()


def test_means_are_of_a_rule():
    jobs = [Measured("fit", "a", 1.0, None), Measured("fit", "b", 3.0, None), Measured("judge", "a", 5.0, None)]
    assert mean_seconds(jobs) == {"fit": 2.0, "judge": 5.0}
    assert [duration(s) for s in (0.2, 99, 120, 7200)] == ["0 s", "99 s", "2 min", "2.0 h"]


def record(event=None, level=logging.INFO, msg=None, **given):
    made = logging.LogRecord("snakemake", level, "file", 1, msg, (), None)
    made.__dict__.update(given, event=event)
    return made


@pytest.fixture
def handler():
    made = LogHandler(None, LogHandlerSettings(scale="smoke"))
    made.stream = io.StringIO()
    return made


def started(job, log=()):
    asked = {"jobid": job, "rule_name": "fit", "wildcards": {"claim": "a_to_b", "batch": "1-3"}, "log": list(log)}
    return record(LogEvent.JOB_INFO, **asked)


@pytest.mark.parametrize(
    ("scale", "n_cards", "nodes", "words"),
    [
        ("paper", 0, None, "warning: 2 jobs ask for a card, and torch can use none here: that is computed on the CPU"),
        ("paper", 1, None, None),
        ("paper", 0, 4, None),
        ("smoke", 0, None, None),
    ],
)
def test_jobs_that_ask_for_a_card_where_there_is_none_are_told_before_they_run(
    handler, monkeypatch, scale, n_cards, nodes, words
):
    handler.settings = LogHandlerSettings(scale=scale)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cards)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "card")
    handler.emit(record(LogEvent.RESOURCES_INFO, cores=None if nodes else 2, nodes=nodes))
    handler.emit(record(LogEvent.RUN_INFO, stats={"write_states": 2, "judge_claim": 1, "total": 3}))
    said = handler.stream.getvalue().splitlines()
    assert said[1:] == ([words] if words else [])


@pytest.mark.parametrize(("free", "warned"), [(0, True), (10**12, False)])
def test_a_disk_that_is_too_small_for_the_results_is_told_before_the_first_job(handler, monkeypatch, free, warned):
    handler.settings = LogHandlerSettings(scale="tiny")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    handler.emit(record(LogEvent.RUN_INFO, stats={"write_updated_states": 40, "judge_claim": 1, "total": 41}))
    words = r"warning: results take about [1-9]\d?\.\d GB more, and 0\.0 GB are free here"
    assert bool(re.search(words, handler.stream.getvalue())) is warned


def test_each_job_has_a_line_and_what_snakemake_says_beside_is_dropped(handler):
    handler.emit(record(msg="Building DAG of jobs..."))
    handler.emit(record(LogEvent.RESOURCES_INFO, cores=2))
    handler.emit(record(LogEvent.RUN_INFO, stats={"fit": 2, "total": 2}))
    for job in (1, 2):
        handler.emit(started(job))
        handler.emit(record(LogEvent.JOB_FINISHED, job_id=job))
    handler.close()
    handler.close()
    first, one, two, last = handler.stream.getvalue().splitlines()
    assert first == "2 jobs on 2 cores"
    assert one.split() == ["50", "%", "1/2", "0", "s", "about", "0", "s", "left", "fit", "a_to_b", "1-3"]
    assert two.split() == ["100", "%", "2/2", "0", "s", "fit", "a_to_b", "1-3"]
    assert last == "2 jobs finished in 0 s"


@pytest.mark.parametrize(("nodes", "least"), [(20, 20), (sys.maxsize, 55)])
def test_on_a_cluster_it_is_said_how_many_jobs_run_at_once(handler, nodes, least):
    handler.emit(record(LogEvent.RESOURCES_INFO, nodes=nodes))
    handler.emit(record(LogEvent.RUN_INFO, stats={"fit": 55, "total": 55}))
    assert handler.stream.getvalue().splitlines() == [f"55 jobs, at most {least} at once"]
    assert handler.rest.cores == least


def test_a_failed_job_has_one_line_with_the_last_word_of_its_log(handler, tmp_path):
    log = tmp_path / "fit.log"
    log.write_text("12:00:01 fit: step 1/2\n12:00:02 fit: fit: x.csv: is damaged; delete it\n\n", encoding="utf-8")
    handler.emit(record(LogEvent.RUN_INFO, stats={"fit": 1}))
    handler.emit(started(1))
    failed = {"jobid": 1, "rule_name": "fit", "log": [str(log)]}
    handler.emit(record(LogEvent.ERROR, logging.ERROR, "RuleException: command line", exception="RuleException"))
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule fit", **failed))
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule fit", **failed))
    handler.close()
    _, told, end = handler.stream.getvalue().splitlines()
    assert told == f"FAILED  fit a_to_b 1-3: x.csv: is damaged; delete it (log: {log})"
    assert end.startswith("1 job failed and 0 finished")


def test_a_run_that_was_interrupted_has_failed_at_nothing(handler):
    handler.stopped = [2]
    handler.emit(record(LogEvent.RUN_INFO, stats={"fit": 2}))
    handler.emit(started(1))
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule fit", jobid=1, rule_name="fit", log=[]))
    handler.close()
    _, end = handler.stream.getvalue().splitlines()
    assert re.fullmatch("interrupted after 0 s, 0 jobs finished; the same command goes on from here", end)


@pytest.mark.parametrize(
    ("line", "reason", "told"),
    [
        ("12:00:01 fit: step 1/2", None, "killed? out of memory?); it last said: step 1/2 (log"),
        (
            "",
            "SLURM sbatch failed: invalid partition",
            "it left no message; SLURM sbatch failed: invalid partition (log",
        ),
        ("ValueError: x", None, "1-3: ValueError: x (log"),
        ("12:00:01 fit: fit finished in 1.0 s, 1.0 s of CPU", None, "it last said: fit finished in 1.0 s"),
        (
            "12:00:01 fit: fit failed; report it",
            f"status FAILED. {BESIDE}",
            "1-3: fit failed; report it; status FAILED. (log",
        ),
    ],
)
def test_a_job_that_was_ended_from_outside_does_not_give_its_progress_as_the_cause(
    handler, tmp_path, line, reason, told
):
    log = tmp_path / "fit.log"
    log.write_text(f"{line}\n", encoding="utf-8")
    handler.emit(started(1))
    failed = {"jobid": 1, "rule_name": "fit", "log": [str(log)], "rule_msg": reason}
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule fit", **failed))
    assert told in handler.stream.getvalue()


def test_what_snakemake_says_after_a_failure_is_shown_but_for_what_repeats_it(handler):
    handler.emit(started(1))
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule fit", jobid=1, rule_name="fit", log=[]))
    handler.emit(record(level=logging.WARNING, msg="Falling back to 'sacct'"))
    handler.emit(record(level=logging.ERROR, msg="Exiting because a job execution failed. Look above"))
    end = "WorkflowError:\nAt least one job did not complete successfully."
    handler.emit(record(LogEvent.ERROR, logging.ERROR, end, exception="WorkflowError"))
    assert handler.stream.getvalue().splitlines()[1:] == ["Falling back to 'sacct'"]


def test_a_job_that_failed_and_then_went_well_is_no_failure(handler):
    handler.emit(record(LogEvent.RUN_INFO, stats={"fit": 1}))
    handler.emit(started(1))
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule fit", jobid=1, rule_name="fit", log=[]))
    handler.emit(started(1))
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=1))
    handler.close()
    assert handler.stream.getvalue().splitlines()[-1] == "1 job finished in 0 s"


def test_a_warning_and_an_error_that_is_no_jobs_are_shown(handler):
    handler.emit(record(level=logging.WARNING, msg="the disk is full"))
    handler.emit(
        record(LogEvent.ERROR, logging.ERROR, "MissingRuleException: no rule", exception="MissingRuleException")
    )
    assert handler.stream.getvalue().splitlines() == ["the disk is full", "MissingRuleException: no rule"]


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["a/x"], "abi.cli.progress"),
        (["a/x", "--cores", "1"], "abi.cli.progress"),
        (["-n", "a/x"], "snakemake"),
        (["a/x", "--verbose"], "snakemake"),
        (["a/x", "--quiet=rules"], "snakemake"),
    ],
)
def test_snakemake_speaks_itself_where_it_was_told_how(words, program, tmp_path, monkeypatch):
    called = []
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/claims.yaml").touch()
    monkeypatch.setattr(os, "execv", lambda _, argv: called.extend(argv))
    run.run([*words, "--scale", "smoke"])
    assert called[1:3] == ["-m", program]
    assert called[called.index("--config") + 1] == "scale=smoke"
    if words[0] == "a/x":  # behind `--` the rules see what is asked for, and judge nothing else by its terms and pins
        assert called[-2:] == ["--", "a/x"]
        assert called.count("a/x") == 1
    assert ("--logger-abi-scale" in called) == (program != "snakemake")


@pytest.mark.parametrize("words", [["--config=scale=smoke"], ["-Cscale=smoke"], ["--config", "scale=smoke"]])
def test_the_scale_is_known_however_it_is_told(words, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(run.recovery, "begin", lambda _: [])
    monkeypatch.setattr(run, "mended", lambda _, scale: asked.append(scale) or [])
    run.run(["--mend", *words])
    assert asked == ["smoke"]


@pytest.mark.parametrize("word", ["--directory=x", "--directory", "-d", "-dx", "--configfile", "--configfiles=a.yaml"])
def test_a_run_elsewhere_or_at_a_scale_in_a_file_is_refused_before_anything_is_cleared(word, monkeypatch):
    monkeypatch.setattr(run.recovery, "begin", None)
    with pytest.raises(ConfigError, match=f"runs in the checkout, at the scale that `--scale` names; leave out {word}"):
        run.run([word, "x"])


def test_where_there_is_no_checkout_nothing_is_begun(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "checkout", lambda: tmp_path)
    monkeypatch.setattr(run.recovery, "begin", None)
    with pytest.raises(ConfigError, match="is no checkout of abi"):
        run.run([])


def test_a_target_that_is_none_is_refused_before_anything_is_cleared(monkeypatch):
    monkeypatch.setattr(os, "execv", None)
    monkeypatch.setattr(run.recovery, "begin", None)
    for words in (["t5-to-gpt2"], ["t5_to_gpt", "--cores", "1"], ["--cores", "1", "--", "t5_to_gpt"]):
        with pytest.raises(ConfigError, match="is no claim of scale smoke; did you mean 't5_to_gpt2'"):
            run.run(["--scale", "smoke", *words] if "--" in words else [*words, "--scale", "smoke"])


@pytest.mark.workflow
def test_snakemake_takes_the_logger_and_keeps_what_jobs_print(tmp_path):
    (tmp_path / "Snakefile").write_text(
        "rule all:\n    input: 'b'\n"
        "rule one:\n    output: '{x}'\n    log: '{x}.log'\n    shell: 'echo noise >&2; echo told > {log}; {wildcards.x} {output}'\n"
        "rule two:\n    output: 'a'\n    shell: 'echo noise >&2; touch {output}'\nruleorder: two > one\n",
        encoding="utf-8",
    )
    words = ["--logger", "abi", "--logger-abi-scale", "tiny", "--cores", "1"]

    def called(*targets):
        command = [sys.executable, "-m", "abi.cli.progress", *words, *targets]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    done = called("a")
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stderr.splitlines()[1:]] == ["two", "s"]
    assert (tmp_path / ".snakemake/abi/run.log").read_text() == "noise\n"
    assert called("a").stderr.splitlines() == ["Nothing to do: every file is there and up to date."]
    broken = called("b")
    assert broken.returncode == 1
    assert "FAILED  one b: told (log: b.log)" in broken.stderr.splitlines()
    assert "CalledProcessError" not in broken.stderr


@pytest.mark.workflow
def test_ctrl_c_ends_a_run_with_a_sentence_and_no_failure(tmp_path):
    (tmp_path / "Snakefile").write_text(
        "rule one:\n    output: 'a'\n    shell: 'touch begun; sleep 60; touch {output}'\n"
    )
    command = [sys.executable, "-m", "abi.cli.progress", "--logger", "abi", "--cores", "1", "a"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        while not (tmp_path / "begun").exists():
            assert running.poll() is None
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "FAILED" not in said
    assert "0 jobs finished; the same command goes on from here" in said


def test_loading_a_model_is_no_share_of_a_time_that_is_not_foreseen():
    course = Course(lambda *_: None)
    course.left["models"] = 0.0
    assert course.percent() == 0.0
    course.left["arms"] = 2.0
    course.finish("arms", 2.0, 1.0)
    assert course.percent() == 100.0
