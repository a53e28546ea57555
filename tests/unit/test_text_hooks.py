"""What reads the text of a live model, however the model is called: portable modules and n-gram models alike."""

import copy

import pytest
import torch
from test_ngram_module import TEXTS
from test_portable import IDS, module_on
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from abi.models.attach_any import AttachedAny, attach_any
from abi.models.logit_shift import vocabulary_of
from abi.models.ngram_module import NgramModule

OTHER = IDS.flip(1)


def placed_on(backbone):
    return module_on([spelling for spelling in vocabulary_of(backbone).strings if len(spelling) < 3])


@pytest.fixture(params=["portable", "n-gram"])
def reads(request):
    """Return what gives a module that reads text."""
    return placed_on if request.param == "portable" else lambda _: NgramModule(TEXTS, 5, 0.3)


def generated(backbone, ids, **given):
    asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False}
    return backbone.model.generate(ids, **(asked | given))


@torch.no_grad()
def test_a_step_that_was_prepared_and_never_taken_is_forgotten(make_backbone, reads):
    backbone = make_backbone("gpt2")
    with attach_any(backbone, reads(backbone)):
        expected = backbone.model(input_ids=OTHER).logits
        backbone.model.prepare_inputs_for_generation(IDS)
        torch.testing.assert_close(backbone.model(input_ids=OTHER).logits, expected)


def test_a_gradient_passes_through_a_shift_to_the_backbone(make_backbone):
    backbone = make_backbone("gpt2")
    weight = backbone.model.get_output_embeddings().weight.requires_grad_(True)
    with attach_any(backbone, placed_on(backbone)):
        backbone.model(input_ids=IDS).logits.sum().backward()
    assert weight.grad is not None


@torch.no_grad()
def test_a_mask_may_be_given_by_its_place(make_backbone, reads):
    backbone, mask = make_backbone("qwen2"), torch.ones_like(IDS)
    mask[:, :4] = 0
    with attach_any(backbone, reads(backbone)):
        expected = backbone.model(input_ids=IDS, attention_mask=mask).logits
        torch.testing.assert_close(backbone.model(IDS, mask).logits, expected)


@torch.no_grad()
def test_a_piece_of_a_text_is_refused_however_it_is_given(make_backbone, reads, refuses):
    backbone = make_backbone("gpt2")
    with attach_any(backbone, reads(backbone)):
        start = IDS[:, :4]

        def filled():
            return backbone.model(input_ids=start, use_cache=True).past_key_values

        with refuses("lies in a cache"):
            backbone.model(IDS[:, 4:], filled())
        with refuses("lies in a cache"):
            generated(backbone, IDS[:, 4:], attention_mask=torch.ones_like(IDS), past_key_values=filled())
        with refuses("lies in a cache"):
            generated(backbone, IDS, prefill_chunk_size=16, past_key_values=filled())
        with refuses("leave out `return_dict=False`"):
            backbone.model(input_ids=IDS, return_dict=False)
        torch.testing.assert_close(generated(backbone, IDS, past_key_values=filled()), generated(backbone, IDS))


@torch.no_grad()
def test_a_portable_module_shifts_the_positions_that_were_asked_for(make_backbone):
    backbone, kept = make_backbone("gpt2"), torch.tensor([3, 7])
    with attach_any(backbone, placed_on(backbone)):
        whole, some = backbone.model(input_ids=IDS).logits, backbone.model(input_ids=IDS, logits_to_keep=kept).logits
    torch.testing.assert_close(some, whole[:, kept])


@torch.no_grad()
def test_states_of_an_encoder_belong_to_the_ids_that_it_was_given(make_backbone, reads, refuses):
    backbone = make_backbone("t5")
    encoder, written = backbone.model.get_encoder(), IDS[:, :3]
    with attach_any(backbone, reads(backbone)):
        first = encoder(input_ids=IDS)
        own = backbone.model(encoder_outputs=first, decoder_input_ids=written).logits
        torch.testing.assert_close(own, backbone.model(input_ids=IDS, decoder_input_ids=written).logits)
        encoder(input_ids=OTHER)
        with refuses("these states are of other ids"):
            backbone.model(encoder_outputs=first, decoder_input_ids=written)
        torch.testing.assert_close(backbone.model(IDS, None, written).logits, own)


@torch.no_grad()
@pytest.mark.parametrize("proposed", [4, 40])
def test_what_was_proposed_and_refused_leaves_no_trace(make_backbone, reads, proposed):
    backbone = make_backbone("gpt2")
    ids = IDS[:1].repeat(1, 3)  # so that a lookup finds something to propose
    with attach_any(backbone, reads(backbone)):
        usual, looked_up = generated(backbone, ids), generated(backbone, ids, prompt_lookup_num_tokens=proposed)
    assert torch.equal(usual, looked_up)


@torch.no_grad()
def test_a_cache_may_be_copied_and_cut(make_backbone, reads):
    backbone = make_backbone("gpt2")
    with attach_any(backbone, reads(backbone)):
        usual = generated(backbone, IDS)
        prompt = backbone.model(input_ids=IDS[:, :-1], use_cache=True).past_key_values
        for _ in range(2):
            assert torch.equal(generated(backbone, IDS, past_key_values=copy.deepcopy(prompt)), usual)
        cache = generated(backbone, IDS, max_new_tokens=6, return_dict_in_generate=True).past_key_values
        cache.crop(-3)
        assert torch.equal(generated(backbone, usual[:, :16], max_new_tokens=8, past_key_values=cache), usual)


@torch.no_grad()
def test_rows_that_differ_by_their_mask_alone_go_on_from_themselves(make_backbone, reads):
    backbone = make_backbone("gpt2")
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :3] = 0
    ids = torch.cat([torch.full((1, 3), backbone.tokenizer.eos_token_id), IDS[:1, 3:]], 1).repeat(2, 1)
    with attach_any(backbone, reads(backbone)):
        cached, plain = (generated(backbone, ids, attention_mask=mask, use_cache=cache) for cache in (True, False))
    assert torch.equal(cached, plain)


def test_detaching_gives_a_model_its_own_preparation_back(make_backbone, reads):
    backbone = make_backbone("gpt2")
    usual = backbone.model.prepare_inputs_for_generation

    def own(*args, **kwargs):
        return usual(*args, **kwargs)

    backbone.model.prepare_inputs_for_generation = own
    attached = attach_any(backbone, reads(backbone))
    for _ in range(2):
        attached.detach()
        assert backbone.model.prepare_inputs_for_generation is own


def test_an_n_gram_model_is_attached_by_itself(make_backbone, refuses):
    backbone, counted = make_backbone("gpt2"), NgramModule(TEXTS, 5, 0.3)
    for parts in ([(counted, 1.0), (placed_on(backbone), 1.0)], [(counted, 0.5)]):
        with refuses("attach it by itself"):
            AttachedAny(backbone, parts)
    assert not backbone.model._forward_hooks


@torch.no_grad()
def test_several_texts_in_one_row_are_refused(make_backbone, reads, refuses):
    backbone, places = make_backbone("gpt2"), torch.arange(IDS.shape[1]).expand_as(IDS)
    half = IDS.shape[1] // 2
    packed = torch.cat([places[:, :half], places[:, : IDS.shape[1] - half]], 1)
    with attach_any(backbone, reads(backbone)):
        expected = backbone.model(input_ids=IDS).logits
        torch.testing.assert_close(backbone.model(input_ids=IDS, position_ids=places).logits, expected)
        with refuses("a row holds several texts"):
            backbone.model(input_ids=IDS, position_ids=packed)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_a_static_cache_takes_padded_rows(make_backbone, reads, family):
    backbone, mask = make_backbone(family), torch.ones_like(IDS)
    mask[0, :2] = 0
    with attach_any(backbone, reads(backbone)):
        expected = generated(backbone, IDS, attention_mask=mask)
        found = generated(backbone, IDS, attention_mask=mask, cache_implementation="static", disable_compile=True)
    assert torch.equal(found, expected)


def test_a_vocabulary_of_marked_pieces_is_refused(make_backbone, reads, refuses):
    backbone = make_backbone("gpt2")
    module = reads(backbone)
    pieces = {"[UNK]": 0, "the": 1, "state": 2, "##s": 3, "of": 4, "model": 5, **{f"w{i}": i for i in range(6, 40)}}
    split = Tokenizer(WordPiece(pieces, unk_token="[UNK]"))
    split.pre_tokenizer, split.decoder = Whitespace(), WordPieceDecoder()
    marked = copy.copy(backbone)
    marked.tokenizer = PreTrainedTokenizerFast(tokenizer_object=split, unk_token="[UNK]")
    with refuses("spell 'thestate##sofmodel##s' in the vocabulary of GPT2LMHeadModel"):
        attach_any(marked, module)
