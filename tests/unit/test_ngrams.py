"""N-gram models of bytes: probabilities that sum to one, and losses that a naive loop finds too."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abi.models.ngrams import Foretold, Ngrams, mixed_losses, numbered, weight_after
from abi.models.portable import NO_BYTE, Vocabulary

TEXT = st.text("ab c", min_size=1, max_size=40).map(str.encode)


def naive(texts: list[bytes], order: int, context: bytes, symbol: int) -> float:
    """Return the Witten-Bell probability of a byte, by counting."""
    p = 1 / 256
    for k in range(order):
        if k > len(context):
            break
        before = context[len(context) - k :]
        follow = [text[i + k] for text in texts for i in range(len(text) - k) if text[i : i + k] == before]
        if follow:
            p = (follow.count(symbol) + len({*follow}) * p) / (len(follow) + len({*follow}))
    return p


def padded(context: bytes, order: int) -> np.ndarray:
    return np.array([([NO_BYTE] * order + [*context])[-(order - 1) :] if order > 1 else []], dtype=np.int64)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.integers(1, 5), TEXT, st.sampled_from([*b"ab cz"]))
def test_a_probability_is_that_of_a_naive_count(texts, order, context, symbol):
    model = Ngrams(texts, order)
    found = model.probabilities(padded(context, order), np.array([symbol]))
    assert found == pytest.approx([naive(texts, order, context, symbol)], rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.integers(1, 5), TEXT)
def test_the_probabilities_of_all_bytes_sum_to_one(texts, order, context):
    contexts = np.repeat(padded(context, order), 256, 0)
    assert Ngrams(texts, order).probabilities(contexts, np.arange(256)).sum() == pytest.approx(1.0)


def test_what_stands_before_a_text_is_no_zero_byte_and_grams_of_other_lengths_have_other_numbers():
    grams = [numbered(np.array([gram], dtype=np.int64)).item() for gram in ([0], [0, 0], [NO_BYTE], [NO_BYTE, 0])]
    assert len({*grams}) == 4


class Stored:
    """Some windows of tokens, as stored states give them, with plain logits instead of states."""

    def __init__(self, tokens: torch.Tensor, logits: torch.Tensor, skip: int = 0) -> None:
        self.own, self.logits, self.skip = tokens, logits, skip
        self.manifest = self
        self.positions = tokens.shape[1] - 1

    def __len__(self) -> int:
        return len(self.own)

    def tokens(self, index):
        return self.own[index]

    def targets(self, index):
        return self.own[index, 1:]

    def final(self, index):
        return self.logits[index]


class Plain:
    """A head that gives what it is given."""

    @staticmethod
    def logits(final):
        return final


SPELLED = [*(chr(i) for i in range(256)), "ab", "abc", "abca", "b ", "ab", None]
VOCABULARY = Vocabulary(SPELLED)
TEXTS = [b"abc abca ab", b"cab ab abc", b"b ab b abca"]


def windows(seed: int, n: int = 3, length: int = 9) -> Stored:
    generator = torch.Generator().manual_seed(seed)
    choice = torch.tensor([97, 98, 99, 32, 256, 257, 258, 259, 260, 261])
    tokens = choice[torch.randint(len(choice), (n, length), generator=generator)]
    return Stored(tokens, torch.randn(n, length - 1, len(SPELLED), generator=generator), skip=2)


def test_the_probabilities_of_all_tokens_sum_to_one_and_a_second_token_of_a_string_has_none():
    foretold = Foretold(Ngrams(TEXTS, 4), VOCABULARY)
    context = [97, 32, 97]
    every = [Stored(torch.tensor([[*context, token]]), torch.zeros(0)) for token in range(len(SPELLED))]
    last = [float(foretold.probabilities(one, slice(None))[0, -1]) for one in every]
    assert sum(last) == pytest.approx(1.0)
    assert last[260] == last[261] == 0.0
    assert min(last) >= 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.integers(1, 6), TEXT)
def test_the_distribution_over_all_tokens_is_what_each_is_given_by_itself(texts, order, context):
    foretold = Foretold(Ngrams(texts, order), VOCABULARY)
    before = padded(context, order)
    each = torch.from_numpy(before).expand(len(SPELLED), 1, order - 1).transpose(0, 1)
    alone = foretold.likelihoods(each, torch.arange(len(SPELLED))[None])[0].numpy()
    found = foretold.distribution(before[0])
    np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-15)
    assert found.sum() == pytest.approx(1.0)


def test_a_token_is_as_likely_as_its_string_less_those_that_go_on_from_it():
    foretold = Foretold(Ngrams(TEXTS, 3), VOCABULARY)
    found = foretold.probabilities(Stored(torch.tensor([[32, 256]]), torch.zeros(0)), slice(None))

    def string(text: bytes) -> float:
        return math.prod(naive(TEXTS, 3, (b" " + text[:i])[-2:], text[i]) for i in range(len(text)))

    assert float(found) == pytest.approx(string(b"ab") - string(b"abc"))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_losses_are_those_of_a_naive_loop_whatever_the_batch(share):
    states, foretold = windows(1), Foretold(Ngrams(TEXTS, 4), VOCABULARY)
    its, found = foretold.probabilities(states, slice(None)), []
    for window in range(len(states)):
        weight, losses = 0.5, []
        for t in range(states.positions):
            target = int(states.own[window, t + 1])
            chances = torch.softmax(states.logits[window, t], -1)
            own, left = float(chances[target]), 1 - float(chances[260:].sum())
            other = own if target >= 260 else left * float(its[window, t])
            both = (1 - weight) * own + weight * other
            losses.append(-math.log(both))
            weight = (1 - share) * weight * other / both + share / 2
        found.append(sum(losses[2:]) / len(losses[2:]))
    for batch in (1, 2, 8):
        mixed = mixed_losses(foretold, states, Plain, share, windows_per_batch=batch)
        torch.testing.assert_close(mixed, torch.tensor(found, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_a_backbone_that_is_sure_of_a_silent_token_leaves_no_loss_that_is_no_number():
    tokens, generator = torch.tensor([[99] * 60]), torch.Generator().manual_seed(0)
    logits = torch.full((1, 59, len(SPELLED)), -30.0)
    logits[..., 260], logits[..., 261] = 0.0, -16 - torch.rand(59, generator=generator)
    foretold = Foretold(Ngrams(TEXTS, 3), VOCABULARY)
    losses = mixed_losses(foretold, Stored(tokens, logits), Plain, 0.3)
    assert torch.isfinite(losses).all()


def test_text_of_another_kind_is_left_to_the_backbone():
    # A backbone that is sure of what no n-gram foretells loses no more than what it takes to learn whom to trust.
    tokens = torch.tensor([[99, 259] * 20])
    logits = torch.full((1, 39, len(SPELLED)), -20.0).scatter(2, tokens[:, 1:, None], 20.0)
    losses = mixed_losses(Foretold(Ngrams([b"aaaa"], 3), VOCABULARY), Stored(tokens, logits), Plain, 0.01)
    assert float(losses) < 2 * math.log(2) / 39 + 0.01


def test_the_weight_after_a_token_follows_bayes_and_starts_again_where_both_gave_it_nothing():
    found = weight_after(torch.full((3,), 0.2), torch.tensor([0.1, 0.0, 0.3]), torch.tensor([0.4, 0.0, 0.3]), 0.1)
    assert found.tolist() == pytest.approx([0.9 * 0.08 / 0.16 + 0.05, 0.5, 0.9 * 0.2 + 0.05])
