import functools
import json
import re
import shutil

import pytest
import torch
from test_demo import served
from test_documents import ROOT, commands

from abi.base.files import write_tensors
from abi.base.job import Job
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.modules import ModuleFacts
from abi.base.manifests.portable import PortableFacts
from abi.base.manifests.states import BaseFacts
from abi.cli import main
from abi.models.backbone import load_backbone, save_backbone
from abi.models.described import describe_backbone
from abi.models.load import load_module
from abi.models.module import AbiModule, ModuleConfig, save_module
from abi.models.portable import PortableConfig, PortableModule, read_portable, save_portable
from abi.plan.config import load

LOAD = functools.cache(load)
MODULE = "results/tiny/modules/gpt2_medium/python/standard/oracle/1-5/seed1"
PORTABLE = "results/tiny/modules/gpt2/python/portable/portable/1-5/seed1/transferred"
BACKBONE = "results/tiny/backbones/gpt2_medium"
PLAIN = ["generate", "--backbone", "gpt2_medium", "--prompt", "def main(", "--tokens", "8"]
EXAMPLES = [c[1:] for c in commands(ROOT / "docs" / "using.md") if c[:2] == ["abi", "generate"]]
DEMO = [c[2:] for c in commands(ROOT / "docs" / "using.md") if c[:2] == ["abi", "demo"]]


def backbone_in(folder, backbone, name):
    """Save a backbone with its manifest as the job that builds one does."""
    place = folder / f"results/tiny/backbones/{name}"
    save_backbone(backbone, place)
    head = folder / f"results/tiny/heads/{name}.safetensors"
    provenance = Job("r", {}, "c", [], 1).provenance()
    about = describe_backbone(backbone, place, head, name=name, revision="built", provenance=provenance)
    about.write(place.with_suffix(".json"))
    return about.weights_sha256


@pytest.fixture(scope="module")
def built(tmp_path_factory, make_backbone):
    """A checkout with a small gpt2_medium, a module of it, and a gpt2 that is another one; never edited."""
    folder = tmp_path_factory.mktemp("built")
    base = backbone_in(folder, make_backbone("gpt2"), "gpt2_medium")
    backbone_in(folder, make_backbone("gpt2", seed=1), "gpt2")
    backbone_in(folder, make_backbone("t5"), "t5_large")
    module = AbiModule(ModuleConfig(16, (2,), 8), seed=1).requires_grad_(False)
    module.proj_out.weight.mul_(4)
    facts = ModuleFacts(
        base_model="gpt2_medium", base_revision="built", base_sha256=base, head_sha256="b" * 64,
        vocabulary="c" * 20, name="standard", role="oracle", text="python", seed=1,
    )  # fmt: skip
    save_module(module, folder / MODULE, facts)
    backbone_in(folder, make_backbone("llama"), "qwen")
    portable = PortableModule(PortableConfig(tuple("abcdefghijklmnopqrstuvwxyz "), 8, context=4, byte_width=4), 1)
    torch.nn.init.constant_(portable.proj_out.weight, 0.5)
    base_facts = {name: getattr(facts, name) for name in ("text", "seed", *BaseFacts.model_fields)}
    save_portable(portable, folder / PORTABLE, PortableFacts(**base_facts, name="transferred"))
    return folder


@pytest.fixture
def checkout(built, monkeypatch):
    monkeypatch.chdir(built)
    monkeypatch.setattr("abi.cli.generate.load", LOAD)


def said(capsys, *arguments, code=0):
    assert main.main(list(arguments)) == code
    out, error = capsys.readouterr()
    assert error.count("\n") == (1 if code else 0), error
    return out if code == 0 else error


def test_it_continues_the_prompt_and_a_module_changes_what_it_says(checkout, capsys):
    plain = json.loads(said(capsys, *PLAIN, "--json"))
    attached = json.loads(said(capsys, *PLAIN, "--module", MODULE, "--json"))
    assert plain["module"] is None
    assert attached["module"] == load_module(MODULE)[1].sha256
    assert 1 <= len(plain["ids"]) <= 8
    assert plain["ids"] != attached["ids"]
    assert said(capsys, *PLAIN) == "def main(" + plain["text"] + "\n"


def test_a_seed_gives_the_same_text_and_another_seed_another(checkout, capsys):
    texts = [said(capsys, *PLAIN, "--temperature", "1", "--seed", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def test_of_the_likeliest_token_alone_a_draw_is_greedy(checkout, capsys):
    asked = ["generate", "--backbone", "gpt2_medium", "--prompt", "the state", "--tokens", "12"]
    greedy, hot = said(capsys, *asked), [*asked, "--temperature", "5", "--seed", "3"]
    assert said(capsys, *hot) != greedy
    assert said(capsys, *hot, "--top-k", "1") == said(capsys, *hot, "--top-p", "1e-6") == greedy


def test_without_a_cache_the_text_is_the_same_and_the_least_number_of_tokens_is_kept(checkout, capsys):
    def told(*options):
        assert main.main([*PLAIN, "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)["ids"]

    assert told("--no-cache") == told()
    assert len(told("--least", "8")) == 8


def test_an_encoder_decoder_continues_too(checkout, capsys):
    made = json.loads(
        said(capsys, "generate", "--backbone", "t5_large", "--prompt", "def f(x):", "--tokens", "4", "--json")
    )
    assert 1 <= len(made["ids"]) <= 4


@pytest.mark.parametrize("command", EXAMPLES, ids=" ".join)
def test_the_commands_of_the_page_run(checkout, command, capsys):
    assert "def main(" in said(capsys, *command, "--tokens", "4")


@pytest.mark.parametrize("command", DEMO, ids=" ".join)
def test_the_demo_of_the_page_shows_the_modules_of_the_run(built, command):
    names = ["gpt2_medium: python, standard, oracle", "gpt2: python, portable, portable, transferred"]
    assert served(built, *command) == {"gpt2_medium": names}


def test_the_python_of_the_page_runs(checkout):
    first, portable = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/using.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names = {}
    exec(first, names)
    assert names["several"].modules == {}
    exec(portable, names)
    assert isinstance(names["portable"].net, PortableModule)


WRONG = {
    "module of another backbone": (
        ["--backbone", "gpt2", "--module", MODULE],
        "belongs to other weights .of gpt2_medium. than backbone gpt2 of",
    ),
    "misspelt backbone": (["--backbone", "gpt2_medum"], "did you mean 'gpt2_medium'?"),
    "backbone that is not built": (
        ["--backbone", "pythia"],
        "pythia: is not built; run `snakemake --config scale=tiny",
    ),
    "no module": (["--module", "nowhere"], "nowhere"),
    "no text": (["--prompt", ""], "the prompt is empty"),
    "no tokens": (["--tokens", "0"], "--tokens is 0; ask for 1 or more"),
    "a folder of modules": (["--backbone", "gpt2", "--module", "results/tiny"], "it is no module; give one of the"),
    "too many tokens": (["--tokens", "99"], "64 positions; ask for fewer"),
    "negative temperature": (["--temperature", "-1"], "temperature -1"),
    "likeliest of less than none": (["--temperature", "1", "--top-k", "-1"], "top_k -1.* give 0 or more"),
    "no probability": (["--temperature", "1", "--top-p", "0"], "top_p 0.* a part of 1"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_be_done_is_one_sentence_and_code_2(checkout, fault, capsys):
    arguments, words = WRONG[fault]
    assert re.search(words, said(capsys, *PLAIN, *arguments, code=2))


def test_weights_that_are_not_the_manifests_are_code_1(built, tmp_path, monkeypatch, capsys):
    shutil.copytree(built / "results/tiny/backbones", tmp_path / "results/tiny/backbones")
    monkeypatch.chdir(tmp_path)
    tensors = load_backbone(BACKBONE).model.state_dict()
    tensors["transformer.ln_f.bias"] = tensors["transformer.ln_f.bias"] + 1
    kept = {name: tensor.clone() for name, tensor in tensors.items() if name != "lm_head.weight"}
    write_tensors(tmp_path / BACKBONE / "model.safetensors", kept, {"format": "pt"})
    assert "is missing or not the file of backbone gpt2_medium" in said(capsys, *PLAIN, code=1)
    assert BackboneManifest.read(f"{BACKBONE}.json").name == "gpt2_medium"


def test_a_portable_module_writes_with_every_backbone(checkout, capsys):
    for name in ("gpt2_medium", "gpt2", "t5_large"):
        asked = ["generate", "--backbone", name, "--module", PORTABLE, "--prompt", "def main(", "--tokens", "4"]
        assert json.loads(said(capsys, *asked, "--json"))["module"] == read_portable(PORTABLE)[1].sha256
