"""What the jobs of claims made of several studies depend on: stages, batches, paths, specs, faults of configuration."""

import shutil
from pathlib import Path

import pytest
import yaml
from rescaled import rescaled

from abi.base.errors import ConfigError
from abi.plan import config
from abi.plan.config import load
from abi.plan.workflow import Workflow, seeds_of

ROOT = Path(__file__).parents[2]
LAW_OF_MEDIUM = ("gpt2_medium_general", "gpt2_medium_general_fast")
UPDATES = ("t5_update", "gpt2_update", "succession", "calibration_scaling")


@pytest.fixture(scope="module")
def workflow():
    return Workflow(load("tiny"))


@pytest.fixture
def root(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def edit(root, name, change):
    path = root / "config" / name
    content = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    change(content)
    text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def edited(root, name, change, scale="tiny"):
    edit(root, name, change)
    return Workflow(load(scale, root))


def jobs(workflow):
    """Spec and inputs of every job of the claims made of several studies, by path."""
    found = {}
    for claim in workflow.config.studies:
        n_seeds = workflow.config.seeds(claim)
        found[workflow.result_file(claim)] = workflow.of(claim).verdict_spec(), workflow.of(claim).verdict_input()
        for batch in workflow.batches("updates", n_seeds):
            path = f"{workflow.results}/evidence/{claim}/{batch}.json"
            found[path] = workflow.of(claim).evidence_spec(batch), workflow.of(claim).evidence_input(batch)
        for update in workflow.of(claim).updates():
            for batch in workflow.update_batches(update, f"1-{n_seeds}"):
                for stage in getattr(workflow.of(claim), "stages", list)():  # experiments name theirs update by update
                    path = workflow.updated(update, stage, batch)
                    found[path] = (
                        workflow.update_spec(update, stage, batch),
                        workflow.update_input(update, stage, batch),
                    )
                    for text in workflow.config.studies[claim].texts:
                        path = workflow.updated_states(update, stage, text, batch)
                        found[path] = workflow.updated_states_spec(update, stage, text, batch), {}
    return found


def changed(one, other):
    before, after = jobs(one), jobs(other)
    return {path for path in before | after if before.get(path) != after.get(path)}


def paths_of(inputs):
    return [path for value in inputs.values() for path in ([value] if isinstance(value, str) else value)]


def test_stages_are_both_ways_of_every_round_and_one_of_a_scaling_law(workflow):
    assert workflow.of("gpt2_update").stages() == ["held.1", "free.1"]
    assert workflow.of("succession").stages() == ["held.1", "free.1", "held.2", "free.2", "held.3", "free.3"]
    assert workflow.of("calibration_scaling").stages() == ["held.1"]


def test_paths_name_update_stage_text_and_batch(workflow):
    assert workflow.updated("u", "held.1", "1-3") == "results/tiny/updates/u/held.1/1-3.json"
    assert workflow.updated_states("u", "free.2", "t", "1-3") == "results/tiny/updated_states/u/free.2/t/1-3.json"
    wanted = "results/tiny/updated_modules/u/held.1/t/oracle/1-3.json"
    assert workflow.updated_modules("u", "held.1", "t", "oracle", "1-3") == wanted
    assert workflow.result_file("t5_update") == "results/tiny/cross_arch_t5_succession_results.json"


@pytest.mark.parametrize("claim", UPDATES)
def test_batches_cover_every_seed_of_a_claim_once(workflow, claim):
    manifests = workflow.of(claim).verdict_input()["manifests"]
    seeds = [seed for path in manifests for seed in seeds_of(Path(path).stem)]
    assert seeds == list(range(1, workflow.config.seeds(claim) + 1))


@pytest.mark.parametrize("claim", UPDATES)
def test_the_updates_a_claim_reads_hold_its_seeds(workflow, claim):
    for batch in workflow.batches("updates", workflow.config.seeds(claim)):
        read = {Path(path).stem for path in workflow.of(claim).evidence_input(batch)["updates"]}
        assert set(seeds_of(batch)) <= {seed for name in read for seed in seeds_of(name)}


@pytest.mark.parametrize("claim", UPDATES)
def test_every_module_a_job_reads_has_the_seeds_it_asks_for(workflow, claim):
    for name, of in workflow.of(claim).modules().items():
        assert workflow.module_seeds(*of) >= workflow.config.seeds(claim), name
    for update in workflow.of(claim).updates():
        for batch in workflow.update_batches(update, f"1-{workflow.config.seeds(claim)}"):
            for paths in workflow.held_modules(update, batch).values():
                held = {seed for path in paths for seed in seeds_of(Path(path).stem)}
                assert set(seeds_of(batch)) <= held


def test_module_seeds_count_the_claims_made_of_several_studies(root):
    workflow = edited(root, "claims.yaml", lambda c: c["claims"]["domain_atlas"].update(seeds=9))
    assert workflow.module_seeds("gpt2_medium", "sql", "standard", "reference") == 9
    assert workflow.module_seeds("gpt2_medium", "markdown", "standard", "oracle") == 9
    assert workflow.module_seeds("gpt2_large", "sql", "standard", "source") == 1


def test_a_free_stage_reads_no_module_and_a_held_one_those_it_holds(workflow):
    free, held = (workflow.update_input("gpt2_medium_general", stage, "1-3") for stage in ("free.1", "held.1"))
    assert not [path for path in paths_of(free) if "/modules/" in path]
    assert {key for key in held if key.startswith("source_")} == {"source_python", "source_markdown"}
    assert workflow.update_spec("gpt2_medium_general", "free.1", "1-3")["holds"] == []
    assert workflow.update_spec("gpt2_medium_general", "free.1", "1-3")["stability"] == 0.0
    assert workflow.update_spec("gpt2_medium_general", "held.1", "1-3")["stability"] == 1.0


def test_a_free_stage_stores_states_of_held_out_text_alone(workflow):
    spec = {s: workflow.updated_states_spec("gpt2_medium_general", s, "python", "1-3") for s in ("free.1", "held.1")}
    assert spec["free.1"]["splits"] == ["test"]
    assert spec["held.1"]["splits"] == ["train", "test"]


def test_a_round_begins_with_the_same_way_of_the_round_before(workflow):
    for way in ("held", "free"):
        assert "before" not in workflow.update_input("gpt2_medium_general", f"{way}.1", "1-3")
        before = workflow.update_input("gpt2_medium_general", f"{way}.3", "1-3")["before"]
        assert before == workflow.updated("gpt2_medium_general", f"{way}.2", "1-3")


def test_no_oracle_and_no_text_but_its_own_enters_an_update(workflow):
    for update in workflow.scale.updates:
        for stage in ("held.1", "free.1"):
            paths = paths_of(workflow.update_input(update, stage, "1-3"))
            assert not [
                path for path in paths if "/oracle/" in path or "/reference/" in path or "updated_modules" in path
            ]
            own = set(workflow.text_files(workflow.scale.updates[update].text).values())
            assert {path for path in paths if "/corpus/" in path} == own


def test_claims_that_share_an_update_share_its_files(workflow):
    one, other = (set(workflow.of(claim).evidence_input("1-3")["updates"]) for claim in ("gpt2_update", "succession"))
    assert one & other == {workflow.updated("gpt2_medium_general", f"{way}.1", "1-3") for way in ("held", "free")}
    assert {workflow.updated(update, "held.1", "1-3") for update in LAW_OF_MEDIUM} == set(
        workflow.of("calibration_scaling").evidence_input("1-1")["updates"]
    ) & one


def test_a_scaling_law_has_no_free_stage(workflow):
    inputs = workflow.of("calibration_scaling").evidence_input("1-1")
    assert not [path for path in paths_of(inputs) if "/free." in path]
    assert len(inputs["updates"]) == 6
    assert len(inputs["states"]) == 12
    assert len(inputs["oracles"]) == 24
    assert {Path(path).parent.name for path in inputs["oracles"]} == {"oracle", "reference"}
    assert {key for key in inputs if key.startswith("source_")} == {
        f"source_{text}_{update}"
        for text in ("python", "markdown")
        for backbone in ("gpt2", "gpt2_medium", "gpt2_large")
        for update in (f"{backbone}_general", f"{backbone}_general_fast")
    }


def test_an_atlas_reads_every_text_of_one_backbone(workflow):
    inputs = workflow.of("domain_atlas").evidence_input("1-3")
    assert inputs["shared"] == workflow.module_manifests(("gpt2_medium", "python", "standard", "source"), "1-3") != []
    assert {key for key in inputs if key.startswith(("train_", "test_"))} == {
        f"{split}_{text}" for split in ("train", "test") for text in ("python", "general", "markdown", "sql")
    }
    assert {key for key in inputs if key.startswith("reference_")} == {
        f"reference_{text}" for text in ("python", "general", "markdown", "sql")
    }


CLAIM_EDITS = {
    "statement of the T5 update": (
        lambda c: c["claims"]["t5_update"].update(statement="Another statement of the same claim."),
        "t5_update",
    ),
    "texts of the succession": (lambda c: c["claims"]["succession"].update(texts=["markdown"]), "succession"),
    "texts of the law": (
        lambda c: c["claims"]["calibration_scaling"].update(texts=["markdown", "python"]),
        "calibration_scaling",
    ),
    "mixture of the atlas": (lambda c: c["claims"]["domain_atlas"].pop("mixture"), "domain_atlas"),
}


@pytest.mark.parametrize("name", CLAIM_EDITS)
def test_an_edit_of_one_claim_changes_its_own_jobs_only(workflow, root, name):
    change, claim = CLAIM_EDITS[name]
    found = changed(workflow, edited(root, "claims.yaml", change))
    own = {workflow.result_file(claim)}
    assert found
    assert {path for path in found if "/evidence/" not in path and "updated_states" not in path} == own
    assert all(f"/evidence/{claim}/" in path for path in found if "/evidence/" in path)


def test_an_edit_of_one_update_changes_what_is_made_of_it_only(workflow, root):
    found = changed(
        workflow, edited(root, "scales/tiny.yaml", lambda s: s["updates"]["t5_large_general"].update(stability=2.0))
    )
    update = "t5_large_general"
    assert found == {workflow.updated(update, "held.1", "1-3"), workflow.result_file("t5_update")}


def hold(scale, text):
    for update in scale["updates"].values():
        if update["backbone"] == "gpt2_medium":
            update["holds"].append(text)


def test_a_text_whose_name_has_an_underscore_keeps_its_modules(root):
    def rename(scale):
        scale["texts"]["python_code"] = scale["texts"]["python"]
        hold(scale, "python_code")

    edit(root, "scales/tiny.yaml", rename)
    workflow = edited(root, "claims.yaml", lambda c: c["claims"]["gpt2_update"].update(texts=["python_code"]))
    inputs = workflow.of("gpt2_update").evidence_input("1-3")
    assert {"source_python_code", "oracle_python_code", "before_python_code"} <= set(inputs)
    assert not [key for key in inputs if key in ("source_python", "source_sql")]


STUDY_FAULTS = {
    "unknown update": (lambda c: c["t5_update"]["updates"].append("t5_large_genral"), "did you mean 't5_large_general'?"),
    "unknown update of a law": (lambda c: c["calibration_scaling"]["updates"].append("gpt3_general"), "is not an update of scale tiny"),
    "text not held": (lambda c: c["succession"].update(texts=["sql"]), "'sql' is not a text that update gpt2_medium_general"),
    "unknown text": (lambda c: c["succession"].update(texts=["pyton"]), "did you mean 'python'?"),
    "fit without budgets": (lambda c: c["calibration_scaling"].update(calibrated_by="ce"), "calibrated_by: 'ce' should be 'kd'"),
    "shared text not in the atlas": (
        lambda c: c["domain_atlas"].update(texts=["general", "sql"], mixture=["general", "sql"]),
        "'python' is not a text of this atlas",
    ),
    "mixture not in the atlas": (
        lambda c: c["domain_atlas"].update(texts=["python", "sql"]),
        "'general' is not a text of this atlas",
    ),
    "unknown backbone of an atlas": (lambda c: c["domain_atlas"].update(backbone="gpt3"), "is not a backbone of scale tiny"),
    "module an atlas cannot have": (lambda c: c["domain_atlas"].update(module="wide"), "does not store"),
    "one dose": (lambda c: c["t5_update"].update(updates=["t5_large_general"]), "t5_update.updates: one dose is no ladder; give two or more"),
    "doses of two backbones": (
        lambda c: c["t5_update"]["updates"].append("gpt2_general_fast"),
        "t5_update.updates: are of several backbones or module shapes; give those of one",
    ),
    "doses that do not ascend": (
        lambda c: c["gpt2_update"]["updates"].reverse(),
        "gpt2_update.updates: steps x rates on sql, general do not ascend; put the least dose first",
    ),
    "succession of one round": (
        lambda c: c["succession"].update(update="gpt2_medium_sql"),
        "succession.update: gpt2_medium_sql has one round; a succession needs two or more",
    ),
    "law of few points": (
        lambda c: c["calibration_scaling"].update(texts=["python"]),
        "calibration_scaling: 6 points are too few for a law; 12 are needed, add updates or texts",
    ),
    "text after a succession": (lambda c: c["succession"].update(generation=True), "kind succession has no 'generation'"),
    "update without texts": (lambda c: c["t5_update"].pop("texts"), "kind update needs 'texts'"),
    "regimes of an update": (lambda c: c["t5_update"].update(regimes=["few-shot"]), "kind update has no 'regimes'"),
}  # fmt: skip
SCALE_FAULTS = {
    "unknown backbone": (lambda s: s["updates"]["gpt2_general"].update(backbone="gpt3"), "updates.gpt2_general.backbone: 'gpt3'"),
    "unknown module": (lambda s: s["updates"]["gpt2_general"].update(module="standart"), "did you mean 'standard'?"),
    "unknown text": (lambda s: s["updates"]["gpt2_general"].update(text="generl"), "did you mean 'general'?"),
    "unknown held text": (lambda s: s["updates"]["gpt2_general"]["holds"].append("pyton"), "updates.gpt2_general.holds: 'pyton'"),
    "unstored tap": (lambda s: s["updates"]["gpt2_general"].update(module="wide"), "does not store"),
    "descending budgets": (
        lambda s: s["calibration"]["kd"]["budgets"].update(steps=[50, 25]),
        "calibration.kd.budgets.steps: [50, 25] do not ascend; sort them",
    ),
    "no budgets": (
        lambda s: s["calibration"]["kd"].pop("budgets"),
        "claims.calibration_scaling.calibrated_by: calibration.kd of scale tiny has no `budgets`; add them",
    ),
    "one budget twice": (lambda s: s["calibration"]["kd"]["budgets"].update(steps=[0, 25, 25]), "steps"),
    "no round": (lambda s: s["updates"]["gpt2_general"].update(rounds=0), "rounds"),
    "another part trains": (lambda s: s["updates"]["gpt2_general"].update(trains="head"), "trains"),
    "name that is no name": (lambda s: s["updates"].update({"a-b": s["updates"]["gpt2_general"]}), "updates.a-b: 'a-b' is no name"),
}  # fmt: skip


def sentence(root):
    with pytest.raises(ConfigError) as error:
        config.load("tiny", root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("fault", STUDY_FAULTS)
def test_a_faulty_claim_of_several_studies_is_one_sentence(root, fault):
    change, words = STUDY_FAULTS[fault]
    edit(root, "claims.yaml", lambda c: change(c["claims"]))
    assert words in sentence(root)


def test_an_update_on_the_text_that_is_measured_is_no_dose(root):
    edit(root, "scales/tiny.yaml", lambda scale: hold(scale, "sql"))
    edit(root, "claims.yaml", lambda c: c["claims"]["gpt2_update"].update(texts=["python", "sql"]))
    words = "claims.gpt2_update.updates: 'sql' is measured and is no new domain; update on another text"
    assert words in sentence(root)


@pytest.mark.parametrize("fault", SCALE_FAULTS)
def test_a_faulty_update_of_a_scale_is_one_sentence(root, fault):
    change, words = SCALE_FAULTS[fault]
    edit(root, "scales/tiny.yaml", change)
    assert words in sentence(root)


def test_the_width_of_a_law_is_that_of_the_backbone():
    workflow = Workflow(load("tiny"))
    widths = workflow.of("calibration_scaling").verdict_spec()["widths"]
    assert widths["gpt2_large_general"] == workflow.scale.backbones["gpt2_large"].build.config["n_embd"] == 160
    hub = {"hub": {"id": "x", "revision": "unpinned"}}
    workflow = rescaled(
        workflow, lambda s: s["backbones"]["gpt2_large"].update(hub) or s["backbones"]["gpt2_large"].pop("build")
    )
    with pytest.raises(ConfigError, match=r"backbones\.gpt2_large: a scaling law needs its `width`; add it"):
        workflow.of("calibration_scaling").verdict_spec()
