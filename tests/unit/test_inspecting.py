"""What `abi demo` shows: each figure against a direct computation with transformers."""

import pytest
import torch
from api_world import prose, queries

import abi
from abi.api.inspecting import MOST_TOKENS, compare_modules, inspect_tokens, write_both

PROMPT = "SELECT the state of a model FROM tokens"


@pytest.fixture(scope="module")
def learned_little(gpt2):
    return abi.train(*gpt2, prose(24), name="prose", steps=10)


@pytest.fixture
def several(gpt2, trained, learned_little):
    """The first model with the module of SQL, and one of prose that learned little."""
    with abi.attach(gpt2[0], {"sql": trained, "prose": learned_little}, tokenizer=gpt2[1]) as attached:
        yield attached


def log_p(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(ids, use_cache=False).logits[0].double(), -1)


def js(p, q):
    """Of log-probabilities, by its definition: the mean of two Kullback-Leibler divergences."""
    middle = (p.exp() + q.exp()).div(2).log()
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))


@pytest.mark.parametrize("choice", ["sql", {"sql": 0.5, "prose": 1.5}], ids=["module", "mixture"])
def test_positions_are_those_of_transformers(several, gpt2, choice):
    model, tokenizer = gpt2
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    plain = log_p(model, ids)
    with several.using(choice):
        moved = log_p(model, ids)
    found = inspect_tokens(several, choice, PROMPT, top=3)
    assert [one.text for one in found] == [*(tokenizer.decode([i]) for i in ids[0, 1:].tolist()), None]
    assert torch.allclose(torch.tensor([one.js_nats for one in found]).double(), js(plain, moved), atol=1e-5)
    assert max(one.js_nats for one in found) > 1e-3
    for row, one in enumerate(found):
        assert [token.id for token in one.before] == plain[row].topk(3).indices.tolist()
        assert [token.id for token in one.after] == moved[row].topk(3).indices.tolist()
        for token in (*one.before, *one.after):
            told = torch.tensor([token.before, token.after]).double()
            wanted = torch.stack([plain[row, token.id], moved[row, token.id]]).exp()
            assert torch.allclose(told, wanted, atol=1e-5)
    for row, (one, target) in enumerate(zip(found[:-1], ids[0, 1:].tolist(), strict=True)):
        assert one.nats_before == pytest.approx(-plain[row, target].item(), abs=1e-5)
        assert one.nats_after == pytest.approx(-moved[row, target].item(), abs=1e-5)
    assert found[-1].nats_before is found[-1].nats_after is None


def test_no_module_moves_nothing_and_leaves_the_choice_of_others_alone(several):
    several.use("prose")
    found = inspect_tokens(several, None, PROMPT)
    assert all(one.before == one.after and one.nats_before == one.nats_after for one in found)
    assert max(one.js_nats for one in found) < 2e-6  # the rounding of fp32 sums
    assert several.chosen.parts
    several.use(None)


def test_texts_are_those_of_generate(several, gpt2):
    tokenizer, choice = gpt2[1], {"sql": 3.0}
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    found = write_both(several, choice, PROMPT, 8)
    for one, text in ((None, found.without), (choice, found.with_modules)):
        made = several.generate(ids, module_ids=one, max_new_tokens=8, do_sample=False)
        assert PROMPT + text == tokenizer.decode(made[0], skip_special_tokens=True)
    drawn = [write_both(several, choice, PROMPT, 8, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].without != drawn[0].with_modules


def test_modules_are_compared_with_the_plain_model_and_a_reference(several, gpt2):
    model, tokenizer = gpt2
    text = queries(1)[0][:70]
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    plain, found = log_p(model, ids), compare_modules(several, ["sql", "prose"], text, "sql")
    under = {}
    for name in ("sql", "prose"):
        with several.using(name):
            under[name] = log_p(model, ids)
    for one in found:
        own = under[one.module]
        assert one.js_from_plain == pytest.approx(js(plain, own).mean().item(), abs=1e-5)
        assert one.js_from_reference == pytest.approx(js(under["sql"], own).mean().item(), abs=1e-5)
        for told, p in ((one.nats_before, plain), (one.nats_after, own)):
            assert told == pytest.approx(-p[:-1].gather(1, ids[0, 1:, None]).mean().item(), abs=1e-5)
    assert found[0].nats_after < found[0].nats_before
    assert compare_modules(several, ["prose"], text)[0].js_from_reference is None


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_decoder_is_read_as_its_windows_are(make_backbone, portable):
    backbone = make_backbone("t5")
    with abi.attach(backbone, {"portable": portable}) as attached:
        found = inspect_tokens(attached, "portable", PROMPT)
        ids = torch.tensor([backbone.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]])
        half = ids.shape[1] // 2
        decoder = torch.cat([torch.tensor([[backbone.start_id]]), ids[:, half:]], dim=1)
        given = {"input_ids": ids[:, :half], "decoder_input_ids": decoder}
        with torch.no_grad():
            plain = torch.log_softmax(backbone.model(**given).logits[0].double(), -1)
            with attached.using("portable"):
                moved = torch.log_softmax(backbone.model(**given).logits[0].double(), -1)
    assert len(found) == ids.shape[1] - half + 1
    assert torch.allclose(torch.tensor([one.js_nats for one in found]).double(), js(plain, moved), atol=1e-5)
    assert max(one.js_nats for one in found) > 1e-4


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("", "give some text"), ("a b " * MOST_TOKENS, "give a shorter text"), ("\ud800", "not valid UTF-8")],
    ids=["empty", "long", "no text"],
)
def test_a_prompt_that_cannot_be_read_is_one_sentence(several, refuses, prompt, words):
    with refuses(words):
        inspect_tokens(several, "sql", prompt)


def test_an_unknown_module_is_one_sentence(several, refuses):
    with refuses("no module 'sqll'"):
        inspect_tokens(several, "sqll", PROMPT)
