"""A LoRA adapter by its id on the hub: read as its folder is, from the cache the next time, and refused in a sentence."""

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model

from abi.api.adapters import CONFIG, WEIGHTS, adapted
from abi.base.errors import DataError
from abi.models.backbone import load_backbone


@pytest.fixture
def base(made):
    return load_backbone(made("openai-community/gpt2"))


@pytest.fixture
def folder(base, made, tmp_path):
    """What somebody put on the hub: an adapter with files that nobody needs."""
    model = load_backbone(made("openai-community/gpt2")).model
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        shape = {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}
        live = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **shape))
        live.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "optimizer.pt").write_bytes(b"pickled")
    return tmp_path / "adapter"


@pytest.fixture
def at(hub, cache, monkeypatch):
    """The stand-in as the only hub."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    address = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    return hub


def test_an_adapter_of_the_hub_is_that_of_its_folder_and_the_next_time_it_is_in_the_cache(
    at, base, folder, monkeypatch
):
    at.add("model", "me/my-lora", folder)
    found = adapted(base, "me/my-lora")
    assert (found.about.name, found.about.sha256) == ("me/my-lora", adapted(base, folder).about.sha256)
    assert not [asked for asked in at.requests if "optimizer" in asked]
    before = len(at.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert adapted(base, "me/my-lora").about == found.about
    assert len(at.requests) == before


REFUSED = {
    "no such repository": "me/other: is no folder here, and no adapter comes from the hub: the hub has no such",
    "gated": "me/my-lora: is no folder here, and no adapter comes from the hub: is gated; accept its terms",
    "pickled": "holds no adapter_model.safetensors, and abi unpickles nothing",
    "a model": "holds no adapter_config.json, so it is no adapter",
    "no name": "no/such/name: is neither a folder nor an id of the hub",
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_adapter_of_the_hub_is_one_sentence(at, base, folder, fault):
    at.add("model", "me/my-lora", folder)
    at.of("me/my-lora").gated = fault == "gated"
    if fault in ("pickled", "a model"):
        (folder / (WEIGHTS if fault == "pickled" else CONFIG)).unlink()
    place = {"no such repository": "me/other", "no name": "no/such/name"}.get(fault, "me/my-lora")
    with pytest.raises(DataError, match=REFUSED[fault]) as told:
        adapted(base, place)
    assert "\n" not in str(told.value)
