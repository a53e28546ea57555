"""N-gram models of bytes: the simplest thing that moves between models as it is.

A portable module (`models/portable.py`) knows its domain by the last bytes of the text. So does an n-gram model, which
needs no net, no gradient and no backbone to be trained beside: counts of the same text, interpolated by Witten and Bell
(1991, method C). It stands beside every zero-text transfer as what a user would do instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from abi.models.head import Head
from abi.models.portable import Vocabulary
from abi.models.states import States

Numbers = NDArray[np.uint64]
Floats = NDArray[np.float64]
BASE = np.uint64(0x9E3779B97F4A7C15)
"""A gram is numbered by a polynomial in it modulo 2^64: two of 10^6 grams meet with a probability of about 10^-7."""
EVENLY = 0.5
"""Weight of the n-gram model before the first token."""


class Table(NamedTuple):
    """The n-grams of one length: sorted numbers, how often each stands, and per context how often and with how many."""

    grams: Numbers
    counts: NDArray[np.int64]
    contexts: Numbers
    totals: NDArray[np.int64]
    kinds: NDArray[np.int64]


class Ngrams:
    """Counts of the n-grams of bytes of some texts. Args: order: bytes of the longest, `n`."""

    def __init__(self, texts: Sequence[bytes], order: int) -> None:
        self.order = order
        read = [np.frombuffer(text, dtype=np.uint8) for text in texts]
        longest = max(map(len, read), default=0)
        self.tables = [counted([text for text in read if len(text) > k], k) for k in range(min(order, longest))]

    def probabilities(self, contexts: NDArray[np.int64], symbols: NDArray[np.int64]) -> Floats:
        """Return the probability `[N]` of byte `symbols` `[N]` after the last bytes `[N, order - 1]` of a text.

        Of order k it is `(count + kinds * p) / (total + kinds)`, p being that of order k - 1 and 1/256 below the first.
        """
        p = np.full(len(symbols), 1 / 256)
        for k, table in enumerate(self.tables):
            numbers = numbered(contexts[:, contexts.shape[1] - k :])
            at, found = looked_up(table.contexts, numbers)
            place, seen = looked_up(table.grams, continued(numbers, symbols))
            kinds, count = table.kinds[at], np.where(seen, table.counts[place], 0)
            p = np.where(found, (count + kinds * p) / (table.totals[at] + kinds), p)
        return p

    def strings(self, contexts: NDArray[np.int64], strings: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
        """Return the probability `[N]` that a text goes on with strings `[N, L]`, of which the first bytes count."""
        found, size = np.ones(len(strings)), self.order - 1
        text = np.concatenate([contexts, strings], 1)
        for i in range(int(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > i)
            found[rows] *= self.probabilities(text[rows, i : i + size], strings[rows, i])
        return found


def counted(texts: Sequence[NDArray[np.uint8]], k: int) -> Table:
    """Return the table of the grams of k bytes and one more."""
    grams = np.concatenate([np.lib.stride_tricks.sliding_window_view(text, k + 1) for text in texts])
    contexts = numbered(grams[:, :-1])
    found, first, counts = np.unique(continued(contexts, grams[:, -1]), return_index=True, return_counts=True)
    known, place = np.unique(contexts[first], return_inverse=True)
    return Table(found, counts, known, np.bincount(place, counts).astype(np.int64), np.bincount(place))


def numbered(grams: NDArray[np.integer]) -> Numbers:
    """Return a number `[...]` for each gram `[..., k]`; what stands before a text is a symbol that no text has."""
    numbers = np.zeros(grams.shape[:-1], dtype=np.uint64)
    for i in range(grams.shape[-1]):
        numbers = continued(numbers, grams[..., i])
    return numbers


def continued(numbers: Numbers, symbols: NDArray[np.integer]) -> Numbers:
    """Return the numbers of grams that are one symbol longer."""
    return numbers * BASE + symbols.astype(np.uint64) + np.uint64(1)


def looked_up(known: Numbers, asked: Numbers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where in a sorted table each number would stand, and whether it does."""
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return at, known[at] == asked


@dataclass(frozen=True)
class Foretold:
    """What an n-gram model makes of the tokens of a vocabulary, for a tokenizer that takes the longest token it can.

    Such a tokenizer gives token v next where the text goes on with its string, and with that of no longer token that
    begins with it. So a token's probability is that of its string less those of the shortest tokens that go on from
    it; of all tokens they sum to 1 where every byte is one. A tokenizer that now and then takes a shorter token is
    underrated by this.
    """

    ngrams: Ngrams
    vocabulary: Vocabulary

    @cached_property
    def longer(self) -> Mapping[int, Sequence[int]]:
        """Token -> itself and the shortest tokens that go on from it; of tokens that spell the same only the first."""
        first = {spelling: i for i, spelling in reversed([*enumerate(self.vocabulary.spellings)]) if spelling}
        found = {i: [i] for i in first.values()}
        for spelling, i in first.items():
            begun = next((spelling[:n] for n in range(len(spelling) - 1, 0, -1) if spelling[:n] in first), None)
            if begun is not None:
                found[first[begun]].append(i)
        return found

    def probabilities(self, states: States, index: slice) -> Tensor:
        """Return how likely every target `[B, T]` of some windows is, as the text before it stands."""
        contexts = self.vocabulary.contexts_of(states, index, self.ngrams.order - 1).flatten(0, 1).numpy()
        targets = states.targets(index).cpu()
        asked = [(row, token) for row, of in enumerate(targets.flatten().tolist()) for token in self.longer.get(of, ())]
        if not asked:
            return torch.zeros(targets.shape, dtype=torch.float64)
        rows, tokens = (np.array(part) for part in zip(*asked, strict=True))
        strings, lengths = self.vocabulary.bytes[tokens].numpy(), self.vocabulary.lengths[tokens].numpy()
        p = self.ngrams.strings(contexts[rows].astype(np.int64), strings.astype(np.int64), lengths)
        own = tokens == targets.flatten().numpy()[rows]
        found = np.bincount(rows, np.where(own, p, -p), targets.numel())
        return torch.from_numpy(np.maximum(found, 0.0)).view(targets.shape)


@torch.inference_mode()
def mixed_losses(foretold: Foretold, states: States, head: Head, share: float, *, windows_per_batch: int = 8) -> Tensor:
    """Return the loss `[N]` of each window in nats per scored position: the plain backbone mixed with an n-gram model.

    The weight of each follows how well it foretold the tokens before (fixed share; Herbster and Warmuth, 1998): by
    Bayes' rule, of which `share` is dealt out evenly again after every token. So text of another kind is left to the
    backbone.
    """
    found = []
    for start in range(0, len(states), windows_per_batch):
        index = slice(start, min(start + windows_per_batch, len(states)))
        targets = states.targets(index)
        each = zip(states.final(index), targets, strict=True)
        losses_of = [cross_entropy(head.logits(final), wanted, reduction="none") for final, wanted in each]
        plain = torch.stack(losses_of).double().neg().exp().cpu()
        other = foretold.probabilities(states, index)
        weight, losses = torch.full((len(targets),), EVENLY, dtype=torch.float64), []
        for own, its in zip(plain.T, other.T, strict=True):
            both = (1 - weight) * own + weight * its
            losses.append(-both.log())
            weight = (1 - share) * weight * its / both + share * EVENLY
        found.append(torch.stack(losses, 1)[:, states.skip :].mean(1))
    return torch.cat(found)


def texts_of(vocabulary: Vocabulary, states: States) -> list[bytes]:
    """Return what the windows of some states spell."""
    windows = states.tokens(slice(None)).tolist()
    return ["".join(vocabulary.spellings[token] for token in window).encode("latin-1") for window in windows]
