"""Scale `paper`, cut down, in a temporary copy: from `abi pin` to the verdicts, against a stand-in of the hub."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import Hub, serving
from published import MODELS, make_model, make_wikitext

from abi.models.backbone import load_backbone
from abi.models.tokenizers import characters_lost
from abi.plan.config import load

SCALE = "paper_small"
STAND_IN = Path(__file__).parents[1] / "hub"
pytestmark = [pytest.mark.paper, pytest.mark.workflow, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    pytest.importorskip("pyarrow", reason="wikitext is parquet, which needs pyarrow")
    folder = tmp_path_factory.mktemp("hub")
    with serving(Hub()) as served:
        for repo_id in MODELS:
            served.add("model", repo_id, make_model(repo_id, folder / repo_id))
        served.add("dataset", "Salesforce/wikitext", make_wikitext(folder / "wikitext"))
        yield served


@pytest.fixture(scope="module")
def paper(hub, copied, tmp_path_factory):
    """The headline claims at the cut-down scale, pinned; returns the copy and `abi` in it."""
    root = tmp_path_factory.mktemp("paper")
    copy = copied(root / "repo")
    copy.edit("config/claims.yaml", lambda c: c.update(claims={name: c["claims"][name] for name in c["headline"]}))
    shutil.copy(STAND_IN / f"{SCALE}.yaml", copy.root / "config" / "scales")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
            environment.delenv(name, raising=False)
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(root / "home"), "NO_PROXY": "*", "OMP_NUM_THREADS": "1"}
        for name, value in settings.items():
            environment.setenv(name, value)

        def abi(*arguments):
            path = f"{copy.root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
            command = [sys.executable, "-m", "abi.cli", *arguments, "--scale", SCALE]
            return subprocess.run(
                command,
                cwd=copy.root,
                env=os.environ | {"PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=False,
            )

        pinned = abi("pin")
        assert pinned.returncode == 0, pinned.stderr
        yield copy, abi


def test_a_run_without_room_in_memory_stops_before_a_download(hub, paper):
    copy, _ = paper
    lock = copy.root / "config" / "scales" / f"{SCALE}.lock.yaml"
    text = lock.read_text()
    hub.requests.clear()
    lock.write_text(re.sub(r"parameters: \d+", "parameters: 500000000000", text))
    try:
        done = copy.run(f"results/{SCALE}/backbones/t5_large.json", "--cores", "1", check=False, scale=SCALE)
    finally:
        lock.write_text(text)
    assert done.returncode
    assert "million parameters" in (copy.root / f"results/{SCALE}/logs/build_backbone/t5_large.log").read_text()
    assert hub.requests == []


def test_abi_plan_tells_what_it_will_take(paper):
    _, abi = paper
    done = abi("plan", "headline")
    assert done.returncode == 0, done.stderr
    assert "estimates, not all of this was measured at this scale" in done.stdout
    assert "download  0.0 GB (t5_large 0.00, gpt2_medium 0.00, Salesforce/wikitext 0.00)" in done.stdout


def test_the_headline_claims_go_from_the_hub_to_their_verdicts_and_again_without_a_network(hub, paper, monkeypatch):
    copy, _ = paper
    hub.drops["model.safetensors"] = [10_000]
    began = time.time()
    copy.run("--cores", "2", scale=SCALE)
    took = time.time() - began
    lock = (copy.root / "config" / "scales" / f"{SCALE}.lock.yaml").read_text()
    claims = load(SCALE, copy.root).claims
    told = {}
    for name, claim in claims.items():
        result = json.loads((copy.root / "results" / SCALE / claim.record.result_file).read_text())
        told[name] = result["verdict"]
    assert len(told) == 5  # a reconstruction, and a transfer in four regimes
    print(f"{took:.0f} s from the hub to {told}")
    for name in ("t5_large", "gpt2_medium"):
        about = json.loads((copy.root / "results" / SCALE / "backbones" / f"{name}.json").read_text())
        assert about["revision"] in lock
        assert about["facts"]["characters_lost"] == 0
    assert not [line for line in hub.requests if "pytorch_model.bin" in line or "/onnx/" in line]
    t5 = load_backbone(copy.root / "results" / SCALE / "backbones" / "t5_large")
    assert characters_lost(t5.tokenizer, ["def f():\n    return {}\n"]) == 0

    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.rmtree(copy.root / "results" / SCALE / "backbones")
    copy.run("--cores", "1", f"results/{SCALE}/backbones/gpt2_medium.json", scale=SCALE)
    assert hub.requests == []
