from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arms import edited, states_manifest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from abi.arms.alignment import pair_states
from abi.base.errors import DataError
from abi.base.files import read_tensors
from abi.models.backbone import Window
from abi.models.head import Head
from abi.models.states import States, make_windows, write_states
from abi.models.tokenizers import encode
from abi.models.windows import windows_and_lost_share
from abi.plan.specs.models import WriteStates
from abi.text.documents import Document

GPT2, T5 = Window(8, 0, 2), Window(8, 3, 1)
LIMITS = {"max_windows": 100, "max_per_document": 100, "min_scored": 1}


def doc(text, name="a"):
    return Document(name, f"g-{name}", "s", "1", "0" * 64, "train", len(text.encode()), text)


def letters(text):
    """A tokenizer of one token per character: its id is the character's code."""
    return np.array([ord(c) for c in text], dtype=np.int32), np.arange(1, len(text) + 1, dtype=np.int32)


def spelled(tokens):
    return ["".join(map(chr, row)) for row in tokens.tolist()]


@pytest.mark.parametrize("window", [GPT2, T5])
def test_windows_do_not_overlap_and_never_cross_a_document(window):
    texts = ["abcdefghijklmnopqrstuvwxyz", "short", "ABCDEFGHIJKLMNOP"]
    windows = make_windows([doc(t, t[:2]) for t in texts], letters, window, **LIMITS)
    assert spelled(windows.tokens) == ["abcdefgh", "ijklmnop", "qrstuvwx", "ABCDEFGH", "IJKLMNOP"]
    assert windows.document.tolist() == [0, 0, 0, 1, 1]
    assert (windows.names, windows.groups) == (["ab", "AB"], ["g-ab", "g-AB"])


@pytest.mark.parametrize(("window", "first"), [(GPT2, 1), (T5, 3)])
def test_char_end_is_what_a_position_has_read_before_it_predicts(window, first):
    text = "abcdefghijklmnop"
    windows = make_windows([doc(text)], letters, window, **LIMITS)
    for ends, ids in zip(windows.char_end.tolist(), spelled(windows.targets), strict=True):
        assert [text[end] for end in ends] == list(ids)
    assert windows.char_end[:, 0].tolist() == [first, 8 + first]
    assert windows.targets.shape == (2, window.positions)


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=60), st.sampled_from([GPT2, T5]))
def test_target_bytes_are_those_of_the_characters_they_stand_for(text, window):
    windows = make_windows([doc(text)], letters, window, **LIMITS)
    for sizes, ends in zip(windows.target_bytes.tolist(), windows.char_end.tolist(), strict=True):
        assert sizes == [len(text[end].encode()) for end in ends]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("window", [GPT2, T5])
def test_bytes_of_a_window_add_up_to_its_text(tokenizers, texts, kind, window):
    text = "größe = '日本'\n\n\n" + texts[0]
    code = partial(encode, tokenizers[kind])
    windows = make_windows([doc(text)], code, window, **LIMITS)
    ends = code(text)[1]
    assert len(windows.tokens) > 100 - 1
    for i, sizes in enumerate(windows.target_bytes.sum(1).tolist()):
        first, last = ends[i * 8 + (window.prefix or 1) - 1], ends[i * 8 + 7]
        assert sizes == len(text[first:last].encode())


@pytest.mark.parametrize(("window", "first"), [(GPT2, 1), (T5, 3)])
def test_a_token_before_the_text_is_in_every_window_and_never_a_target(window, first):
    text = "größeren Fenstern fehlt ein Zeichen"
    windows = make_windows([doc(text)], letters, window, **LIMITS, begin=7)
    assert windows.tokens[:, 0].tolist() == [7] * 5
    assert "".join(spelled(windows.tokens[:, 1:])) == text
    assert 7 not in windows.targets
    for row, ids in enumerate(spelled(windows.targets)):
        ends = windows.char_end[row].tolist()
        here = [text[7 * row + first - 1], *(text[end] for end in ends[1:])]
        assert here == list(ids)
        assert windows.target_bytes[row].tolist() == [len(letter.encode()) for letter in ids]
        assert ends[0] == (0 if first == 1 else 7 * row + first - 1)


def test_a_position_that_has_read_nothing_is_paired_with_none(tokenizers, texts, make_backbone, tmp_path):
    made = []
    for name, begin in (("with", 1), ("without", None)):
        windows = make_windows([doc(texts[0])], partial(encode, tokenizers["bpe"]), GPT2, **LIMITS, begin=begin)
        backbone = make_backbone("gpt2")
        stored = write_states(backbone, windows, GPT2, [], backbone.head(), tmp_path / name)
        made.append(States(tmp_path / name, states_manifest(stored.model_dump())))
    at, _ = pair_states(*made, None)
    assert len(at) > 100
    assert not (at % GPT2.positions == 0).any()


def test_a_document_gives_no_more_windows_than_its_limit_and_all_no_more_than_theirs():
    documents = [doc("x" * 80, name) for name in "abc"]
    limits = {"max_windows": 7, "max_per_document": 3, "min_scored": 1}
    assert make_windows(documents, letters, GPT2, **limits).document.tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_documents_with_too_few_scored_positions_are_left_out():
    documents = [doc("x" * 15, "short"), doc("x" * 16, "long")]
    windows = make_windows(documents, letters, GPT2, **{**LIMITS, "min_scored": 7 - 2 + 1})
    assert windows.names == ["long"]


def test_text_without_a_long_document_is_refused(refuses):
    with refuses("no document fills 1 scored positions of windows of 8 tokens; add longer text"):
        make_windows([doc("short"), doc("")], letters, GPT2, **LIMITS)


@pytest.fixture(params=["gpt2", "t5"])
def pass_(request, make_backbone, texts, tmp_path):
    """A backbone, windows of real text, and where their states go."""
    backbone = make_backbone(request.param)
    window = T5 if backbone.is_encoder_decoder else GPT2
    limits = {"max_windows": 7, "max_per_document": 3, "min_scored": 1}
    documents = [doc(text, str(i)) for i, text in enumerate(texts)]
    windows = make_windows(documents, partial(encode, backbone.tokenizer), window, **limits)
    return backbone, windows, window, backbone.head(), tmp_path / "s.safetensors"


@torch.no_grad()
def test_stored_states_are_those_of_the_backbone(pass_, monkeypatch):
    backbone, windows, window, head, path = pass_
    monkeypatch.setattr("abi.models.states.PER_PASS", 3)
    states = States(path, states_manifest(write_states(backbone, windows, window, [0, 1], head, path)))
    hidden = backbone.hidden_states(windows.tokens, window)
    torch.testing.assert_close(
        states.taps([1, 0], slice(None)), torch.stack([hidden[1], hidden[0]], dim=2), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(states.final(slice(None)), hidden[-1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        head.logits(states.final(slice(2, 5))), backbone.logits(windows.tokens[2:5], window), rtol=1e-5, atol=1e-6
    )


def test_a_store_gives_back_its_windows(pass_):
    backbone, windows, window, head, path = pass_
    states = States(path, states_manifest(write_states(backbone, windows, window, [], head, path)))
    assert len(states) == 7
    for name in ("target_bytes", "char_end", "document"):
        assert torch.equal(getattr(states, name), getattr(windows, name))
    assert torch.equal(states.targets(slice(None)), windows.targets.long())
    assert torch.equal(states.tokens(slice(None)), windows.tokens)
    assert (states.manifest.length, states.windows.tolist()) == (window.length, list(range(7)))
    assert (states.manifest.documents, states.manifest.groups) == (windows.names, windows.groups)
    assert (states.skip, states.final_tap) == (window.skip, backbone.depth)


def test_two_passes_are_byte_identical(pass_):
    backbone, windows, window, head, path = pass_
    write_states(backbone, windows, window, [1], head, path)
    write_states(backbone, windows, window, [1], head, path.with_name("again"))
    assert path.read_bytes() == path.with_name("again").read_bytes()


def test_states_may_be_stored_in_half_precision(pass_):
    backbone, windows, window, head, path = pass_
    states = States(
        path, states_manifest(write_states(backbone, windows, window, [], head, path, dtype=torch.bfloat16))
    )
    assert states.manifest.dtype == "bfloat16"
    assert states.final(slice(1)).dtype == torch.float32


@pytest.mark.parametrize("tap", [-1, 3])
def test_a_tap_that_does_not_exist_is_refused(pass_, tap, refuses):
    backbone, windows, window, head, path = pass_
    with refuses(f"tap {tap} does not exist; valid taps are 0 to 2"):
        write_states(backbone, windows, window, [tap], head, path)


def test_states_that_are_nan_are_refused_and_not_written(pass_, make_backbone, refuses):
    _, windows, window, head, path = pass_
    backbone = make_backbone("t5" if window.prefix else "gpt2")
    with torch.no_grad():
        next(p for n, p in backbone.model.named_parameters() if "layer.0" in n or "h.0" in n).fill_(torch.nan)
    with refuses("is refused, its weight .* holds NaN or infinity"):
        write_states(backbone, windows, window, [], head, path)
    assert list(path.parent.iterdir()) == []


def test_a_head_that_is_not_the_models_is_refused(pass_, refuses):
    backbone, windows, window, head, path = pass_
    with refuses("misses the model's own logits by 1.0e-02"):
        write_states(backbone, windows, window, [], Head(head.weight, head.scale * 1.01, head.bias), path)


def test_a_prefix_for_a_causal_backbone_is_refused(make_backbone, texts, tmp_path, refuses):
    backbone = make_backbone("gpt2")
    windows = make_windows([doc(texts[0])], partial(encode, backbone.tokenizer), T5, **LIMITS)
    with refuses("prefix"):
        write_states(backbone, windows, T5, [], backbone.head(), tmp_path / "s")


def test_a_tap_that_is_not_stored_is_one_sentence(make_states, refuses):
    with refuses("tap 7 is not stored .stored: .0, 1, 2..; add it to the backbone's `taps`"):
        make_states().taps([0, 7], slice(None))


@pytest.mark.parametrize("change", [{"n_windows": 11}, {"positions": 7}, {"width": 4}, {"final_tap": 5}])
def test_a_manifest_that_promises_other_states_is_refused(make_states, change, refuses):
    states = make_states()
    with refuses("does not hold the .* states its manifest promises; delete both and rebuild them"):
        States(states.path, edited(states.manifest, **change))


@pytest.mark.parametrize("change", [{"documents": ["d0"], "groups": ["g0"]}, {"taps": [0, 1, 2, 3]}])
def test_a_manifest_of_other_documents_or_taps_is_refused(make_states, change, refuses):
    states = make_states()
    with refuses("manifest"):
        States(states.path, edited(states.manifest, **change))


def test_tensors_of_fewer_windows_than_the_states_are_refused(make_states, refuses):
    states = make_states()
    tensors = load_file(states.path)
    save_file({**tensors, "targets": tensors["targets"][:5].clone()}, states.path)
    with refuses("manifest"):
        States(states.path, states.manifest)


def test_a_truncated_and_a_missing_file_are_refused(make_states, tmp_path, refuses):
    states = make_states()
    states.path.write_bytes(states.path.read_bytes()[:-8])
    with refuses("is not a readable safetensors file"):
        States(states.path, states.manifest)
    with refuses("does not exist"):
        read_tensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("chosen", [[4], [11, 0, 3], [5, 5, 1], range(12), range(3, 9)])
def test_selected_windows_are_the_chosen_ones_in_their_order(make_states, chosen):
    states = make_states()
    part = states.select(chosen)
    index = torch.tensor(list(chosen))
    assert len(part) == len(index)
    assert torch.equal(part.taps([2, 0], slice(None)), states.taps([2, 0], index))
    assert torch.equal(part.targets(slice(None)), states.targets(index))
    for key in ("documents", "groups"):
        names = [getattr(part.manifest, key)[i] for i in part.document.tolist()]
        assert names == [getattr(states.manifest, key)[i] for i in states.document[index].tolist()]
    assert set(part.document.tolist()) == set(range(len(part.manifest.documents)))


def test_a_selection_keeps_tokens_and_the_numbers_of_its_windows(make_states):
    states = make_states()
    part = states.select([7, 2, 5]).select([2, 0])
    assert part.windows.tolist() == [5, 7]
    assert torch.equal(part.tokens(slice(None)), states.tokens(torch.tensor([5, 7])))
    assert torch.equal(part.tokens(slice(None))[:, 1:].long(), part.targets(slice(None)))


def test_single_positions_keep_their_windows_number_and_hold_no_tokens(make_states):
    states = make_states()
    part = states.positions(torch.tensor([0, 13, 70]))
    assert part.windows.tolist() == [0, 2, 11]
    assert torch.equal(part.targets(slice(None)).flatten(), states.targets(slice(None)).flatten()[[0, 13, 70]])
    with pytest.raises(KeyError):
        part.tokens(slice(None))


@pytest.mark.parametrize("change", ["missing", "short", "float"])
def test_states_without_the_tokens_they_promise_are_refused(make_states, change, refuses):
    states = make_states()
    tensors = load_file(states.path)
    tokens = tensors.pop("tokens")
    changed = {"missing": {}, "short": {"tokens": tokens[:, 1:].clone()}, "float": {"tokens": tokens.float()}}
    save_file(tensors | changed[change], states.path)
    with refuses("its manifest promises"):
        States(states.path, states.manifest)


def test_a_selection_leaves_the_store_as_it_was(make_states):
    states = make_states()
    states.select([0])
    assert len(states) == len(states.document) == states.manifest.n_windows == 12


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_is_scale_weight_and_bias(head, bias):
    own = Head(head.weight, head.scale, head.bias if bias else None)
    states = torch.randn(2, 3, 8)
    expected = 0.5 * states.double() @ head.weight.double().T + (head.bias.double() if bias else 0)
    torch.testing.assert_close(own.logits(states).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "scale"),
    [
        ({"weight": torch.ones(3, 2)}, "one"),
        ({"weight": torch.ones(3, 2)}, "nan"),
        ({"weight": torch.ones(3)}, "1"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "1"),
    ],
)
def test_a_head_of_another_form_is_refused(tmp_path, tensors, scale, refuses):
    save_file(tensors, tmp_path / "head", metadata={"scale": scale})
    with refuses("holds no head"):
        Head.read(tmp_path / "head")


@pytest.mark.parametrize(("name", "dtype"), [("tap.1", torch.int8), ("targets", torch.float32)])
def test_states_of_another_kind_of_number_are_refused(make_states, name, dtype, refuses):
    states = make_states()
    tensors = load_file(states.path)
    save_file(tensors | {name: tensors[name].to(dtype)}, states.path)
    with refuses("its manifest promises"):
        States(states.path, states.manifest)


def test_a_file_that_is_no_head_is_refused(tmp_path, refuses):
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "h.safetensors")
    with refuses("h.safetensors"):
        Head.read(tmp_path / "h.safetensors")


def test_the_windows_of_a_split_and_what_is_lost_are_of_its_documents_that_fill_one():
    """Its tokenizer begins every text with a token of its own, and makes a space of an empty line."""
    letter = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1, " ": 2, "a": 3, "b": 4}, "<unk>"))
    letter.normalizer, letter.pre_tokenizer = normalizers.Replace("\n", " "), pre_tokenizers.Split("", "isolated")
    letter.decoder = decoders.Fuse()
    letter.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letter, bos_token="<s>", unk_token="<unk>")
    written = {"long": "ab ba ba", "lossy": "a\nb\na\nb\n", "short": "\n\n", "learned": "\n" * 40}
    documents = [replace(doc(text, name), split="test") for name, text in written.items()]
    documents[-1] = replace(documents[-1], split="train")
    limits = {"max_windows": {"test": 9, "calibration": 9, "train": 9}}
    limits["max_windows_per_document"] = limits["max_windows"]
    spec = WriteStates.model_validate(
        {"window": {"length": 9, "prefix": 0, "skip": 2}, "taps": [1], **limits, "min_scored": 1,
         "split": {"test": 0.5, "calibration": 0.2, "train": 0.3}, "salt": "s"}
    )  # fmt: skip
    backbone = SimpleNamespace(tokenizer=tokenizer, name="Small")
    windows, lost = windows_and_lost_share(documents[:1] + documents[2:], spec, backbone, "test")
    assert (windows.names, windows.tokens.tolist(), lost) == (["long"], [[0, 3, 4, 2, 4, 3, 2, 4, 3]], 0.0)
    with pytest.raises(DataError, match=r"Small loses 25\.0% of the characters"):
        windows_and_lost_share(documents, spec, backbone, "test")
