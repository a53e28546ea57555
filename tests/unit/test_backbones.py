import copy
import hashlib
import json
import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arms import PROVENANCE, edited
from safetensors.torch import load_file, save_file

from abi.models.backbone import Backbone, Window, load_backbone, save_backbone, targets
from abi.models.build import build_backbone
from abi.models.described import describe_backbone
from abi.models.head import Head
from abi.models.identity import identity_hash
from abi.models.tokenizers import (
    PerTokenizer,
    build_tokenizer,
    encode,
    pack,
    prompt_ids,
    spellings,
    start_of,
    tokenizer_json,
    vocabulary_hash,
)
from abi.plan.specs.models import Build, Pretraining

CODE = "def f(x):\n\n\treturn {'é': [x_1, 0.5]}  # 日本 🙂\n    \n\n\n"


@pytest.fixture
def tokens():
    return torch.randint(2, 300, (3, 12), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


@pytest.fixture(scope="module")
def saved(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    save_backbone(backbone, folder)
    return folder


@torch.no_grad()
def test_a_saved_backbone_loads_bit_identical(backbone, saved, tokens, window_of):
    again = load_backbone(saved)
    window = window_of(backbone)
    assert torch.equal(again.logits(tokens, window), backbone.logits(tokens, window))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(encode(again.tokenizer, CODE), encode(backbone.tokenizer, CODE), strict=True)
    )
    assert not again.model.training
    assert not any(p.requires_grad for p in again.model.parameters())


def test_a_saved_backbone_has_the_facts_of_the_one_in_memory(backbone, saved, tmp_path):
    about = {"name": "b", "revision": "built", "provenance": PROVENANCE}
    told = describe_backbone(load_backbone(saved), saved, tmp_path / "head", **about)
    mine = describe_backbone(backbone, saved, tmp_path / "again", **about)
    # transformers gives some classes (Qwen2) a tokenizer of its own, so the hash of one in memory may be another
    assert told == mine.model_copy(update={"identity_sha256": told.identity_sha256})
    assert (
        told.identity_sha256
        == describe_backbone(load_backbone(saved), saved, tmp_path / "head", **about).identity_sha256
    )
    assert told.vocabulary == vocabulary_hash(backbone.tokenizer)
    assert told.n_parameters == sum(p.numel() for p in backbone.model.parameters())
    assert told.head_sha256 == hashlib.sha256((tmp_path / "again").read_bytes()).hexdigest()
    assert told.files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in saved.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= told.files.keys()


@torch.no_grad()
def test_the_stored_final_state_through_the_stored_head_is_the_models_own_logits(backbone, tokens, window_of, tmp_path):
    window = window_of(backbone)
    backbone.head().write(tmp_path / "head.safetensors")
    final = backbone.hidden_states(tokens, window)[-1]
    logits = Head.read(tmp_path / "head.safetensors").logits(final)
    torch.testing.assert_close(logits, backbone.logits(tokens, window), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_there_is_one_state_per_layer_and_one_of_the_embeddings(backbone, tokens, window_of):
    window = window_of(backbone)
    states = backbone.hidden_states(tokens, window)
    assert len(states) == backbone.depth + 1
    assert {tuple(state.shape) for state in states} == {(3, window.positions, backbone.width)}
    assert targets(tokens, window).shape == (3, window.positions)


@torch.no_grad()
@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_position_has_read_everything_before_its_target_and_nothing_more(backbone, tokens, window_of, position):
    window = window_of(backbone)
    target = position + (window.prefix or 1)
    assert torch.equal(targets(tokens, window)[:, position], tokens[:, target])
    before, after = (tokens.clone() for _ in range(2))
    before[:, target - 1] += 1
    after[:, target:] += 1
    logits = backbone.logits(tokens, window)[:, position]
    torch.testing.assert_close(backbone.logits(after, window)[:, position], logits)
    assert (backbone.logits(before, window)[:, position] - logits).abs().amax(-1).min() > 1e-6


def test_the_head_is_a_copy_without_gradient(backbone):
    weight = backbone.head().weight
    weight += 1
    assert not weight.requires_grad
    assert not torch.equal(weight, backbone.model.get_output_embeddings().weight)


def test_only_a_t5_that_scales_its_states_has_a_scaled_head(make_backbone):
    scales = {family: make_backbone(family).head().scale for family in ("t5", "t5-v1.1", "gpt2")}
    assert scales == {"t5": 0.25, "t5-v1.1": 1.0, "gpt2": 1.0}


def test_a_tokenizer_larger_than_the_embedding_is_refused(make_backbone, tmp_path, refuses):
    small = make_backbone("gpt2", vocab_size=300)
    save_backbone(small, tmp_path)
    with refuses("the tokenizer has 360 tokens, the model 300; they do not belong together"):
        load_backbone(tmp_path)


def test_a_special_token_beyond_the_embedding_is_none_of_text(make_backbone, tmp_path, refuses):
    """Gemma 3's image token, in the tokenizer that its text models share."""
    backbone = make_backbone("gpt2")
    tokenizer = copy.deepcopy(backbone.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    rows = backbone.embeddings_out.weight.shape[0]
    assert len(tokenizer) == rows + 1
    save_backbone(Backbone(backbone.model, tokenizer), tmp_path)
    assert load_backbone(tmp_path).facts.head < 1e-4
    tokenizer.add_tokens(["ordinary"])
    save_backbone(Backbone(backbone.model, tokenizer), tmp_path)
    with refuses(f"the tokenizer has {rows + 2} tokens, the model {rows}"):
        load_backbone(tmp_path)


def test_a_window_longer_than_the_model_is_refused(make_backbone, refuses):
    make_backbone("t5").require(Window(500, 100, 0))
    make_backbone("gpt2").require(Window(64, 0, 0))
    with refuses("65 tokens of a window are more than the 64 positions of GPT2LMHeadModel; lower"):
        make_backbone("gpt2").require(Window(65, 0, 0))


@pytest.mark.parametrize(
    ("model_type", "change", "words"),
    [
        ("nosuch", {}, "makes no nosuch"),
        ("gpt2", {"n_embdd": 3}, "has no keyword 'n_embdd'"),
        ("gpt2", {"n_head": 7}, "divisible"),
        ("gpt2", {"n_embd": "wide"}, "makes no gpt2"),
    ],
)
def test_a_model_that_cannot_be_made_is_one_sentence(texts, model_type, change, words, refuses):
    recipe = {"steps": 1, "batch": 1, "lr": 0.1, "warmup": 0, "seed": 0}
    config = {"n_embd": 16, "n_layer": 1, "n_head": 2, **change}
    definition = edited(DEFINITION, model_type=model_type, config=config, pretraining=Pretraining(**recipe))
    with refuses(words):
        build_backbone(definition, texts, Window(12, 0, 0))


def test_nothing_is_built_from_no_text(refuses):
    with refuses("no train document"):
        build_backbone(DEFINITION, [], Window(12, 0, 0))


def test_a_folder_that_cannot_be_written_is_one_sentence(make_backbone, tmp_path, refuses):
    backbone = make_backbone("gpt2")
    (tmp_path / "file").write_text("x")
    with refuses("file: cannot be written"):
        save_backbone(backbone, tmp_path / "file")


def test_code_in_a_model_folder_is_never_run_nor_asked_for(folder, refuses, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "other", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(settings))
    with refuses("model: transformers has no class for its model_type 'other', and abi runs no code of a repository"):
        load_backbone(folder)


@pytest.fixture
def folder(make_backbone, tmp_path):
    save_backbone(make_backbone("gpt2"), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("size", [0, 7, 300, 3000])
def test_truncated_weights_are_refused(folder, size, refuses):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with refuses("model: is not a loadable backbone .*; see whether all its files are there"):
        load_backbone(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_a_file_is_refused(folder, name, refuses):
    (folder / name).unlink()
    with refuses("is not a loadable backbone"):
        load_backbone(folder)


def test_weights_of_another_shape_are_refused(folder, refuses):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.weight"] = torch.ones(17)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with refuses("is not a loadable backbone"):
        load_backbone(folder)


def test_weights_that_lack_a_tensor_are_refused(folder, refuses):
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with refuses("transformer.h.0.mlp.c_fc.weight"):
        load_backbone(folder)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_code_survives_a_tokenizer(tokenizers, texts, kind):
    for text in [CODE, *texts]:
        assert tokenizers[kind].decode(encode(tokenizers[kind], text)[0]) == text


def test_what_a_tokenizer_makes_is_made_once_for_all_backbones_that_have_the_same_and_again_for_another(tokenizers):
    made = []
    cuts = PerTokenizer(lambda backbone, split: made.append((backbone, split)) or len(made))
    first, second = (Backbone(None, copy.deepcopy(tokenizers["bpe"])) for _ in range(2))
    other = Backbone(None, tokenizers["unigram"])
    asked = [(first, "train"), (second, "train"), (second, "test"), (other, "test"), (first, "test")]
    assert [cuts.of(*one) for one in asked] == [1, 1, 2, 3, 2]
    assert made == [(first, "train"), (second, "test"), (other, "test")]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=40)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_any_text_survives_and_its_ends_are_in_order_and_complete(tokenizers, kind):
    @settings(max_examples=60)
    @given(TEXT)
    def holds(text):
        ids, ends = encode(tokenizers[kind], text)
        assert tokenizers[kind].decode(ids) == text
        assert len(ids) == len(ends)
        assert (np.diff(ends) >= 0).all()
        assert (ends[-1] if len(ends) else 0) == len(text)

    holds()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_text_up_to_an_end_is_what_the_tokens_say(tokenizers, kind):
    text = "def f(x):\n    return x + 1\n"
    ids, ends = encode(tokenizers[kind], text)
    assert [tokenizers[kind].decode(ids[: i + 1]) for i in range(len(ids))] == [text[:end] for end in ends]


ROWS = 380  # of a head that has more rows than the vocabulary has tokens


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_every_spelling_is_what_the_tokenizer_decodes(tokenizers, kind):
    """Behind an anchor, since a decoder may cut a leading space; single bytes of a longer character decode to U+FFFD."""
    tokenizer = tokenizers[kind]
    spelled = spellings(tokenizer, ROWS)
    anchor = next(i for i, s in enumerate(spelled) if s == "a")
    told = [i for i, s in enumerate(spelled) if s is not None]
    for i in told:
        own = tokenizer.decode([anchor, i]).removeprefix("a")
        assert spelled[i].encode("latin-1").decode("utf-8", errors="replace").replace("\ufffd", "") == own.replace(
            "\ufffd", ""
        )
    assert len(told) > 250
    assert not set(told) & set(tokenizer.all_special_ids)
    assert len(spelled) == ROWS
    assert spelled[len(tokenizer) :] == [None] * (ROWS - len(tokenizer))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_spellings_of_a_text_are_its_bytes(tokenizers, texts, kind):
    spelled = spellings(tokenizers[kind], ROWS)
    for text in [CODE, "größe 日本 🙂\t\x00\x7f", *texts]:
        ids = encode(tokenizers[kind], text)[0].tolist()
        assert "".join(spelled[i] for i in ids).encode("latin-1").decode("utf-8") == text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_every_byte_has_a_spelling_of_its_own(tokenizers, kind):
    single = [s for s in spellings(tokenizers[kind], ROWS) if s is not None and len(s) == 1]
    assert {ord(s) for s in single} == set(range(256))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_no_two_tokens_are_spelled_alike_and_what_is_spelled_by_none_is_never_written(tokenizers, texts, kind):
    """A unigram vocabulary holds "(" and <0x28>: the second is never written, and a model knows nothing of it."""
    tokenizer = tokenizers[kind]
    spelled = spellings(tokenizer, ROWS)
    told = [s for s in spelled if s is not None]
    assert len(told) == len(set(told))
    silent = {i for i in range(len(tokenizer)) if spelled[i] is None}
    written = {int(i) for text in [CODE, *texts] for i in encode(tokenizer, text)[0]}
    assert not silent & written
    if kind == "unigram":
        assert spelled[tokenizer.convert_tokens_to_ids("(")] == "("
        assert spelled[tokenizer.convert_tokens_to_ids("<0x28>")] is None


def test_a_head_with_fewer_rows_than_the_vocabulary_has_no_spelling_beyond(tokenizers):
    assert spellings(tokenizers["bpe"], 9) == spellings(tokenizers["bpe"], ROWS)[:9]


def test_ends_never_go_back():
    coded = transformers.BatchEncoding({"input_ids": [5, 6, 7], "offset_mapping": [(0, 3), (0, 1), (3, 4)]})
    coded.tokens = lambda: ["tex", "t", "t"]
    assert encode(lambda *_, **__: coded, "text")[1].tolist() == [3, 3, 4]


def test_the_first_of_two_newlines_ends_before_the_second(tokenizers):
    assert encode(tokenizers["unigram"], "a\n\nb")[1].tolist() == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def processor(texts):
    """A unigram tokenizer and the SentencePiece processor it was made from."""
    import sentencepiece

    made = []

    class Recorded(sentencepiece.SentencePieceProcessor):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentencepiece, "SentencePieceProcessor", Recorded)
        tokenizer = build_tokenizer(texts, "unigram", 360)
    return tokenizer, made[0]


def test_unigram_ids_are_those_of_the_sentencepiece_processor(processor, texts):
    tokenizer, reference = processor
    for text in [CODE, "  leading and  double  ", "\n\n", *texts]:
        assert encode(tokenizer, text)[0].tolist() == reference.encode(text)
    assert len(tokenizer) == reference.get_piece_size() == 360


def test_unigram_ids_of_any_text_are_those_of_the_processor(processor):
    tokenizer, reference = processor

    @settings(max_examples=60)
    @given(TEXT)
    def holds(text):
        assert encode(tokenizer, text)[0].tolist() == reference.encode(text)

    holds()


@pytest.mark.parametrize("text", ["a<0x0A>b", "<0x41>", "x<pad>y", "<unk>", "<|endoftext|>"])
def test_text_that_spells_a_piece_of_its_own_kind_stays_text(processor, text):
    tokenizer, reference = processor
    assert encode(tokenizer, text)[0].tolist() == reference.encode(text)


@pytest.mark.parametrize("text", ["x<pad>y", "<|endoftext|>"])
def test_text_that_spells_a_special_token_stays_text(tokenizers, text):
    assert not {0, 1} & set(encode(tokenizers["bpe"], text)[0].tolist())


def test_special_tokens_have_their_ids(tokenizers):
    assert {kind: (t.pad_token_id, t.eos_token_id) for kind, t in tokenizers.items()} == {
        "bpe": (0, 1),
        "unigram": (0, 1),
    }


def test_text_that_does_not_survive_is_refused(texts, refuses):
    with refuses("tokenizer unigram: a text does not survive"):
        build_tokenizer(["▁ is the space of SentencePiece\n", *texts], "unigram", 360)


def test_a_vocabulary_the_text_cannot_fill_is_refused(texts, refuses):
    with refuses("vocab"):
        build_tokenizer(texts, "unigram", 5000)


def test_equal_sizes_are_not_equal_vocabularies(texts, tokenizers):
    other = build_tokenizer([text.replace("state", "zebra") for text in texts], "bpe", 360)
    assert len(other) == len(tokenizers["bpe"])
    assert vocabulary_hash(other) != vocabulary_hash(tokenizers["bpe"])


def test_packed_windows_are_the_texts_end_to_end(tokenizers):
    tokenizer = tokenizers["bpe"]
    rows = pack(tokenizer, ["def a", "x = 1\n" * 5], 4)
    stream = [*encode(tokenizer, "def a")[0], 1, *encode(tokenizer, "x = 1\n" * 5)[0], 1]
    assert rows.flatten().tolist() == stream[: len(stream) // 4 * 4]


@pytest.fixture
def begun(tokenizers):
    """A tokenizer that puts the token of id 1 before a text, as Gemma's and Llama's do."""
    return beginning(tokenizers["bpe"], 1)


def beginning(tokenizer, n):
    """Return a copy of a tokenizer that puts n tokens before a text."""
    from tokenizers import processors

    copied = copy.deepcopy(tokenizer)
    copied.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*["<|endoftext|>"] * n, "$A"]), special_tokens=[("<|endoftext|>", 1)]
    )
    return copied


def test_the_token_before_a_text_is_read_off_the_tokenizer(begun, tokenizers, refuses):
    assert [start_of(tokenizer) for tokenizer in (begun, *tokenizers.values())] == [1, None, None]
    text = encode(tokenizers["bpe"], "def a")[0].tolist()
    assert prompt_ids(begun, "def a") == [1, *text]
    assert prompt_ids(tokenizers["bpe"], "def a") == encode(begun, "def a")[0].tolist() == text
    with refuses("puts 2 tokens before a text"):
        start_of(beginning(begun, 2))


def test_a_prompt_may_be_of_a_tokenizer_whose_tokens_cannot_be_aligned_with_text(refuses):
    tokenizer = transformers.ByT5Tokenizer(extra_ids=1100)  # too many tokens for one of bytes, and no fast form
    with refuses("has no fast form and is neither SentencePiece's nor one of bytes"):
        encode(tokenizer, "def a")
    assert prompt_ids(tokenizer, "def a") == tokenizer("def a", add_special_tokens=False)["input_ids"]


def test_packed_windows_begin_with_that_token(begun):
    rows = pack(begun, ["def a", "x = 1\n" * 5], 4)
    stream = [*encode(begun, "def a")[0], 1, *encode(begun, "x = 1\n" * 5)[0], 1]
    assert rows[:, 0].tolist() == [1] * len(rows)
    assert rows[:, 1:].flatten().tolist() == stream[: len(stream) // 3 * 3]


def test_that_token_is_a_fact_of_the_backbone(make_backbone, begun):
    assert make_backbone("gpt2").facts.start is None
    assert Backbone(make_backbone("gpt2").model, begun).facts.start == 1


def test_documents_are_not_packed_without_a_token_between_them(tokenizers, refuses):
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers["bpe"].backend_tokenizer)
    with refuses("its tokenizer has no end-of-text token to put between documents"):
        pack(bare, ["def a", "x = 1"], 4)


def test_text_for_less_than_one_window_is_refused(tokenizers, refuses):
    with refuses("2 tokens do not fill one window of 4"):
        pack(tokenizers["bpe"], ["a"], 4)


DEFINITION = Build.model_validate({
    "text": "general", "tokenizer": {"kind": "bpe", "vocab_size": 360}, "model_type": "gpt2",
    "config": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "pretraining": {"steps": 30, "batch": 4, "lr": 1e-2, "warmup": 5, "seed": 1},
})  # fmt: skip


def test_a_built_backbone_has_learned_and_is_the_same_at_every_build(texts):
    window = Window(16, 0, 1)
    first, left = build_backbone(DEFINITION, texts, window)
    second, _ = build_backbone(DEFINITION, texts, window)
    assert left.loss_nats < 0.9 * math.log(360)
    assert left.tokens_seen == 30 * 4 * 16
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert not first.model.training


@pytest.mark.parametrize(("model_type", "config"), [
    ("gpt2", DEFINITION.config),
    ("qwen2", {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
               "num_key_value_heads": 1, "max_position_embeddings": 16}),
])  # fmt: skip
def test_a_backbone_is_pretrained_with_the_tokenizer_that_later_jobs_load(texts, model_type, config, tmp_path):
    """Of Qwen2, transformers puts the family's own rules in place of the saved ones."""
    short = edited(DEFINITION.pretraining, steps=1)
    definition = edited(DEFINITION, model_type=model_type, config=config, pretraining=short)
    built, _ = build_backbone(definition, texts, Window(16, 0, 1))
    save_backbone(built, tmp_path)
    assert tokenizer_json(load_backbone(tmp_path).tokenizer) == tokenizer_json(built.tokenizer)


def test_what_a_decoder_begins_with_makes_another_backbone_and_a_pad_that_says_nothing_does_not(make_backbone):
    t5, gpt2 = (copy.deepcopy(make_backbone(family)) for family in ("t5", "gpt2"))
    before = [identity_hash(one, "w") for one in (t5, gpt2)]
    for one in (t5, gpt2):
        one.model.config.pad_token_id = 5
    assert [identity_hash(one, "w") for one in (t5, gpt2)] == before
    for place in (t5.model.config, t5.model.generation_config):
        place.decoder_start_token_id = place.bos_token_id = None
    t5.model.generation_config.pad_token_id = 5
    assert t5.start_id == 5
    assert identity_hash(t5, "w") != before[0]
