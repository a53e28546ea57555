"""N-gram models of bytes: the simplest thing that moves between models as it is.

A portable module (`models/portable.py`) knows its domain by the last bytes of the text. So does an n-gram model, which
needs no net, no gradient and no backbone to be trained beside: counts of the same text, interpolated by Witten and Bell
(1991, method C). It stands beside every zero-text transfer as what a user would do instead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abi.models.head import Head
from abi.models.portable import NO_BYTE, Vocabulary
from abi.models.states import States

Numbers = NDArray[np.uint64]
Floats = NDArray[np.float64]
BASE = np.uint64(0x9E3779B97F4A7C15)
"""A gram is numbered by a polynomial in it modulo 2^64: two of 10^6 grams meet with a probability of about 10^-7."""
EVENLY = 0.5
"""Weight of the n-gram model before the first token."""
KEPT = 32
"""Last bytes of a text of which the search through a vocabulary is kept, 8 bytes per string of its tree each."""


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

    Of a token that spells nothing, such as the end of a text, or what an earlier token spells it says nothing
    (`silent`). A model beside it keeps those (`beside`).
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

    @cached_property
    def silent(self) -> Tensor:
        """Tokens `[n]` of which it says nothing."""
        return torch.tensor([i for i in range(len(self.vocabulary.spellings)) if i not in self.longer]).long()

    def beside(self, own: Tensor, its: Tensor, tokens: Tensor, kept: Tensor) -> Tensor:
        """Return how likely it finds `tokens` `[...]` where a model decides on all of which it says nothing.

        Args: own, its: probabilities `[...]` of those tokens by the model, and by itself of those it speaks of; kept:
            what the model gives to all `silent` ones.
        """
        rest = (1 - kept).clamp(min=0)  # rounded, silent tokens may have more than all
        return torch.where(torch.isin(tokens, self.silent), own, rest * its)

    def probabilities(self, states: States, index: slice) -> Tensor:
        """Return how likely every target `[B, T]` of some windows is, as the text before it stands."""
        contexts = self.vocabulary.contexts_of(states, index, self.ngrams.order - 1)
        return self.likelihoods(contexts, states.targets(index).cpu())

    def likelihoods(self, contexts: Tensor, targets: Tensor) -> Tensor:
        """Return how likely each target `[B, T]` is after the last bytes `[B, T, order - 1]` of a text."""
        asked = [(row, token) for row, of in enumerate(targets.flatten().tolist()) for token in self.longer.get(of, ())]
        if not asked:
            return torch.zeros(targets.shape, dtype=torch.float64)
        rows, tokens = (np.array(part) for part in zip(*asked, strict=True))
        before = contexts.flatten(0, 1).numpy().astype(np.int64)[rows]
        strings, lengths = self.vocabulary.bytes[tokens].numpy(), self.vocabulary.lengths[tokens].numpy()
        p = self.ngrams.strings(before, strings.astype(np.int64), lengths)
        own = tokens == targets.flatten().numpy()[rows]
        found = np.bincount(rows, np.where(own, p, -p), targets.numel())
        return torch.from_numpy(np.maximum(found, 0.0)).view(targets.shape)

    def distribution(self, context: NDArray[np.int64]) -> Floats:
        """Return how likely every token `[V]` is after the last bytes `[order - 1]` of a text."""
        tree, p, known = self.tree, self.tree_alone, self.tree.begun
        for j in range(1, len(self.ngrams.tables)):
            if context[-j] == NO_BYTE or not len(known):
                break
            if j == 1:
                p, known = self._after_byte(int(context[-1]))
            else:
                p, known = self._after(context[None, -j:], p, known)
        p = p.copy()
        for level in tree.levels[1:]:
            p[level] *= p[tree.parents[level]]
        less = np.bincount(self.subtracted[0], p[self.subtracted[1]], len(self.vocabulary.spellings))
        own = np.where(self.placed >= 0, p[self.placed], 0.0)
        return np.maximum(own - less, 0.0)

    def _after_byte(self, byte: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return `_after` of the last byte alone, by far the longest search; kept for the bytes met last."""
        found = self._kept.get(byte)
        if found is None:
            found = self._after(np.array([[byte]]), self.tree_alone, self.tree.begun)
            for old in [*self._kept][: len(self._kept) + 1 - KEPT]:
                self._kept.pop(old, None)  # another thread may have
            self._kept[byte] = found
        return found

    def _after(self, last: NDArray[np.int64], p: Floats, known: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
        """Return how likely strings go on when the last bytes `[1, j]` of a text count too, and before which they do.

        Args: p: the same of one byte less; known: strings of the tree that were seen after those.
        """
        tree, j = self.tree, last.shape[1]
        known = known[tree.depths[known] + j < len(self.ngrams.tables)]
        numbers = numbered(last) * tree.powers[tree.depths[known]] + tree.numbers[known]
        at, found = looked_up(self.merged.contexts, numbers)
        known, at = known[found], at[found]
        edges, of = tree.edges_of(known)
        place, seen = looked_up(self.merged.grams, continued(numbers[found][of], tree.symbols[edges]))
        kinds, totals = self.merged.kinds[at][of], self.merged.totals[at][of]
        p = p.copy()
        p[edges] = (np.where(seen, self.merged.counts[place], 0) + kinds * p[edges]) / (totals + kinds)
        return p, known

    @cached_property
    def _kept(self) -> dict[int, tuple[Floats, NDArray[np.int64]]]:
        return {}

    @cached_property
    def tree(self) -> "Tree":
        """The strings with which tokens begin."""
        return Tree(self.vocabulary.spellings[i] for i in self.longer)

    @cached_property
    def tree_alone(self) -> Floats:
        """How likely each string of the tree goes on as it does, as far as the string itself tells; 1 of the root."""
        tree, size = self.tree, self.ngrams.order - 1
        contexts = np.full((len(tree.parents), size), NO_BYTE, dtype=np.int64)
        for level in tree.levels[2:]:
            above = tree.parents[level]
            contexts[level, :-1], contexts[level, -1:] = contexts[above, 1:], tree.symbols[above, None][:, :size]
        p = self.ngrams.probabilities(contexts, tree.symbols)
        p[0] = 1.0
        return p

    @cached_property
    def merged(self) -> Table:
        """The tables of all lengths as one: grams of different lengths have different numbers."""
        grams, counts, contexts, totals, kinds = (
            np.concatenate(part) for part in zip(*self.ngrams.tables, strict=True)
        )
        by_gram, by_context = np.argsort(grams), np.argsort(contexts)
        return Table(grams[by_gram], counts[by_gram], contexts[by_context], totals[by_context], kinds[by_context])

    @cached_property
    def placed(self) -> NDArray[np.int64]:
        """Where in the tree each token `[V]` stands, -1 where it spells nothing or what an earlier one does."""
        index = self.tree.index
        found = np.full(len(self.vocabulary.spellings), -1)
        for token in self.longer:
            found[token] = index[self.vocabulary.spellings[token]]
        return found

    @cached_property
    def subtracted(self) -> NDArray[np.int64]:
        """Tokens, and the places in the tree of the longer ones whose probability is taken off theirs, `[2, n]`."""
        pairs = [(token, self.placed[other]) for token, longer in self.longer.items() for other in longer[1:]]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


class Tree:
    """The strings with which some strings begin, shortest first; the empty one is the root.

    Args: parents, symbols, depths, numbers: `[N]` of each, the string less its last byte, that byte, its length, and
        its number as a gram. levels: the strings of every length. begun: those that are no leaves.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        beginnings = {string[:n] for string in strings for n in range(len(string) + 1)} | {""}
        every = sorted(beginnings, key=lambda string: (len(string), string))
        self.index = {string: i for i, string in enumerate(every)}
        self.parents = np.array([self.index[string[:-1]] for string in every])
        self.symbols = np.array([ord(string[-1:] or "\0") for string in every])
        self.depths = np.array([len(string) for string in every])
        ends = np.searchsorted(self.depths, np.arange(self.depths[-1] + 2))
        self.levels = [slice(*pair) for pair in pairwise(ends)]
        self.numbers = np.zeros(len(every), dtype=np.uint64)
        for level in self.levels[1:]:
            self.numbers[level] = continued(self.numbers[self.parents[level]], self.symbols[level])
        self.powers = np.cumprod(np.full(len(self.levels) + 1, BASE)) * pow(int(BASE), -1, 2**64)
        self.begun, self.first, self.n_edges = np.unique(self.parents[1:], return_index=True, return_counts=True)

    def edges_of(self, parents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the strings that are one byte longer than some that are no leaves, and for each which of those."""
        at = np.searchsorted(self.begun, parents)
        n = self.n_edges[at]
        of = np.repeat(np.arange(len(parents)), n)
        return 1 + self.first[at][of] + np.arange(len(of)) - np.repeat(np.cumsum(n) - n, n), of


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
        plain, kept = _of_backbone(states.final(index), targets, head, foretold.silent)
        other = foretold.beside(plain, foretold.probabilities(states, index), targets.cpu(), kept)
        weight, losses = torch.full((len(targets),), EVENLY, dtype=torch.float64), []
        for own, its in zip(plain.T, other.T, strict=True):
            losses.append(-((1 - weight) * own + weight * its).log())
            weight = weight_after(weight, own, its, share)
        found.append(torch.stack(losses, 1)[:, states.skip :].mean(1))
    return torch.cat(found)


def _of_backbone(finals: Tensor, targets: Tensor, head: Head, silent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities `[B, T]` that the plain backbone gives to targets, and to some tokens together."""
    found = []
    for final, wanted in zip(finals, targets, strict=True):
        chances = torch.log_softmax(head.logits(final).float(), -1)
        found.append((chances.gather(-1, wanted.unsqueeze(-1)), chances[:, silent.to(chances.device)]))
    plain, kept = (torch.stack([part.cpu().double().exp().sum(-1) for part in of]) for of in zip(*found, strict=True))
    return plain, kept


def weight_after(weight: Tensor, own: Tensor, its: Tensor, share: float) -> Tensor:
    """Return the weight of an n-gram model after a token to which the backbone gave the probability `own`, it `its`."""
    both = (1 - weight) * own + weight * its
    by_bayes = torch.where(both > 0, weight * its / both, EVENLY)
    return (1 - share) * by_bayes + share * EVENLY


def texts_of(vocabulary: Vocabulary, states: States) -> list[bytes]:
    """Return what the windows of some states spell."""
    windows = states.tokens(slice(None)).tolist()
    return ["".join(vocabulary.spellings[token] for token in window).encode("latin-1") for window in windows]
