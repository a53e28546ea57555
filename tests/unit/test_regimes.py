"""What a calibration may see, claim by claim of config/, and a new pair as one entry of it."""

import shutil
from pathlib import Path

import pytest
import yaml
from made_arms import recipes_of

from abi.base.errors import ConfigError
from abi.base.regimes import required_in
from abi.plan.config import load
from abi.plan.workflow import Workflow

ROOT = Path(__file__).parents[2]
WORKFLOW = Workflow(load("tiny"))
EVERY = [key for key, claim in WORKFLOW.config.claims.items() if claim.kind == "transfer"]
TRANSFERS = [key for key in EVERY if WORKFLOW.claim(key).regime != "zero-text"]
"""Those that calibrate something."""


def of_regime(regime):
    return [key for key in EVERY if WORKFLOW.claim(key).regime == regime]


def jobs(claim, workflow=WORKFLOW):
    """Return every batch of a claim's calibration with its inputs."""
    batches = workflow.batches("calibration", workflow.config.seeds(claim))
    return [(batch, workflow.of(claim).calibration_input(batch)) for batch in batches]


def paths(inputs, *without):
    """Return every input path, flat."""
    found = [value for key, value in inputs.items() if key not in without]
    return [path for value in found for path in ([value] if isinstance(value, str) else value)]


def flat(inputs):
    return set(paths(inputs))


def test_every_regime_has_claims():
    assert all(of_regime(regime) for regime in ("oracle-kd", "few-shot", "general-only", "zero-text"))


@pytest.mark.parametrize("claim", [claim for claim in of_regime("general-only") if WORKFLOW.of(claim).writes()])
def test_what_a_source_writes_comes_from_its_module_and_the_first_tokens_of_general_text(claim):
    entry = WORKFLOW.claim(claim)
    for batch, _ in jobs(claim):
        inputs = WORKFLOW.of(claim).written_input(batch)
        assert [path for path in paths(inputs) if "/states/" in path] == [
            WORKFLOW.states(entry.source, WORKFLOW.general, "train")
        ]
        assert {path.rpartition("/")[0] for path in paths(inputs) if "/modules/" in path} == {
            f"results/tiny/modules/{entry.source}/{entry.text}/{entry.module}/source"
        }
        assert not [path for path in paths(inputs, "modules") if entry.text in path.replace("/", ".").split(".")]


def test_an_encoder_decoder_source_has_no_variant_on_written_text():
    kinds = {name: definition.build.model_type for name, definition in WORKFLOW.scale.backbones.items()}
    assert {kinds[WORKFLOW.claim(claim).source] for claim in TRANSFERS if WORKFLOW.of(claim).writes()} == {
        "gpt2",
        "gpt_neox",
    }


@pytest.mark.parametrize("claim", of_regime("general-only"))
def test_a_general_only_calibration_sees_neither_domain_text_nor_an_oracle_nor_a_test_split(claim):
    entry = WORKFLOW.claim(claim)
    text, general, target, source = entry.text, WORKFLOW.general, entry.target, entry.source
    for batch, inputs in jobs(claim):
        assert not [
            path for path in paths(inputs) if "/oracle/" in path or "/reference/" in path or "/alignments/" in path
        ]
        assert not [path for path in paths(inputs) if ".test." in path]
        # The one thing that ever saw domain text is the source's module, which is what moves.
        for path in paths(inputs, "source", "wrong"):
            assert text not in path.replace("/", ".").split(".")
        assert all(path.startswith(f"results/tiny/modules/{source}/") for path in inputs["source"])
        assert inputs.get("written", []) == (
            [f"results/tiny/written/{claim}/{batch}.json"] if WORKFLOW.of(claim).writes() else []
        )
        assert {path.partition("/states/")[2] for path in paths(inputs) if "/states/" in path} == {
            f"{backbone}/{general}.{split}.json" for backbone in (target, source) for split in ("train", "calibration")
        }
        assert {path.partition("/heads/")[2] for path in paths(inputs) if "/heads/" in path} == {
            f"{backbone}.{ending}" for backbone in (target, source) for ending in ("safetensors", "tokens.json")
        }
        more = sum(len(inputs.get(name, ())) for name in ("source", "wrong", "written", "rates"))
        assert len(paths(inputs)) == 8 + more


@pytest.mark.parametrize("claim", of_regime("zero-text"))
def test_a_portable_module_moves_with_nothing_of_the_target_but_its_vocabulary(claim):
    entry, jobs_of = WORKFLOW.claim(claim), WORKFLOW.of(claim)
    with pytest.raises(ConfigError, match="no calibration"):
        jobs_of.calibration_input("1-5")
    inputs = jobs_of.evidence_input("1-3")
    assert inputs["calibration"] == []
    assert all(path.startswith(f"results/tiny/modules/{entry.source}/{entry.text}/") for path in inputs["portable"])
    assert all(path.startswith(f"results/tiny/modules/{entry.source}/sql/") for path in inputs["portable_wrong"])
    assert inputs["tokens"] == WORKFLOW.tokens(entry.target)
    first = WORKFLOW.of(entry.of)
    assert {role: jobs_of.modules()[role] for role in ("oracle", "reference")} == {
        role: first.modules()[role] for role in ("oracle", "reference")
    }
    assert not [path for path in paths(first.alignment_input("1-5")) if "/portable/" in path]


@pytest.mark.parametrize("claim", of_regime("few-shot"))
def test_an_oracle_reaches_few_shot_as_natives_net_alone(claim):
    recipes = recipes_of("few-shot", lora=True)
    assert [name for name, recipe in recipes.items() if "oracle" in (recipe.net,) or recipe.rotation == "own"] == [
        "native"
    ]
    entry = WORKFLOW.claim(claim)
    assert entry.fit == "ce"
    for _, inputs in jobs(claim):
        paired = {"source_train", "source_head", *(f"{r}_{of}" for r in entry.roles for of in ("states", "tokens"))}
        own = {"head", "source", "home", "oracle", "wrong", "train", "alignment", "rates"}
        assert set(inputs) == own | paired
        assert {path.partition("/states/")[2] for path in paths(inputs) if "/states/" in path} == {
            f"{backbone}/{text}.train.json"
            for backbone in entry.roles.values()
            for text in (entry.text, WORKFLOW.general)
        }
        assert [key for key in inputs if any("/oracle/" in path for path in paths({key: inputs[key]}))] == ["oracle"]
        assert not [
            path for path in paths(inputs) if "/reference/" in path or ".test." in path or ".calibration." in path
        ]


@pytest.mark.parametrize("claim", TRANSFERS)
def test_no_calibration_reads_a_reference_or_a_test_split(claim):
    for _, inputs in jobs(claim):
        assert not [path for path in paths(inputs) if "/reference/" in path or ".test." in path]


@pytest.mark.parametrize("claim", TRANSFERS)
def test_all_regimes_of_a_pair_share_modules_and_alignment(claim):
    first = WORKFLOW.claim(claim).of or claim
    assert WORKFLOW.of(claim).modules()["source"] == WORKFLOW.of(first).modules()["source"]
    for batch, inputs in jobs(claim):
        if "alignment" in inputs:
            assert all(f"/alignments/{first}/" in path for path in inputs["alignment"])
            assert inputs["alignment"] == WORKFLOW.of(first).calibration_input(batch)["alignment"]


def changed(tmp_path, change, part="claims"):
    """Return the study of a copy of config/ whose claims (or regimes) were changed."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config" / "claims.yaml"
    content = yaml.safe_load(path.read_text())
    change(content[part])
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Workflow(load("tiny", tmp_path))


PYTHIA_TO_QWEN = {
    "title": "Pythia to Qwen2", "statement": "A module of Pythia can be moved to Qwen2.", "kind": "transfer",
    "regimes": ["oracle-kd", "few-shot", "general-only"], "text": "python", "source": "pythia", "target": "qwen",
    "module": "standard", "seeds": 3,
}  # fmt: skip
NEW = ("pythia_to_qwen", "pythia_to_qwen_few_shot", "pythia_to_qwen_general_only")


def test_a_new_pair_is_one_entry_and_three_targets_with_all_controls(tmp_path):
    workflow = changed(tmp_path, lambda claims: claims.update(pythia_to_qwen=PYTHIA_TO_QWEN))
    assert set(workflow.config.claims) - set(WORKFLOW.config.claims) == set(NEW)
    assert [workflow.result_file(key) for key in NEW] == [f"results/tiny/{key}.json" for key in NEW]
    for key in NEW:
        entry = workflow.claim(key)
        assert set(required_in(entry.regime)) <= set(entry.arms) <= set(recipes_of(entry.regime, lora=True))


def test_a_new_pair_of_known_backbones_builds_and_trains_nothing_new(tmp_path):
    workflow = changed(tmp_path, lambda claims: claims.update(pythia_to_qwen=PYTHIA_TO_QWEN))
    assert workflow.scale.backbones == WORKFLOW.scale.backbones

    def upstream(one, claims):
        """Return every input of the claims' jobs that is not the claims' own."""
        found = set()
        for claim in claims:
            for batch, inputs in jobs(claim, one):
                found |= (
                    flat(inputs)
                    | flat(one.of(claim).evidence_input(batch))
                    | flat(one.of(claim).alignment_input(batch))
                )
        own = {"alignments", "calibration", "rates"}
        return {path for path in found if not own & set(path.split("/"))}

    assert len(upstream(workflow, NEW)) > 10
    assert upstream(workflow, NEW) <= upstream(WORKFLOW, TRANSFERS)


def test_an_alignment_serves_the_arms_of_every_regime_that_shares_it(tmp_path):
    """`wrong-domain` in few-shot alone: its rotation comes from the claim's alignment, which then reads that module."""

    def without(regimes):
        regimes["oracle-kd"]["arms"].remove("wrong-domain")

    workflow = changed(tmp_path, without, "regimes")
    assert "wrong" in workflow.of("pythia_to_gpt2").alignment_input("1-3")
    assert "wrong" in workflow.of("pythia_to_gpt2_few_shot").calibration_input("1-3")
    assert "wrong" not in workflow.of("pythia_to_gpt2").calibration_input("1-3")


def test_where_a_source_teaches_nobody_few_shot_reads_nothing_of_its_states(tmp_path):
    def without(*names):
        def change(regimes):
            regimes["few-shot"]["arms"] = [arm for arm in regimes["few-shot"]["arms"] if arm not in names]

        return changed(tmp_path / names[0], change, "regimes").of("pythia_to_gpt2_few_shot")

    taught = ("carried", "source-taught", "permuted-taught", "wrong-domain-taught")
    jobs_of = without(*taught)
    inputs = jobs_of.calibration_input("1-3")
    assert {key for key in inputs if key.startswith("source_")} == set()
    assert "max_rows" not in jobs_of.calibration_spec("1-3")
    jobs_of = without("wrong-domain", *taught[:3])
    assert jobs_of.calibration_spec("1-3")["max_rows"] == WORKFLOW.scale.alignment.max_rows
    inputs = jobs_of.calibration_input("1-3")
    assert {"wrong", "source_train"} <= set(inputs)
    assert jobs_of.rates_input().keys() == inputs.keys() - {"rates"} | {"calibration"}
