"""Portable modules: what they read and write on any vocabulary, how they are trained, and on live backbones."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from abi.arms.portable_fit import Lesson, Positions, anchors_of, calibrate_placebos, coarser, fit_portable, losses_of
from abi.base.catalogue import ARMS
from abi.base.errors import DataError
from abi.base.files import sha256_tensors
from abi.base.manifests.portable import PortableFacts
from abi.models.attach import generate
from abi.models.attach_any import attach_any as attach
from abi.models.head import Head
from abi.models.load import load_module
from abi.models.logit_shift import vocabulary_of
from abi.models.loop import Phase, Schedule
from abi.models.portable import (
    NO_BYTE,
    Placed,
    PortableConfig,
    PortableModule,
    Vocabulary,
    placebo_of,
    read_portable,
    save_portable,
)
from benchmarks import portable_step

words = st.text("ab \xe9", min_size=1, max_size=4)
vocabularies = st.lists(st.one_of(st.none(), words), min_size=2, max_size=12).filter(any)


@given(spellings=vocabularies, strings=st.lists(words, min_size=1, max_size=6, unique=True))
def test_a_token_belongs_to_the_longest_string_it_begins_with(spellings, strings):
    found = Vocabulary(spellings).longest(strings).tolist()
    for spelling, index in zip(spellings, found, strict=True):
        begins = [string for string in strings if spelling and spelling.startswith(string)]
        assert (strings[index] if index < len(strings) else None) == max(begins, key=len, default=None)


@given(spellings=vocabularies, size=st.integers(1, 5), data=st.data())
def test_a_context_is_the_last_bytes_of_what_was_read(spellings, size, data):
    ids = data.draw(st.lists(st.integers(0, len(spellings) - 1), min_size=1, max_size=8))
    found = Vocabulary(spellings).contexts(torch.tensor([ids]), size)[0]
    for at, text in enumerate(itertools.accumulate(spellings[i] or "" for i in ids)):
        read = [ord(character) for character in text[-size:]]
        assert found[at].tolist() == [NO_BYTE] * (size - len(read)) + read


def module_on(anchors, seed=0, **shape):
    """Return a module that does something: its writer does not begin at zero."""
    module = PortableModule(PortableConfig(tuple(anchors), 8, context=4, byte_width=4, **shape), seed)
    with torch.no_grad():
        module.proj_out.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return module.requires_grad_(False)


@given(order=st.permutations(range(4)))
def test_the_order_of_a_vocabulary_is_of_no_matter(order):
    spellings, module = ["a", "ab", "b", None], module_on(["a", "ab", "b"])
    tokens = torch.tensor([[0, 1, 3, 2, 1]])
    usual = Placed(module, Vocabulary(spellings)).shift(tokens)
    renamed = torch.tensor([order.index(i) for i in tokens[0].tolist()]).unsqueeze(0)
    moved = Placed(module, Vocabulary([spellings[i] for i in order])).shift(renamed)
    torch.testing.assert_close(moved, usual[..., order])


def test_a_token_takes_the_shift_of_the_longest_anchor_it_begins_with_and_none_where_there_is_none():
    placed = Placed(module_on(["a", "abc"]), Vocabulary(["a", "ab", "abcd", "x", None]))
    shift = placed.shift(torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(placed.shift(torch.tensor([[0, 1, 2]]), 1), shift[:, -1:])
    assert placed.shared == 1
    assert torch.equal(shift[..., 0], shift[..., 1])
    assert (shift[..., 1] - shift[..., 2]).abs().min() > 0
    assert shift[..., 3:].abs().max() == 0


def test_anchors_must_be_different_strings():
    for anchors in ((), ("a", "a"), ("",)):
        with pytest.raises(DataError, match="anchors must be different strings"):
            PortableConfig(anchors, 8)


def facts(**changes):
    """What a portable module's config says beside its shape."""
    about = {"base_model": "gpt2", "base_revision": "built", "base_sha256": "a" * 64, "head_sha256": "b" * 64,
             "vocabulary": "c" * 20, "name": "transferred", "text": "python", "seed": 1}  # fmt: skip
    return PortableFacts(**{**about, **changes})


def test_a_saved_module_comes_back_as_it_was(tmp_path):
    module = module_on(["a", "ab", "\xe9"])
    digest = save_portable(module, tmp_path, facts())
    for read in (read_portable, load_module):
        other, about = read(tmp_path)
        assert about.sha256 == digest
        assert other.config == module.config
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_damage_to_a_saved_module_is_said_in_one_sentence(tmp_path, refuses):
    save_portable(module_on(["a", "ab"]), tmp_path, facts())
    other = module_on(["a", "ab"], seed=1).state_dict()
    save_file(other, tmp_path / "abi_model.safetensors")
    with refuses("does not match the hash"):
        read_portable(tmp_path)
    save_file(module_on(["a"]).state_dict(), tmp_path / "abi_model.safetensors")
    with refuses("no portable module of this shape"):
        read_portable(tmp_path)


def test_placebos_keep_reader_and_writer(tmp_path):
    module = module_on(["a", "ab"])
    module.domain_alpha.data.fill_(1.6)
    for kind, gate in (("random", 1.0), ("permuted", 1.6)):
        first, again, other = (placebo_of(module, kind, seed) for seed in (1, 1, 2))
        for name, value in module.state_dict().items():
            same = torch.equal(first.state_dict()[name], value)
            assert same or name.startswith("domain"), name
            assert torch.equal(first.state_dict()[name], again.state_dict()[name])
        assert float(first.domain_alpha) == pytest.approx(gate)  # the gate is the net's: a random one knows none
        assert not torch.equal(first.domain.net[0].weight, module.domain.net[0].weight)
        assert not torch.equal(first.domain.net[0].weight, other.domain.net[0].weight)


@pytest.fixture
def lesson(make_states):
    """Text in which `b` follows `a`, which the plain head knows nothing of; general text has neither."""
    vocabulary = Vocabulary([None, "a", "b", "ab", "c", "d", "e", "f", "g", "h", "i"])
    domain, general = make_states(n=40, name="domain"), make_states(n=40, seed=1, name="general")
    for states, pair in ((domain, (1, 2)), (general, (5, 6))):
        tokens = torch.tensor(pair, dtype=torch.int32).repeat(4)[:7].expand(40, 7).contiguous()
        states._tensors |= {"tokens": tokens, "targets": tokens[:, 1:].contiguous()}
    head = Head(torch.zeros(11, 8), 1.0)
    return Lesson(head, Positions(domain, vocabulary, 4), Positions(general, vocabulary, 4),
                  coarser(vocabulary.strings, vocabulary, 3, 0), harm=1.0), vocabulary  # fmt: skip


def test_a_coarser_vocabulary_keeps_single_bytes_and_shortens_the_rest():
    vocabulary = Vocabulary(["a", "ab", "abc", "b"])
    maps = coarser(vocabulary.strings, vocabulary, 20, 0)
    assert maps[0].tolist() == [0, 1, 2, 3]
    assert (maps[:, 0] == 0).all()
    assert (maps[:, 3] == 3).all()
    assert {tuple(row) for row in maps[:, 1:3].tolist()} == {(1, 2), (0, 2), (1, 1), (0, 0)}


@pytest.mark.parametrize(("most", "kept"), [(None, "a b ab bb"), (9, "a b ab bb"), (3, "a b bb"), (2, "a b"), (1, "a")])
def test_anchors_are_single_bytes_and_what_the_texts_use_most(make_states, most, kept):
    vocabulary, states = Vocabulary(["a", "b", "ab", "bb", None, "bb"]), make_states(n=1)
    states._tensors["targets"] = torch.tensor([[3, 5, 2, 0, 0, 4]], dtype=torch.int32)
    assert anchors_of(vocabulary, [states], most) == tuple(kept.split())


def test_losses_over_strings_are_those_over_tokens():
    """Tokens that no string begins, strings that no token begins, and one string of many tokens are among them."""
    torch.manual_seed(0)
    for tokens, strings in ((50, 40), (400, 6)):
        modules, *rest, anchor_of = portable_step.step_of(32, tokens, strings, 8)
        anchor_of[:2] = torch.tensor([strings, 0])
        found = []
        for losses in (portable_step.by_token, losses_of):
            values = losses(modules, *rest, anchor_of=anchor_of)
            gradients = torch.autograd.grad(sum(values), [module.proj_out.weight for module in modules])
            found.append((torch.stack(values), torch.stack(gradients)))
        for one, other in zip(*found, strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_module_learns_its_domain_and_leaves_general_text_alone(lesson):
    given, vocabulary = lesson
    config = PortableConfig(vocabulary.strings, 8, context=4, byte_width=4)
    forms = {"transferred": PortableModule(config, 1), "bias": PortableModule(replace(config, domain_net=False), 1)}
    before = {name: p.clone() for name, p in forms["bias"].named_parameters()}
    fit_portable(forms, given, Schedule([Phase(80, 3e-2)]), batch=32, seed=1)
    placed = Placed(forms["transferred"], vocabulary)
    after_a, after_e = (placed.shift(torch.tensor([[t] * 6]))[0, -1].softmax(-1) for t in (1, 5))
    assert after_a[2] > 0.8
    assert (after_e - 1 / 11).abs().max() < 0.2
    of_bias = Placed(forms["bias"], vocabulary).shift(torch.tensor([[1, 5, 2]]))[0]
    assert torch.allclose(of_bias[0], of_bias[1])
    assert of_bias.abs().max() > 0.1
    assert torch.equal(forms["bias"].bytes.weight, before["bytes.weight"])


def test_placebos_come_closer_to_the_moved_module_on_general_text_and_keep_their_nets(lesson):
    given, vocabulary = lesson
    config = PortableConfig(vocabulary.strings, 8, context=4, byte_width=4)
    moved, bias = PortableModule(config, 1), PortableModule(replace(config, domain_net=False), 1)
    fit_portable({"transferred": moved, "bias": bias}, given, Schedule([Phase(80, 3e-2)]), batch=32, seed=1)
    kept = sha256_tensors(dict(moved.named_parameters()))
    placebos = {kind: placebo_of(moved, kind, 3) for kind in ("random", "permuted", "no-domain")} | {"bias": bias}
    before = {name: {k: p.clone() for k, p in module.named_parameters()} for name, module in placebos.items()}
    trained = calibrate_placebos(
        placebos, moved, given.domain, given.head, given.anchor_of[0], Schedule([Phase(60, 1e-2)]), batch=32, seed=1
    )
    assert placebos["no-domain"].domain is None
    for name, module in placebos.items():
        changed = {k for k, p in module.named_parameters() if not torch.equal(p, before[name][k])}
        assert "proj_out.weight" in changed
        assert not [key for key in changed if key.startswith("domain")]
        assert changed <= {"abi_ln.bias", "proj_out.weight"} or name != "bias"
        losses = trained[name].losses
        assert sum(losses[-5:]) < sum(losses[:5])
    assert sha256_tensors(dict(moved.named_parameters())) == kept


def test_training_is_the_same_twice_and_whatever_is_trained_beside(lesson):
    given, vocabulary = lesson
    config = PortableConfig(vocabulary.strings, 8, context=4, byte_width=4)

    def trained(*names):
        forms = {
            name: PortableModule(config if name == "transferred" else replace(config, domain_net=False), 1)
            for name in names
        }
        fit_portable(forms, given, Schedule([Phase(5, 1e-2)]), batch=16, seed=3)
        return forms["transferred"].proj_out.weight

    assert torch.equal(trained("transferred"), trained("transferred", "no-domain", "bias"))


IDS = torch.arange(24).reshape(2, 12) + 3


@pytest.fixture
def placed_on():
    def make(backbone, seed=0):
        anchors = [s for s in vocabulary_of(backbone).strings if len(s) < 3]
        return module_on(anchors, seed)

    return make


@torch.no_grad()
def test_an_attached_module_gives_the_logits_of_stored_states(backbone, window_of, placed_on):
    window, module = window_of(backbone), placed_on(backbone)
    plain = backbone.logits(IDS, window)
    placed = Placed(module, vocabulary_of(backbone))
    read = placed.module.abi_state(placed.vocabulary.contexts(IDS, 4)[:, max(window.prefix, 1) - 1 : -1])
    with attach(backbone, module):
        got = backbone.logits(IDS, window)
    assert torch.allclose(got, plain + read @ placed.readout(torch.zeros(())).T, atol=1e-5)
    assert (got - plain).abs().max() > 1e-3
    assert torch.equal(backbone.logits(IDS, window), plain)


@torch.no_grad()
def test_generation_is_the_same_with_a_cache_and_for_rows_of_a_batch(backbone, placed_on):
    with attach(backbone, placed_on(backbone)):
        cached, plain = (generate(backbone, IDS, 8, cache=cache) for cache in (True, False))
        assert torch.equal(cached, plain)
        alone = generate(backbone, IDS[1:], 8)
        assert torch.equal(cached[1, : alone.shape[1]], alone[0])
    assert not torch.equal(generate(backbone, IDS, 8), cached)


@torch.no_grad()
def test_beams_read_their_own_text(make_backbone, placed_on):
    backbone = make_backbone("gpt2")
    with attach(backbone, placed_on(backbone, 2)):
        asked = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
        cached, plain = (backbone.model.generate(IDS, use_cache=cache, **asked) for cache in (True, False))
        assert torch.equal(cached, plain)


def test_tokens_whose_text_is_not_known_are_refused(make_backbone, placed_on, refuses):
    backbone = make_backbone("gpt2")
    with attach(backbone, placed_on(backbone)):
        cache = backbone.model(input_ids=IDS, use_cache=True).past_key_values
        with refuses("the text before these ids lies in a cache"):
            backbone.model(input_ids=IDS[:, :1], past_key_values=cache)
        with refuses("give the model ids"):
            backbone.model(inputs_embeds=torch.zeros(1, 2, backbone.width))
        with refuses("take the loss from the logits"):
            backbone.model(input_ids=IDS, labels=IDS)


def test_a_module_whose_strings_no_token_begins_with_is_refused(make_backbone, refuses):
    with refuses("are not those of this vocabulary"):
        attach(make_backbone("gpt2"), module_on(["\x00\x01\x02"]))


def test_every_arm_of_zero_text_is_placed():
    """An arm is made in `placed_of_seed`; a recipe alone would leave it out of the evidence without a word."""
    recipes = {arm.name for arm in ARMS.values() if "zero-text" in arm.recipes}
    assert recipes == {"transferred", "random", "permuted", "no-domain", "bias", "wrong-domain"}
