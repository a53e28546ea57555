import pytest

from abi.config import load
from abi.errors import ConfigError
from abi.specs import Study, seeds_of


@pytest.fixture(scope="module")
def study():
    return Study(load("tiny"))


def test_batches_cover_every_seed_once(study):
    for stage in ("modules", "calibration", "evaluation"):
        seeds = [seed for batch in study.batches(stage, 5) for seed in seeds_of(batch)]
        assert seeds == [1, 2, 3, 4, 5]


def test_a_calibration_asks_for_the_modules_of_its_seeds(study):
    [batch, *_] = study.batches("calibration", 5)
    inputs = study.calibration_input("t5_to_gpt2", batch)
    held = {seed for path in inputs["source"] for seed in seeds_of(path.rpartition("/")[2].removesuffix(".json"))}
    assert set(seeds_of(batch)) <= held


def test_the_reference_of_a_transfer_never_reaches_its_calibration(study):
    assert "reference" not in study.calibration_input("t5_to_gpt2", "1-3")
    assert "reference" in study.evaluation_input("t5_to_gpt2", "1-3")


def test_only_evaluation_reads_the_test_split(study):
    for inputs in (study.calibration_input("t5_to_gpt2", "1-3"), study.alignment_input("t5_to_gpt2", "1-5")):
        assert not [
            path
            for paths in inputs.values()
            for path in ([paths] if isinstance(paths, str) else paths)
            if ".test." in path
        ]
    assert ".test." in study.evaluation_input("t5_to_gpt2", "1-3")["domain"]


def test_an_unknown_claim_lists_the_claims(study):
    with pytest.raises(ConfigError, match="claims: t5_same_backbone, t5_to_gpt2"):
        study.claim("t5_gpt2")


def test_result_files_are_the_originals_names(study):
    assert study.result_file("t5_to_gpt2") == "results/tiny/cross_arch_enc_dec_nib_results.json"
    assert study.claim_of_file("cross_arch_enc_dec_nib_results") == "t5_to_gpt2"
