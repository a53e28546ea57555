import pytest

from abi.base.errors import ConfigError
from abi.base.regimes import required_in
from abi.plan.config import load
from abi.plan.workflow import Workflow, seeds_of


@pytest.fixture(scope="module")
def workflow():
    return Workflow(load("tiny"))


def test_batches_cover_every_seed_once(workflow):
    for stage in ("modules", "calibration", "evaluation"):
        seeds = [seed for batch in workflow.batches(stage, 5) for seed in seeds_of(batch)]
        assert seeds == [1, 2, 3, 4, 5]


def test_a_calibration_asks_for_the_modules_of_its_seeds(workflow):
    [batch, *_] = workflow.batches("calibration", 5)
    inputs = workflow.of("t5_to_gpt2").calibration_input(batch)
    held = {seed for path in inputs["source"] for seed in seeds_of(path.rpartition("/")[2].removesuffix(".json"))}
    assert set(seeds_of(batch)) <= held


def test_the_reference_of_a_transfer_never_reaches_its_calibration(workflow):
    assert "reference" not in workflow.of("t5_to_gpt2").calibration_input("1-5")
    assert "reference" in workflow.of("t5_to_gpt2").evidence_input("1-5")


def test_only_evaluation_reads_the_test_split(workflow):
    for inputs in (
        workflow.of("t5_to_gpt2").calibration_input("1-5"),
        workflow.of("t5_to_gpt2").alignment_input("1-5"),
    ):
        assert not [
            path
            for paths in inputs.values()
            for path in ([paths] if isinstance(paths, str) else paths)
            if ".test." in path
        ]
    assert ".test." in workflow.of("t5_to_gpt2").evidence_input("1-5")["domain"]


def test_an_unknown_claim_names_the_closest(workflow):
    with pytest.raises(ConfigError, match="'t5_gpt2' is no claim of scale tiny; did you mean 't5_to_gpt2'"):
        workflow.claim("t5_gpt2")


def test_result_files_are_the_originals_names(workflow):
    assert workflow.result_file("t5_to_gpt2") == "results/tiny/cross_arch_enc_dec_nib_results.json"
    assert workflow.of_file("cross_arch_enc_dec_nib_results").id == "t5_to_gpt2"


def test_every_regime_has_its_own_jobs_and_shares_the_alignment_of_its_claim(workflow):
    few, general = (workflow.of(f"t5_to_gpt2_{name}").calibration_input("1-5") for name in ("few_shot", "general_only"))
    assert few["alignment"] == workflow.of("t5_to_gpt2").calibration_input("1-5")["alignment"]
    assert not {"alignment", "oracle", "train"} & set(general)
    assert workflow.result_file("t5_to_gpt2_few_shot") == "results/tiny/t5_to_gpt2_few_shot.json"


def test_pages_list_everything_or_the_headline_and_count_what_the_record_holds(workflow):
    assert workflow.listed("summary")[-3:] == ["cross_size", "alignment_dose", "reproduce"]
    assert (
        workflow.listed("headline") == workflow.page_spec("headline")["counted"] == ["t5_same_backbone", "t5_to_gpt2"]
    )
    spec = workflow.page_spec("summary")
    assert spec["counted"] == workflow.config.published()
    assert (
        spec["n_claims"]
        == workflow.of("gpt2_to_qwen_few_shot").verdict_spec()["n_claims"]
        == len(workflow.config.published())
    )
    assert not [name for name in spec["counted"] if "of" in workflow.claim(name)]
    assert "gpt2_to_gpt2_large" not in spec["counted"]


def test_a_pending_claim_names_the_scale_that_runs_it(workflow):
    with pytest.raises(ConfigError, match="'t5_to_qwen2_7b' is pending: it runs at scale paper only"):
        workflow.claim("t5_to_qwen2_7b")
    assert Workflow(load("paper")).claim("t5_to_qwen2_7b").regime == "oracle-kd"


def test_a_dose_has_the_rungs_that_its_scale_runs(workflow):
    tiny, smoke = (Workflow(load(name)).of("alignment_dose") for name in ("tiny", "smoke"))
    assert tiny.rungs() == workflow.claim("alignment_dose").rungs
    assert set(tiny.rungs()) - set(smoke.rungs()) == {"gpt2_to_gpt2_twin"}
    assert smoke.verdict_spec()["claim"]["rungs"] == smoke.rungs()
    assert len(smoke.verdict_input()["rungs"]) == len(smoke.rungs())
    assert tiny.verdict_spec()["level"] == workflow.config.protocol.criteria.level


def test_a_near_transfer_has_the_arms_that_its_verdict_reads(workflow):
    near = workflow.claim("gpt2_to_itself")
    assert near.regime == "oracle-kd"
    assert set(near.arms) == set(required_in("oracle-kd"))
    inputs = workflow.of("gpt2_to_itself").alignment_input("1-3")
    assert inputs["source_states"] == inputs["target_states"]
    assert len({*inputs["source"], *inputs["oracle"], *inputs["home"]}) == 3
    assert "gpt2_to_itself" not in [*workflow.carded(), *workflow.config.published()]
    assert workflow.result_file("gpt2_to_itself") not in workflow.table_input()


def test_an_update_that_is_a_target_is_admitted_as_a_backbone(workflow):
    near, made = workflow.of("gpt2_to_gpt2_updated"), workflow.scale.updates["gpt2_general_fast"]
    admitted = {"update": "gpt2_general_fast", "stage": "free.1", "seed": 1}
    assert workflow.backbone_spec("gpt2_general_fast") == near.verdict_spec()["backbones"]["target"] == admitted
    assert workflow.admission_input("gpt2_general_fast") == {
        "updates": ["results/tiny/updates/gpt2_general_fast/free.1/1-1.json"]
    }
    assert workflow.states_spec("gpt2_general_fast", "python") == workflow.states_spec(made.backbone, "python")
    assert near.evidence_input("1-3")["head"] == "results/tiny/heads/gpt2_general_fast.safetensors"


def test_a_ladder_depends_on_its_rungs_alone(workflow):
    spec = workflow.of("cross_size").verdict_spec()
    assert spec["claim"]["rungs"] == workflow.claim("cross_size").rungs
    assert workflow.result_files(workflow.config.ladders)[0] == "results/tiny/cross_size_large_nib_v9_results.json"
