"""Outputs of a real run deleted or corrupted: `abi status` names each, and after `--mend` the next run is exactly that."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kills, pytest.mark.workflow, pytest.mark.timeout(540)]
CALIBRATED = "calibration/t5_to_gpt2/*/seed1/kd/random-0"


def first(root, pattern):
    return sorted((root / "results/smoke").glob(pattern))[0]


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def gone(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


CASES = {
    "states, a bit": ("states/gpt2_medium/python.test.safetensors", flipped),
    "states, gone": ("states/gpt2_medium/python.train.safetensors", gone),
    "states, their record gone": ("states/t5_large/general.train.json", gone),
    "module, a bit": ("modules/t5_large/python/*/source/1-*/seed1/abi_model.safetensors", flipped),
    "module, its folder gone": ("modules/gpt2_medium/python/*/oracle/1-*/seed1", gone),
    "portable module, a bit": (
        "modules/t5_large/python/portable/portable/1-*/seed1/transferred/abi_model.safetensors",
        flipped,
    ),
    "arm, a bit": (f"{CALIBRATED}/abi_model.safetensors", flipped),
    "calibration, a folder gone": (CALIBRATED, gone),
    "backbone, a bit": ("backbones/gpt2_medium/model.safetensors", flipped),
    "backbone, its tokenizer gone": ("backbones/gpt2_medium/tokenizer.json", gone),
    "backbone, its head gone": ("heads/t5_large.safetensors", gone),
    "lora, a bit": ("lora/t5_to_gpt2/*/seed1/kd/lora-0/final.safetensors", flipped),
    "lora, its adapter gone": ("lora/t5_to_gpt2/*/seed1/kd/lora-0/adapter_model.safetensors", gone),
    "rotations, a bit": ("alignments/t5_to_gpt2/*.safetensors", flipped),
    "evidence, gone": ("evidence/t5_to_gpt2/*.draws.csv.gz", gone),
    "result, a bit": ("cross_arch_enc_dec_nib_results.json", flipped),
    "text, its table gone": ("corpus/general.csv", gone),
    "report, a figure gone": ("figures/rules.svg", gone),
    "card, gone": ("cards/t5_to_gpt2.md", gone),
}


def status(copy, *arguments):
    command = [sys.executable, "-m", "abi.cli", "status", "--scale", "smoke", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(copy.root)}
    done = subprocess.run(command, cwd=copy.root, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def whole(built, copy, names):
    """Put back what a case took away, with its times."""
    for name in names:
        (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(built.root / name, copy.root / name)


def test_what_is_deleted_or_corrupted_is_found_and_exactly_that_is_planned(built, edited):
    assert status(edited) == (0, status(edited)[1])
    failed = {}
    for name, (pattern, damage) in CASES.items():
        path = first(edited.root, pattern)
        files = [str(one.relative_to(edited.root)) for one in (path.rglob("*") if path.is_dir() else [path])]
        damage(path)
        code, found = status(edited, "--mend")
        named = {line["file"] for line in found["lines"]}
        rules = Counter(made["rule"] for made in found["rebuild"].values())
        planned = edited.planned()
        known = all(planned.get(rule) == n for rule, n in rules.items() if rule and planned.get(rule) != n + rules[""])
        if code or not named & set(files) or not known or sum(planned.values()) != len(found["rebuild"]):
            failed[name] = (named, dict(rules), planned)
        whole(built, edited, {*found["deleted"], *(file for file in files if Path(built.root / file).is_file())})
        assert edited.planned() == {}, name
    assert failed == {}
