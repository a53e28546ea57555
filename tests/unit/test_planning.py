"""`abi plan`: Snakemake's own jobs, minutes from measured ones, one sentence for what goes wrong."""

import json
import subprocess
from dataclasses import replace

import pytest

from abi.audit.results import adopted
from abi.base import machine
from abi.base.errors import ConfigError, DataError
from abi.base.files import ROOT
from abi.cli import main
from abi.cli import plan as planning
from abi.cli.dry_run import dry_run, in_order, named, reason
from abi.cli.plan import as_text
from abi.plan import measured
from abi.plan.config import load
from abi.plan.estimate import OfRule, PlannedJob, estimate
from abi.plan.forecast import Speeds
from abi.plan.measured import Known, Measured, adopt_jobs, measured_jobs, read_measured
from abi.plan.scale import Ceiling
from abi.plan.work import Work
from abi.plan.workflow import Workflow

JOBS = [
    PlannedJob("train_modules", "gpt2.python.standard.source.1-5"),
    PlannedJob("train_modules", "gpt2.python.standard.oracle.1-5"),
    PlannedJob("summarise", ""),
    PlannedJob("new", "x"),
]
KNOWN = [
    Measured("train_modules", "gpt2.python.standard.source.1-5", 100.0, 500.0),
    Measured("train_modules", "gpt2.python.standard.home.1-5", 40.0, 700.0),
    Measured("summarise", "", 6.0, None),
]
HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


@pytest.mark.parametrize(
    ("place", "wildcards"),
    [("train_modules/gpt2.python.standard.oracle.1-5", "gpt2.python.standard.oracle.1-5"), ("summarise", "")],
)
def test_a_job_is_called_as_its_benchmark(place, wildcards):
    rule = place.partition("/")[0]
    assert named(rule, f"results/tiny/benchmarks/{place}.tsv") == PlannedJob(rule, wildcards)


def test_a_job_takes_what_it_took_else_the_mean_of_its_rule_else_nobody_knows():
    found = estimate(JOBS, KNOWN, "tiny", ["all"], cores=2)
    assert found.rules == [
        OfRule("train_modules", jobs=2, measured=1, seconds=170.0, mem_mb=700.0),
        OfRule("summarise", jobs=1, measured=1, seconds=6.0, mem_mb=None),
        OfRule("new", jobs=1, measured=0, seconds=None, mem_mb=None),
    ]
    assert (found.jobs, found.unknown, found.seconds, found.longest_s) == (4, ["new"], 176.0, 100.0)


def test_a_halted_machine_makes_a_job_no_longer_and_threads_make_it_shorter():
    halted, threaded = Measured("fit", "a", 5046.6, None, 42.6), Measured("fit", "b", 10.0, None, 38.0)
    assert (halted.busy_s, threaded.busy_s) == (42.6, 10.0)
    assert estimate([PlannedJob("fit", "a")], [halted, threaded], "tiny", ["all"], 1).seconds == 42.6
    assert estimate([PlannedJob("fit", "new")], [halted, threaded], "tiny", ["all"], 1).seconds == 26.3


@pytest.mark.parametrize(("cores", "seconds"), [(1, 176), (2, 100), (8, 100)])
def test_the_wall_time_is_work_over_cores_but_at_least_the_longest_job(cores, seconds):
    assert estimate(JOBS, KNOWN, "tiny", ["all"], cores).minutes == pytest.approx(seconds / 60, abs=0.05)


def test_jobs_that_wait_for_one_another_take_as_long_as_all_of_them_however_many_cores_there_are():
    first, second, other = JOBS[:3]
    after = {second: [first], other: [], first: []}
    found = estimate(JOBS[:3], KNOWN, "tiny", ["all"], 8, after=after)
    assert (found.longest_s, found.minutes) == (170.0, 2.8)
    assert estimate(JOBS[:3], KNOWN, "tiny", ["all"], 1, after=after).minutes == 2.9


def test_a_job_waits_for_those_that_write_what_it_reads():
    told = [
        ("judge", "r/benchmarks/judge/a.tsv", ["r/a.csv", "r/a.json"], ["r/result.json"]),
        ("all", None, ["r/result.json"], []),
        ("score", "r/benchmarks/score/a.tsv", ["r/built/before"], ["r/a.csv", "r/a.json"]),
    ]
    judge, score = PlannedJob("judge", "a"), PlannedJob("score", "a")
    assert in_order(told) == {judge: [score], score: []}


def said(jobs, known):
    return as_text(estimate(jobs, known, "tiny", ["all"], 2))


def test_the_text_says_where_minutes_come_from_and_what_is_not_counted():
    text = said(JOBS, KNOWN)
    assert "1 measured, the rest estimated from other jobs" in text
    assert "4 jobs, about 1.7 minutes on 2 cores (2.9 of work, the longest chain of jobs 1.7)" in text
    assert "not counted, never measured at this scale: new" in text
    assert " other jobs of the rule" in said(JOBS[1:2], KNOWN)
    assert said(JOBS, []).endswith("scale tiny: 4 jobs; how long they take was never measured")
    assert "nothing to do" in said([], KNOWN)


@pytest.mark.parametrize(
    ("disk", "words"),
    [(4 * 10**7, None), (2 * 10**9, "about 2.0 GB of results; 3.0 GB are free\n"), (4 * 10**9, "are free, TOO LITTLE")],
)
def test_the_text_says_what_the_results_take_of_the_disk(disk, words):
    made = replace(estimate(JOBS, KNOWN, "tiny", ["all"], 2), disk=disk, disk_free=3 * 10**9)
    assert words in as_text(made) if words else "of results" not in as_text(made)


# the table of measured jobs


def benchmarks(folder):
    for name, row in {
        "train_modules/gpt2.python.standard.oracle.1-5": "12.34\t0:00:12\t456.7\t1\t1\t1\t1\t1\t1\t9.5\n",
        "summarise": "0.25\t0:00:00\t-\t-\t-\t-\t0\t0\t0\t0\n",
    }.items():
        path = folder / "results" / "tiny" / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + row)
    return folder / "results" / "tiny" / "benchmarks"


def test_a_run_is_adopted_and_read_again_as_it_was_measured(tmp_path, monkeypatch):
    benchmarks(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(measured, "gemm_gflops", lambda: 100.0)
    adopt_jobs("tiny")
    path = tmp_path / "reference" / "tiny" / "jobs.csv"
    assert path.read_text() == (
        "rule,wildcards,seconds,cpu_s,mem_mb\nsummarise,,0.2,,\n"
        "train_modules,gpt2.python.standard.oracle.1-5,12.3,9.5,457\n"
    )
    assert read_measured(path) == [
        Measured("summarise", "", 0.2, None),
        Measured("train_modules", "gpt2.python.standard.oracle.1-5", 12.3, 457.0, 9.5),
    ]
    first = path.read_bytes()
    adopt_jobs("tiny")
    assert path.read_bytes() == first
    assert measured.pace(path.parent) == 1  # the same machine


@pytest.mark.parametrize(("recorded", "factor"), [("200.0", 2), ("50.0", 0.5)])
def test_minutes_are_scaled_by_how_fast_this_machine_is(tmp_path, monkeypatch, recorded, factor):
    monkeypatch.setattr(measured, "gemm_gflops", lambda: 100.0)
    assert measured.pace(tmp_path) == 1  # of a machine that nobody measured
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "machine.csv").write_text(f"gflops\n{recorded}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "REFERENCE", tmp_path)
    monkeypatch.setattr(measured, "read_measured", lambda path: KNOWN)
    jobs = [PlannedJob(job.rule, job.wildcards) for job in KNOWN]
    monkeypatch.setattr(planning, "dry_run", lambda targets, scale, cores: dict.fromkeys(jobs, ()))
    made = plan()
    assert made.seconds == pytest.approx(factor * sum(job.seconds for job in KNOWN), abs=0.1)
    assert made.pace == factor
    words = "at 50% of the rate of" if factor == 2 else "2.0 times as fast as"
    assert f"multiplies matrices {words} the one that was measured" in as_text(made)


@pytest.mark.parametrize("content", ["", "gflops\n", "gflops\n0\n", "gflops\nnan\n", "gflops\nfast\n", "rate\n3\n"])
def test_a_damaged_record_of_a_machine_is_one_sentence(tmp_path, content, refuses):
    (tmp_path / "machine.csv").write_text(content)
    with refuses("names no rate in `gflops`; write it again"):
        measured.pace(tmp_path)


def test_the_rate_of_this_machine_is_that_of_a_product_and_not_of_the_clock():
    short, long = machine.gemm_gflops(0.05), machine.gemm_gflops(0.4)
    assert 0.1 < short < 10_000
    assert 1 / 3 < short / long < 3


def test_the_rate_is_that_of_one_thread_however_many_there_are_here(monkeypatch):
    """Two threads of a busy machine wait for each other, and their CPU time said a quarter of the rate."""
    asked = {}

    def run(command, *, env, **_):
        asked.update(env)
        return subprocess.CompletedProcess(command, 0, "12.5\n")

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine.gemm_gflops() == 12.5
    assert {asked[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")} == {"1"}


def test_cpu_and_memory_are_those_of_the_jobs_own_log(tmp_path):
    folder = benchmarks(tmp_path)
    plain = measured_jobs(folder)
    log = folder.with_name("logs") / "train_modules" / "gpt2.python.standard.oracle.1-5.log"
    log.parent.mkdir(parents=True)
    for said, told in (
        ("train_modules: step 1/2\n", plain[1]),
        (
            "train_modules finished in 12.1 s, 7.5 s of CPU, 812 MB at most\n",
            Measured("train_modules", plain[1].wildcards, 12.34, 812.0, 7.5),
        ),
    ):
        log.write_text(said)
        assert measured_jobs(folder) == [plain[0], told]


def test_a_run_without_benchmarks_leaves_the_table_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "REFERENCE", tmp_path / "reference")
    adopt_jobs("tiny")
    assert not (tmp_path / "reference").exists()


@pytest.mark.parametrize("content", ["", HEADER, "a\tb\n1\t2\n", HEADER.replace("s\t", "s\t", 1) + "soon\t-\t-\n"])
def test_a_damaged_benchmark_is_one_sentence(tmp_path, content, refuses):
    path = benchmarks(tmp_path) / "summarise.tsv"
    path.write_text(content)
    with refuses(f"{path}: is no benchmark of Snakemake"):
        measured_jobs(path.parent)


@pytest.mark.parametrize(
    "row", ["a,b", "a,b,soon,,", "a,b,nan,,1", "a,b,-1,,1", "a,b,1,,much", "a,b,1,-1,1", "a,b,1,nan,1", "a,b,1,1"]
)
def test_a_damaged_table_is_one_sentence(tmp_path, row, refuses):
    path = tmp_path / "jobs.csv"
    path.write_text(f"rule,wildcards,seconds,cpu_s,mem_mb\n{row}\n")
    with refuses("write it again with `abi docs --adopt`"):
        read_measured(path)


def test_a_scale_that_was_never_measured_has_an_empty_table(tmp_path):
    assert read_measured(tmp_path / "jobs.csv") == []


def test_committed_tables_can_be_read():
    for path in measured.REFERENCE.glob("*/jobs.csv"):
        assert read_measured(path)


@pytest.mark.parametrize("path", sorted(measured.REFERENCE.glob("*/jobs.csv")), ids=lambda path: path.parent.name)
def test_a_job_asks_a_cluster_for_what_it_took_and_not_for_much_more(path):
    workflow = load(path.parent.name, ROOT)
    asks, jobs = workflow.scale.jobs, read_measured(path)
    whole = len(measured.committed(path.parent.name)) >= len(workflow.every())
    dearest = max(job.mem_mb or 0.0 for job in jobs)
    for rule in sorted({job.rule for job in jobs}):
        asked = asks.of(rule)
        memory = max(job.mem_mb or 0.0 for job in jobs if job.rule == rule)
        seconds = max(job.busy_s for job in jobs if job.rule == rule)
        known = memory if whole else dearest  # of a part of a scale: a dearer job of the rule may still come
        most = max(2 * known + 700, asks.of("default").mem_mb)  # what the smallest ask for is no waste
        assert 1.25 * memory + 400 <= asked.mem_mb <= most, rule  # a job is started by two Snakemake
        assert asked.runtime * 60 >= 8 * seconds, rule  # on slower machines


@pytest.mark.parametrize(
    ("amount", "attempt", "least", "asked"),
    [(900, 1, 0, 900), (900, 2, 0, 1800), (900, 4, 0, 2000), (900, 1, 1500, 1500), (900, 3, 2500, 2500)],
)
def test_a_job_that_is_tried_again_asks_for_more_up_to_the_ceiling(amount, attempt, least, asked):
    jobs = load("tiny", ROOT).scale.jobs.model_copy(update={"ceiling": Ceiling(mem_mb=2000)})
    assert jobs.growing("mem_mb", amount, attempt, least=least) == asked


def test_without_a_ceiling_memory_and_time_grow_at_each_attempt():
    jobs = load("tiny", ROOT).scale.jobs
    assert [jobs.growing("mem_mb", 900, attempt) for attempt in (1, 4)] == [900, 3600]
    assert [jobs.growing("runtime", 20, attempt) for attempt in (1, 4)] == [20, 80]


def test_adopting_a_scale_adopts_its_jobs():
    assert adopted.adopt_jobs is adopt_jobs


# the command


def plan(*targets, scale="smoke", cores=2):
    return planning.planned(targets, scale, cores)


@pytest.fixture
def dry(monkeypatch):
    """A dry run that costs nothing; what it was asked for is kept."""
    asked = []

    def planned(targets, scale, cores):
        asked.append((list(targets), scale, cores))
        return dict.fromkeys(JOBS, ())

    monkeypatch.setattr(planning, "dry_run", planned)

    def known(*scales, here):
        asked.append((*scales, here))
        return Known(KNOWN, 1.0, scales[0])

    monkeypatch.setattr(planning, "known_jobs", known)
    monkeypatch.setattr(planning, "measured_jobs", lambda folder: [replace(KNOWN[0], rule=str(folder))])
    return asked


def test_the_command_asks_for_its_targets_and_the_table_of_its_scale(dry, capsys):
    assert main.main(["plan", "t5_to_gpt2", "--scale", "smoke", "--json"]) == 0
    assert dry == [
        (["t5_to_gpt2"], "smoke", 2),
        ("smoke", "smoke", [replace(KNOWN[0], rule="results/smoke/benchmarks")]),
    ]
    found = json.loads(capsys.readouterr().out)
    assert (found["scale"], found["targets"], found["cores"], found["jobs"]) == ("smoke", ["t5_to_gpt2"], 2, 4)


def test_without_a_target_all_is_planned(dry):
    assert plan().targets == ["all"]
    assert dry[0][0] == []


def test_a_replicate_takes_what_the_scale_took_that_it_replicates(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "REFERENCE", tmp_path)
    monkeypatch.setattr(planning, "dry_run", lambda targets, scale, cores: {JOBS[0]: []})
    monkeypatch.chdir(tmp_path)
    text = "rule,wildcards,seconds,cpu_s,mem_mb\ntrain_modules,gpt2.python.standard.source.1-5,{},,\n"
    for name, seconds in (("tiny", 60), ("tiny_r1", 90)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "jobs.csv").write_text(text.format(seconds))
    assert plan(scale="tiny_r1").seconds == 90  # its own, once there are any
    (tmp_path / "tiny_r1" / "jobs.csv").unlink()
    made = plan(scale="tiny_r1")
    assert made.seconds == 60
    assert "measured at scale tiny, which this one replicates" in as_text(made)
    assert plan(scale="tiny_r2", cores=1).seconds == 60


def test_what_ran_here_tells_what_it_takes_before_what_is_committed(tmp_path, monkeypatch):
    """A scale of which no run is committed was never planned, however often it ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(measured, "gemm_gflops", lambda: 100.0)
    benchmarks(tmp_path)
    names = [f"gpt2.python.standard.{role}.1-5" for role in ("oracle", "home")]
    jobs = [PlannedJob("train_modules", name) for name in names]
    monkeypatch.setattr(planning, "dry_run", lambda targets, *_: dict.fromkeys(jobs[: 1 + len(targets)], ()))
    made = plan(scale="tiny")
    assert (made.seconds, made.pace) == (9.5, 1.0)
    folder = tmp_path / "reference" / "tiny"
    folder.mkdir(parents=True)
    (folder / "jobs.csv").write_text("rule,wildcards,seconds,cpu_s,mem_mb\n" + "".join(
        f"train_modules,{name},{seconds},,\n" for name, seconds in zip(names, (99, 7), strict=True)
    ))  # fmt: skip
    (folder / "machine.csv").write_text("gflops\n200\n")
    assert plan(scale="tiny").seconds == 9.5
    assert "multiplies matrices" not in as_text(plan(scale="tiny"))  # nothing of it is scaled
    both = plan("t5_to_gpt2", scale="tiny")
    assert (both.seconds, both.pace) == (9.5 + 2 * 7, 2.0)


def test_a_job_that_an_earlier_version_called_otherwise_tells_no_speed():
    work = Work(Workflow(load("tiny")))
    old = ["gpt2_general.held.1.markdown.1-1", "gpt2_general.held.1.markdown.oracle.first", "a"]
    assert [work.flop("train_updated_modules", name) for name in old] == [None] * 3
    assert estimate(JOBS, [*KNOWN, Measured("train_modules", "a.1-5", 4.0, None)], "tiny", ["all"], 1, work).seconds


def test_a_job_that_was_never_measured_takes_its_work_over_the_speed_of_its_rule():
    """The one job of `real` whose target has a head of 168 M numbers was planned as the mean of the others."""
    config = load("real")
    work, known = Work(Workflow(config)), [Measured("evaluate_arms", "gemma3_to_smollm2.1-1", 100.0, None)]
    jobs = [PlannedJob("evaluate_arms", "smollm2_to_gemma3.1-1"), PlannedJob("evaluate_arms", "gemma3_to_smollm2.1-1")]
    found = estimate(jobs, known, "real", ["all"], 1, work)
    assert found.longest_s == pytest.approx(100 * work.flop(*jobs[0]) / work.flop(*jobs[1]), rel=1e-3)
    assert 200 < found.longest_s < 600
    assert estimate(jobs, known, "real", ["all"], 1).seconds == 200


def speeds_of_tiny():
    return Speeds({"train_modules": "tiny", "judge_study": "tiny"}, {"train_modules": 1e9}, {"judge_study": 2.0})


def test_a_rule_that_was_never_measured_takes_its_work_at_the_speed_of_another_scale():
    """The hours of an update of a pretrained model are told before the first one is run."""
    work, elsewhere = Work(Workflow(load("real"))), speeds_of_tiny()
    jobs = [
        PlannedJob("train_modules", "smollm2.python.standard.source.1-1"),
        PlannedJob("judge_study", "smollm2_update"),
        PlannedJob("new", ""),
    ]
    found = estimate(jobs, [], "real", ["all"], 1, work, elsewhere=elsewhere)
    assert found.seconds == pytest.approx(work.flop(*jobs[0]) / 1e9 + 2.0, abs=0.1)
    assert [rule.at for rule in found.rules] == ["tiny", "tiny", ""]
    assert found.unknown == ["new"]
    assert as_text(found).count("its work, at the speed of scale tiny") == 2
    measured = [Measured("train_modules", "smollm2.sql.standard.source.1-1", 5.0, None)]
    assert estimate(jobs[:1], measured, "real", ["all"], 1, work, elsewhere=elsewhere).rules[0].at == ""


def test_bad_input_is_one_sentence(dry, refuses):
    with refuses("--cores is 0; give 1 or more", ConfigError):
        plan(cores=0)
    with refuses("'t5_to_gpt' is no claim of scale smoke; did you mean 't5_to_gpt2'", ConfigError):
        plan("t5_to_gpt")
    with refuses("is pending: it runs at scale paper only", ConfigError):
        plan("t5_to_qwen2_7b")
    with refuses(
        "is pending: it runs at scales real, real_smoke only", ConfigError
    ):  # and not what `paper` would need for it
        plan("smollm2_same_backbone", scale="paper")
    with refuses("no pinned revision", ConfigError):
        plan(scale="paper")
    assert dry == []


@pytest.mark.parametrize(("said", "words"), [
    ("host: x\nMissingRuleException:\nNo rule to produce foo\n", "MissingRuleException: No rule to produce foo"),
    ("abi: config/claims.yaml: wrong\nSystemExit: 2\n", "abi: config/claims.yaml: wrong"), ("", "no word of why"),
    ("something odd\n", "something odd"),
])  # fmt: skip
def test_the_reason_is_the_line_that_tells_it(said, words):
    assert reason(said) == words


def test_the_command_line_knows_plan(capsys, dry):
    assert main.main(["plan", "t5_to_gpt2", "--scale", "smoke"]) == 0
    assert "4 jobs, about" in capsys.readouterr().out


@pytest.mark.workflow
def test_a_real_dry_run_counts_the_jobs_of_a_claim(tmp_path, monkeypatch, refuses):
    monkeypatch.chdir(tmp_path)
    with refuses("plan: Snakemake cannot plan .*No rule to produce nonsense", DataError):
        dry_run(["nonsense"], "smoke", 1)
    jobs = dry_run(["t5_to_gpt2"], "smoke", 1, force=True)
    assert {job.rule for job in jobs} == {
        "build_text", "build_backbone", "write_states", "train_modules", "fit_alignment", "choose_rates", "calibrate_arms", "train_lora",
        "evaluate_arms", "measure_overlap", "judge_claim",
    }  # fmt: skip
    assert PlannedJob("calibrate_arms", "t5_to_gpt2.1-3") in jobs[PlannedJob("evaluate_arms", "t5_to_gpt2.1-3")]
    assert not any(jobs[job] for job in jobs if job.rule == "build_text")
