import pytest
import yaml
from published import MODELS

from abi.base.files import ROOT
from abi.cli.main import main
from abi.plan.yaml_files import read_scale

IDS = ("openai-community/gpt2", "Qwen/Qwen2-7B")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with one scale: a small model, a sharded one and a data set with two patterns."""
    folder = tmp_path / "config" / "scales"
    folder.mkdir(parents=True)
    scale = yaml.safe_load((ROOT / "config/scales/paper.yaml").read_text())
    names = {"gpt2": IDS[0], "qwen2_7b": IDS[1]}
    scale["backbones"] = {name: scale["backbones"][name] for name in names}
    scale["updates"] = {}
    scale["sources"]["more"] = [{**scale["sources"]["wikitext"][0], "pattern": "**/*.csv"}]
    (folder / "paper.yaml").write_text(yaml.safe_dump(scale))
    (tmp_path / "config" / "claims.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def filled(hub, made, cache, tmp_path):
    """The stand-in with what the scale names."""
    data = tmp_path / "data"
    (data / "wikitext-2-raw-v1").mkdir(parents=True)
    (data / "wikitext-2-raw-v1" / "a.parquet").write_bytes(b"p" * 3000)
    (data / "b.csv").write_text("1\n")
    (data / "c.zip").write_text("z")
    hub.add("dataset", "Salesforce/wikitext", data)
    for repo_id in IDS:
        hub.add("model", repo_id, made(repo_id))
    return hub


def pinned(root):
    return read_scale("paper", root / "config" / "scales")


def test_a_scale_is_pinned_once_with_revisions_files_and_sizes(root, filled, capsys):
    assert pinned(root).unpinned() == ["gpt2", "qwen2_7b", "Salesforce/wikitext"]
    assert main(["pin", "--scale", "paper", "--endpoint", filled.endpoint]) == 0
    assert "wrote config/scales/paper.lock.yaml: gpt2, qwen2_7b, Salesforce/wikitext" in capsys.readouterr().out
    scale = pinned(root)
    assert scale.unpinned() == []
    assert scale.backbones["gpt2"].hub.revision == filled.of(IDS[0]).newest
    assert scale.backbones["gpt2"].hub.sizes.width == 32
    assert scale.backbones["gpt2"].hub.licence == "apache-2.0"
    assert "model-00001-of-00007.safetensors" in scale.backbones["qwen2_7b"].hub.files
    assert {name for data in scale.hub_data() for name in data.files} == {"wikitext-2-raw-v1/a.parquet", "b.csv"}
    filled.requests.clear()
    assert main(["pin", "--scale", "paper", "--endpoint", filled.endpoint]) == 0
    assert "nothing to pin" in capsys.readouterr().out
    assert filled.requests == []


def test_what_is_pinned_stays_when_the_hub_moves_on_and_more_is_pinned(root, filled, made, capsys):
    main(["pin", "--scale", "paper", "--endpoint", filled.endpoint])
    before, lock = pinned(root), root / "config/scales/paper.lock.yaml"
    kept = yaml.safe_load(lock.read_text())
    del kept["backbones"]["qwen2_7b"]
    lock.write_text(yaml.safe_dump(kept))
    for repo_id in IDS:
        filled.add("model", repo_id, made(repo_id))
    assert main(["pin", "--scale", "paper", "--endpoint", filled.endpoint]) == 0
    assert "lock.yaml: qwen2_7b\n" in capsys.readouterr().out
    assert pinned(root).backbones["gpt2"] == before.backbones["gpt2"]
    assert (
        pinned(root).backbones["qwen2_7b"].hub.revision
        == filled.of(IDS[1]).newest
        != before.backbones["qwen2_7b"].hub.revision
    )


def test_what_the_hub_refuses_is_told_and_the_rest_is_pinned(root, filled, capsys):
    pin, lock = ["pin", "--scale", "paper", "--endpoint"], root / "config/scales/paper.lock.yaml"
    assert main([*pin, "http://127.0.0.1:9"]) == 2
    told = capsys.readouterr().err
    assert "cannot be looked up (ConnectError: " in told
    assert told.count("\n") == 1  # the others would not be answered either
    assert not lock.exists()
    filled.of(IDS[0]).gated = filled.of(IDS[1]).gated = True
    assert main([*pin, filled.endpoint]) == 2
    out, told = capsys.readouterr()
    assert "paper.lock.yaml: Salesforce/wikitext\n" in out
    assert all(f"abi: backbone {name}: is gated; accept its terms" in told for name in IDS)
    filled.of(IDS[0]).gated = filled.of(IDS[1]).gated = False
    assert main([*pin, filled.endpoint]) == 0
    assert "paper.lock.yaml: gpt2, qwen2_7b\n" in capsys.readouterr().out
    assert pinned(root).unpinned() == []


def test_the_stand_in_has_every_model_of_scale_paper():
    scale = read_scale("paper", ROOT / "config" / "scales")
    assert {backbone.hub.id for backbone in scale.backbones.values()} == set(MODELS)
