"""An n-gram model of the same text in place of a portable module.

python benchmarks/ngram.py [--scale tiny] [--windows 20] [CLAIM ...]   (where the claims were built)

A portable module reads the last bytes of a text and moves as it is. So does an n-gram model of bytes, which needs no
net, no gradient and no backbone. This control counts the n-grams of the windows on which the source's portable module
was trained (domain and general text) and interpolates them (Witten and Bell, 1991, method C). The probability that a
tokenizer which takes the longest token gives token v next is that of its string less those of the tokens that go on
from it. It changes the distribution p of a backbone in one of four ways (d: of domain text, g: of general text):

    product   p d^w, renormalised
    ratio     p (d / g)^w, renormalised
    mixture   (1 - w) p + w d
    switch    the same, w by how well both foretold the tokens before (fixed share; Herbster and Warmuth, 1998)

Order, way and weight are those that are best on the source: in nats per position on calibration text, domain plus
general, which is what a portable module is trained for. Then the model is frozen, placed on the target, and measured
on held-out text beside the claim's own evidence. Rows go to ngram.csv: the share of the oracle's gain that n-grams and
module close; by how many bits per byte general text gets worse; by how many the module is ahead of the n-grams on
domain text, with its interval over groups of documents and seeds.
"""

import argparse
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from abi.arms.metrics import Key, Score, evidence_rows
from abi.base.files import csv_text, write_text
from abi.base.manifests.backbones import TokensManifest
from abi.base.names import ORACLE, RAW, TRANSFERRED
from abi.judge.contrasts import Measure
from abi.judge.evidence_files import COLUMNS
from abi.judge.intervals import components
from abi.judge.protocol import BPB, GENERAL
from abi.judge.tables import fit_tables, read_promised
from abi.models.head import Head
from abi.models.portable import Vocabulary
from abi.models.saved import read_head, read_states
from abi.models.states import States
from abi.plan.config import load
from abi.plan.workflow import Workflow

OUT = Path(__file__).with_suffix(".csv")
NGRAM = "ngram"
HEADER = [
    *["claim", "order", "way", "weight", "closure_ngram", "closure_portable", "harm_ngram", "harm_portable"],
    *["ahead", "ahead_low", "ahead_high"],
]
BASE = np.uint64(0x9E3779B97F4A7C15)
"""Grams are numbered by a polynomial in it, modulo 2^64: 10^6 grams meet with a probability below 10^-7."""
ORDERS = (4, 8, 12, 16)
LEAST = 1e-9
"""Least probability of a token."""
WAYS = (
    *[("product", weight) for weight in (0.05, 0.1, 0.2, 0.3, 0.5)],
    *[("ratio", weight) for weight in (0.05, 0.1, 0.2, 0.4, 0.7)],
    *[("mixture", weight) for weight in (0.1, 0.2, 0.4, 0.6)],
    *[("switch", share) for share in (0.03, 0.1, 0.3, 0.5)],
)


class Ngrams:
    """Counts of the n-grams of bytes of some texts, a sorted table per length. Args: order: bytes of the longest."""

    def __init__(self, texts: Sequence[bytes], order: int) -> None:
        read = [np.frombuffer(text, dtype=np.uint8) for text in texts]
        self.order = order
        self.tables = []
        for k in range(order):
            rows = [np.lib.stride_tricks.sliding_window_view(text, k + 1) for text in read if len(text) > k]
            contexts, symbols = (
                np.concatenate(parts) for parts in ([r[:, :-1] for r in rows], [r[:, -1] for r in rows])
            )
            of_context = numbered(contexts)
            grams, first, counts = np.unique(of_context * BASE + symbols + 1, return_index=True, return_counts=True)
            known, place = np.unique(of_context[first], return_inverse=True)
            totals, kinds = np.bincount(place, counts), np.bincount(place)
            self.tables.append((grams, counts, known, totals, kinds))

    def continued(self, contexts: np.ndarray, parents: np.ndarray, symbols: np.ndarray, same: int) -> np.ndarray:
        """Return the probability `[N, M]` of byte `symbols[m]` after context `[N, P, order - 1]` number `parents[m]`.

        Args: same: how many of the last bytes of a context are the same in all N; N is 1 where these are all.
        """
        p = np.full((1, len(symbols)), 1 / 256)
        for k, (grams, counts, known, totals, kinds) in enumerate(self.tables):
            read = contexts[: 1 if k <= same else None]
            p = np.broadcast_to(p, (len(read), len(symbols))).copy()
            numbers = numbered(read[..., read.shape[-1] - k :])
            at, found = looked_up(known, numbers)
            there = found[:, parents]
            asked = numbers[:, parents][there] * BASE + np.broadcast_to(symbols, there.shape)[there] + 1
            place, seen = looked_up(grams, asked)
            total, kind = totals[at][:, parents][there], kinds[at][:, parents][there]
            p[there] = (np.where(seen, counts[place], 0) + kind * p[there]) / (total + kind)
        return p


def numbered(grams: np.ndarray) -> np.ndarray:
    """Return a number for each gram of bytes `[..., k]`; one with `NO_BYTE` has a number that no text gives."""
    numbers = np.zeros(grams.shape[:-1], dtype=np.uint64)
    for i in range(grams.shape[-1]):
        numbers = numbers * BASE + grams[..., i].astype(np.uint64) + np.uint64(1)
    return numbers


def looked_up(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where in a sorted table each number stands, and whether it does."""
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return at, known[at] == asked


@dataclass(frozen=True)
class Level:
    """The nodes of a trie at one depth. Args: parents: places one level above; prefixes: the bytes `[P, depth]` there."""

    parents: np.ndarray
    symbols: np.ndarray
    prefixes: np.ndarray


class Trie:
    """What the tokens of a vocabulary spell, as a tree of bytes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        spelled = [spelling.encode("latin-1") for spelling in vocabulary.spellings]
        first = {word: i for i, word in reversed([*enumerate(spelled)]) if word}
        self.node = np.full(len(spelled), -1)
        """Node of each token; of a spelling that several tokens share, the first's."""
        self.levels: list[Level] = []
        self.extends: list[tuple[int, int]] = []
        """(token, longest other token that it goes on from)."""
        above, start = {b"": 0}, 0
        for depth in range(max(map(len, spelled))):
            nodes = {
                node: i for i, node in enumerate(sorted({word[: depth + 1] for word in first if len(word) > depth}))
            }
            self.levels.append(
                Level(
                    parents=np.array([above[node[:-1]] for node in nodes]),
                    symbols=np.array([node[-1] for node in nodes], dtype=np.uint64),
                    prefixes=np.array([list(prefix) for prefix in above], dtype=np.int64).reshape(len(above), depth),
                )
            )
            for word in (word for word in first if len(word) == depth + 1):
                self.node[first[word]] = start + nodes[word]
                begun = next((first[word[:n]] for n in range(depth, 0, -1) if word[:n] in first), None)
                if begun is not None:
                    self.extends.append((first[word], begun))
            above, start = nodes, start + len(nodes)

    def log_probabilities(self, ngrams: Ngrams, contexts: np.ndarray) -> Tensor:
        """Return the log-probability `[N, V]` of each token after contexts `[N, order - 1]`."""
        n, size, logs = len(contexts), ngrams.order - 1, [np.zeros((len(contexts), 1))]
        for depth, level in enumerate(self.levels):
            prefixes = np.broadcast_to(level.prefixes, (n, *level.prefixes.shape))
            before = np.broadcast_to(contexts[:, None], (n, len(level.prefixes), size))
            read = np.concatenate([before, prefixes], -1)[..., depth:]
            logs.append(
                logs[-1][:, level.parents] + np.log(ngrams.continued(read, level.parents, level.symbols, depth))
            )
        p = np.where(self.node >= 0, np.exp(np.concatenate(logs[1:], 1)[:, self.node]), 0.0)
        longer, begun = np.array(self.extends).T
        left = torch.from_numpy(p).index_add(1, torch.from_numpy(begun), torch.from_numpy(-p[:, longer]))
        left = left.clamp_min(LEAST)
        return (left / left.sum(-1, keepdim=True)).log()


@dataclass(frozen=True)
class Side:
    """A backbone's vocabulary and its head."""

    trie: Trie
    vocabulary: Vocabulary
    head: Head

    @classmethod
    def of(cls, study: Workflow, backbone: str, states: States) -> "Side":
        """Return the side of a backbone. Args: states: of it."""
        vocabulary = Vocabulary(TokensManifest.read(study.tokens(backbone)).spellings)
        return cls(Trie(vocabulary), vocabulary, read_head(study.head(backbone), states))

    def texts(self, states: States) -> list[bytes]:
        """Return what the windows of some states spell."""
        windows = states.tokens(slice(None)).tolist()
        return ["".join(self.vocabulary.spellings[token] for token in window).encode("latin-1") for window in windows]

    def losses(self, states: States, domain: Ngrams, general: Ngrams, ways: Sequence[tuple[str, float]]) -> Tensor:
        """Return the loss `[ways, N]` of each window, changed in each of some ways, in nats per scored position."""
        found = torch.zeros(len(ways), len(states), dtype=torch.float64)
        for window in range(len(states)):
            index = slice(window, window + 1)
            p = self.head.logits(states.final(index)[0]).double().log_softmax(-1)
            targets = states.targets(index)[0]
            contexts = self.vocabulary.contexts_of(states, index, domain.order - 1)[0].numpy().astype(np.int64)
            d, g = (self.trie.log_probabilities(ngrams, contexts) for ngrams in (domain, general))
            for i, (way, weight) in enumerate(ways):
                found[i, window] = losses_of(p, d, g, targets, way, weight)[states.skip :].mean()
        return found


def losses_of(p: Tensor, d: Tensor, g: Tensor, targets: Tensor, way: str, weight: float) -> Tensor:
    """Return the loss `[T]` of the targets of one window in a way of the module's docstring; `[T, V]` logs of each."""
    if way in ("product", "ratio"):
        shift = d if way == "product" else d - g
        return torch.nn.functional.nll_loss((p + weight * shift).log_softmax(-1), targets, reduction="none")
    own, other = (log.gather(1, targets[:, None])[:, 0] for log in (p, d))
    if way == "mixture":
        return -torch.logaddexp(own + math.log1p(-weight), other + math.log(weight))
    losses, w = [], 0.5
    for mine, its in zip(own.exp().tolist(), other.exp().tolist(), strict=True):
        both = (1 - w) * mine + w * its
        losses.append(-math.log(both))
        w = (1 - weight) * w * its / both + weight / 2
    return torch.tensor(losses, dtype=torch.float64)


@dataclass(frozen=True)
class Model:
    """What is moved: n-gram models of a source's texts, and how they change a backbone."""

    domain: Ngrams
    general: Ngrams
    way: tuple[str, float]


@cache
def chosen(study: Workflow, source: str, text: str, windows: int) -> Model:
    """Return the n-gram models of what a source's modules were trained on, as they serve the source best."""

    def states(of: str, split: str) -> States:
        return read_states(study.states(source, of, split), split)

    texts = (text, study.general)
    checked = [states(of, "calibration") for of in texts]
    checked = [some.select(range(0, len(some), max(1, len(some) // windows))) for some in checked]
    own, found = Side.of(study, source, checked[0]), dict[float, Model]()
    read = [own.texts(states(of, "train")) for of in texts]
    for order in ORDERS:
        models = [Ngrams(some, order) for some in read]
        losses = torch.stack([own.losses(some, *models, WAYS).mean(1) for some in checked])
        for way, (domain, general) in zip(WAYS, losses.T.tolist(), strict=True):
            found[domain + general] = Model(models[0], models[1], way)
            print(f"  {source} {text}: order {order}, {way[0]} {way[1]}: {domain:.4f} + {general:.4f} nats", flush=True)
    return found[min(found)]


def tables_of(study: Workflow, name: str, model: Model) -> dict[Measure, dict[str, np.ndarray]]:
    """Return the tables of the claim's evidence with one more arm, `ngram`, the same in every seed; less is better."""
    claim, planned = study.claim(name), study.of(name)
    frame, _ = read_promised(planned.verdict_input()["evidence"])
    judged = fit_tables(frame, fit=claim.fit, criteria=study.config.protocol.criteria)
    found: dict[Measure, dict[str, np.ndarray]] = {}
    for scope, path in planned.scopes(claim.target).items():
        states = read_states(path, "test")
        losses = Side.of(study, claim.target, states).losses(states, model.domain, model.general, [model.way])[0]
        score = Score(scope, Key(claim.fit, NGRAM), "loss_nats", losses)
        rows = pd.DataFrame(evidence_rows([score], {scope: states}, 0), columns=COLUMNS)
        measure = Measure("bits_per_byte", scope)
        kept = rows[(rows["metric"] == measure.metric) & rows["document"].isin(judged.documents[scope])]
        groups = kept.groupby("group")["value"].mean().to_numpy()
        own = judged.tables[measure]
        found[measure] = {**own, NGRAM: np.broadcast_to(groups[:, None], own[ORACLE].shape)}
    return found


def compared(study: Workflow, name: str, windows: int) -> list[object]:
    """Return the row of a claim."""
    claim = study.claim(name)
    model = chosen(study, claim.source, claim.text, windows)
    tables = tables_of(study, name, model)
    domain, general = ({arm: table.mean() for arm, table in tables[measure].items()} for measure in (BPB, GENERAL))
    gap = domain[RAW] - domain[ORACLE]
    closures = [(domain[RAW] - domain[arm]) / gap for arm in (NGRAM, TRANSFERRED)]
    harms = [general[arm] - general[RAW] for arm in (NGRAM, TRANSFERRED)]
    ahead = components(tables[BPB][NGRAM] - tables[BPB][TRANSFERRED])
    half = ahead.half(study.config.protocol.criteria.level)
    figures = [*closures, *harms, ahead.mean, ahead.mean - half, ahead.mean + half]
    return [name, model.domain.order, *model.way, *(f"{figure:.3f}" for figure in map(float, figures))]


def main() -> None:
    """Print a row per zero-text transfer, and put it among those of other transfers in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--windows", type=int, default=20, help="calibration windows of each text, to choose by")
    parser.add_argument("claims", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study, rows = Workflow(load(options.scale)), {}
    known = [name for name, claim in study.config.claims.items() if getattr(claim, "regime", None) == "zero-text"]
    for name in options.claims or known:
        row = [str(value) for value in compared(study, name, options.windows)]
        print(",".join(row), flush=True)
        if OUT.exists():
            with OUT.open(encoding="utf-8", newline="") as file:
                rows = {there[0]: there for there in csv.reader(file) if there != HEADER}
        rows[name] = row
        write_text(OUT, csv_text(HEADER, [rows[key] for key in sorted(rows)]))


if __name__ == "__main__":
    main()
