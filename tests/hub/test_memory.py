import json
import subprocess
import sys

import pytest
import torch
import transformers
from published import qwen2

from abi.base.job import Job
from abi.models.backbone import load_backbone
from abi.models.described import describe_backbone

READ = "load_backbone(place)"
CHECKED = "load_checked(place, BackboneManifest.read(place + '.json'), torch.bfloat16)"
MEASURE = """
import json, re, sys, threading, time
from pathlib import Path
import torch
from abi.base.manifests.backbones import BackboneManifest
from abi.models.backbone import load_backbone, load_checked
import transformers.models.qwen2.modeling_qwen2  # what any load imports first

def own():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

peak, done = [own()], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], own())

before = own()
thread = threading.Thread(target=watch)
thread.start()
place = sys.argv[1]
model = eval(sys.argv[2]).model
done.set()
thread.join()
print(json.dumps([sum(p.numel() * p.element_size() for p in model.parameters()), peak[0] - before]))
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory of a process is read as Linux tells it")
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", [READ, CHECKED], ids=["read in fp32", "checked, for bf16"])
def test_a_sharded_backbone_is_loaded_without_a_second_copy(tmp_path, stored, way):
    """Own memory, without pages of the files that the kernel may drop, is at most 1.3 times the weights."""
    tmp_path = tmp_path / "model"
    tmp_path.mkdir()
    qwen2(32)(tmp_path)
    sizes = {
        "hidden_size": 512,
        "intermediate_size": 3072,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    }
    config = transformers.Qwen2Config(vocab_size=512, **sizes)
    transformers.Qwen2ForCausalLM(config).to(stored).save_pretrained(tmp_path, max_shard_size="20MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    if way == CHECKED:
        about = describe_backbone(
            load_backbone(tmp_path),
            tmp_path,
            f"{tmp_path}.head",
            name="b",
            revision="built",
            provenance=Job("r", {}, "c", [], 1).provenance(),
        )
        about.write(f"{tmp_path}.json")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), way], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    weights, peak = json.loads(done.stdout.splitlines()[-1])
    assert weights > 6e7
    print(f"{stored}: {peak / weights:.2f} times the weights")
    assert peak < 1.3 * weights
