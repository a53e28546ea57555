import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter
from published import MODELS
from sweeps import first

from abi.base import hub as files_of_hub
from abi.base.errors import DataError
from abi.base.hub import Repository, data_files, fetch, files_beside_weights, look_up
from abi.base.hub_errors import reason
from abi.base.model_folders import INDEX, WEIGHTS, folder_hash, weight_files
from abi.models.acquire import copy_folder
from abi.models.backbone import load_backbone
from abi.models.classes import require_class
from abi.models.hub import download_backbone
from abi.plan.specs.models import FoundModel
from abi.plan.specs.models import Hub as Source

GPT2, SHARDS, T5 = "openai-community/gpt2", "Qwen/Qwen2-7B", "google-t5/t5-large"


@pytest.fixture
def pinned(hub, made, cache):
    """Pins a published model that the stand-in serves; returns what a scale then holds of it."""

    def pin(repo_id, **more):
        if ("model", repo_id) not in hub.stored:
            hub.add("model", repo_id, made(repo_id))
        found = look_up(Repository(repo_id, "model", hub.endpoint), None, files_beside_weights, require_class)
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


def with_other_shards(folder):
    """Name the shards of a folder as no pattern would; return their names."""
    index = json.loads((folder / INDEX).read_text())
    names = {name: f"weights.{i}.safetensors" for i, name in enumerate(sorted(set(index["weight_map"].values())))}
    for old, new in names.items():
        (folder / old).rename(folder / new)
    index["weight_map"] = {tensor: names[name] for tensor, name in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))
    return sorted(names.values())


def test_shards_are_those_that_the_index_names(hub, made, pinned, tmp_path):
    folder = shutil.copytree(made(SHARDS), tmp_path / "model")
    names = with_other_shards(folder)
    hub.add("model", SHARDS, folder)
    download_backbone(pinned(SHARDS), tmp_path / "copy", hub.endpoint)
    own = FoundModel(path=str(folder), sha256=folder_hash(str(folder), "folder"))
    copy_folder(own, tmp_path / "copied")
    for copy in (tmp_path / "copy", tmp_path / "copied"):
        assert {INDEX, *names} == {path.name for path in copy.iterdir() if ".safetensors" in path.name}
        load_backbone(copy)
    (folder / names[1]).unlink()
    refused(f"names {names[1]}, which is not in that folder", weight_files, folder)
    (folder / INDEX).write_text("{}")
    refused("does not name files of weights; fetch or write it again", weight_files, folder)
    (folder / INDEX).unlink()
    assert weight_files(folder) == []


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (401, "Invalid credentials in Authorization header", "HTTP 401.; its login is not valid; log in again"),
        (403, "", f"HTTP 403.; see whether your token may read http://.*/{GPT2}, and whether a proxy"),
        (407, "", "HTTP 407.; a proxy of your network asks for a login; give it in HTTPS_PROXY"),
        (429, "", "HTTP 429.; it was asked too often; try again in some minutes"),
        (418, "", "HTTP 418.; correct its id, or log in"),
    ],
)
def test_a_refusal_is_told_as_what_it_is(hub, pinned, tmp_path, status, message, words):
    source = pinned(GPT2)
    hub.refusal = status, message
    refused(f"backbone {GPT2}: the hub refuses .{words}", pinned, GPT2)
    refused(
        f"{GPT2}@{source.revision}: the hub refuses .{words}",
        download_backbone,
        source,
        tmp_path / "copy",
        hub.endpoint,
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("Task runtime error: No space left on device (os error 28)"),
            "cannot be written (No space left on device); mend",
        ),
        (ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "in SSL_CERT_FILE"),
        (
            ConnectionError("[Errno -2] Name or service not known"),
            "(ConnectionError: [Errno -2] Name or service not known)",
        ),
    ],
)
def test_a_cause_that_the_client_wraps_is_told(error, words, cache):
    assert words in reason(error, "https://hub/org/model", "model.safetensors")


def test_a_download_by_xet_is_one_bar_in_the_log(caplog):
    caplog.set_level("INFO")
    with XetDownloadProgressReporter(
        reconstruction_desc="reconstructing", total=2 * 10**6, log_level=20, tqdm_class=files_of_hub._in_log("weights")
    ) as bar:
        bar.update_progress(
            SimpleNamespace(
                total_bytes=2 * 10**6,
                **{
                    f"total_{kind}bytes_{of}": 2 * 10**6
                    for kind in ("", "transfer_")
                    for of in ("completed", "completion_rate")
                },
            )
        )
    assert caplog.messages == ["step 2/2 MB of weights"]


def test_a_model_that_runs_code_of_its_own_is_refused_before_its_weights(hub, made, pinned, tmp_path):
    folder = shutil.copytree(made(GPT2), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "gpt2-ours", "auto_map": {"AutoConfig": "ours.Config"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    hub.add("model", GPT2, folder)
    words = "transformers has no class for its model_type 'gpt2-ours', and abi runs no code of a repository"
    refused(words, pinned, GPT2)
    assert not [line for line in hub.requests if WEIGHTS in line]
    refused(words, load_backbone, folder)


def test_what_killed_downloads_left_is_named_where_the_disk_is_full(hub, pinned, tmp_path, monkeypatch):
    source, usage = pinned(GPT2), namedtuple("usage", "free")
    left = Path(constants.HF_HUB_CACHE) / "models--org--other" / "blobs" / "abc.1f.incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x" * 10**7)
    monkeypatch.setattr(files_of_hub.shutil, "disk_usage", lambda _: usage(0))
    words = "free space, delete what killed downloads left .0.01 GB: .*/blobs/.*.incomplete., or point HF_HOME"
    refused(words, download_backbone, source, tmp_path / "copy", hub.endpoint)


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
        files_beside_weights,
    )


def test_without_a_network_is_one_sentence(hub, pinned, tmp_path, monkeypatch):
    source = pinned(GPT2)
    nowhere = "http://127.0.0.1:9"
    refused(
        "cannot be downloaded .ConnectError: .*. and is not in the local cache; go online once",
        download_backbone,
        source,
        tmp_path / "copy",
        nowhere,
    )
    refused(
        "cannot be looked up .ConnectError: .*.; go online",
        look_up,
        Repository(GPT2, "model", nowhere),
        None,
        files_beside_weights,
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
