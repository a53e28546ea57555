import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from abi import config
from abi.arms import RECIPES
from abi.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def edit(root, name, change):
    path = root / "config" / name
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def sentence(root, scale="tiny"):
    with pytest.raises(ConfigError) as error:
        config.load(scale, root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("scale", config.scales())
def test_every_shipped_scale_is_valid(scale):
    assert config.load(scale).claims


def test_an_unknown_scale_is_named_with_the_closest(root):
    assert "did you mean 'tiny'?" in sentence(root, "tinny")


CLAIM_FAULTS = {
    "unknown key": (lambda c: c.update(sedes=1), "unknown key 'sedes' in claims.t5_to_gpt2; did you mean 'seeds'?"),
    "unknown backbone": (lambda c: c.update(target="gpt2_medum"), "did you mean 'gpt2_medium'?"),
    "unknown text": (lambda c: c.update(text="pyhton"), "did you mean 'python'?"),
    "unknown module": (lambda c: c.update(module="standart"), "did you mean 'standard'?"),
    "unknown arm": (lambda c: c["arms"].append("randm"), "did you mean 'random'?"),
    "missing control": (lambda c: c["arms"].remove("bias"), "lacks the control arm 'bias'"),
    "source equals target": (lambda c: c.update(target="t5_large"), "needs two different backbones"),
    "reference of a transfer": (lambda c: c.update(reference_module="anchor"), "is for a reconstruction"),
    "unstored tap": (lambda c: c.update(module="wide"), "does not store"),
    "no seeds": (lambda c: c.update(seeds=0), "seeds"),
    "result file of another": (
        lambda c: c["record"].update(result_file="cross_arch_t5_nib_v53_results.json"),
        "already that of",
    ),
}


@pytest.mark.parametrize("fault", CLAIM_FAULTS)
def test_a_faulty_claim_is_one_sentence(root, fault):
    change, words = CLAIM_FAULTS[fault]
    edit(root, "claims.yaml", lambda c: change(c["claims"]["t5_to_gpt2"]))
    assert words in sentence(root)


SCALE_FAULTS = {
    "split": (lambda s: s["split"].update(test=0.5), "sum to"),
    "d_abi": (lambda s: s["modules"]["wide"].update(d_abi=400), "d_abi 400 of module 'wide' is too large"),
    "skip": (lambda s: s["backbones"]["t5_large"]["window"].update(skip=64), "leaves none of 64 positions"),
    "steps": (lambda s: s["calibration"]["kd"]["phases"]["bias"][0].update(steps=7), "share one number of steps"),
    "source": (lambda s: s["texts"]["python"].update(sources="wheel"), "did you mean 'wheels'?"),
    "type": (lambda s: s["jobs"]["seeds_per_job"].update(modules="five"), "seeds_per_job.modules"),
    "deep key": (lambda s: s["backbones"]["t5_large"]["build"]["pretraining"].update(step=3), "did you mean 'steps'?"),
}


@pytest.mark.parametrize("fault", SCALE_FAULTS)
def test_a_faulty_scale_is_one_sentence(root, fault):
    change, words = SCALE_FAULTS[fault]
    edit(root, "scales/tiny.yaml", change)
    assert words in sentence(root)


def test_broken_yaml_names_file_and_line(root):
    (root / "config/claims.yaml").write_text("claims:\n  a: [1\n")
    assert re.search(r"claims.yaml: is not valid YAML in line \d", sentence(root))


def test_a_scale_extends_another_key_by_key(root):
    tiny, smoke = (config.read_scale(name, root / "config/scales") for name in ("tiny", "smoke"))
    assert smoke["calibration"]["kd"]["temperature"] == tiny["calibration"]["kd"]["temperature"]
    assert (
        smoke["backbones"]["t5_large"]["build"]["pretraining"]["lr"]
        == tiny["backbones"]["t5_large"]["build"]["pretraining"]["lr"]
    )
    assert smoke["calibration"]["kd"]["phases"]["module"] != tiny["calibration"]["kd"]["phases"]["module"]


def test_scales_that_extend_each_other_are_refused(root):
    edit(root, "scales/tiny.yaml", lambda s: s.update(extends="smoke"))
    assert "extends" in sentence(root, "smoke")


def test_a_lock_pins_what_was_unpinned(root):
    revision = "0" * 40
    lock = {"backbones": {"t5_large": revision, "gpt2_medium": revision}, "sources": {"Salesforce/wikitext": revision}}
    (root / "config/scales/paper.lock.yaml").write_text(yaml.safe_dump(lock))
    assert config.unpinned(config.read_scale("paper", root / "config/scales")) == []


def test_paper_is_unpinned_until_abi_pin_has_run():
    scale = config.read_scale("paper", ROOT / "config/scales")
    if not (ROOT / "config/scales/paper.lock.yaml").exists():
        with pytest.raises(ConfigError, match="abi pin --scale paper"):
            config.require_pinned(scale, "paper")


def test_the_arms_of_the_configuration_are_those_the_engine_makes():
    assert {kind: set(names) for kind, names in config.ARMS.items()} == {kind: set(r) for kind, r in RECIPES.items()}


def test_pinned_text_sources_are_the_locked_versions():
    lock = (ROOT / "envs/requirements.lock").read_text()
    for place in config.read_scale("tiny", ROOT / "config/scales")["sources"]["wheels"]:
        assert f"{place['package']}=={place['version']} " in lock
        assert metadata.version(place["package"]) == place["version"]


def test_pip_and_conda_have_the_same_pins():
    names = r"(?m)^([A-Za-z0-9._-]+==[^\s;\\]+)"
    lock = set(re.findall(names, (ROOT / "envs/requirements.lock").read_text()))
    lock |= set((ROOT / "envs/torch.txt").read_text().split())
    conda = yaml.safe_load((ROOT / "envs/abi.yaml").read_text())["dependencies"][-1]["pip"]
    assert set(conda) == lock
