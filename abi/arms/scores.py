"""Evidence rows: every arm of a seed on held-out domain, held-out general and training text, per document."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abi.arms.forms import ArmForm
from abi.arms.metrics import evaluate
from abi.base.catalogue import REFERENCE
from abi.base.names import AGREEMENT
from abi.models.states import Head, States

EvidenceRow = tuple[str, str, int, int, str, str, str, int, str, float]
"""Fit, arm, draw, seed, scope, group, document, positions, metric, value."""
DrawRow = tuple[str, str, int, int, int, int, str, float]
"""Fit, arm, draw, seed, seed of the draws, number of the draw, metric, value."""


@dataclass(frozen=True)
class Key:
    """Which arm a row is of: how it was fitted, its name, its draw."""

    fit: str
    arm: str
    draw: int = 0


@dataclass(frozen=True)
class Score:
    """One metric of one arm on the windows of one scope: a mean over scored positions per window, `[N]`."""

    scope: str
    key: Key
    metric: str
    values: Tensor


def score(
    arms: Mapping[Key, ArmForm | None],
    reference: ArmForm | None,
    teacher: ArmForm | None,
    scopes: Mapping[str, States],
    head: Head,
    *,
    windows_per_batch: int = 4,
    agree_on: Collection[str] = ("domain", "on_training_text"),
) -> list[Score]:
    """Return every metric of every arm on every scope; evidence rows and published draws are both read from it.

    Args: arms: every arm, None for the raw backbone; reference: what agreement is measured against; teacher: agreement
        with it is reported where a regime has one; scopes: `domain`, `general`, `on_training_text` -> states; agree_on:
        the scopes on which agreement is measured, on the others only the loss.
    """
    names = {f"{i}": key for i, key in enumerate(arms)}
    models = {f"{i}": model for i, model in enumerate(arms.values())}
    return [
        Score(scope, names[name], metric, values)
        for scope, states in scopes.items()
        for name, metric, values in evaluate(
            models,
            states,
            head,
            reference=reference,
            teacher=teacher,
            agree=scope in agree_on,
            windows_per_batch=windows_per_batch,
        )
    ]


def evidence_rows(
    scores: Iterable[Score], scopes: Mapping[str, States], seed: int, reference: str = REFERENCE
) -> Iterator[EvidenceRow]:
    """Yield the evidence rows of one seed; the agreement of the arm `reference` with itself is none."""
    for one in scores:
        if one.metric == "loss_nats" or one.key.arm != reference:
            yield from _document_rows(one.key, seed, one.scope, scopes[one.scope], one.metric, one.values)


def _document_rows(
    key: Key, seed: int, scope: str, states: States, metric: str, values: Tensor
) -> Iterator[EvidenceRow]:
    document = states.document.long()
    names, groups = states.manifest.documents, states.manifest.groups
    per_window = states.targets(slice(0, 1)).shape[1] - states.skip
    windows = torch.bincount(document, minlength=len(names))
    sums = torch.zeros(len(names), dtype=torch.float64).index_add_(0, document, values)
    head = (key.fit, key.arm, key.draw, seed, scope)
    for i, name in enumerate(names):
        yield (*head, groups[i], name, int(windows[i]) * per_window, metric, float(sums[i] / windows[i]))
    if metric == "loss_nats":
        n_bytes = torch.zeros(len(names), dtype=torch.float64)
        n_bytes.index_add_(0, document, states.target_bytes[:, states.skip :].double().sum(1))
        # Of all nats over all bytes of a document: bytes are what models of different tokenizers share.
        bits = sums * per_window / math.log(2) / n_bytes
        for i, name in enumerate(names):
            yield (*head, groups[i], name, int(windows[i]) * per_window, "bits_per_byte", float(bits[i]))


def published_draws(
    scores: Iterable[Score], n_windows: int, *, seed: int, rng_seeds: Sequence[int], n_chunks: int
) -> Iterator[DrawRow]:
    """Yield rows of the record's own sampling: `n_chunks` windows drawn at random per published seed.

    The record draws `default_rng(seed).integers(0, n, n_chunks)`; here over held-out windows.
    """
    drawn = {rng_seed: np.random.default_rng(rng_seed).integers(0, n_windows, n_chunks) for rng_seed in rng_seeds}
    for one in scores:
        if one.scope != "domain" or one.metric not in AGREEMENT:
            continue
        for rng_seed, chosen in drawn.items():
            for chunk, window in enumerate(chosen):
                key = (one.key.fit, one.key.arm, one.key.draw, seed, rng_seed, chunk)
                yield *key, one.metric, float(one.values[int(window)])
