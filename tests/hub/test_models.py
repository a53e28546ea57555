"""A model by its id on the hub, as the library and the commands take it: what is fetched, and what is refused."""

import errno
import shutil
from collections import namedtuple

import psutil
import pytest
import torch

import abi
from abi.base.errors import DataError
from abi.base.hub_errors import reason

ID = "openai-community/gpt2"


@pytest.fixture
def at(hub, cache, made, tmp_path, monkeypatch):
    """The stand-in as the only hub, with a model and files that nobody needs."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    address = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    folder = shutil.copytree(made(ID), tmp_path / "stored")
    (folder / "onnx").mkdir(exist_ok=True)
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "model_extra.safetensors").write_bytes(b"of another model")
    hub.add("model", ID, folder)
    hub.folder = folder
    return hub


def refused(words, *given, **named):
    with pytest.raises(DataError, match=words) as told:
        abi.load_backbone(*given, **named)
    assert "\n" not in str(told.value)


def test_a_model_of_the_hub_is_that_of_its_folder_without_what_nobody_needs_and_then_in_the_cache(
    at, made, monkeypatch
):
    found, own = abi.load_backbone(ID), abi.load_backbone(made(ID))
    assert all(torch.equal(p, q) for p, q in zip(found.model.parameters(), own.model.parameters(), strict=True))
    assert not [asked for asked in at.requests if "onnx" in asked or "extra" in asked]
    before = len(at.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert abi.load_backbone(ID).model.config._commit_hash == found.model.config._commit_hash
    assert len(at.requests) == before


def test_a_precision_is_given_as_torch_names_it_or_in_words(at):
    for dtype in ("bfloat16", torch.bfloat16):
        assert abi.load_backbone(ID, dtype=dtype).embeddings_out.weight.dtype == torch.bfloat16


def test_what_is_no_model_of_the_hub_is_one_sentence_before_a_weight_is_fetched(at, tmp_path, monkeypatch):
    refused("no/such/name: is neither a folder nor an id of the hub", "no/such/name")
    refused("me/none: is no folder here, and no model comes from the hub: the hub has no such repository", "me/none")
    memory = namedtuple("memory", "available")
    with monkeypatch.context() as small:
        small.setattr(psutil, "virtual_memory", lambda: memory(1000))
        refused(
            "its 0 million weights are .* GB in float32, 0.0 GB of memory are free; use a larger machine, or `dtype", ID
        )
        refused("its 0 million weights are .* in bfloat16, .* use a larger machine$", str(at.folder), dtype="bfloat16")
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as full:
        full.setattr("abi.base.hub.shutil.disk_usage", lambda _: usage._replace(free=10))
        refused("needs .* GB on the disk of .*; free space, or point HF_HOME", ID)
    pickled = shutil.copytree(at.folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    at.add("model", "me/pickled", pickled)
    refused("no model comes from the hub: has no safetensors, and abi unpickles nothing; choose another", "me/pickled")
    assert not [asked for asked in at.requests if asked.startswith("GET /lfs") and "pickled" in asked]


def test_a_disk_that_is_full_is_no_missing_network():
    said = reason(OSError(errno.ENOSPC, "No space left on device"), f"https://hub/{ID}", "model.safetensors")
    assert "cannot be written (No space left on device); mend that, or point HF_HOME at another disk" in said


def test_how_far_a_download_is_stands_in_the_log(at, caplog):
    with caplog.at_level("INFO", "abi"):
        abi.load_backbone(ID)
    assert "MB of model.safetensors" in caplog.text
