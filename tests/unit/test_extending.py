"""docs/extending.md is taken at its word: its blocks are applied to a copy, then loaded, planned, built and fitted."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from made_arms import AS_SCHEDULED, BASE, recipes_of

from abi.arms.fitting import Budget, Nets, fit_all
from abi.arms.forms import corrections
from abi.arms.gradient import Batch, FitData, Objective
from abi.base import catalogue
from abi.base.digest import code_digest
from abi.base.errors import ConfigError
from abi.base.files import scales
from abi.base.names import CLOSED_FORM
from abi.base.regimes import required_in
from abi.judge.kinds import plan_of
from abi.judge.results import ClaimFacts
from abi.models.backbone import Window
from abi.models.build import build_backbone
from abi.models.loop import Phase, Schedule
from abi.models.module import AbiModule, ModuleConfig
from abi.plan.config import load
from abi.plan.specs.judge import JudgeStudy
from abi.plan.specs.models import Build
from abi.plan.specs.text import BuildText
from abi.plan.workflow import Workflow, seeds_of
from abi.plan.yaml_files import merge
from abi.text.corpus import build_text

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
CLAIM, BACKBONE, TEXT, ARM = "t5_to_smollm", "smollm_135m", "notes", "random-identity"
UPDATE, SUCCESSION, ATLAS = "smollm_update", "smollm_succession", "notes_atlas"
EXPERIMENT = "notes_patience"


def blocks(language):
    """Return (file named in the first line, the rest) of every block of a language."""
    return re.findall(rf"```{language}\n# (\S+?)(?:: \S+)?\n(.*?)```", PAGE, re.DOTALL)


def with_notes(home):
    """Return an environment whose home holds the folder of text that the page names."""
    (home / "notes").mkdir()
    (home / "notes" / "one.md").write_text("# Notes\n")
    return {**os.environ, "HOME": str(home)}


def apply(root):
    """Put the YAML blocks of the page into the configuration of a copy, as a reader would."""
    for name, text in blocks("yaml"):
        path = root / name
        before = yaml.safe_load(path.read_text()) if path.exists() else {}
        path.write_text(yaml.safe_dump(merge(before, yaml.safe_load(text)), sort_keys=False))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "config", folder / "config")
    return apply(folder)


@pytest.fixture(scope="module")
def workflow(root):
    return Workflow(load("tiny", root))


def test_a_scale_of_ones_own_runs_its_claims_with_what_it_changes(root):
    mine, tiny = load("mine", root), load("tiny", root)
    regimes = ["", "_few_shot", "_general_only", "_zero_text"]
    assert list(mine.every()) == ["t5_same_backbone", *(f"t5_to_gpt2{regime}" for regime in regimes)]
    assert mine.headline == ("t5_to_gpt2",)
    [phase] = mine.scale.calibration["kd"].phases
    assert (phase.steps, phase.warmup, phase.decay) == (150, 20, "cosine")
    assert mine.scale.calibration["ce"] == tiny.scale.calibration["ce"]


def test_every_block_names_its_file():
    assert len(blocks("yaml")) == PAGE.count("```yaml") == 11
    assert len(blocks("python")) == PAGE.count("```python") == 1


@pytest.mark.parametrize("scale", scales())
def test_the_configuration_of_the_page_is_valid_at_every_scale(root, scale):
    found = load(scale, root)
    assert BACKBONE in found.scale.backbones
    assert (CLAIM in found.claims) == (not scale.startswith("real")), "scale real names the claims that it runs"


def test_a_hub_backbone_of_the_page_waits_for_its_pin(root):
    assert BACKBONE in load("paper", root).scale.unpinned()


def test_the_text_of_the_page_builds_from_a_folder(workflow, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for i in range(150):
        folder = tmp_path / "notes" / f"topic{i}"
        folder.mkdir(parents=True)
        (folder / "note.md").write_text("".join(f"Line {line} of note {i} says this.\n" for line in range(20)))
    documents = build_text(BuildText.model_validate(workflow.text_spec(TEXT))).documents
    assert len(documents) == 150
    assert len({d.group for d in documents if d.split == "test"}) >= 30


def test_an_edit_in_a_folder_of_texts_is_another_spec(workflow, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    absent = workflow.text_spec(TEXT)
    note = tmp_path / "notes" / "topic" / "note.md"
    note.parent.mkdir(parents=True)
    specs = []
    for text in ("one", "two", "one"):
        note.write_text(text)
        specs.append(workflow.text_spec(TEXT))
    (note.parent / "image.png").write_text("no note")
    assert specs[0] == specs[2] == workflow.text_spec(TEXT)
    assert specs[0] not in (specs[1], absent)


def test_the_backbone_of_the_page_builds_and_its_head_gives_its_logits(workflow, texts):
    spec = workflow.backbone_spec(BACKBONE)["build"]
    small = {
        **spec,
        "tokenizer": {**spec["tokenizer"], "vocab_size": 360},
        "pretraining": {**spec["pretraining"], "steps": 1},
    }
    window = Window(16, 0, 1)
    backbone, _ = build_backbone(Build.model_validate(small), texts, window)
    tokens = torch.arange(32).view(2, 16)
    head = backbone.head()
    with torch.no_grad():
        ours = head.scale * backbone.hidden_states(tokens, window)[-1] @ head.weight.T
        torch.testing.assert_close(ours, backbone.logits(tokens, window), atol=1e-5, rtol=1e-4)


def test_the_claim_of_the_page_gets_its_jobs(workflow):
    assert set(workflow.of(CLAIM).modules()) == {"source", "home", "oracle", "reference", "wrong"}
    seeds = [seed for batch in workflow.batches("evaluation", workflow.config.seeds(CLAIM)) for seed in seeds_of(batch)]
    assert seeds == [1, 2, 3, 4, 5]
    assert set(workflow.config.claims) >= {CLAIM, f"{CLAIM}_few_shot", f"{CLAIM}_general_only"}
    assert workflow.result_file(CLAIM) == "results/tiny/t5_to_smollm_results.json"
    assert f"results/tiny/evidence/{CLAIM}/1-5.csv.gz" in workflow.of(CLAIM).verdict_input()["evidence"]


def test_the_update_of_the_page_is_made_both_ways_and_read_before_and_after(workflow):
    assert workflow.of(UPDATE).stages() == ["held.1", "free.1"]
    assert workflow.of(SUCCESSION).stages() == ["held.1", "free.1", "held.2", "free.2"]
    held, free = (workflow.update_spec("smollm_general", f"{way}.1", "1-3") for way in ("held", "free"))
    assert held | {"way": "free", "holds": [], "stability": 0.0} == free
    inputs = workflow.of(SUCCESSION).evidence_input("1-3")
    for role in ("source", "oracle", "before"):
        assert {f"{role}_python", f"{role}_{TEXT}"} <= set(inputs)
    assert len(inputs["oracles"]) == 4
    assert workflow.of(UPDATE).generation_files() == {"generation": [f"results/tiny/generation/{UPDATE}.json"]}
    assert workflow.result_file(UPDATE) == f"results/tiny/{UPDATE}.json"


def test_the_atlas_of_the_page_has_a_chart_per_domain(workflow):
    inputs = workflow.of(ATLAS).evidence_input("1-3")
    for text in ("python", "general", TEXT):
        assert {f"oracle_{text}", f"reference_{text}", f"train_{text}", f"test_{text}"} <= set(inputs)
    assert workflow.of(ATLAS).evidence_spec("1-3")["mixture"] == ["python", TEXT]


def test_the_experiment_of_the_page_gets_its_jobs_and_its_place_among_the_others_by_data_alone(workflow):
    jobs, spec = workflow.of(EXPERIMENT), workflow.of(EXPERIMENT).evidence_spec("1-3")
    assert workflow.experiments[-1] == EXPERIMENT
    assert workflow.result_file(EXPERIMENT) in workflow.result_files(workflow.experiments)
    assert (spec["arms"]["short"]["steps"], spec["taught_by"], spec["scopes"]) == (0.25, "oracle", ["domain"])
    assert spec["studies"] == {
        "enough-python": {"about": "short", "text": "python", "arms": ["long", "short", "solved", "random"]}
    }
    inputs = jobs.evidence_input("1-3")
    assert "results/tiny/modules/gpt2_medium/python/standard/source/0-0.json" in inputs["source_python"]
    assert set(jobs.modules()) == {"source_python", "oracle_python", "reference_python"}
    claim = ClaimFacts.model_validate(
        {"id": EXPERIMENT, **JudgeStudy.model_validate(jobs.verdict_spec()).claim.plain()}
    )
    plan = plan_of(claim, "enough-python", (), workflow.config.protocol.criteria)
    [test] = [test for test in plan.own.tests if test.id == "t.as-long"]
    assert (dict(test.weights), test.margin, test.required) == ({"candidate": 1, "long": -1}, -0.01, True)


def test_a_statement_of_the_page_about_an_arm_that_is_none_is_refused(root, tmp_path):
    shutil.copytree(root / "config", tmp_path / "config")
    path = tmp_path / "config" / "claims.yaml"
    content = yaml.safe_load(path.read_text())
    content["claims"][EXPERIMENT]["statements"]["enough"]["tests"]["as-long"]["weights"] = {"shirt": 1}
    content["claims"][EXPERIMENT]["arms"]["long"]["recipe"] = "transfered"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="'shirt' is not an arm of the experiment; did you mean 'short'") as told:
        load("tiny", tmp_path)
    assert "did you mean 'transferred'" in str(told.value)


def test_a_claim_about_a_text_that_its_update_does_not_hold_is_refused(root, tmp_path):
    shutil.copytree(root / "config", tmp_path / "config")
    path = tmp_path / "config" / "claims.yaml"
    content = yaml.safe_load(path.read_text())
    content["claims"][UPDATE]["texts"] = ["sql"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="'sql' is not a text that update smollm_general holds"):
        load("tiny", tmp_path)


def test_the_claim_of_the_contributing_page_is_valid(tmp_path):
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config" / "claims.yaml"
    content = yaml.safe_load(path.read_text())
    content["claims"] |= yaml.safe_load(block)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert "gpt2_to_t5" in load("tiny", tmp_path).claims


def test_more_seeds_leave_full_batches_as_they_are(workflow):
    few, more = (workflow.batches("calibration", n) for n in (10, 12))
    assert few == more[: len(few)]


@pytest.mark.parametrize(
    ("kind", "regime", "own"),
    [("transfer", "oracle-kd", "transferred"), ("reconstruction", "reconstruction", "candidate")],
)
def test_the_controls_the_page_lists_are_those_that_are_required(kind, regime, own):
    listed = re.search(rf"((?:`[a-z-]+`(?:, | and )?)+)\s+for a {kind}", PAGE)
    assert set(re.findall(r"`([a-z-]+)`", listed[1])) == set(required_in(regime)) - {own}


@pytest.fixture
def extended(monkeypatch):
    """The arm of the page, put where the page says: one entry of the catalogue."""
    [(file, entry)] = blocks("python")
    assert file == "abi/base/catalogue.py"
    arm = eval(f"({entry.strip().rstrip(',')})", vars(catalogue))
    assert arm.name == ARM
    monkeypatch.setitem(catalogue.ARMS, arm.name, arm)


def test_a_claim_may_list_the_arm_of_the_page_once_it_is_there(root, tmp_path, extended):
    shutil.copytree(root / "config", tmp_path / "config")
    path = tmp_path / "config" / "claims.yaml"
    content = yaml.safe_load(path.read_text())
    content["claims"][CLAIM]["extra_arms"] = {"oracle-kd": [ARM]}
    path.write_text(yaml.safe_dump(content))
    assert ARM in Workflow(load("tiny", tmp_path)).of(CLAIM).calibration_spec("1-3")["arms"]


def test_an_arm_that_is_nowhere_is_refused(root, tmp_path):
    shutil.copytree(root / "config", tmp_path / "config")
    path = tmp_path / "config" / "claims.yaml"
    path.write_text(path.read_text().replace("- no-domain", f"- {ARM}\n    - no-domain"))
    with pytest.raises(ConfigError, match=f"'{ARM}' is not an? arm of oracle-kd"):
        load("tiny", tmp_path)


def test_the_arm_of_the_page_is_fitted_with_its_net_frozen(make_states, head, tmp_path, extended):
    shape, schedule = ModuleConfig(8, (2,), 6), Schedule([Phase(2, 1e-2)])
    states = make_states()
    data = FitData(states, head, corrections(AbiModule(shape, 2).requires_grad_(False), states))
    budget = Budget(schedule, Batch(4), Objective("kd"), 1e-3, rates=AS_SCHEDULED)
    given = {"seed": 1, "folder": tmp_path, "base": BASE, "text": "python"}
    entries = fit_all(recipes_of("oracle-kd", only=[ARM]), shape, Nets(), data, budget, **given)
    assert [entry.fit for entry in entries] == ["kd", *[CLOSED_FORM] * 3]
    assert len({entry.domain_sha256 for entry in entries}) == 3


PLANNED = """
from typing import Literal
from abi.plan.kinds.studies import OfUpdate
from abi.plan.specs.judge import UpdateClaim

class DriftClaim(UpdateClaim):
    kind: Literal["drift"]

class OfDrift(OfUpdate):
    def seen(self, batch):
        return super().seen(batch) | {"kind": "update"}

PLANNED = {"drift": (DriftClaim, OfDrift)}
"""
JUDGED = """
from dataclasses import replace
from abi.base.regimes import KINDS
from abi.judge.kinds import update

KINDS.setdefault("drift", replace(KINDS["update"], name="drift"))
JUDGED = (replace(update.JUDGED[0], name="drift"),)
"""
ASKED = """
from abi.base.digest import code_digest
from abi.judge.kinds import judged_kinds
from abi.plan.config import load
from abi.plan.specs.judge import JudgeStudy
from abi.plan.workflow import Workflow

study = Workflow(load("tiny"))
spec = JudgeStudy.model_validate(study.of("t5_drift").verdict_spec())
assert spec.claim.kind == "drift" and spec.claim.texts == ["python"] and spec.plain() == study.of("t5_drift").verdict_spec()
assert study.of("t5_drift").evidence_input("1-3") == study.of("t5_update").evidence_input("1-3")
assert study.result_file("t5_drift") == "results/tiny/t5_drift.json"
assert judged_kinds()["drift"].studies(spec.claim, 1)[0] == "t5_large_general-python"
print(code_digest("abi/steps/judge_study.py"))
"""


def test_a_kind_of_claim_is_two_files(tmp_path):
    for part in ("abi", "config", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "abi/plan/kinds/drift.py").write_text(PLANNED)
    (tmp_path / "abi/judge/kinds/drift.py").write_text(JUDGED)
    path = tmp_path / "config" / "claims.yaml"
    content = yaml.safe_load(path.read_text())
    content["claims"]["t5_drift"] = {**content["claims"]["t5_update"], "kind": "drift", "record": {}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != code_digest("abi/steps/judge_study.py")


@pytest.mark.workflow
def test_snakemake_plans_the_claim_of_the_page(tmp_path):
    for part in ("abi", "config", "envs", "profiles", "scripts", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", tmp_path)
    apply(tmp_path)
    command = [sys.executable, "-m", "snakemake", "-n", CLAIM, "--config", "scale=smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=with_notes(tmp_path))
    assert done.returncode == 0, done.stderr
    jobs = dict(re.findall(r"(?m)^(\w+) +(\d+)$", done.stdout))
    assert (jobs["build_backbone"], jobs["write_states"], jobs["judge_claim"]) == ("2", "5", "1")


@pytest.mark.long
@pytest.mark.workflow
def test_snakemake_plans_the_update_and_the_atlas_of_the_page(tmp_path):
    for part in ("abi", "config", "envs", "profiles", "scripts", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", tmp_path)
    apply(tmp_path)
    command = [sys.executable, "-m", "snakemake", "-n", UPDATE, SUCCESSION, ATLAS, "--config", "scale=smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=with_notes(tmp_path))
    assert done.returncode == 0, done.stderr
    jobs = dict(re.findall(r"(?m)^(\w+) +(\d+)$", done.stdout))
    assert (jobs["judge_study"], jobs["generate_text"]) == ("3", "1")
