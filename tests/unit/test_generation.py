"""Generation is the model's own distribution, whatever settings it brings along, and a batch is its prompts alone."""

import pytest
import torch
from small_models import small
from sweeps import first

from abi.models.attach import attach, generate
from abi.models.module import AbiModule, ModuleConfig
from abi.models.tokenizers import continuation, encode
from abi.steps import generate_text
from abi.steps.generate_text import sample, token_losses

PROMPTS = ["def state_loss(model):", "    return token", "# the norm of a batch of windows and rates"]

SETTINGS = [
    {"forced_bos_token_id": 7},
    {"forced_eos_token_id": 9},
    {"bad_words_ids": [[i] for i in range(2, 200)]},
    {"suppress_tokens": list(range(2, 200))},
    {"begin_suppress_tokens": list(range(2, 200))},
    {"sequence_bias": [[[20], 50.0]]},
    {"num_return_sequences": 2, "do_sample": True},
    {"stop_strings": ["e", "a", " "]},
    {"return_dict_in_generate": True, "output_scores": True},
    {"min_p": 0.9, "do_sample": True},
    {"typical_p": 0.1, "do_sample": True},
    {"epsilon_cutoff": 0.2, "eta_cutoff": 0.2, "do_sample": True},
    {"num_beams": 3, "length_penalty": 2.0},
    {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1},
    {"min_length": 30, "min_new_tokens": 20, "max_length": 4},
    {"exponential_decay_length_penalty": (1, 9.0), "renormalize_logits": True},
    {"guidance_scale": 3.0},
]


@pytest.fixture(params=["gpt2", "t5"])
def either(request, make_backbone):
    return make_backbone(request.param)


@pytest.mark.parametrize("settings", first(3, SETTINGS), ids=lambda settings: next(iter(settings)))
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_settings_that_a_model_brings_along_do_not_act(either, settings, temperature):
    ids = either.sample(6)
    plain = generate(either, ids, 8, temperature=temperature, seed=3)
    for name, value in settings.items():
        setattr(either.model.generation_config, name, value)
    before = either.model.generation_config.to_dict()
    found = generate(either, ids, 8, temperature=temperature, seed=3)
    assert torch.equal(found, plain)
    assert either.model.generation_config.to_dict() == before


def test_a_text_of_a_claim_is_as_long_as_asked_and_its_losses_are_those_of_the_model(either, monkeypatch):
    monkeypatch.setattr(generate_text, "TOKENS", 40)
    either.model.generation_config.eos_token_id = int(generate(either, either.sample(6), 8)[0, 2])
    prompt = either.sample(6)
    found = sample(either, prompt, 1, "plain")
    made = generate(either, prompt, 40, least=40)
    assert made.shape == (1, 40)
    assert found.text == either.tokenizer.decode(made[0])
    own = {"input_ids": torch.cat([prompt, made], 1)}
    if either.is_encoder_decoder:
        begun = torch.cat([torch.tensor([[either.start_id]]), made[:, :-1]], 1)
        own = {"input_ids": prompt, "decoder_input_ids": begun}
    with torch.no_grad():
        logits = either.model(**own).logits[0]
    logits = logits if either.is_encoder_decoder else logits[len(prompt[0]) - 1 : -1]
    by_hand = -torch.log_softmax(logits.double(), -1)[torch.arange(40), made[0]]
    torch.testing.assert_close(token_losses(either, prompt[0], made[0]), by_hand.float(), rtol=1e-4, atol=1e-4)
    last, first = by_hand[-10:].mean(), by_hand[:10].mean()
    assert found.ratio == pytest.approx(float((last - first).exp()), rel=1e-3)


def test_the_models_own_end_of_text_still_ends(either):
    ids = either.sample(6)
    made = generate(either, ids, 8)
    either.model.generation_config.eos_token_id = int(made[0, 2])
    ended = generate(either, ids, 8)
    first = made[0].tolist().index(int(made[0, 2]))
    assert torch.equal(ended, made[:, : first + 1])


@pytest.fixture
def padded(backbone):
    """Prompts of three lengths as the tokenizer pads them, and their own ids."""
    backbone.tokenizer.padding_side = "right"

    def batch(side):
        backbone.tokenizer.padding_side = side
        coded = backbone.tokenizer(PROMPTS, padding=True, return_tensors="pt", add_special_tokens=False)
        return {key: coded[key] for key in ("input_ids", "attention_mask")}

    yield batch
    backbone.tokenizer.padding_side = "right"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attached", [False, True])
def test_a_row_of_a_padded_batch_is_what_it_is_alone(backbone, padded, side, attached):
    module = AbiModule(ModuleConfig(16, (0, backbone.depth), 8, tap_norms=True)).requires_grad_(False)
    module.proj_out.weight.mul_(3)
    handle = attach(backbone, module) if attached else None
    together = generate(backbone, padded(side), 7)
    for row, prompt in enumerate(PROMPTS):
        ids = torch.from_numpy(encode(backbone.tokenizer, prompt)[0]).unsqueeze(0)
        alone = generate(backbone, ids, 7)[0]
        ends = alone.tolist().index(1) + 1 if 1 in alone.tolist() else len(alone)
        assert torch.equal(together[row, :ends], alone[:ends])
    if handle is not None:
        handle.detach()


def test_an_encoder_that_counts_positions_reads_padding_on_either_side(tokenizers):
    backbone = small("mbart", tokenizers["bpe"])
    ids = backbone.sample(9)
    rows, mask = torch.cat([ids, ids.roll(4, 1)]), torch.tensor([[1] * 9, [0] * 4 + [1] * 5])
    together = generate(backbone, {"input_ids": rows, "attention_mask": mask}, 5)
    assert torch.equal(together[1], generate(backbone, ids.roll(4, 1)[:, 4:], 5)[0])


@pytest.mark.parametrize("mask", [[[1, 0, 1], [1, 1, 1]], [[0, 0, 0], [1, 1, 1]], [[1, 1], [1, 1]]])
def test_a_mask_that_is_no_padding_is_refused(make_backbone, mask, refuses):
    backbone = make_backbone("gpt2")
    with refuses("generate: .*mask"):
        generate(backbone, {"input_ids": backbone.sample(3).repeat(2, 1), "attention_mask": torch.tensor(mask)}, 2)


def test_a_continuation_keeps_its_first_space(tokenizers):
    """A SentencePiece-like decoder drops the space that begins what it decodes."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = ["▁the", "▁loss", "▁of", "▁a"]
    inner = Tokenizer(models.Unigram([("<unk>", 0.0), *((word, -1.0) for word in words)], unk_id=0))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert tokenizer.decode([2]) == "loss"
    assert continuation(tokenizer, [1], [2, 3]) == " loss of"
    bpe = tokenizers["bpe"]
    ids = encode(bpe, "def f(x):\n    return x")[0].tolist()
    assert continuation(bpe, ids[:4], ids[4:]) == bpe.decode(ids)[len(bpe.decode(ids[:4])) :]
