"""The public API as a user meets it: two plain models of transformers that share nothing, and two folders of text."""

import base64
import copy
import doctest
import http.server
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import api_world
import pytest
import torch
import transformers

import abi
from abi.api import defaults
from abi.api.comparison import answered, chosen
from abi.api.modules import RECORD, card
from abi.api.sides import sides
from abi.api.texts import documents_of, unsplit
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_tensors
from abi.judge.protocol import transfer_plan
from abi.judge.verdict import judged_again
from abi.models.module import CONFIG, WEIGHTS
from abi.plan.config import load

ROOT = Path(__file__).parents[2]
FEW = {"steps": 20}


def loaded(folder):
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    api_world.build(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(world):
    return loaded(world / "small-gpt2")


@pytest.fixture(scope="module")
def qwen(world):
    return loaded(world / "small-qwen")


@pytest.fixture(scope="module")
def module(world, gpt2):
    return abi.train(*gpt2, world / "queries", name="sql", steps=60, rates=[1e-2])


@pytest.fixture(scope="module")
def portable(world, gpt2):
    return abi.train(*gpt2, world / "queries", "portable", world / "prose", name="sql", steps=60)


@pytest.fixture(scope="module")
def oracle(world, qwen):
    return abi.train(*qwen, world / "queries", d_abi=32, steps=60, rates=[1e-2])


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
    assert {d.document for d in lines} < {f"rows.jsonl:{i + 1}" for i in range(48)}  # one grammar: a few are copies
    assert len({d.split for d in folder}) == 3


def test_order_and_copies_change_no_split():
    texts = api_world.prose(30)
    once = {d.sha256: d.split for d in documents_of(texts)}
    assert {d.sha256: d.split for d in documents_of([*reversed(texts), texts[0]])} == once
    lines = ["\n".join(text.split(". ")) for text in texts]
    assert len(documents_of([*lines, lines[3] + "\nand one more line of some length"])) == 30


def test_three_documents_are_the_fewest_that_can_be_split():
    assert {d.split for d in documents_of(api_world.prose(3))} == {"train", "calibration", "test"}
    assert [d.split for d in unsplit(api_world.prose(1))] == ["test"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no/such/place", "'no/such/place' is no folder and no file"),
        (["one text", "another"], "2 different documents cannot be split"),
        ([1, 2, 3], "item 0 is of type int; give strings"),
        (ROOT / "pyproject.toml", "ends with none of .txt, .md, .py, .jsonl"),
        (ROOT / "LICENSE", "ends with none of"),
        (ROOT / "config" / "record", r"1 different documents"),
    ],
)
def test_what_is_no_text_is_refused(given, words, refuses):
    with refuses(words):
        documents_of(given)


def test_a_line_without_text_is_named(tmp_path, refuses):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"words": "b"}\n')
    with refuses("rows.jsonl, line 2 is no JSON text and has no key `text`"):
        documents_of(tmp_path / "rows.jsonl")


# train, evaluate


def test_training_leaves_the_model_as_it_is_and_helps_held_out_text(world, gpt2, module):
    model, tokenizer = gpt2
    fresh, _ = loaded(world / "small-gpt2")
    assert sha256_tensors(dict(model.state_dict())) == sha256_tensors(dict(fresh.state_dict()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    found = abi.evaluate(model, module, world / "queries", tokenizer)
    assert found.gain.lower > 0.1
    held_out = {d.document for d in documents_of(world / "queries") if d.split == "test"}
    assert {one.document for one in found.documents} == held_out
    assert found.left_out == len(documents_of(world / "queries")) - len(held_out)
    assert "with the module" in str(found)
    assert found.gain.mean == pytest.approx(sum(d.without - d.with_module for d in found.documents) / len(held_out))


def test_bits_per_byte_are_those_of_the_models_own_loss(world, gpt2, module):
    model, tokenizer = gpt2
    [document] = unsplit(api_world.queries(1, seed=5))
    with sides(64, one=gpt2) as [side]:
        window = side.window
        states = side.states([document], "test", "texts")
        tokens, n_bytes = states.tokens(slice(None)), states.target_bytes[:, window.skip :].sum()
    model.eval()
    for attached, key in ((None, "without"), (module, "with_module")):
        handle = abi.attach(model, attached, tokenizer=tokenizer) if attached else None
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(
                model(input_ids=tokens.long()).logits[:, :-1].transpose(1, 2), tokens[:, 1:].long(), reduction="none"
            )
        if handle:
            handle.detach()
        expected = float(losses[:, window.skip :].sum() / math.log(2) / n_bytes)
        found = abi.evaluate(model, module, [document.text], tokenizer)
        assert getattr(found.documents[0], key) == pytest.approx(expected, rel=1e-5)


def test_text_that_the_module_has_seen_is_not_evaluated(gpt2, module, world, refuses):
    seen = [d.text for d in documents_of(world / "queries") if d.split == "train"]
    with refuses("the module has seen all"):
        abi.evaluate(gpt2[0], module, seen, gpt2[1])


def test_a_models_own_mode_and_dropout_change_no_figure(world, module):
    model, tokenizer = loaded(world / "small-gpt2")
    first = abi.evaluate(model, module, world / "queries", tokenizer)
    model.train()
    second = abi.evaluate(model, module, world / "queries", tokenizer)
    assert first == second
    assert model.training


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "adapter"}, "kind 'adapter' is none; give 'module' or 'portable'"),
        ({"kind": "portable"}, "also learns where not to act; give `general_texts`"),
        ({"rates": []}, "no learning rate is given"),
        ({"steps": 0}, "steps: 0 are none"),
        ({"d_abi": 1000}, "d_abi 1000 must be 1 to 32"),
        ({"window": 4}, "window: 4 tokens are too few; give 16 or more"),
        ({"taps": [7]}, "tap 7 does not exist"),
        ({"texts": ["a b c", "d e f", "g h i"]}, "no document fills 1 scored positions of windows of 64 tokens"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(world, gpt2, change, words, refuses):
    with refuses(words):
        abi.train(*gpt2, **{"texts": world / "queries", **FEW, **change})


def test_other_things_than_models_are_refused(gpt2, qwen, refuses):
    with refuses("a Linear is no language model of transformers"):
        abi.train(torch.nn.Linear(2, 2), gpt2[1], api_world.prose(3))
    with refuses("has 420 tokens, the model 380; they do not belong together"):
        abi.train(qwen[0], gpt2[1], api_world.prose(3))
    with refuses("source: give it as .model, tokenizer."), sides(64, source="gpt2"):
        pass


# attach


def test_transformers_own_generate_uses_the_module_and_detaching_leaves_the_same_bits(gpt2, module):
    model, tokenizer = gpt2
    model.eval()
    batch = tokenizer(["the state", "it is asked what"], padding=True, padding_side="left", return_tensors="pt")
    plain = model(**batch).logits
    greedy = {"max_new_tokens": 12, "do_sample": False}
    before = model.generate(**batch, **greedy)
    with abi.attach(model, module, tokenizer=tokenizer):
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


def test_a_pipeline_uses_the_module(gpt2, module):
    model, tokenizer = gpt2
    writer = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    given = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    [before] = writer("the state", **given)
    handle = abi.attach(model, module, tokenizer=tokenizer)
    [during] = writer("the state", **given)
    handle.detach()
    assert during != before
    assert writer("the state", **given) == [before]


def test_the_tokenizer_beside_the_model_is_found(world, gpt2, module, refuses):
    model, _ = loaded(world / "small-gpt2")
    with abi.attach(model, module):
        pass
    nowhere = copy.deepcopy(model)
    nowhere.name_or_path = ""
    with refuses("none is found beside GPT2LMHeadModel; give it as `tokenizer`"):
        abi.attach(nowhere, module)


def test_a_wrong_pair_is_refused_by_identity(world, gpt2, qwen, module):
    with pytest.raises(DataError, match="width 32, this one has 40"):
        abi.attach(qwen[0], module, tokenizer=qwen[1])
    other = copy.deepcopy(gpt2[0])
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    with pytest.raises(DataError, match=r"belongs to other weights \(of small-gpt2\) than"):
        abi.attach(other, module, tokenizer=gpt2[1])
    other = copy.deepcopy(gpt2[0])
    other.config.layer_norm_epsilon = 0.1
    with pytest.raises(DataError, match="another config, tokenizer or buffer"):
        abi.attach(other, module, tokenizer=gpt2[1])
    with pytest.raises(DataError, match="belongs to other weights"):
        abi.evaluate(qwen[0], edited_width(module), world / "queries", qwen[1])


def edited_width(module):
    """A module of the right sizes for the other model, with the hashes of the first."""
    net = abi.AbiModule(abi.ModuleConfig(width=40, taps=(2,), d_abi=8))
    return abi.Module(net, module.about)


# transfer


@pytest.mark.parametrize("regime", ["general-only", "few-shot", "oracle-kd"])
def test_what_is_given_decides_the_regime(world, gpt2, qwen, module, oracle, regime):
    given = {"domain_texts": world / "queries"} if regime != "general-only" else {}
    given |= {"teacher": oracle} if regime == "oracle-kd" else {}
    moved = abi.transfer(module, gpt2, qwen, world / "prose", **given, **FEW)
    assert (moved.record.regime, moved.record.made_by) == (regime, "transfer")
    assert moved.record.trained_beside.model == "small-gpt2"
    assert moved.record.moved_to.model == "small-qwen"
    assert [t.what for t in moved.record.texts] == ["general_texts", *given][: 1 + bool(given)]
    assert (moved.record.cosine is None) == (regime == "general-only")
    for name, parameter in module.net.domain_parameters().items():  # the net that moves stays as it is
        assert torch.equal(moved.net.domain_parameters()[name], parameter)
    assert {*module.record.seen} <= {*moved.record.seen}
    found = abi.evaluate(qwen[0], moved, world / "queries", qwen[1])
    assert found.gain.lower > 0
    with pytest.raises(DataError, match="width 40, this one has 32"):
        abi.attach(gpt2[0], moved, tokenizer=gpt2[1])


def test_a_portable_module_moves_as_it_is(world, gpt2, qwen, portable):
    moved = abi.transfer(portable, gpt2, qwen)
    assert moved.record.regime == "zero-text"
    assert moved.sha256 == portable.sha256
    assert abi.evaluate(qwen[0], moved, world / "queries", qwen[1]).gain.lower > 0
    ids = qwen[1](["SELECT a", "CREATE"], padding=True, padding_side="left", return_tensors="pt")
    with abi.attach(qwen[0], moved, tokenizer=qwen[1]):
        cached, slow = (qwen[0].generate(**ids, max_new_tokens=8, do_sample=False, use_cache=c) for c in (True, False))
    assert torch.equal(cached, slow)


def test_a_regime_without_its_texts_is_refused(world, gpt2, qwen, module, oracle, refuses):
    with refuses("needs `general_texts` that both models read"):
        abi.transfer(module, gpt2, qwen)
    with refuses("a teacher teaches on domain text"):
        abi.transfer(module, gpt2, qwen, world / "prose", teacher=oracle)
    with refuses("width 32, this one has 40"):
        abi.transfer(module, qwen, gpt2, world / "prose")
    with refuses("target: give it as .model, tokenizer."):
        abi.transfer(module, gpt2, "small-qwen", world / "prose")


@pytest.mark.parametrize("family", ["t5", "opt"])
def test_an_encoder_decoder_and_another_family_are_models_like_any_other(make_backbone, qwen, family, tmp_path):
    backbone, texts = make_backbone(family), api_world.prose(24)
    source = backbone.model, backbone.tokenizer
    module = abi.train(*source, texts, steps=10, rates=[1e-2])
    assert abi.evaluate(source[0], module, texts, source[1]).documents
    moved = abi.transfer(module, source, qwen, api_world.prose(24, seed=3), steps=5)
    back = abi.train(*qwen, texts, d_abi=16, steps=10, rates=[1e-2])
    assert abi.transfer(back, qwen, source, api_world.prose(24, seed=3), texts, steps=5).about.base_model
    batch = source[1](["the state", "a"], padding=True, return_tensors="pt")
    plain = source[0].generate(**batch, max_new_tokens=4, do_sample=False)
    with abi.attach(source[0], module, tokenizer=source[1]):
        source[0].generate(**batch, max_new_tokens=4, num_beams=2)
    assert torch.equal(source[0].generate(**batch, max_new_tokens=4, do_sample=False), plain)
    with pytest.raises(DataError, match="width 40, this one has 16"):
        abi.attach(source[0], moved, tokenizer=source[1])


def test_half_precision_is_a_model_of_its_own(world, module):
    model = transformers.AutoModelForCausalLM.from_pretrained(world / "small-gpt2", dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(world / "small-gpt2")
    with pytest.raises(DataError, match="the backbone is in bfloat16, so its weights cannot be compared"):
        abi.attach(model, module, tokenizer=tokenizer)
    own = abi.train(model, tokenizer, world / "queries", **FEW)
    found = abi.evaluate(model, own, world / "queries", tokenizer)
    assert found.gain.mean > 0


def test_a_model_with_a_module_on_it_is_not_trained_beside(world, gpt2, module, refuses):
    with abi.attach(gpt2[0], module, tokenizer=gpt2[1]), refuses("a module is attached to it; detach that first"):
        abi.train(*gpt2, world / "queries", **FEW)


# save, load, share


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine that takes commits; what was committed, by path, and the requests."""
    taken, asked = {}, []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            asked.append((self.path, self.headers["Authorization"]))
            answer = {"url": f"{address}/me/sql", "name": "me/sql", "id": "me/sql"}
            if "/preupload/" in self.path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                answer = {"files": files}
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        taken[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                answer |= {"commitUrl": f"{address}/me/sql/commit/1", "commitOid": "1" * 40, "success": True}
            told = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield taken, asked
        server.shutdown()


def test_a_module_is_pushed_to_the_hub_as_its_folder(hub, module, tmp_path):
    taken, asked = hub
    assert module.push_to_hub("me/sql").endswith("/me/sql")
    assert {path for path, _ in asked} >= {"/api/repos/create", "/api/models/me/sql/commit/main"}
    assert {token for _, token in asked} == {"Bearer secret"}
    for path, content in taken.items():
        (tmp_path / path).write_bytes(content)
    assert sorted(taken) == ["README.md", CONFIG, WEIGHTS, RECORD]
    assert abi.Module.from_pretrained(tmp_path).sha256 == module.sha256


def test_a_hub_that_does_not_answer_is_one_sentence(module, monkeypatch, refuses):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with refuses("me/sql: cannot be uploaded"):
        module.push_to_hub("me/sql")
    with refuses("nobody/here: is no folder here, and the hub gives no module of that name"):
        abi.Module.from_pretrained("nobody/here")


@pytest.mark.parametrize("kind", ["module", "portable"])
def test_a_saved_module_is_the_same_and_the_command_line_loads_it(kind, request, tmp_path):
    module = request.getfixturevalue(kind)
    module.save_pretrained(tmp_path / "saved")
    back = abi.Module.from_pretrained(tmp_path / "saved")
    assert (back.sha256, back.kind, back.record.seen) == (module.sha256, kind, module.record.seen)
    assert sha256_tensors(dict(back.net.state_dict())) == module.sha256
    _, facts = abi.load_module(tmp_path / "saved")
    assert facts.base_sha256 == module.about.base_sha256
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["README.md", CONFIG, WEIGHTS, RECORD]
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "small-gpt2" in card
    assert f"`texts`: {module.record.texts[0].documents} documents" in card
    assert "base_model" not in card  # a folder is no model of the hub


def test_a_damaged_or_edited_module_is_refused(module, tmp_path):
    module.save_pretrained(tmp_path)
    (tmp_path / RECORD).write_text((tmp_path / RECORD).read_text().replace('"steps": 60', '"steps": 61'))
    with pytest.raises(TamperError, match="was changed after it was written"):
        abi.Module.from_pretrained(tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(DataError, match=f"holds no {CONFIG}, so it is no module"):
        abi.Module.from_pretrained(tmp_path)


def test_the_defaults_are_those_of_scale_tiny_and_the_protocol():
    config = load("tiny")
    scale = config.scale
    assert config.protocol.criteria == defaults.CRITERIA
    assert (scale.split, scale.salt) == (defaults.SHARES, defaults.SALT)
    assert scale.modules["standard"].training == defaults.MODULE
    assert scale.alignment.max_rows == defaults.MAX_ROWS
    assert {name: getattr(scale.portable, name) for name in type(defaults.PORTABLE).model_fields} == dict(
        defaults.PORTABLE
    )
    for name, section in defaults.FITS.items():
        kept = scale.calibration[name].given(*section.model_fields_set)
        assert kept == section.given(*section.model_fields_set)


# compare


def many(n, words):
    """Texts of another domain than `prose`: none is the copy of another."""
    return api_world.prose(n, seed=7, words=words, sentences=12)


@pytest.fixture(scope="module")
def told(gpt2, qwen, portable):
    words = "whisk the butter with flour and fold it into warm milk until a smooth dough rises under the cloth".split()
    texts, general = many(130, words), api_world.prose(130, sentences=12)
    module = abi.train(*gpt2, texts, "portable", general, steps=30)
    return abi.compare(module, gpt2, qwen, texts, general, seeds=3, steps=5, train_steps=30)


@pytest.mark.slow
def test_a_comparison_says_the_word_of_the_protocol_with_everything_it_rests_on(told):
    assert (told.regime, told.source, told.target) == ("zero-text", "small-gpt2", "small-qwen")
    assert told.fit.counts.seeds == [1, 2, 3]
    assert min(told.fit.counts.groups.values()) >= 30
    again = judged_again(told.fit, transfer_plan("zero-text", defaults.CRITERIA, told.fit.arms), defaults.CRITERIA)
    assert (again.verdict, again.reason) == (told.verdict, told.reason)
    options = {option.arm: option for option in told.options}
    assert {"transferred", "random", "permuted", "direct", "lora", "oracle", "raw", "source-alone"} <= {*options}
    reported = {test.id: test for test in told.fit.tests}
    for arm in ("direct", "lora"):  # the table's lead is the contrast that the protocol reports
        assert options[arm].lead.mean == pytest.approx(reported[f"r.instead.bits_per_byte.{arm}"].mean)
        assert options[arm].cost.seconds > 0
    assert options["lora"].cost.n_trained <= 1.1 * options["direct"].cost.n_trained
    assert options["raw"].cost is None
    assert options["oracle"].bits_per_byte.mean < options["raw"].bits_per_byte.mean


@pytest.mark.slow
def test_a_comparison_is_a_table_and_json(told, portable):
    shown = str(told)
    assert f"regime zero-text: {told.verdict}" in shown
    assert "Is moving better than retraining with the same budget? " in shown
    assert all(f"  {option}" in shown for option in ("transferred", "direct", "lora", "source-alone"))
    assert type(told).model_validate_json(told.model_dump_json()) == told
    assert told.verdict in card(portable.with_verdict(told))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("leads", "verdict", "expected"),
    [
        ({"direct": (0.1, 0.3), "lora": (0.2, 0.4)}, "SUPPORTED", ("yes", "transferred")),
        ({"direct": (0.1, 0.3), "lora": (-0.1, 0.4)}, "SUPPORTED", ("not shown", "lora")),
        ({"direct": (-0.3, -0.1), "lora": (0.2, 0.4)}, "REFUTED", ("no", "direct")),
        ({"direct": (0.1, 0.3), "lora": (0.2, 0.4)}, "VACUOUS", ("yes", "raw")),
        ({}, "SUPPORTED", ("not shown", "transferred")),
    ],
)
def test_the_choice_follows_from_the_leads(told, leads, verdict, expected):
    """`leads`: intervals of moved less the arm; the lower end is also its mean, so that the arm with the least is the best."""
    kept = [option for option in told.options if option.arm not in ("direct", "lora", "raw", "source-alone")]
    [moved] = [option for option in kept if option.arm == "transferred"]
    [found] = [option.lead for option in told.options if option.arm == "raw"]
    for arm, (lower, upper) in {"raw": (0.5, 0.7), **leads}.items():
        lead = found.model_copy(update={"lower": lower, "upper": upper})
        own = moved.bits_per_byte.model_copy(update={"mean": moved.bits_per_byte.mean + lower})
        kept.append(moved.model_copy(update={"arm": arm, "lead": lead, "bits_per_byte": own}))
    answer = answered(kept)
    assert (answer, chosen(verdict, answer, kept)[0]) == expected


def test_what_cannot_be_compared_is_one_sentence(world, gpt2, qwen, portable, refuses):
    given = (gpt2, qwen, world / "queries", world / "prose")
    with refuses("'adapter' is neither a Module nor one of its kinds"):
        abi.compare("adapter", *given)
    with refuses("its regime is zero-text, not few-shot"):
        abi.compare(portable, *given, regime="few-shot")
    with refuses("regime 'zero-text' is none of oracle-kd, few-shot, general-only"):
        abi.compare("module", *given, regime="zero-text")
    with refuses("0 seeds are none"):
        abi.compare("module", *given, seeds=0)


# examples


def blocks(page):
    """The Python of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(world, tmp_path, monkeypatch):
    """A folder with what the examples of the documents name."""
    named = {"first-model": "small-gpt2", "second-model": "small-qwen", "domain-texts": "queries"}
    for name, there in {**named, "general-texts": "prose"}.items():
        shutil.copytree(world / there, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_the_readme_runs_in_a_fresh_process(folder):
    [example] = blocks("README.md")
    (folder / "example.py").write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = os.times()
    done = subprocess.run(
        [sys.executable, "example.py"], env=environment, capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SELECT")
    assert os.times().children_user - began.children_user < 60  # of CPU: other tests may run beside it


@pytest.mark.slow
def test_the_guide_runs_block_by_block(folder):
    namespace = {}
    for block in blocks("docs/library.md"):
        exec(compile(block, "docs/library.md", "exec"), namespace)
    assert namespace["found"].gain.lower > 0


@pytest.mark.parametrize("name", ["train", "transfer", "attach", "evaluate", "compare", "Module"])
def test_every_public_docstring_has_an_example_that_runs(name, gpt2, qwen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {"abi": abi, "texts": api_world.queries(24), "general_texts": api_world.prose(24)}
    known |= dict(zip(("model", "tokenizer", "other", "other_tokenizer"), (*gpt2, *qwen), strict=True))
    thing = getattr(abi, name)
    found = [test for test in doctest.DocTestFinder().find(thing, name, globs=known) if test.examples]
    public = [
        name,
        *(f"{name}.{part}" for part in ("with_verdict", "save_pretrained", "from_pretrained", "push_to_hub")),
    ]
    assert {test.name for test in found} == {*(public if name == "Module" else [name])}
    for test in found:
        told = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append, clear_globs=False)
        assert not told, "".join(told)
