"""What a source writes with its module: drawn on a real small model, hashed into splits like any text, the same every time."""

from types import SimpleNamespace

import pytest
import torch
from made_arms import PROVENANCE, edited

from abi.base.errors import DataError
from abi.base.job import Job
from abi.base.manifests.batches import BatchManifest
from abi.base.manifests.states import StatesManifest
from abi.models import attach
from abi.models.backbone import Window, load_checked, save_backbone
from abi.models.described import describe_backbone
from abi.models.module import AbiModule, ModuleConfig
from abi.plan.specs.arms import WriteLessonText
from abi.steps import write_lesson_text
from abi.steps.write_lesson_text import TOGETHER, names_of, written
from abi.text.documents import split_of

WINDOW = Window(12, 0, 1)
SPLIT = {"train": 0.6, "calibration": 0.15, "test": 0.25}
STATES = {
    "window": {"length": 12, "prefix": 0, "skip": 1}, "taps": [1], "min_scored": 1, "split": SPLIT, "salt": "abi",
    **{key: {"train": 4, "calibration": 2, "test": 2} for key in ("max_windows", "max_windows_per_document")},
}  # fmt: skip
SPEC = WriteLessonText.model_validate({
    "documents": {"train": 3, "calibration": 2}, "sequences": 4, "temperature": 1.0, "seeds": [1], "source": STATES,
    "target": STATES,
})  # fmt: skip
FIRST = torch.tensor([3, 4, 5])
ENDS = {"model": "", "head": ".head", "backbone": ".json"}


@pytest.fixture
def backbone(make_backbone):
    return make_backbone("gpt2")


def module_of(backbone, seed=1):
    module = AbiModule(ModuleConfig(16, (backbone.depth,), 12), seed=seed)
    with torch.no_grad():
        module.proj_out.weight *= 20
    return module.requires_grad_(False)


def texts(documents):
    return [document.text for document in documents]


def test_every_split_gets_its_documents_and_their_names_hash_into_it(backbone):
    documents = written(backbone, module_of(backbone), FIRST, WINDOW, SPEC, 1)
    assert [document.split for document in documents] == ["train"] * 3 + ["calibration"] * 2
    assert all(split_of(d.group, SPLIT, "abi") == d.split for d in documents)
    assert len({document.document for document in documents}) == 5
    assert all(len(d.text.encode()) == d.n_bytes for d in documents)


def test_the_same_seed_writes_the_same_and_another_seed_or_module_something_else(backbone):
    one, again, other = (written(backbone, module_of(backbone), FIRST, WINDOW, SPEC, seed) for seed in (1, 1, 2))
    assert texts(one) == texts(again)
    assert not set(texts(one)) & set(texts(other))
    assert texts(one) != texts(written(backbone, module_of(backbone, 2), FIRST, WINDOW, SPEC, 1))


def test_the_module_writes_and_is_taken_off_again(backbone, monkeypatch):
    """Every drawn token comes from the backbone with its module: greedy, so that a text is what its logits say."""
    module, seen = module_of(backbone), []
    plain = backbone.logits(torch.tensor([[3, 4, 5, 6, 7, 8, 9, 10, 11, 3, 4, 5]]), WINDOW)
    draw = attach.generate

    def greedy(model, begin, n, *, temperature, seed):
        found = draw(model, begin, n)
        seen.append((begin, found))
        return found

    monkeypatch.setattr(attach, "generate", greedy)
    written(backbone, module, FIRST, WINDOW, SPEC, 1)
    [(begin, found)] = seen
    assert set(begin.flatten().tolist()) <= set(FIRST.tolist())
    assert found.shape == (20, WINDOW.length - 1)
    with attach.attach(backbone, module):
        assert torch.equal(draw(backbone, begin, WINDOW.length - 1), found)
    assert not torch.equal(draw(backbone, begin, WINDOW.length - 1), found)
    assert torch.equal(backbone.logits(torch.tensor([[3, 4, 5, 6, 7, 8, 9, 10, 11, 3, 4, 5]]), WINDOW), plain)


def test_more_sequences_than_are_drawn_at_once_are_all_there(backbone):
    spec = edited(SPEC, documents=edited(SPEC.documents, train=1, calibration=1), sequences=TOGETHER + 5)
    document, _ = written(backbone, module_of(backbone), FIRST, WINDOW, spec, 1)
    assert document.text.count("\n\n") >= TOGETHER + 4


def test_names_of_a_split_are_endless_and_its_own():
    names = names_of("calibration", SPEC)
    found = [next(names) for _ in range(5)]
    assert len(set(found)) == 5
    assert {split_of(name, SPLIT, "abi") for name in found} == {"calibration"}


def test_an_encoder_decoder_is_refused_as_a_writer(make_backbone, tmp_path, refuses):
    t5 = make_backbone("t5")
    save_backbone(t5, tmp_path / "t5")
    about = {"name": "t5", "revision": "built", "provenance": PROVENANCE}
    describe_backbone(t5, tmp_path / "t5", tmp_path / "head", **about).write(tmp_path / "t5.json")
    inputs = {f"{role}_backbone": str(tmp_path / "t5.json") for role in ("source", "target")}
    with refuses("t5: an encoder-decoder writes no text of its own", DataError):
        write_lesson_text.run(
            Job("write_lesson_text", SPEC, "0", [], 1),
            {**inputs, "source_model": str(tmp_path / "t5")},
            {"folder": str(tmp_path / "out")},
        )


def test_every_backbone_is_loaded_once_and_is_rounded_when_all_is_drawn(make_backbone, tmp_path, monkeypatch):
    loaded, drew, half = [], [], edited(SPEC.source, precision="bf16")
    spec = edited(SPEC, seeds=[1, 2], source=half, target=half)
    backbones, inputs = (
        {"source": make_backbone("gpt2"), "target": make_backbone("llama")},
        {"general": "", "modules": []},
    )
    for role, own in backbones.items():
        save_backbone(own, tmp_path / role)
        about = {"name": role, "revision": "built", "provenance": PROVENANCE}
        describe_backbone(own, tmp_path / role, tmp_path / f"{role}.head", **about).write(tmp_path / f"{role}.json")
        inputs |= {f"{role}_{key}": str(tmp_path / f"{role}{end}") for key, end in ENDS.items()}

    def load(folder, base):
        loaded.append(base.name)
        return load_checked(folder, base)

    def draw(model, *given, **also):
        drew.append(model.embeddings_out.weight.dtype)
        return generate(model, *given, **also)

    generate = attach.generate
    monkeypatch.setattr(attach, "generate", draw)
    monkeypatch.setattr(write_lesson_text, "load_checked", load)
    monkeypatch.setattr(write_lesson_text, "check_backbone", lambda *_: None)
    monkeypatch.setattr(write_lesson_text, "read_states", lambda *_: SimpleNamespace(tokens=lambda _: FIRST.view(3, 1)))
    monkeypatch.setattr(
        write_lesson_text, "module_of_seed", lambda paths, seed, base: module_of(backbones["source"], seed)
    )
    outputs = {"folder": str(tmp_path / "out"), "manifest": str(tmp_path / "out.json")}
    write_lesson_text.run(Job("write_lesson_text", spec, "0", [], 1), inputs, outputs)
    assert sorted(loaded) == ["source", "target"]
    assert set(drew) == {torch.float32}
    names = [f"seed{s}.{r}.{p}.json" for s in (1, 2) for r in ("source", "target") for p in ("train", "calibration")]
    members = BatchManifest.read(outputs["manifest"]).members
    assert [name for member in members for name in member.files] == names
    assert {StatesManifest.read(tmp_path / "out" / name).dtype for name in names} == {"bfloat16"}
