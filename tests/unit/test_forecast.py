import shutil
from statistics import median

import pytest
import yaml

from abi.base import machine
from abi.base.errors import ConfigError
from abi.base.files import ROOT
from abi.cli import plan as planning
from abi.cli.plan import as_text
from abi.plan import forecast as forecasting
from abi.plan import measured
from abi.plan.config import load
from abi.plan.estimate import PlannedJob
from abi.plan.forecast import forecast, speeds
from abi.plan.measured import REFERENCE, read_measured
from abi.plan.work import RULES, STORED, Work
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import read_scale

T5 = {"parameters": 737_668_096, "rows": 32128, "width": 1024}
JOBS = [("build_text", "general"), ("build_backbone", "t5_large"), ("write_states", "t5_large.general"),
        ("train_modules", "t5_large.python.standard.oracle.1-1"), ("judge_claim", "cross_arch_enc_dec_nib_results")]  # fmt: skip


@pytest.fixture(autouse=True)
def same_machine(monkeypatch):
    """Minutes are not scaled by this machine's rate, which is measured anew each time."""
    monkeypatch.setattr(measured, "pace", lambda folder: 1.0)


@pytest.fixture
def pinned(tmp_path):
    """Returns scale `paper` with a lock in which every model is as large as T5, or some have other sizes."""
    root = tmp_path / "repo"
    shutil.copytree(ROOT / "config", root / "config")

    def lock(**sizes):
        file = {"bytes": 4_000_000_000, "hash": "1" * 64}
        pin = {"revision": "0" * 40, "files": {"model.safetensors": file}}
        names = [name for name, b in read_scale("paper", root / "config/scales").backbones.items() if b.hub]
        backbones = {name: {**pin, "sizes": {**T5, **sizes.get(name, {})}} for name in names}
        text = {"revision": "0" * 40, "files": {"a.parquet": {"bytes": 7_000_000, "hash": "1" * 64}}}
        content = {"backbones": backbones, "sources": {"Salesforce/wikitext": text}}
        (root / "config/scales/paper.lock.yaml").write_text(yaml.safe_dump(content))
        return load("paper", root)

    return lock


def test_downloads_disk_and_memory_follow_from_what_was_pinned(pinned):
    found = forecast(pinned(), JOBS)
    assert found.downloads == {"t5_large": 4_000_000_000, "Salesforce/wikitext": 7_000_000}
    windows, positions, taps = 2000 + 300 + 600, 64, 6
    assert found.disk == {
        "cache": 4_007_000_000,
        "backbones": 4_000_000_000,
        "states": windows * positions * taps * 1024 * 4,
        "modules": 4 * (2 * 256 * 1024 + 2 * 4 * 256**2),
    }
    assert found.memory == {"t5_large": 4 * (737_668_096 + 2 * 32128 * 1024) + 8 * 10**8}


def test_disk_counts_what_updates_adapters_and_written_text_leave(pinned):
    config = pinned()
    update = next(name for name, made in config.scale.updates.items() if made.backbone == "gpt2_medium")
    jobs = [("update_backbone", f"{update}.held.1.1-2"), ("write_updated_states", f"{update}.free.1.python.1-2"),
            ("write_updated_states", f"{update}.held.1.python.1-2"), ("train_lora", "t5_to_gpt2.1-2"),
            ("calibrate_arms", "t5_to_gpt2.1-2"), ("judge_claim", "x")]  # fmt: skip
    found = forecast(config, jobs).disk
    assert found["updated backbones"] == 2 * 4 * (T5["parameters"] + T5["rows"] * T5["width"])
    most = config.scale.texts["python"].max_windows
    backbone = config.scale.backbones["gpt2_medium"]
    a_window = (backbone.window.length - 1) * (len(backbone.taps) + 1) * T5["width"] * 4
    assert found["states after updates"] == 2 * a_window * (most.test + most.train + most.test)
    assert found["states of adapters"] % (2 * (backbone.window.length - 1) * T5["width"] * 4) == 0
    assert 0 < found["arms"] < found["states of adapters"]


def test_the_bytes_that_jobs_of_tiny_leave_grow_with_their_seeds_and_every_counted_rule_is_named():
    work = Work(Workflow(load("tiny")))
    known = [job for job in read_measured(REFERENCE / "tiny" / "jobs.csv") if job.rule in STORED]
    assert {job.rule for job in known} == set(STORED) == set(forecasting.LEFT)
    assert all(work.stored(job.rule, job.wildcards) > 0 for job in known)
    one, three = (work.stored("train_modules", f"gpt2.python.standard.oracle.1-{n}") for n in (1, 3))
    assert three == 3 * one
    assert work.stored("judge_claim", "x") is None


def test_hours_grow_with_parameters_and_positions(pinned):
    one = {rule.rule: rule for rule in forecast(pinned(), JOBS).rules}
    two = {rule.rule: rule for rule in forecast(pinned(t5_large={"parameters": 2 * T5["parameters"]}), JOBS).rules}
    assert two["write_states"].cpu_s == pytest.approx(2 * one["write_states"].cpu_s)
    assert two["train_modules"].cpu_s == one["train_modules"].cpu_s  # runs no backbone
    wide = {rule.rule: rule for rule in forecast(pinned(t5_large={"rows": 10 * T5["rows"]}), JOBS).rules}
    assert wide["train_modules"].card_s > 5 * one["train_modules"].card_s
    assert one["write_states"].card_s == pytest.approx(2 * T5["parameters"] * 2900 * 128 / forecasting.CARD_FLOPS)


def test_what_does_not_grow_takes_what_it_took_and_what_nothing_tells_is_not_counted(pinned):
    found = {rule.rule: rule for rule in forecast(pinned(), JOBS).rules}
    took = [job.busy_s for job in read_measured(REFERENCE / "real" / "jobs.csv") if job.rule == "judge_claim"]
    assert found["judge_claim"].cpu_s == found["judge_claim"].card_s == pytest.approx(sum(took) / len(took))
    assert found["build_backbone"].cpu_s is None


def test_a_scale_that_is_not_valid_here_tells_nothing_and_stops_nothing(pinned, monkeypatch):
    whole = {rule.rule: rule.cpu_s for rule in forecast(pinned(), JOBS).rules}

    def loaded(name):
        if name == "real":
            raise ConfigError("config/scales/real.yaml: claims: 'x' is not a claim of config/claims.yaml")
        return load(name)

    monkeypatch.setattr(forecasting, "load", loaded)
    found = {rule.rule: rule.cpu_s for rule in forecast(pinned(), JOBS).rules}
    assert found["write_states"] > whole["write_states"] > 0  # at the speed of smaller models


def test_the_text_marks_estimates_and_says_where_they_come_from_and_what_is_too_little(pinned, monkeypatch):
    monkeypatch.setattr(forecasting.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    text = "\n".join(planning.foreseen(forecast(pinned(), JOBS)))
    assert "estimates, not all of this was measured at this scale" in text
    assert "download  4.0 GB (t5_large 4.00, Salesforce/wikitext 0.01)" in text
    assert "1.0 GB are free, TOO LITTLE" in text
    assert "memory    4.0 GB for one backbone (t5_large)" in text
    assert "work over the speed of each rule at scale real or tiny" in text
    assert "an assumed 20 TFLOP/s" in text
    assert "not counted, no estimate: build_backbone" in text


def test_the_work_of_measured_jobs_tells_what_they_took():
    """The same rule has about the same speed over models, texts and claims: half of all jobs within a third of it."""
    work = Work(Workflow(load("tiny")))
    known = [job for job in read_measured(REFERENCE / "tiny" / "jobs.csv") if job.rule in RULES]
    speed = speeds(known, work)
    off = {}
    for job in known:
        told = work.flop(job.rule, job.wildcards) / speed[job.rule]
        off.setdefault(job.rule, []).append(max(told / job.busy_s, job.busy_s / told))
    assert set(off) == set(RULES)
    every = [ratio for ratios in off.values() for ratio in ratios]
    assert median(every) < 1.35
    assert sorted(every)[int(0.9 * len(every))] < 2.5


def test_speeds_at_small_models_foresee_what_larger_ones_take():
    """docs/paper.md says by how much; portable modules write on fewer strings there than the work counts."""
    fast = speeds(read_measured(REFERENCE / "tiny" / "jobs.csv"), Work(Workflow(load("tiny"))))
    work, off = Work(Workflow(load("real"))), []
    for job in read_measured(REFERENCE / "real" / "jobs.csv"):
        if job.rule in RULES and job.rule not in ("train_portable", "calibrate_placebos"):
            told = work.flop(job.rule, job.wildcards) / fast[job.rule]
            off.append(max(told / job.busy_s, job.busy_s / told))
    text = " ".join((ROOT / "docs/paper.md").read_text(encoding="utf-8").split())
    middle, most = median(off), sorted(off)[int(0.9 * len(off))]
    assert f"half of the jobs within a factor of {middle:.1f} and nine of ten within {most:.1f}" in text


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [("0::/job/step\n", {"job/memory.max": "1000", "job/memory.current": "700", "job/memory.stat": "inactive_file 200"},
      500),
     ("0::/job/step\n", {"job/step/memory.max": "max", "job/step/memory.current": "700"}, None),
     ("0::/\n", {"memory.max": "100", "memory.current": "400"}, 0),
     ("4:cpu,memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "1000", "memory/job/memory.usage_in_bytes": "300"},
      700)],
    ids=["outer group", "no limit", "beyond its limit", "version 1"],
)  # fmt: skip
def test_free_memory_is_what_the_limit_of_a_job_leaves(own, files, left, tmp_path, monkeypatch):
    (tmp_path / "own").write_text(own)
    for name, told in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(told)
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10**6}))
    assert machine.free_memory() == (10**6 if left is None else left)


def test_only_an_unmeasured_scale_of_published_models_is_forecast(pinned, monkeypatch):
    config = pinned()
    monkeypatch.setattr(planning, "load", lambda name: config if name == "paper" else load(name))
    monkeypatch.setattr(planning, "dry_run", lambda *_: {PlannedJob(*job): () for job in JOBS})
    assert planning.planned(["t5_to_gpt2"], "smoke", 2).forecast is None
    made = planning.planned(["t5_to_gpt2"], "paper", 2)
    assert made.forecast is not None
    assert as_text(made).startswith("scale paper: 5 jobs for t5_to_gpt2\n\nrule ")
