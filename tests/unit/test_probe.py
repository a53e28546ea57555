"""What is admitted as a backbone and what is refused: models whose states, head or text are not what they seem."""

import json

import pytest
import torch
import transformers
from made_arms import PROVENANCE, edited
from safetensors.torch import load_file, save_file
from small_models import SUPPORTED, loud, small

from abi.base.errors import TamperError
from abi.models import probe
from abi.models.attach import attach, generate
from abi.models.backbone import Backbone, load_backbone, load_checked, save_backbone
from abi.models.described import describe_backbone
from abi.models.head import Head
from abi.models.lora import lora_shape
from abi.models.module import AbiModule, ModuleConfig
from abi.models.states import Window
from abi.models.tokenizers import encode, spellings

REFUSED = {
    "bert-generation": "BertGenerationDecoder is refused, it is not causal",
    "xlm": "XLMWithLMHeadModel is refused, it is not causal",
    "mamba": "MambaForCausalLM is refused, its hidden states are not what its blocks read",
    "mamba2": "Mamba2ForCausalLM is refused, its hidden states are not what its blocks read",
    "rwkv": "RwkvForCausalLM is refused, its hidden states are not what its blocks read",
    "electra": "ElectraForCausalLM is refused",
    "bert": "BertLMHeadModel is refused, its head reads no multiple of the final state",
}


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["bpe"]


@pytest.fixture(scope="module", params=SUPPORTED)
def odd(request, tokenizer):
    return loud(small(request.param, tokenizer))


def test_families_of_the_common_pattern_are_admitted_with_every_fact(backbone):
    facts = probe.measure(backbone)
    differences = [facts.causal, facts.head, facts.taps, facts.cache, facts.padded]
    assert max(differences) < 1e-5
    assert (facts.characters_lost, facts.ends, facts.precision) == (0.0, True, "float32")


def test_a_backbone_is_measured_once(make_backbone, monkeypatch):
    backbone, found = make_backbone("gpt2"), []
    monkeypatch.setattr(probe, "measure", lambda b: found.append(b) or "facts")
    assert [probe.admit(backbone), backbone.facts, probe.admit(backbone)] == ["facts"] * 3
    assert found == [backbone]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("use", ["admit", "attach", "generate"])
def test_what_is_not_what_it_seems_is_refused_everywhere(tokenizer, name, use, refuses):
    backbone = small(name, tokenizer)
    with refuses(REFUSED[name]):
        if use == "admit":
            probe.admit(backbone)
        elif use == "generate":
            generate(backbone, backbone.sample(4), 2)
        else:
            attach(backbone, AbiModule(ModuleConfig(16, (2,), 4)))


def test_an_encoder_decoder_wrapper_is_refused(tokenizer, refuses):
    part = {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    parts = [transformers.BertConfig(**part, intermediate_size=24) for _ in range(2)]
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    config.decoder_start_token_id = config.pad_token_id = 0
    model = transformers.EncoderDecoderModel(config).eval()
    with refuses("EncoderDecoderModel is refused"):
        probe.admit(Backbone(model, tokenizer))


@torch.no_grad()
def test_heads_that_are_more_than_a_matrix_give_the_models_own_logits(odd, tmp_path, window_of):
    window, ids = window_of(odd), odd.sample(12)
    odd.head().write(tmp_path / "head.safetensors")
    hidden = odd.hidden_states(ids, window)
    own = odd.logits(ids, window)
    stored = Head.read(tmp_path / "head.safetensors")
    torch.testing.assert_close(stored.logits(hidden[-1]), own, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(odd.head_logits(hidden[-1]), own, rtol=1e-4, atol=1e-4)
    assert len(hidden) == odd.depth + 1
    assert {tuple(state.shape) for state in hidden} == {(1, window.positions, odd.width)}
    assert max(odd.facts.causal, odd.facts.head, odd.facts.taps, odd.facts.cache) < 1e-5


@torch.no_grad()
def test_a_module_attached_to_such_a_head_acts_as_on_stored_states(odd, window_of):
    window, ids = window_of(odd), odd.sample(12)
    module = AbiModule(ModuleConfig(odd.width, (0, 1, odd.depth), 8, tap_norms=True)).requires_grad_(False)
    hidden = odd.hidden_states(ids, window)
    expected = odd.head().logits(hidden[-1] + module(torch.stack([hidden[t] for t in module.config.taps], dim=2)))
    plain = odd.logits(ids, window)
    with attach(odd, module):
        found = odd.logits(ids, window)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 1e-2 * plain.abs().max()


def test_the_form_of_a_head_is_measured(tokenizer):
    forms = {name: small(name, tokenizer).form for name in SUPPORTED}
    caps = {name: form.soft_cap for name, form in forms.items() if form.soft_cap is not None}
    scales = {name: form.scale for name, form in forms.items() if form.scale != 1}
    assert caps == {"gemma2": 30.0, "nanochat": 15.0}
    assert scales == {"cohere": 0.0625, "granite": 0.125, "hyperclovax": 0.5, "umt5": 0.25}


def test_padding_that_changes_a_row_is_refused_where_it_is_used(tokenizer, refuses):
    config = transformers.AutoConfig.for_model(
        "bart", vocab_size=len(tokenizer), d_model=16, decoder_layers=2, decoder_attention_heads=2,
        decoder_ffn_dim=24, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    backbone = Backbone(transformers.BartForCausalLM(config).eval().requires_grad_(False), tokenizer)
    assert generate(backbone, backbone.sample(5), 3).shape[0] == 1
    ids = backbone.sample(5).repeat(2, 1)
    mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    with refuses("BartForCausalLM gives other logits for a prompt in a padded batch"):
        generate(backbone, {"input_ids": ids, "attention_mask": mask}, 3)


# what is loaded


@pytest.fixture
def saved(make_backbone, tmp_path):
    """The folder of a BART, with its manifest."""
    backbone = make_backbone("bart")
    save_backbone(backbone, tmp_path / "model")
    about = {"name": "b", "revision": "built", "provenance": PROVENANCE}
    return tmp_path / "model", describe_backbone(backbone, tmp_path / "model", tmp_path / "head", **about)


def edit_json(path, change):
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def test_a_backbone_is_that_of_its_manifest(saved):
    folder, about = saved
    assert load_checked(folder, about).facts == about.facts
    without = about.model_copy(update={"identity_sha256": None, "facts": None})
    assert load_checked(folder, without).facts.head == about.facts.head


def test_another_activation_buffer_tokenizer_or_vocabulary_is_another_backbone(saved, refuses, tokenizers):
    folder, about = saved
    about = about.model_copy(update={"files": {}})  # with them, the hash of the edited file is named first
    edit_json(folder / "config.json", lambda told: told.update(activation_function="relu"))
    with refuses("the config, tokenizer or buffers are not those of backbone b", TamperError):
        load_checked(folder, about)
    edit_json(folder / "config.json", lambda told: told.pop("activation_function"))
    tensors = load_file(folder / "model.safetensors")
    bias = next(name for name in tensors if "final_logits_bias" in name)
    save_file(tensors | {bias: tensors[bias] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    with refuses("the config, tokenizer or buffers are not those of backbone b", TamperError):
        load_checked(folder, about)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    load_checked(folder, about)
    edit_json(folder / "tokenizer.json", lambda told: told.update(normalizer={"type": "Lowercase"}))
    with refuses("the config, tokenizer or buffers are not those of backbone b", TamperError):
        load_checked(folder, about)
    tokenizers["unigram"].save_pretrained(folder)
    with refuses("the vocabulary is not those of backbone b", TamperError):
        load_checked(folder, about)


def test_a_module_knows_the_config_of_its_backbone(make_backbone, facts, refuses):
    backbone, other = make_backbone("gpt2"), make_backbone("gpt2")
    from abi.models.attach import Marks

    marks = Marks.of(backbone)
    about = edited(facts, base_sha256=marks.weights, identity_sha256=marks.identity)
    other.model.config.activation_function = "relu"
    module = AbiModule(ModuleConfig(16, (2,), 4))
    with attach(backbone, module, about):
        pass
    with refuses("another config, tokenizer or buffer than the module belongs to"):
        attach(other, module, about)


def test_weights_that_are_not_numbers_are_refused(saved, refuses):
    folder, _ = saved
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("decoder.layers.0.fc1.weight"))
    tensors[name][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with refuses("BartForConditionalGeneration is refused, its weight .*fc1.weight holds NaN"):
        load_backbone(folder)


def test_a_buffer_that_is_no_number_is_refused_by_its_name(make_backbone, refuses):
    backbone = make_backbone("bart")
    backbone.model.final_logits_bias[0, 5] = torch.nan
    with refuses("BartForConditionalGeneration is refused, its buffer final_logits_bias holds NaN"):
        probe.measure(backbone)


def test_weights_in_a_precision_that_torch_cannot_check_are_refused_by_its_name(make_backbone, refuses):
    backbone = make_backbone("gpt2")
    weight = backbone.model.transformer.h[0].mlp.c_fc.weight
    weight.data = weight.data.to(torch.float8_e4m3fn)
    with refuses("its transformer.h.0.mlp.c_fc.weight is in float8_e4m3fn, .*load it in fp32, bf16 or fp16"):
        probe.measure(backbone)


def test_layers_cut_from_the_config_are_refused(saved, refuses):
    folder, _ = saved
    edit_json(folder / "config.json", lambda told: told.update(decoder_layers=1))
    with refuses("no part of BartForConditionalGeneration reads the tensor .*layers.1.* belongs to another model"):
        load_backbone(folder)


# text


@pytest.fixture(scope="module")
def neox_like(texts):
    """A byte-level tokenizer as NeoX has it: offsets without spaces, runs of spaces as added tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=340, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet,
                                   show_progress=False)
    )  # fmt: skip
    inner.add_tokens([" " * n for n in (16, 8)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )


def test_offsets_hold_the_spaces_of_a_token_and_added_tokens_are_spelled(neox_like, tmp_path, make_backbone):
    backbone = make_backbone("gpt_neox", vocab_size=len(neox_like))
    save_backbone(Backbone(backbone.model, neox_like), tmp_path)
    text = "def f(x):\n    return x\n        return x   + 1 \n"
    assert not probe.measure(Backbone(backbone.model, neox_like)).ends
    tokenizer = load_backbone(tmp_path).tokenizer
    assert load_backbone(tmp_path).facts.ends
    ids, ends = encode(tokenizer, text)
    assert [tokenizer.decode(ids[: i + 1]) for i in range(len(ids))] == [text[:end] for end in ends]
    spelled = spellings(tokenizer, len(tokenizer))
    assert {len(s) for s in spelled if s and not s.strip(" ")} >= {8, 16}
    assert "".join(spelled[i] for i in ids) == text


def test_a_tokenizer_of_bytes_is_read_as_bytes(tokenizers):
    tokenizer = transformers.ByT5Tokenizer(extra_ids=0)
    text = "def f(x):\n\treturn 'é🙂'\n"
    ids, ends = encode(tokenizer, text)
    assert tokenizer.decode(ids.tolist()) == text
    assert ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ends[-1] == len(text)
    spelled = spellings(tokenizer, 300)
    assert "".join(spelled[i] for i in ids) == text.encode().decode("latin-1")


def test_the_lone_space_of_sentencepiece_ends_before_the_word_that_follows_it():
    """T5's own tokenizers give both one span, and were refused for states of text that they keep whole."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("▁", -1.0), ("a", -1.0), ("st", -1.0), ("ate", -1.0)]
    inner = Tokenizer(models.Unigram(pieces, unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    inner.decoder = decoders.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
    ids, ends = encode(tokenizer, "a state")
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == ["▁", "a", "▁", "st", "ate"]
    assert ends.tolist() == [0, 1, 2, 4, 7]


def test_bytes_with_the_first_one_of_the_next_character_end_before_it():
    """The character is counted where it is complete, so that the bytes of a token are those it ends."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({piece: i for i, piece in enumerate([*alphabet, "xÃ"])}, [("x", "Ã")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
    ids, ends = encode(tokenizer, "axé!")
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == ["a", "xÃ", "©", "!"]
    assert ends.tolist() == [1, 2, 3, 4]


def test_a_tokenizer_that_loses_text_is_counted_and_refused_for_states(make_backbone, texts, refuses):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    from tokenizers import normalizers

    inner.normalizer = normalizers.Replace("\n", " ")
    inner.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
                                       show_progress=False)
    )  # fmt: skip
    lossy = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    backbone = Backbone(make_backbone("gpt2").model, lossy)
    assert backbone.facts.characters_lost > 0.05
    with refuses("the tokenizer of GPT2LMHeadModel loses .*% of the characters of the text"):
        probe.require_lossless(backbone, texts)
    assert probe.require_lossless(make_backbone("gpt2"), texts) == 0


def test_the_adapter_of_a_composite_model_is_on_its_text_model_alone(tokenizer):
    backbone = small("gemma3", tokenizer)
    assert [name for name in dict(backbone.model.named_modules()) if "vision" in name]
    assert not [name for name in lora_shape(backbone, 10_000).layers if "vision" in name]


def test_positions_are_those_that_a_model_can_read(tokenizer):
    sizes = {"d_model": 16, "n_heads": 2, "n_layers": 1, "vocab_size": len(tokenizer)}
    mpt = transformers.MptForCausalLM(transformers.MptConfig(**sizes, max_seq_len=16))
    assert Backbone(mpt, tokenizer).most_positions == 16
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.RobertaConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=18, is_decoder=True)
    roberta = Backbone(transformers.RobertaForCausalLM(config), tokenizer)
    assert roberta.most_positions == 16
    ids = torch.full((1, 17), 5)
    roberta.model(ids[:, :16])
    with pytest.raises((IndexError, RuntimeError)):
        roberta.model(ids)


def test_a_window_of_a_composite_model_is_limited_by_its_text_model(tokenizer, refuses):
    with refuses("65 tokens of a window are more than the 64 positions of Gemma3ForConditionalGeneration"):
        small("gemma3", tokenizer).require(Window(65, 0, 0))
