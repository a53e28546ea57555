"""The public API as a user meets it: texts, training, scores and modules attached to plain models of transformers."""

import copy
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import api_world
import pytest
import torch
import transformers
from api_world import loaded
from fake_card import CARD, fake_card
from tokenizers import normalizers

import abi
from abi.api import defaults
from abi.api.kept import Keep
from abi.api.loading import load_backbone
from abi.api.modules import seen_of
from abi.api.sides import backbone_of, evaluating, sides
from abi.api.texts import documents_of, key_of, unsplit
from abi.base import compute
from abi.base.errors import DataError
from abi.base.files import sha256_tensors
from abi.models.backbone import Backbone
from abi.plan.config import load

ROOT = Path(__file__).parents[2]
FEW = {"steps": 20}


# texts


def test_a_folder_a_file_and_strings_give_the_same_documents(world, tmp_path):
    texts = api_world.queries(48)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "\n".join(json.dumps({"text": text}) if i % 2 else json.dumps(text) for i, text in enumerate(texts))
    )
    folder, lines, strings = (documents_of(given) for given in (world / "queries", rows, texts))
    facts = [[(d.sha256, d.split) for d in found] for found in (folder, lines, strings)]
    assert facts[0] == facts[1] == facts[2]
    assert {d.document for d in lines} <= {f"rows.jsonl:{i + 1}" for i in range(48)}
    assert len({d.split for d in folder}) == 3


def test_order_and_copies_change_no_split():
    texts = api_world.prose(30)
    once = {d.sha256: d.split for d in documents_of(texts)}
    assert {d.sha256: d.split for d in documents_of([*reversed(texts), texts[0]])} == once
    lines = ["\n".join(text.split(". ")) for text in texts]
    assert len(documents_of([*lines, lines[3] + "\nand one more line of some length"])) == 30


def test_what_was_left_out_as_a_copy_of_a_seen_text_is_seen(gpt2, refuses):
    """A copy is often what a user has twice: a file before and after an edit, or with other line ends."""
    texts = api_world.prose(30)
    copies = [f"{text}\r\nAnd one more sentence." for text in texts[:12]]
    found = documents_of([*texts, *copies])
    assert len(found) == 30
    assert len(found.copies) == 12
    seen, splits = set(seen_of(found)), {key_of(d): d.split for d in found}
    assert {copy for copy, original in found.copies.items() if splits[original] != "test"} == seen & {*found.copies}
    assert {key for key, split in splits.items() if split != "test"} == seen & {*splits}
    module = abi.train(*gpt2, [*texts, *copies], steps=1, rates=[1e-2])
    left = [text for text in texts + copies if key_of(unsplit([text])[0]) in module.seen]
    assert any(text in copies for text in left)
    with refuses(f"the module has seen all {len(unsplit(left))} documents"):
        abi.evaluate(gpt2[0], module, left, gpt2[1])


def test_a_text_is_known_however_its_lines_end(gpt2, trained, world, refuses):
    [first, *_] = [d.text for d in documents_of(world / "queries") if d.split == "train"]
    with refuses("the module has seen all 1 documents"):
        abi.evaluate(gpt2[0], trained, [first.replace("\n", "\r\n")], gpt2[1])


def test_an_unseen_copy_of_a_seen_text_is_left_out_with_it(gpt2, trained, world, refuses):
    [first, *_] = [d.text for d in documents_of(world / "queries") if d.split == "train"]
    for again in (f"{first}\nSELECT a FROM b", f"SELECT c\n{first}"):
        with refuses("the module has seen all 1 documents"):
            abi.evaluate(gpt2[0], trained, [first, again], gpt2[1])


def test_two_documents_are_left_of_three_of_which_two_are_alike(refuses):
    first, other = api_world.prose(2)
    assert len(unsplit([first, f"{first} more words", other])) == 2
    with refuses("texts: 2 documents of different text cannot be split into train, calibration and test"):
        documents_of([first, f"{first} more words", other])


def test_three_documents_are_the_fewest_that_can_be_split():
    assert {d.split for d in documents_of(api_world.prose(3))} == {"train", "calibration", "test"}
    assert [d.split for d in unsplit(api_world.prose(1))] == ["test"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no/such/place", "'no/such/place' is neither a folder nor a file"),
        ("", "'' is neither a folder nor a file"),
        ("a text " * 2000, "is neither a folder nor a file; give one, or a list of strings"),
        (["a\0b"], "item 0 holds NUL or half a surrogate pair"),
        (["a\ud800b"], "item 0 holds NUL or half a surrogate pair"),
        (["one text", "another"], "2 documents of different text cannot be split"),
        ([1, 2, 3], "item 0 is of type int; give strings"),
        ([str(ROOT / "README.md")] * 3, "item 0 is a string and names .*README.md', which is there; give it as `Path`"),
        (None, "texts: is a NoneType; give a folder, a file, or a list of strings"),
        (ROOT / "pyproject.toml", "ends with none of .txt, .md, .py, .jsonl"),
        (ROOT / "LICENSE", "ends with none of"),
        (ROOT / "config" / "record", r"1 document of different text"),
    ],
)
def test_what_is_no_text_is_refused(given, words, refuses):
    with refuses(words):
        documents_of(given)


def test_a_line_without_text_is_named(tmp_path, refuses):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"words": "b"}\n')
    with refuses("rows.jsonl, line 2 is neither a JSON string nor an object whose `text` is one"):
        documents_of(tmp_path / "rows.jsonl")
    for wrong in ("\\ud83d", "a\\u0000b"):
        (tmp_path / "rows.jsonl").write_text(f'{{"text": "a"}}\n{{"text": "{wrong}"}}\n')
        with refuses("rows.jsonl, line 2 holds NUL or half a surrogate pair, which is no text"):
            documents_of(tmp_path / "rows.jsonl")


def test_a_character_that_ends_lines_elsewhere_is_part_of_a_line_of_json(tmp_path):
    texts = [text + " \u2028 \u0085 end" for text in api_world.prose(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in texts))
    assert len(documents_of(tmp_path / "rows.jsonl")) == 4


def test_files_of_one_name_in_two_folders_are_two_documents(tmp_path):
    texts = api_world.prose(8)
    for folder, some in (("a", texts[:4]), ("b", texts[4:])):
        (tmp_path / folder).mkdir()
        for i, text in enumerate(some):
            (tmp_path / folder / f"{i}.txt").write_text(text)
    found = documents_of([tmp_path / "a", tmp_path / "b"])
    assert len({document.document for document in found}) == 8


def test_what_is_passed_over_in_a_folder_is_not_looked_at(tmp_path):
    for i, text in enumerate(api_world.prose(4)):
        (tmp_path / f"{i}.txt").write_text(text)
    (tmp_path / "python").symlink_to("/usr/bin/env")  # as in .venv/bin
    (tmp_path / "part.jsonl").mkdir()
    (tmp_path / "broken.md").symlink_to(tmp_path / "nothing")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "linked.txt").symlink_to("/etc/hostname")
    assert len(documents_of(tmp_path)) == 4


def test_a_link_out_of_a_folder_of_text_is_refused_and_one_within_is_a_copy(tmp_path, refuses):
    folder = tmp_path / "texts"
    folder.mkdir()
    for i, text in enumerate(api_world.prose(4)):
        (folder / f"{i}.txt").write_text(text)
    (folder / "within.txt").symlink_to(folder / "0.txt")
    assert len(documents_of(folder)) == 4
    (tmp_path / "secret.txt").write_text("x")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    with refuses("out.txt is a link out of the folder; give what it leads to, or take it out"):
        documents_of(folder)


def test_a_file_that_is_too_large_or_has_no_name_in_utf8_is_refused(tmp_path, monkeypatch, refuses):
    (tmp_path / "large.txt").write_text("x" * 2000)
    monkeypatch.setattr("abi.api.texts.MOST_TEXT", 1000)
    with refuses("large.txt has more than 1000 bytes; split it, or take it out"):
        documents_of(tmp_path)
    (tmp_path / "large.txt").unlink()
    (tmp_path / os.fsdecode(b"a\xff.txt")).write_text("text")
    with refuses("the file name 'a.udcff.txt' is not UTF-8; rename the file"):
        documents_of(tmp_path)


# train, evaluate


def test_training_leaves_the_model_as_it_is_and_helps_held_out_text(world, gpt2, trained):
    model, tokenizer = gpt2
    fresh, _ = loaded(world / "small-gpt2")
    assert sha256_tensors(dict(model.state_dict())) == sha256_tensors(dict(fresh.state_dict()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    found = abi.evaluate(model, trained, world / "queries", tokenizer)
    assert found.gain.lower > 0.1
    held_out = {d.document for d in documents_of(world / "queries") if d.split == "test"}
    assert {one.document for one in found.documents} == held_out
    assert found.left_out == len(documents_of(world / "queries")) - len(held_out)
    assert "with the module" in str(found)
    assert found.gain.mean == pytest.approx(sum(d.without - d.with_module for d in found.documents) / len(held_out))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_training_does_not_need_that_gradients_are_on(world, gpt2, off):
    one = abi.train(*gpt2, world / "queries", steps=2, rates=[1e-2])
    with off():
        assert abi.train(*gpt2, world / "queries", steps=2, rates=[1e-2]).sha256 == one.sha256
        assert torch.is_grad_enabled() is False


def test_parts_that_another_number_of_threads_made_are_not_used(gpt2, tmp_path):
    keep, threads = Keep(tmp_path / "parts", "train", [], {}), torch.get_num_threads()

    def begin():
        with sides(32, keep, model=gpt2) as [side]:
            there = (side.folder / "text.states.json").exists()
            (side.folder / "text.states.json").write_text("{}")
            raise KeyboardInterrupt(there)

    found = []
    try:
        for n in (threads, threads, threads + 1):
            torch.set_num_threads(n)
            with pytest.raises(KeyboardInterrupt) as stopped:
                begin()
            found.append(stopped.value.args[0])
    finally:
        torch.set_num_threads(threads)
    assert found == [False, True, False]


def test_bits_per_byte_are_those_of_the_models_own_loss(world, gpt2, trained):
    model, tokenizer = gpt2
    [document] = unsplit(api_world.queries(1, seed=5))
    with sides(64, one=gpt2) as [side]:
        window = side.window
        states = side.states([document], "test", "texts")
        tokens, n_bytes = states.tokens(slice(None)), states.target_bytes[:, window.skip :].sum()
    model.eval()
    for attached, key in ((None, "without"), (trained, "with_module")):
        handle = abi.attach(model, attached, tokenizer=tokenizer) if attached else None
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(
                model(input_ids=tokens.long()).logits[:, :-1].transpose(1, 2), tokens[:, 1:].long(), reduction="none"
            )
        if handle:
            handle.detach()
        expected = float(losses[:, window.skip :].sum() / math.log(2) / n_bytes)
        found = abi.evaluate(model, trained, [document.text], tokenizer)
        assert getattr(found.documents[0], key) == pytest.approx(expected, rel=1e-5)


def test_text_that_the_module_has_seen_is_not_evaluated(gpt2, trained, world, refuses):
    seen = [d.text for d in documents_of(world / "queries") if d.split == "train"]
    with refuses("the module has seen all"):
        abi.evaluate(gpt2[0], trained, seen, gpt2[1])
    with refuses("evaluate: max_windows is 0; give 1 or more"):
        abi.evaluate(gpt2[0], trained, seen, gpt2[1], max_windows=0)


def test_a_models_own_mode_and_dropout_change_no_figure(world, trained):
    model, tokenizer = loaded(world / "small-gpt2")
    first = abi.evaluate(model, trained, world / "queries", tokenizer)
    model.train()
    second = abi.evaluate(model, trained, world / "queries", tokenizer)
    assert first == second
    assert model.training


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "adapter"}, "there is no kind 'adapter'; give 'module', 'portable', 'ngram'"),
        ({"kind": "portable"}, "also learns where not to act; give `general_texts`"),
        ({"rates": []}, "rates are ..; give a list of numbers above 0"),
        ({"rates": [-1e-2]}, "rates are .-0.01.; give a list of numbers above 0"),
        ({"rates": 1e-2}, "rates are 0.01; give a list of numbers above 0"),
        ({"taps": 1}, "taps are 1; give a list"),
        ({"seed": None}, "seed is None; give a whole number"),
        ({"steps": 2.5}, "steps is 2.5; give a whole number"),
        ({"d_abi": 8.0}, "d_abi is 8.0; give a whole number"),
        ({"window": 64.0}, "window is 64.0; give a whole number"),
        ({"general_texts": "no/such/folder"}, "a module of kind 'module' takes no `general_texts`"),
        ({"texts": None}, "texts: is a NoneType; give a folder, a file, or a list of strings"),
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"seed": 0}, "seed: 0 cannot be that of a module"),
        ({"seed": 2**70}, "cannot be that of a module"),
        ({"d_abi": 1000}, "train: d_abi is 1000; the states that the module reads give at most 32"),
        ({"window": 4}, "window is 4; give 16 or more"),
        ({"d_abi": 0}, "d_abi is 0; give 1 or more"),
        ({"taps": [7]}, "tap 7 does not exist"),
        ({"taps": [-1]}, "taps are .-1.; give a list of numbers of hidden states"),
        ({"taps": "final"}, "taps are 'final'; give a list"),
        ({"taps": []}, "taps are ..; give a list"),
        ({"texts": ["a b c", "d e f", "g h i"]}, "no document fills 1 scored positions of windows of 64 tokens"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(world, gpt2, change, words, refuses):
    with refuses(words):
        abi.train(*gpt2, **{"texts": world / "queries", **FEW, **change})


def test_other_things_than_models_are_refused(gpt2, qwen, trained, refuses):
    with refuses("a Linear is no language model of transformers"):
        abi.train(torch.nn.Linear(2, 2), gpt2[1], api_world.prose(3))
    with refuses("has 420 tokens, the model 380; they do not belong together"):
        abi.train(qwen[0], gpt2[1], api_world.prose(3))
    with refuses("source: give it as .model, tokenizer."), sides(64, source="gpt2"):
        pass
    for call in (abi.attach, abi.evaluate):
        with refuses("module is a str; give a `Module`"):
            call(gpt2[0], "folder", *([api_world.prose(3)] if call is abi.evaluate else []), tokenizer=gpt2[1])
    with refuses("a `Module` knows what it belongs to; leave out `about`"):
        abi.attach(gpt2[0], trained, tokenizer=gpt2[1], about=trained.about)
    with pytest.raises(TypeError):  # by place it would be taken for the manifest
        abi.attach(gpt2[0], trained, gpt2[1])
    wrapped = api_world.adapting(copy.deepcopy(gpt2[0]))
    with refuses("it is wrapped by PEFT, whose `generate` passes by what is attached; give `model.get_base_model"):
        abi.train(wrapped, gpt2[1], api_world.prose(3))
    assert backbone_of(wrapped.get_base_model(), gpt2[1]).model is wrapped.get_base_model()


def test_every_part_of_a_model_keeps_its_mode(gpt2):
    model = copy.deepcopy(gpt2[0]).train()
    first, *_, last = model.modules()
    last.eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert (first.training, last.training) == (True, False)
    assert backbone_of(model, gpt2[1]).facts.causal < 1e-4  # measured anew
    assert (first.training, last.training) == (True, False)


def test_a_model_stays_in_eval_mode_until_the_last_block_ends(gpt2):
    model = copy.deepcopy(gpt2[0]).train()
    first, second = evaluating(model), evaluating(model)  # as two threads that overlap
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not model.training
    second.__exit__(None, None, None)
    assert model.training


def test_a_tokenizer_that_was_changed_is_read_anew(world):
    model, tokenizer = loaded(world / "small-gpt2")
    before = backbone_of(model, tokenizer)
    assert backbone_of(model).tokenizer is backbone_of(model, tokenizer).tokenizer is before.tokenizer
    tokenizer.add_special_tokens({"pad_token": tokenizer.convert_ids_to_tokens(5)})
    after = backbone_of(model, tokenizer)
    assert after.tokenizer is not before.tokenizer
    assert after.tokenizer.pad_token_id == 5
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()  # of which its own `repr` says nothing
    assert backbone_of(model, tokenizer).tokenizer("STATE") == tokenizer("state") != after.tokenizer("STATE")


def test_an_attached_model_is_not_measured_again_for_another_copy_of_its_tokenizer(world, trained, refuses):
    model, tokenizer = loaded(world / "small-gpt2")
    ids = tokenizer("the state", return_tensors="pt")["input_ids"]
    with abi.attach(model, trained, tokenizer=tokenizer):
        told = abi.generate(model, ids, 4)
        tokenizer.padding_side = "left"
        assert torch.equal(abi.generate(model, ids, 4, tokenizer=tokenizer), told)
        with refuses("a module is attached to this backbone already; detach it first"):
            abi.attach(model, trained, tokenizer=loaded(world / "small-gpt2")[1])
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
        with refuses("a module is attached to GPT2LMHeadModel, and it was not measured with this tokenizer; detach it"):
            abi.generate(model, ids, 4, tokenizer=tokenizer)
    assert abi.generate(model, ids, 4, tokenizer=tokenizer).shape == (1, 4)


def test_a_module_that_tells_nothing_of_its_text_is_evaluated_with_a_warning(gpt2, trained, world, caplog):
    found = abi.evaluate(gpt2[0], replace(trained, record=None), world / "queries", gpt2[1])
    assert found.left_out == 0
    assert "the module has no record of the text it was trained on; give text that it has not seen" in caplog.text


def test_a_saved_module_leaves_no_record_of_another(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    replace(trained, record=None).save_pretrained(tmp_path)
    assert abi.Module.from_pretrained(tmp_path).record is None


# attach


def test_transformers_own_generate_uses_the_module_and_detaching_leaves_the_same_bits(gpt2, trained):
    model, tokenizer = gpt2
    model.eval()
    batch = tokenizer(["the state", "it is asked what"], padding=True, padding_side="left", return_tensors="pt")
    plain = model(**batch).logits
    greedy = {"max_new_tokens": 12, "do_sample": False}
    before = model.generate(**batch, **greedy)
    with abi.attach(model, trained, tokenizer=tokenizer):
        moved = model(**batch).logits
        cached, slow = (model.generate(**batch, **greedy, use_cache=cache) for cache in (True, False))
        beams = model.generate(**batch, **greedy, num_beams=3)
        alone = model.generate(**tokenizer(["the state"], return_tensors="pt"), **greedy)
    assert (moved - plain).abs().max() > 1e-2
    assert torch.equal(cached, slow)
    assert torch.equal(cached[0, -12:], alone[0, -12:])
    assert beams.shape[0] == 2
    assert not torch.equal(cached, before)
    assert torch.equal(model(**batch).logits, plain)
    assert torch.equal(model.generate(**batch, **greedy), before)


def test_a_pipeline_uses_the_module(gpt2, trained):
    model, tokenizer = gpt2
    writer = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    given = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    [before] = writer("the state", **given)
    handle = abi.attach(model, trained, tokenizer=tokenizer)
    [during] = writer("the state", **given)
    handle.detach()
    assert during != before
    assert writer("the state", **given) == [before]


def test_the_tokenizer_beside_the_model_is_found(world, gpt2, trained, refuses):
    model, _ = loaded(world / "small-gpt2")
    with abi.attach(model, trained):
        pass
    nowhere = copy.deepcopy(model)
    nowhere.name_or_path = ""
    with refuses("none is found beside GPT2LMHeadModel; give it as `tokenizer`"):
        abi.attach(nowhere, trained)


def test_a_wrong_pair_is_refused_by_identity(world, gpt2, qwen, trained):
    with pytest.raises(DataError, match="32 wide, and this one is 40 wide"):
        abi.attach(qwen[0], trained, tokenizer=qwen[1])
    other = copy.deepcopy(gpt2[0])
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    with pytest.raises(DataError, match=r"belongs to other weights \(of small-gpt2\) than"):
        abi.attach(other, trained, tokenizer=gpt2[1])
    other = copy.deepcopy(gpt2[0])
    other.config.layer_norm_epsilon = 0.1
    with pytest.raises(DataError, match="another config, tokenizer or buffer"):
        abi.attach(other, trained, tokenizer=gpt2[1])
    with pytest.raises(DataError, match="belongs to other weights"):
        abi.evaluate(qwen[0], edited_width(trained), world / "queries", qwen[1])


def test_settings_that_change_no_logit_make_no_other_model(gpt2, trained):
    other = copy.deepcopy(gpt2[0])
    for key, value in {
        "pad_token_id": 1,
        "eos_token_id": [1],
        "output_hidden_states": True,
        "resid_pdrop": 0.3,
    }.items():
        setattr(other.config, key, value)
    with abi.attach(other, trained, tokenizer=gpt2[1]):
        pass


def test_a_precision_that_is_none_is_one_sentence(world, refuses):
    for wrong in ("int8", torch.int8):
        with refuses("give float32, bfloat16, float16"):
            load_backbone(world / "small-gpt2", dtype=wrong)


@pytest.mark.parametrize("name", [3, "", "  ", "a\nb"])
def test_a_name_that_heads_no_card_is_refused_before_anything_is_read(name, gpt2, refuses):
    with refuses("train: name is .*; give the domain a name of one line"):
        abi.train(*gpt2, "nowhere", name=name)


def test_a_readme_of_ones_own_is_not_replaced_by_a_card(trained, tmp_path, refuses):
    (tmp_path / "README.md").write_text("my notes")
    with refuses("README.md: is no card of a module and would be replaced; save into another folder"):
        trained.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    for _ in range(2):  # a card of abi is
        trained.save_pretrained(tmp_path / "mine")


def test_a_tokenizer_of_another_model_is_asked_about(gpt2, caplog):
    model = copy.deepcopy(gpt2[0])
    model.resize_token_embeddings(2 * len(gpt2[1]))
    backbone_of(model, gpt2[1])
    assert re.search("it has .* tokens and the model .* rows; is it the model's own", caplog.text)


def test_general_text_that_holds_the_domain_is_told(gpt2, caplog):
    queries = api_world.queries(24)
    abi.train(*gpt2, queries, "portable", [*api_world.prose(24), *queries[:5]], steps=2, window=32)
    assert "train: 5 of 29 documents of general_texts are text of the domain; better give other text" in caplog.text
    with pytest.raises(abi.AbiError, match="train: 24 of 24 documents of general_texts are text of the domain"):
        abi.train(*gpt2, queries, "portable", queries, steps=2, window=32)


def test_beside_a_large_model_a_portable_module_writes_on_the_strings_that_its_texts_use_most(gpt2, monkeypatch):
    few = replace(defaults.SMALL, portable=defaults.SMALL.portable.model_copy(update={"max_anchors": 260}))
    monkeypatch.setattr("abi.api.training.budgets_of", lambda *heads: few)
    made = abi.train(*gpt2, api_world.queries(24), "portable", api_world.prose(24), steps=2, window=32)
    assert len(made.net.config.anchors) == 260


def test_files_that_are_not_read_are_counted(tmp_path, caplog):
    for i, suffix in enumerate([".txt", ".txt", ".txt", ".rst", ".h"]):
        (tmp_path / f"{i}{suffix}").write_text(api_world.prose(1, seed=i)[0])
    (tmp_path / ".hidden").write_text("x")
    assert len(documents_of(tmp_path)) == 3
    assert f"texts: 2 files of {tmp_path} not read, such as 3.rst; copy other files to .txt, or give" in caplog.text


def test_whatever_is_attached_can_be_taken_off_without_its_handle(gpt2, trained):
    model = copy.deepcopy(gpt2[0])
    ids = torch.arange(8)[None] + 3
    plain = model(ids).logits
    abi.detach(model)  # nothing is attached
    abi.attach(model, trained, tokenizer=gpt2[1])
    with pytest.raises(abi.AbiError, match=r"detach it first \(`abi.detach\(model\)`\), or attach several by name"):
        abi.attach(model, trained, tokenizer=gpt2[1])
    assert not torch.equal(model(ids).logits, plain)
    abi.detach(model)
    assert torch.equal(model(ids).logits, plain)


def test_what_is_attached_can_be_taken_off_a_model_whose_head_was_replaced_and_whose_tokenizer_is_unknown(
    world, trained
):
    model, tokenizer = loaded(world / "small-gpt2")
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    ids = torch.arange(8)[None] + 3
    plain = model(ids).logits
    abi.attach(Backbone(model, tokenizer), trained.net)
    model.resize_token_embeddings(model.config.vocab_size + 8)
    abi.detach(model)  # which no tokenizer was given for, and which lies where none is found
    assert torch.equal(model(ids).logits[..., : plain.shape[-1]], plain)


def test_a_compiled_model_is_the_model_in_it(gpt2, trained):
    ids = torch.arange(8)[None] + 3
    with abi.attach(gpt2[0], trained, tokenizer=gpt2[1]):
        expected = gpt2[0](input_ids=ids).logits
    with abi.attach(torch.compile(gpt2[0], backend="eager"), trained, tokenizer=gpt2[1]):
        assert torch.equal(gpt2[0](input_ids=ids).logits, expected)


def edited_width(trained):
    """A module of the right sizes for the other model, with the hashes of the first."""
    net = abi.AbiModule(abi.ModuleConfig(width=40, taps=(2,), d_abi=8))
    return abi.Module(net, trained.about)


# defaults


def test_the_defaults_are_those_of_scale_tiny_and_the_protocol():
    config = load("tiny")
    assert config.protocol.criteria == defaults.CRITERIA
    assert (config.scale.split, config.scale.salt) == (defaults.SHARES, defaults.SALT)


@pytest.mark.parametrize(("name", "budgets"), [("tiny", defaults.SMALL), ("real", defaults.LARGE)])
def test_budgets_are_those_of_a_scale_with_such_models(name, budgets):
    scale, portable = load(name).scale, budgets.portable
    assert scale.modules["standard"].training == budgets.module
    assert scale.alignment.max_rows == budgets.max_rows
    assert {field: getattr(scale.portable, field) for field in type(portable).model_fields} == dict(portable)
    for fit, section in budgets.fits.items():
        kept = scale.calibration[fit].given(*section.model_fields_set)
        assert kept == section.given(*section.model_fields_set)


def test_a_large_head_on_either_side_has_the_budgets_of_pretrained_models():
    small, smollm2 = (1536, 128), (49152, 576)
    assert defaults.budgets_of(small, small) is defaults.SMALL
    assert defaults.budgets_of(small, smollm2) is defaults.LARGE
    assert defaults.budgets_of(smollm2) is defaults.LARGE


@pytest.fixture
def on_card(world, monkeypatch):
    """Two models on a card and their tokenizers, while everything else is on the CPU."""
    with fake_card(monkeypatch), compute.using(compute.CPU):
        pairs = (loaded(world / name) for name in ("small-gpt2", "small-qwen"))
        yield [(model.to(CARD), tokenizer) for model, tokenizer in pairs]


def test_a_model_on_a_card_is_read_there_and_everything_else_stays_on_the_cpu(on_card, trained, portable):
    pair, texts = on_card[0], api_world.queries(3, 7)
    for module in (trained, portable):
        before = abi.evaluate(pair[0], module, texts, pair[1])
        abi.attach(pair[0], module, tokenizer=pair[1]).detach()
        assert abi.evaluate(pair[0], module, texts, pair[1]) == before


@pytest.mark.long
def test_models_on_a_card_are_compared(on_card):
    texts, general, few = api_world.queries(12), api_world.prose(12), {"steps": 1, "window": 32}
    made = abi.train(*on_card[0], texts, d_abi=8, rates=[1e-2], **few)
    assert abi.compare(made, *on_card, texts, general, seeds=1, train_steps=1, **few).verdict == "INCONCLUSIVE"


# text


def test_a_plain_model_writes_with_nothing_attached(gpt2, refuses):
    model, tokenizer = gpt2
    ids = tokenizer("SELECT the", return_tensors="pt")["input_ids"]
    told = abi.generate(model, ids, 6, tokenizer=tokenizer)
    assert torch.equal(told, model.generate(ids, max_new_tokens=6, do_sample=False)[:, ids.shape[1] :])
    assert torch.equal(told, abi.generate(backbone_of(model, tokenizer), ids, 6))
    draws = [abi.generate(model, ids, 6, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    model.train()  # dropout would draw from torch's own state
    assert torch.equal(told, abi.generate(model, ids, 6, tokenizer=tokenizer))
    assert model.training
    model.eval()
    with refuses("model: a str is no language model of transformers"):
        abi.generate("small-gpt2", ids, 6)
    for given in (tokenizer(["a b c", "d"]), {"attention_mask": torch.ones(1, 3)}):
        with refuses("generate: ids hold no `input_ids` of one length; give `tokenizer.text, padding=True"):
            abi.generate(model, given, 3)
    with refuses("generate: ids are a str; give what `tokenizer"):
        abi.generate(model, "SELECT the", 6, tokenizer=tokenizer)
    for wrong in ({"top_k": -1}, {"top_p": 1.5}, {"top_p": 0.0}, {"seed": 2**70}):
        with refuses("give 0 or more, a part of 1, 0 or more"):
            abi.generate(model, ids, 6, temperature=1.0, tokenizer=tokenizer, **wrong)
