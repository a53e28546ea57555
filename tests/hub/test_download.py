import shutil
from collections import namedtuple

import psutil
import pytest
import torch
from published import MODELS
from sweeps import first

from abi.base import hub as files_of_hub
from abi.base.errors import DataError
from abi.base.hub import INDEX, WEIGHTS, Repository, data_files, fetch, look_up, model_files
from abi.models.backbone import load_backbone
from abi.models.hub import download_backbone
from abi.plan.specs.models import Hub as Source

GPT2, SHARDS, T5 = "openai-community/gpt2", "Qwen/Qwen2-7B", "google-t5/t5-large"


@pytest.fixture
def pinned(hub, made, cache):
    """Pins a published model that the stand-in serves; returns what a scale then holds of it."""

    def pin(repo_id, **more):
        if ("model", repo_id) not in hub.stored:
            hub.add("model", repo_id, made(repo_id))
        found = look_up(Repository(repo_id, "model", hub.endpoint), None, model_files)
        return Source(id=repo_id, **dict(found), **more)

    return pin


def refused(words, call, *arguments):
    with pytest.raises(DataError, match=words) as told:
        call(*arguments)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("repo_id", first(1, MODELS))
def test_every_published_form_is_pinned_downloaded_and_admitted_as_it_is(hub, made, pinned, tmp_path, repo_id):
    source = pinned(repo_id)
    download_backbone(source, tmp_path / "copy", hub.endpoint)
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(source.files)
    own, copied = load_backbone(made(repo_id)), load_backbone(tmp_path / "copy")
    assert source.sizes.parameters == sum(p.numel() for p in own.model.parameters())
    assert (source.sizes.rows, source.sizes.width) == tuple(own.embeddings_out.weight.shape)
    ids = torch.arange(20, 52)[None]
    given = {"decoder_input_ids": ids} if own.is_encoder_decoder else {}
    with torch.no_grad():
        assert torch.equal(copied.model(ids, **given).logits, own.model(ids, **given).logits)
    assert copied.facts == own.facts
    assert own.facts.characters_lost == 0 or repo_id == T5


def test_what_is_needed_are_safetensors_config_and_tokenizer_and_nothing_is_unpickled(hub, pinned, tmp_path):
    names = set(pinned(SHARDS).files)
    assert INDEX in names
    assert {"config.json", "tokenizer.json", "vocab.json", "merges.txt"} < names
    assert not {name for name in names if "/" in name or name.endswith((".bin", ".md"))}
    assert WEIGHTS in model_files([WEIGHTS, INDEX, "model-00001-of-00002.safetensors"])
    assert INDEX not in model_files([WEIGHTS, INDEX])


def test_a_data_set_is_chosen_by_its_pattern():
    names = ["a.txt", "b/c.txt", "b/d.csv", "wiki-2/x.parquet", "wiki-3/x.parquet"]
    assert data_files(["**/*.txt"])(names) == ["a.txt", "b/c.txt"]
    assert data_files(["wiki-2/*.parquet"])(names) == ["wiki-2/x.parquet"]


def test_what_is_in_the_cache_needs_no_network(hub, pinned, tmp_path, monkeypatch):
    source = pinned(GPT2)
    download_backbone(source, tmp_path / "copy", hub.endpoint)
    before = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    download_backbone(source, tmp_path / "again", hub.endpoint)
    assert len(hub.requests) == before
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "copy" / WEIGHTS).read_bytes()


def test_a_connection_that_breaks_off_is_resumed_where_it_broke(hub, pinned, tmp_path, monkeypatch):
    source = pinned(GPT2)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 8192)
    hub.ranges.clear()
    hub.drops[WEIGHTS] = [30_000, 20_000]
    download_backbone(source, tmp_path / "copy", hub.endpoint)
    assert [name for name, _ in hub.ranges] == [WEIGHTS] * 2
    assert 0 < hub.ranges[0][1] < hub.ranges[1][1]
    load_backbone(tmp_path / "copy")


def test_a_download_that_fails_goes_on_with_what_is_complete(hub, pinned, tmp_path):
    source = pinned(SHARDS)
    shards = sorted((name for name in source.files if name.startswith("model-")), key=lambda n: source.files[n].bytes)
    hub.drops[shards[2]] = [5] * 9  # more than the client tries again without a byte in between
    refused(
        f"the connection broke off while {shards[2]} was read; run again",
        download_backbone,
        source,
        tmp_path / "copy",
        hub.endpoint,
    )
    assert not (tmp_path / "copy").exists()
    hub.drops.clear()
    hub.requests.clear()
    download_backbone(source, tmp_path / "copy", hub.endpoint)
    assert not [line for line in hub.requests if shards[0] in line or shards[1] in line]
    load_backbone(tmp_path / "copy")


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_other_bytes_than_pinned_are_refused_and_not_kept(hub, pinned, tmp_path, name):
    source = pinned(GPT2)
    hub.wrong.add(name)
    refused(
        f"{name} does not have the bytes that were pinned", download_backbone, source, tmp_path / "copy", hub.endpoint
    )
    assert not (tmp_path / "copy").exists()
    hub.wrong.clear()
    download_backbone(source, tmp_path / "copy", hub.endpoint)
    load_backbone(tmp_path / "copy")


def test_a_damaged_cache_is_refused_and_fetched_anew(hub, pinned, tmp_path):
    source = pinned(GPT2)
    folder = fetch(Repository(GPT2, "model", hub.endpoint), source.revision, source.files)
    blob = (folder / WEIGHTS).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    refused("does not have the bytes", download_backbone, source, tmp_path / "copy", hub.endpoint)
    download_backbone(source, tmp_path / "copy", hub.endpoint)


def test_a_pinned_revision_is_used_when_the_branch_moves_on(hub, made, pinned, tmp_path):
    source = pinned(GPT2)
    hub.add("model", GPT2, made("openai-community/gpt2-large"))
    assert hub.of(GPT2).newest != source.revision
    download_backbone(source, tmp_path / "copy", hub.endpoint)
    assert load_backbone(tmp_path / "copy").width == 32


def test_a_revision_that_is_gone_is_one_sentence(hub, made, pinned, tmp_path):
    source = pinned(GPT2)
    del hub.of(GPT2).commits[source.revision]
    hub.add("model", GPT2, made(GPT2))
    words = f"{GPT2}@{source.revision}: the hub does not have this revision .any more., nor has the local cache; point "
    words += "HF_HOME at a cache that holds it, or take it out of <scale>.lock.yaml beside the scale and run `abi pin`"
    refused(words, download_backbone, source, tmp_path / "copy", hub.endpoint)


@pytest.mark.parametrize("name", [WEIGHTS, "vocab.json"])
def test_a_missing_file_is_one_sentence(hub, pinned, tmp_path, name):
    source = pinned(GPT2)
    hub.lost.add(name)
    hub.requests.clear()
    refused(
        f"the hub does not have {name} at this revision", download_backbone, source, tmp_path / "copy", hub.endpoint
    )
    if name != WEIGHTS:  # they are asked for last
        assert not [line for line in hub.requests if WEIGHTS in line and line.startswith("GET")]


def test_a_shard_that_its_index_names_and_the_hub_lacks_is_noticed_when_it_is_pinned(hub, made, pinned, tmp_path):
    folder = shutil.copytree(made(SHARDS), tmp_path / "model")
    (folder / "model-00002-of-00007.safetensors").unlink()
    hub.add("model", SHARDS, folder)
    refused("the hub does not have", pinned, SHARDS)


def test_a_model_without_safetensors_is_one_sentence(hub, made, pinned, tmp_path):
    folder = shutil.copytree(made(GPT2), tmp_path / "model")
    (folder / WEIGHTS).unlink()
    hub.add("model", GPT2, folder)
    refused(f"backbone {GPT2}: has no safetensors, and abi unpickles nothing", pinned, GPT2)


def test_a_gated_model_is_one_sentence_that_names_the_page(hub, made, pinned, tmp_path):
    source = pinned(GPT2)
    hub.of(GPT2).gated = True
    words = f"is gated; accept its terms at {hub.endpoint}/{GPT2} and log in"
    refused(words, download_backbone, source, tmp_path / "copy", hub.endpoint)
    refused(words, pinned, GPT2)


def test_an_unknown_repository_is_one_sentence(hub, cache):
    refused(
        "backbone org/none: the hub has no such repository, or hides it",
        look_up,
        Repository("org/none", "model", hub.endpoint),
        None,
        model_files,
    )


def test_without_a_network_is_one_sentence(hub, pinned, tmp_path, monkeypatch):
    source = pinned(GPT2)
    nowhere = "http://127.0.0.1:9"
    refused(
        "cannot be downloaded .ConnectError. and is not in the local cache; go online once",
        download_backbone,
        source,
        tmp_path / "copy",
        nowhere,
    )
    refused(
        "cannot be looked up .ConnectError.; go online", look_up, Repository(GPT2, "model", nowhere), None, model_files
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("cannot be downloaded .HF_HUB_OFFLINE is set.", download_backbone, source, tmp_path / "copy", hub.endpoint)
    assert not (tmp_path / "copy").exists()


def test_too_little_disk_is_one_sentence_before_a_byte_is_fetched(hub, pinned, tmp_path, monkeypatch):
    source = pinned(GPT2)
    both = 2 * sum(file.bytes for file in source.files.values())  # the cache and the copy
    usage = namedtuple("usage", "free")
    hub.requests.clear()
    monkeypatch.setattr(files_of_hub.shutil, "disk_usage", lambda _: usage(both - 1))
    refused(
        "needs 0.00 GB on the disk of .*; free space, or point HF_HOME",
        download_backbone,
        source,
        tmp_path / "copy",
        hub.endpoint,
    )
    assert hub.requests == []
    monkeypatch.setattr(files_of_hub.shutil, "disk_usage", lambda _: usage(both))
    download_backbone(source, tmp_path / "copy", hub.endpoint)


def test_too_little_memory_is_one_sentence_before_a_byte_is_fetched(hub, pinned, tmp_path, monkeypatch):
    source = pinned(GPT2)
    needed = source.sizes.memory_needed
    hub.requests.clear()
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(needed - 1))
    refused(
        "needs 0.8 GB of memory for 0 million parameters, 0.8 GB are free",
        download_backbone,
        source,
        tmp_path / "copy",
        hub.endpoint,
    )
    assert hub.requests == []


def test_what_was_never_pinned_is_refused(hub, cache, tmp_path):
    refused(
        "no file of it is pinned; run `abi pin`",
        download_backbone,
        Source(id=GPT2, revision="0" * 40),
        tmp_path / "copy",
        hub.endpoint,
    )
