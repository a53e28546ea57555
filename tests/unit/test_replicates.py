import json
import shutil

import pytest

from abi.base.files import ROOT
from abi.cli.main import main
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates

REFERENCE = ROOT / "results" / "reference" / "tiny"
FILE = "t5_to_gpt2_general_only.json"


def test_a_replicate_differs_from_its_scale_in_pretraining_seeds_alone():
    names = replicates("tiny")
    assert len(names) >= 3
    own = Workflow(load("tiny"))
    seeds = set()
    for name in names:
        other = Workflow(load(name))
        for backbone in own.scale.backbones:
            one, two = own.backbone_spec(backbone), other.backbone_spec(backbone)
            seeds |= {one["build"]["pretraining"].pop("seed"), two["build"]["pretraining"].pop("seed")}
            assert one == two
        assert other.of("t5_to_gpt2").calibration_spec("1-5") == own.of("t5_to_gpt2").calibration_spec("1-5")
        assert other.module_spec("python", "standard", "source", "1-5") == own.module_spec(
            "python", "standard", "source", "1-5"
        )
    assert len(seeds) == (1 + len(names)) * len(own.scale.backbones)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The same result at `tiny` and in two replicates, of which one has another word."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "tiny_r1", "tiny_r2"):
        (tmp_path / "results" / name).mkdir(parents=True)
        shutil.copy(REFERENCE / FILE, tmp_path / "results" / name / FILE)
    path = tmp_path / "results" / "tiny_r2" / FILE
    content = json.loads(path.read_text())
    content["verdict"] = "VACUOUS"
    content.pop("seal", None)
    path.write_text(json.dumps(content))


def test_the_same_word_is_counted_over_the_replicates_that_are_built(built, capsys):
    assert main(["replicates", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["claim"] == "t5_to_gpt2_general_only"
    assert row["same"] == 1
    assert set(row["rebuilt"]) == {"tiny_r1", "tiny_r2"}
    assert main(["replicates"]) == 0
    told = capsys.readouterr().out
    assert "1 of 2" in told
    assert "tiny_r3" in told
