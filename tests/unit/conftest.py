"""Shared fixtures: tiny real models, made-up text and states whose content is known. One thread, no network."""

import random
import shutil
from contextlib import contextmanager

import pytest
import torch
from hypothesis import settings
from made_arms import states_manifest
from safetensors.torch import save_file
from small_models import FAMILIES, small

from abi.base.errors import DataError
from abi.base.manifests.modules import ModuleFacts
from abi.models.head import Head
from abi.models.states import States

torch.set_num_threads(1)
settings.register_profile("abi", deadline=None, derandomize=True)
settings.load_profile("abi")


@pytest.fixture(scope="session")
def refuses():
    """Expect an error whose message holds `words` and is one line."""

    @contextmanager
    def context(words, error=DataError):
        with pytest.raises(error, match=words) as caught:
            yield
        assert "\n" not in str(caught.value)

    return context


@pytest.fixture(scope="session")
def texts():
    """Python-like text that never changes: four texts of a few kilobytes."""
    draw = random.Random(0)
    words = ["state", "window", "loss", "token", "norm", "rate", "model", "batch", "index", "text", "größe", "head"]

    def line():
        a, b, c = (draw.choice(words) for _ in range(3))
        return draw.choice(
            [f"def {a}_{b}({c}):", f"    return {a} + {c}[{draw.randint(0, 99)}]", f"# the {a} of a {b}", ""]
        )

    return ["\n".join(line() for _ in range(150)) for _ in range(4)]


@pytest.fixture(scope="session")
def tokenizers(texts):
    from abi.models.tokenizers import build_tokenizer

    return {kind: build_tokenizer(texts, kind, 360) for kind in ("bpe", "unigram")}


@pytest.fixture(scope="session")
def make_backbone(tokenizers):
    """A randomly initialised backbone of a family of FAMILIES, the same at every call."""

    def make(family, vocab_size=None, seed=0):
        return small(family, tokenizers["unigram" if family.startswith("t5") else "bpe"], seed, vocab_size)

    return make


@pytest.fixture(scope="session", params=FAMILIES)
def backbone(request, make_backbone):
    return make_backbone(request.param)


@pytest.fixture(scope="session")
def window_of():
    """A window of 12 tokens for a backbone: 5 of them are an encoder's."""
    from abi.models.backbone import Window

    return lambda backbone: Window(12, 5 if backbone.is_encoder_decoder else 0, 1)


@pytest.fixture
def make_states(tmp_path):
    """Stored states with random content: N windows of T positions, taps 0 to 2, three windows per document."""

    def make(n=12, positions=6, width=8, vocabulary=11, skip=1, seed=0, name="states"):
        rng = torch.Generator().manual_seed(seed)
        tensors = {f"tap.{tap}": torch.randn(n, positions, width, generator=rng) for tap in range(3)}
        tensors["targets"] = torch.randint(vocabulary, (n, positions), generator=rng, dtype=torch.int32)
        tensors["tokens"] = torch.cat([torch.zeros(n, 1, dtype=torch.int32), tensors["targets"]], dim=1)
        tensors["target_bytes"] = torch.randint(1, 9, (n, positions), generator=rng, dtype=torch.int32)
        tensors["char_end"] = torch.arange(n * positions, dtype=torch.int32).view(n, positions)
        tensors["document"] = torch.arange(n, dtype=torch.int32) // 3
        documents = [f"d{i}" for i in range(-(-n // 3))]
        stored = {
            "n_windows": n, "length": positions + 1, "positions": positions, "width": width, "taps": [0, 1, 2],
            "final_tap": 2, "dtype": "float32", "skip": skip, "documents": documents,
            "groups": [f"g{i // 2}" for i in range(len(documents))],
        }  # fmt: skip
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        return States(path, states_manifest(stored))

    return make


@pytest.fixture
def head():
    """A head `[11, 8]` with a bias and a scale."""
    rng = torch.Generator().manual_seed(1)
    return Head(torch.randn(11, 8, generator=rng), 0.5, torch.randn(11, generator=rng))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with a complete results/tiny from made-up evidence; never edited."""
    from made_results import build

    return build(tmp_path_factory.mktemp("made"))


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A private copy of `made`, as the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def made_regimes(tmp_path_factory):
    """As `made`, with a few-shot result, a general-only one with variants, and a ladder with its rungs; never edited."""
    from made_results import CLAIM, FEW_SHOT, GENERAL_ONLY, LADDER, RUNGS, build

    return build(tmp_path_factory.mktemp("regimes"), [CLAIM, FEW_SHOT, GENERAL_ONLY, *RUNGS, LADDER])


@pytest.fixture
def regimes(made_regimes, tmp_path, monkeypatch):
    """A private copy of `made_regimes`, as the working directory."""
    shutil.copytree(made_regimes, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def facts():
    """What a module's config says beside its shape."""
    return ModuleFacts(
        base_model="gpt2_medium", base_revision="built", base_sha256="a" * 64, head_sha256="b" * 64,
        vocabulary="c" * 20, name="m", role="arm", text="python", seed=1,
    )  # fmt: skip


# what a user of the public API has: `api_world`


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with two small trained models and two folders of text; never edited."""
    import api_world

    folder = tmp_path_factory.mktemp("world")
    api_world.build(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2(world):
    """A plain model of transformers and its tokenizer."""
    import api_world

    return api_world.loaded(world / "small-gpt2")


@pytest.fixture(scope="session")
def qwen(world):
    """A model of another family, width and vocabulary."""
    import api_world

    return api_world.loaded(world / "small-qwen")


@pytest.fixture(scope="session")
def trained(world, gpt2):
    """A module beside the first model."""
    import abi

    return abi.train(*gpt2, world / "queries", name="sql", steps=60, rates=[1e-2])


@pytest.fixture(scope="session")
def portable(world, gpt2):
    """A portable one."""
    import abi

    return abi.train(*gpt2, world / "queries", "portable", world / "prose", name="sql", steps=60)


@pytest.fixture(scope="session")
def live(world):
    """A LoRA adapter of PEFT on the first model, trained on notes; tests leave it as it is."""
    import api_world

    return api_world.lora(world, steps=60)


@pytest.fixture(scope="session")
def adapter(live, tmp_path_factory):
    """The same as a folder; never edited."""
    folder = tmp_path_factory.mktemp("adapters") / "my-lora"
    live.save_pretrained(folder)
    return folder
