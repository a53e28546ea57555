"""An n-gram model as a module: mixed with the logits of a live backbone, saved, scored, moved as it is."""

import copy
from concurrent.futures import ThreadPoolExecutor

import api_world
import pytest
import torch
import transformers
from api_world import loaded
from safetensors.torch import save_file
from test_portable import IDS, facts

import abi
from abi.models import ngram_mixture
from abi.models.attach import generate
from abi.models.attach_any import attach_any as attach
from abi.models.load import load_module
from abi.models.logit_shift import vocabulary_of
from abi.models.ngram_module import NgramModule, read_ngrams, save_ngrams
from abi.models.ngrams import Foretold
from abi.models.portable import Vocabulary

TEXTS = [b"the state of the state", b"that is the thing of the state and that of the rest"]


@pytest.fixture
def counted():
    return NgramModule(TEXTS, 5, 0.3)


@torch.no_grad()
def mixed(plain, foretold, contexts, written, share):
    """The logarithms of the mixture at every position, token by token."""
    found = torch.empty_like(plain)
    for row in range(len(plain)):
        weight = 0.5
        for i in range(plain.shape[1]):
            own = torch.softmax(plain[row, i], -1)
            its = torch.from_numpy(foretold.distribution(contexts[row, i].long().numpy())).float()
            its *= 1 - own[foretold.silent].sum()
            its[foretold.silent] = own[foretold.silent]
            found[row, i] = ((1 - weight) * own + weight * its).log()
            if i + 1 < plain.shape[1]:
                p, q = float(own[written[row, i + 1]]), float(its[written[row, i + 1]])
                weight = (1 - share) * weight * q / ((1 - weight) * p + weight * q) + share / 2
    return found


@torch.no_grad()
def test_attached_logits_are_those_of_the_mixture_token_by_token(backbone, counted):
    foretold = Foretold(counted.ngrams, vocabulary_of(backbone))
    given = {"input_ids": IDS, "decoder_input_ids": IDS[:, :7]} if backbone.is_encoder_decoder else {"input_ids": IDS}
    written = given.get("decoder_input_ids", IDS)
    text = torch.cat([IDS, written], 1) if backbone.is_encoder_decoder else IDS
    plain = backbone.model(**given).logits
    contexts = foretold.vocabulary.contexts(text, counted.order - 1)[:, -written.shape[1] :]
    with attach(backbone, counted):
        got = backbone.model(**given).logits
    expected = mixed(plain, foretold, contexts, written, counted.share)
    torch.testing.assert_close(got.exp(), expected.exp(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.exp().sum(-1), torch.ones(got.shape[:2]), atol=1e-4, rtol=0)
    assert torch.equal(backbone.model(**given).logits, plain)


@torch.no_grad()
def test_generation_is_the_same_with_a_cache_and_for_rows_of_a_batch(backbone, counted):
    with attach(backbone, counted):
        cached, plain = (generate(backbone, IDS, 8, cache=cache) for cache in (True, False))
        assert torch.equal(cached, plain)
        alone = generate(backbone, IDS[1:], 8)
        assert torch.equal(cached[1, : alone.shape[1]], alone[0])


@torch.no_grad()
def test_every_beam_weighs_by_its_own_text(make_backbone, counted):
    backbone = make_backbone("gpt2")
    with attach(backbone, counted):
        asked = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
        cached, plain = (backbone.model.generate(IDS, use_cache=cache, **asked) for cache in (True, False))
    assert torch.equal(cached, plain)


@torch.no_grad()
def test_rows_that_have_written_the_same_so_far_weigh_by_their_own_prompts(backbone, counted):
    ids = torch.cat([IDS, IDS.flip(1), IDS + 7]).repeat(4, 1)
    with attach(backbone, counted):
        drawn = [generate(backbone, ids, 8, temperature=1.0, seed=3, cache=cache) for cache in (True, False)]
    assert torch.equal(*drawn)


def test_a_pass_that_failed_leaves_nothing_to_the_next(make_backbone, counted):
    backbone, other = make_backbone("gpt2"), IDS.flip(1)
    with attach(backbone, counted) as attached:
        expected = backbone.model(input_ids=other).logits
        attached.on_logits.now.text = IDS  # as `generate` hands over
        with pytest.raises(ValueError, match="both input_ids and inputs_embeds"):
            backbone.model(input_ids=IDS, inputs_embeds=torch.zeros(2, 12, backbone.width))
        assert torch.equal(backbone.model(input_ids=other).logits, expected)


@torch.no_grad()
def test_logits_of_the_last_positions_are_those_of_all(make_backbone, counted):
    backbone = make_backbone("gpt2")
    with attach(backbone, counted):
        whole, last = (backbone.model(input_ids=IDS, logits_to_keep=n).logits for n in (0, 2))
    assert last.shape[1] == 2
    assert torch.equal(whole[:, -2:], last)


@torch.no_grad()
def test_the_end_of_a_text_is_as_likely_as_the_model_has_it(make_backbone, counted):
    backbone = make_backbone("gpt2")
    end = backbone.tokenizer.eos_token_id
    plain = backbone.model(input_ids=IDS).logits.softmax(-1)
    with attach(backbone, counted):
        got = backbone.model(input_ids=IDS).logits.softmax(-1)
    assert not vocabulary_of(backbone).spellings[end]
    torch.testing.assert_close(got[..., end], plain[..., end], rtol=1e-4, atol=0)


@torch.no_grad()
def test_tokens_that_are_masked_are_no_text(make_backbone, counted):
    backbone = make_backbone("gpt2")
    filled = [torch.cat([torch.full((2, 4), token), IDS], 1) for token in (3, 40)]
    mask = torch.ones_like(filled[0])
    mask[:, :4] = 0
    with attach(backbone, counted):
        drawn = [generate(backbone, {"input_ids": ids, "attention_mask": mask}, 8) for ids in filled]
        one, other = (backbone.model(input_ids=ids, attention_mask=mask).logits[:, 4:] for ids in filled)
        drawn.append(generate(backbone, IDS, 8))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(one, other)


@torch.no_grad()
def test_texts_may_be_written_by_turns_and_side_by_side(make_backbone, counted):
    backbone, both = make_backbone("gpt2"), [IDS, IDS.flip(1)]
    with attach(backbone, counted):
        alone = [generate(backbone, ids, 8) for ids in both]
        with ThreadPoolExecutor(2) as pool:
            beside = list(pool.map(lambda ids: generate(backbone, ids, 8), both * 3))
        assert all(torch.equal(found, alone[i % 2]) for i, found in enumerate(beside))
        caches = [transformers.DynamicCache(config=backbone.model.config) for _ in both]
        texts = list(both)
        for _ in range(8):
            for i, cache in enumerate(caches):
                model = {"past_key_values": cache, "attention_mask": torch.ones_like(texts[i]), "use_cache": True}
                n = texts[i].shape[1] - cache.get_seq_length()
                step = backbone.model.prepare_inputs_for_generation(texts[i], next_sequence_length=n, **model)
                last = backbone.model(**step).logits[:, -1].argmax(-1, keepdim=True)
                texts[i] = torch.cat([texts[i], last], 1)
    assert all(torch.equal(text[:, 12:], found) for text, found in zip(texts, alone, strict=True))


def test_a_vocabulary_that_spells_nothing_is_refused(make_backbone, counted, refuses, monkeypatch):
    backbone = make_backbone("gpt2")
    monkeypatch.setattr(ngram_mixture, "vocabulary_of", lambda backbone: Vocabulary([None] * 50))
    with refuses("no token of GPT2LMHeadModel spells text"):
        attach(backbone, counted)
    assert not backbone.model._forward_hooks


def test_text_that_it_has_not_read_is_refused(make_backbone, counted, refuses):
    backbone = make_backbone("gpt2")
    cache = backbone.model(input_ids=IDS, use_cache=True).past_key_values
    with attach(backbone, counted) as attached:
        with refuses("take the loss from the logits"):
            backbone.model(input_ids=IDS, labels=IDS)
        with refuses("the text before these ids lies in a cache, and an n-gram model reads the text"):
            backbone.model(input_ids=IDS[:, :1], past_key_values=copy.deepcopy(cache))
        attached.on_logits.now.text = torch.cat([IDS, IDS[:, :1]], 1)  # as `generate` hands over
        with refuses("a cache that was filled without the n-gram model"):
            backbone.model(input_ids=IDS[:, :1], past_key_values=cache)
        with refuses("ask for the last logits by number"):
            backbone.model(input_ids=IDS, logits_to_keep=torch.tensor([3]))
        with refuses("lies in a cache"):
            backbone.model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=3, prefill_chunk_size=6)


def test_a_saved_one_comes_back_as_it_was_and_damage_is_one_sentence(tmp_path, counted, refuses):
    digest = save_ngrams(counted, tmp_path, facts())
    for read in (read_ngrams, load_module):
        other, about = read(tmp_path)
        assert (about.sha256, other.order, other.share) == (digest, counted.order, counted.share)
        assert torch.equal(other.text, counted.text)
        assert [len(table.grams) for table in other.ngrams.tables] == [len(t.grams) for t in counted.ngrams.tables]
    other = counted.state_dict() | {"ends": counted.ends.flip(0)}
    save_file(other, tmp_path / "abi_model.safetensors")
    with refuses("do not end where they should"):
        read_ngrams(tmp_path)
    for texts, words in (([TEXTS[0][::-1], TEXTS[1]], "does not match the hash"), (TEXTS[:1], "no n-gram model")):
        save_file(NgramModule(texts, 5, 0.3).state_dict(), tmp_path / "abi_model.safetensors")
        with refuses(words):
            read_ngrams(tmp_path)


def test_no_text_at_all_leaves_the_model_nearly_alone(make_backbone):
    backbone = make_backbone("gpt2")
    plain = backbone.model(input_ids=IDS).logits.softmax(-1)
    with attach(backbone, NgramModule([], 5, 0.3)):
        got = backbone.model(input_ids=IDS).logits.exp()
    assert torch.isfinite(got).all()
    assert (got.sum(-1) - 1).abs().max() < 1e-4
    assert got.shape == plain.shape


def test_the_api_counts_scores_moves_and_writes_with_it(world, tmp_path, refuses):
    first, second = (loaded(world / name) for name in api_world.MODELS)
    module = abi.train(*first, world / "queries", kind="ngram", name="sql")
    assert repr(module).startswith("Module(ngram 'sql' for any model, ")
    assert module.n_parameters == 0
    with refuses("a module of kind 'ngram' takes no `steps`"):
        abi.train(*first, world / "queries", kind="ngram", steps=3)
    moved = abi.transfer(module, first, second)
    assert (moved.record.regime, moved.sha256) == ("zero-text", module.sha256)
    found = abi.evaluate(second[0], moved, world / "queries", second[1])
    assert found.gain.lower > 0
    assert found.left_out > 0
    moved.save_pretrained(tmp_path / "m")
    again = abi.Module.from_pretrained(tmp_path / "m")
    assert again.sha256 == module.sha256
    card = (tmp_path / "m" / "README.md").read_text()
    assert "holds word for word" in card
    assert "Counted; no model was read" in card
    assert "Nobody has asked" not in card
    halves = [text[: len(text) // 2].decode(errors="ignore") for text in module.net.texts]
    with refuses(f"the module has seen all {len(halves)} documents"):
        abi.evaluate(second[0], moved, [f"{half} " for half in halves], second[1])
    batch = second[1](["select", "select a from"], padding=True, padding_side="left", return_tensors="pt")
    with abi.attach(second[0], again, tokenizer=second[1]):
        both = second[0].generate(**batch, max_new_tokens=5, do_sample=False)
        alone = second[0].generate(**second[1]("select", return_tensors="pt"), max_new_tokens=5, do_sample=False)
    assert torch.equal(both[0, -5:], alone[0, -5:])
    with refuses("is an n-gram model; attach it by itself"):
        abi.attach(second[0], {"a": again}, tokenizer=second[1])
    with refuses("stands beside every module that is compared"):
        abi.compare("ngram", first, second, world / "queries", world / "prose")
