"""What evaluation reads was made from the right documents, by the right backbone; anything else is named."""

import gzip
import hashlib
import json

import pytest
import torch
from made_arms import PROVENANCE, SALT, SHARES, edited
from made_results import edit, put

from abi.arms.forms import ARM_FILE, LogitBias, save_simple
from abi.arms.metrics import Key
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_file, sha256_tensors
from abi.base.manifests.arms import CalibrationManifest, FittedEntry
from abi.base.manifests.modules import ModuleEntry, ModulesManifest
from abi.models.module import AbiModule, ModuleConfig, save_module
from abi.models.saved import check_backbone, check_same_text, module_of_seed, read_states
from abi.models.states import Head
from abi.steps.evaluate_arms import fitted_of_seed
from abi.text.corpus import Chosen, summary
from abi.text.documents import Document, assignment_sha256, read_assigned, split_of, write_documents

SHA, HEAD = "a" * 64, Head(torch.zeros(11, 8), 1.0)


def groups_of(split, n):
    names = (f"g{i}" for i in range(1000))
    return [name for name in names if split_of(name, SHARES, SALT) == split][:n]


# documents and their splits


@pytest.fixture
def text(tmp_path):
    """Documents of three splits and their record."""
    documents = []
    for split in SHARES:
        for i, group in enumerate(groups_of(split, 3)):
            words = f"{split} {i}\n"
            digest = hashlib.sha256(words.encode()).hexdigest()
            documents.append(Document(f"{split}{i}", group, "s", "1", digest, split, len(words), words))
    write_documents(documents, tmp_path / "t.jsonl.gz")
    summary(Chosen(documents), PROVENANCE).write(tmp_path / "t.json")
    return documents


def test_documents_are_read_as_their_record_assigns_them(text, tmp_path):
    assert read_assigned(tmp_path / "t.jsonl.gz", tmp_path / "t.json") == text
    of_test = read_assigned(tmp_path / "t.jsonl.gz", tmp_path / "t.json", "test")
    assert of_test == [d for d in text if d.split == "test"]
    assert assignment_sha256(text) == assignment_sha256(text[::-1])


@pytest.mark.parametrize(("key", "value"), [("split", "train"), ("group", "other"), ("document", "renamed")])
def test_a_reassigned_document_is_noticed(text, tmp_path, key, value, refuses):
    path = tmp_path / "t.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    lines[-1][key] = value
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    with refuses("documents, groups or splits are not those of", TamperError):
        read_assigned(path, tmp_path / "t.json")


# states


@pytest.fixture
def stored(make_states, tmp_path):
    """Write states of a split with a valid manifest; return its path."""

    def write(split="test", name=None, **changes):
        states = make_states(name=name or split)
        n = len(states.manifest.documents)
        about = {
            "documents": [f"{split}{i}" for i in range(n)],
            "groups": groups_of(split, n),
            "split": split,
            "tensors_sha256": sha256_file(states.path),
            **changes,
        }
        path = tmp_path / f"{name or split}.json"
        edited(states.manifest, **about).write(path)
        return path

    return write


def test_states_of_a_split_are_read(stored):
    for split in SHARES:
        assert read_states(stored(split), split).manifest.split == split


def test_states_of_another_split_are_refused(stored, refuses):
    with refuses("train.json: holds states of train documents where test is wanted"):
        read_states(stored("train"), "test")


def test_a_document_of_another_split_is_named(stored, refuses):
    groups = [*groups_of("test", 3), *groups_of("train", 1)]
    with refuses("document 'test3' is a train document, not test"):
        read_states(stored(groups=groups), "test")
    path = stored("train")
    edit(path, put("split", "test"))  # train states under the name of test states
    with refuses("document 'train0' is a train document, not test"):
        read_states(path, "test")


def test_states_of_two_versions_of_a_text_do_not_meet(stored, refuses):
    one, other = read_states(stored(), "test"), read_states(stored("train", corpus_sha256="d" * 64), "train")
    check_same_text(one, read_states(stored("calibration"), "calibration"))
    with refuses("test.safetensors: was made from other documents or splits than .*train.safetensors"):
        check_same_text(one, other)


# modules and arms of the backbone that made the states


@pytest.fixture
def inputs(tmp_path, facts):
    """A module of seed 1 and two arms, all of the backbone `aaa...`."""
    module = AbiModule(ModuleConfig(8, (2,), 5)).requires_grad_(False)
    digest = save_module(module, tmp_path / "oracle/seed1", facts)
    net = sha256_tensors(module.domain_parameters())
    entry = ModuleEntry(seed=1, folder="seed1", sha256=digest, domain_sha256=net, steps=1, final_loss=1.0,
                        elapsed_s=1.0, n_parameters=1)  # fmt: skip
    ModulesManifest(modules=[entry], provenance=PROVENANCE).write(tmp_path / "oracle.json")
    place, about = tmp_path / "calibration/seed1/kd", {"fit": "kd", "draw": 0, "seed": 1, "steps": 1, "n_trainable": 1}
    hashes = {"native": save_module(module, place / "native-0", edited(facts, name="native"))}
    hashes["bias"] = save_simple(LogitBias(11), place / "bias-0" / ARM_FILE, SHA)
    nets = {"native": {"domain_sha256": net}, "bias": {}}
    arms = [
        FittedEntry(**about, frozen_sha256=SHA, arm=arm, folder=f"seed1/kd/{arm}-0", sha256=sha256, **nets[arm])
        for arm, sha256 in hashes.items()
    ]
    CalibrationManifest(arms=arms, provenance=PROVENANCE).write(tmp_path / "calibration.json")
    return {"oracle": [str(tmp_path / "oracle.json")], "calibration": [str(tmp_path / "calibration.json")]}


def test_arms_of_the_states_backbone_are_evaluated(inputs, stored):
    states = read_states(stored(), "test")
    assert module_of_seed(inputs["oracle"], 1, states) is not None
    assert set(fitted_of_seed(inputs["calibration"], 1, states, HEAD)) == {Key("kd", "native"), Key("kd", "bias")}


def test_a_seed_without_arms_is_named(inputs, stored, refuses):
    with refuses("calibration: none of .* holds seed 2; ask Snakemake for them"):
        fitted_of_seed(inputs["calibration"], 2, read_states(stored(), "test"), HEAD)


def test_a_module_of_another_backbone_is_named(inputs, stored, refuses):
    states = read_states(stored(base_sha256="b" * 64), "test")
    with refuses("oracle.json: module of seed 1 belongs to another backbone than"):
        module_of_seed(inputs["oracle"], 1, states)


@pytest.mark.parametrize("arm", ["native", "bias"])
def test_an_arm_of_another_backbone_is_named(inputs, stored, tmp_path, facts, arm, refuses):
    states = read_states(stored(), "test")
    folder = tmp_path / "calibration/seed1/kd" / f"{arm}-0"
    if arm == "bias":
        save_simple(LogitBias(11), folder / ARM_FILE, "b" * 64)
    else:
        edit(folder / "abi_config.json", put("base_sha256", "b" * 64))
    with refuses(f"{folder}: is an arm of another backbone"):
        fitted_of_seed(inputs["calibration"], 1, states, HEAD)


def test_states_of_another_backbone_are_refused_by_their_weights(make_states, refuses):
    states = make_states()
    own = states.manifest.base_sha256
    check_backbone(states, own, "the source")
    with refuses("are of another backbone than the source; rebuild the states", DataError):
        check_backbone(states, "f" * 64, "the source")
