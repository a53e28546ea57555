"""NIB metrics and losses per position (`docs/protocol.md`, sections 1 and 5), and the evidence rows they become.

A row is one document, arm, seed and metric on held-out domain, held-out general or training text.
"""

import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from abi.arms.forms import ArmForm, Readout
from abi.arms.losses import EVALUATION_LOGITS, EVALUATION_ROWS
from abi.base.compute import rows_at_once
from abi.base.errors import DataError
from abi.base.job import progress
from abi.base.names import AGREEMENT, NGRAM, REFERENCE, UNFITTED
from abi.models import kernels
from abi.models.head import Head
from abi.models.ngrams import Foretold, Ngrams, mixed_losses, texts_of
from abi.models.portable import Vocabulary
from abi.models.states import States
from abi.plan.specs.models import NgramSection

Named = TypeVar("Named", bound=Hashable)
EvidenceRow = tuple[str, str, int, int, str, str, str, int, str, float]
"""Fit, arm, draw, seed, scope, group, document, positions, metric, value."""
DrawRow = tuple[str, str, int, int, int, int, str, float]
"""Fit, arm, draw, seed, seed of the draws, number of the draw, metric, value."""

TOP = 5
FLOOR = -70.0
"""Nats below the largest logit at which a logit is taken to be at least: `exp` of it, 4e-31, adds nothing to a sum. Of
less than -87 it is no normal fp32 number, for each of which a CPU takes ten times as long. Of the compiled loops it is
`kernels.LEAST`, 2e-19."""


@dataclass(frozen=True)
class Distribution:
    """Distributions `[N, V]` with what every comparison needs, computed once.

    Args: p: all above 0 (`FLOOR`, `kernels.LEAST`); peak: the largest logits `[N]`; log_total: `[N]`, of the
        exponentials of logits less their peak; entropy: `[N]` in nats; top: ids `[N, 5]`.
    """

    p: Tensor
    logits: Tensor
    peak: Tensor
    log_total: Tensor
    entropy: Tensor
    top: Tensor


def distribution(logits: Tensor) -> Distribution:
    """Return the distributions of logits `[N, V]`.

    -inf logits are fine: they get the least probability there is.
    Raises: DataError: NaN, +inf, or a row without any finite logit.
    """
    logits = logits.float().contiguous()
    if kernels.take(logits):
        p, peak, log_total, mean = kernels.softened(logits.clone())
    else:
        peak = logits.amax(-1)
        below = (logits - peak.unsqueeze(-1)).clamp_min_(FLOOR)
        p = below.exp()
        total = p.sum(-1, keepdim=True)
        p /= total
        log_total, mean = total.squeeze(-1).log(), torch.linalg.vecdot(p, below)
    entropy = log_total - mean
    _check_finite(entropy)
    return Distribution(p, logits, peak, log_total, entropy, top_ids(logits, TOP))


def _check_finite(per_row: Tensor) -> None:
    """Raise where a row's figure is NaN or infinite: one bad logit makes its whole row so."""
    if not bool(torch.isfinite(per_row).all()):
        raise DataError("metrics: logits are NaN or infinite; they cannot be scored as agreement")


def top_ids(logits: Tensor, k: int) -> Tensor:
    """Return the ids `[N, k]` of the k largest logits, ties broken by the smaller token id, whatever the sort does."""
    if kernels.take(logits) and k <= kernels.LANES <= logits.shape[-1]:
        return kernels.top_ids(logits, k)
    values, ids = torch.topk(logits, min(k + 1, logits.shape[-1]), dim=-1)
    tied = (values[:, 1:] == values[:, :-1]).any(-1)
    ids = ids[:, :k].clone()
    if bool(tied.any()):
        ids[tied] = torch.sort(logits[tied], dim=-1, descending=True, stable=True).indices[:, :k]
    return ids


def js_nats(p: Distribution, q: Distribution) -> Tensor:
    """Return the Jensen-Shannon divergence `[N]` in nats, 0 to ln 2: `H((p + q) / 2) - (H(p) + H(q)) / 2`."""
    if kernels.take(p.p, q.p):
        total = kernels.entropies_of_sums(p.p, q.p)
    else:
        twice = p.p + q.p
        total = torch.linalg.vecdot(twice, twice.log2())
    entropy = math.log(2) * (1 - 0.5 * total)
    return (entropy - 0.5 * (p.entropy + q.entropy)).clamp(0.0, math.log(2))


def agreement(reference: Distribution, candidate: Distribution) -> dict[str, Tensor]:
    """Return the four NIB metrics `[N]` per position: JS, top-1, top-5 overlap, |entropy difference| (nats)."""
    same = reference.top.unsqueeze(-1) == candidate.top.unsqueeze(-2)
    return {
        "js_nats": js_nats(reference, candidate),
        "top1": (reference.top[:, 0] == candidate.top[:, 0]).float(),
        "top5": same.flatten(1).float().sum(-1) / same.shape[-1],
        "entropy_diff_nats": (reference.entropy - candidate.entropy).abs(),
    }


def loss_nats(own: Distribution, targets: Tensor) -> Tensor:
    """Return the negative log-probability `[N]` of the targets, in nats."""
    return own.log_total - (own.logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - own.peak)


def losses_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Return what `loss_nats` does of logits `[N, V]`, where nothing else is asked of them.

    Raises: DataError: as `distribution`.
    """
    if kernels.take(logits):
        losses = kernels.cross_entropies(logits, targets, learns=False)
    else:
        losses = cross_entropy(logits, targets, reduction="none")
    _check_finite(losses)
    return losses


def scored(values: Tensor | None, states: States) -> Tensor | None:
    """Return the scored positions `[n, ...]` of values of all positions `[B, T, ...]`."""
    return None if values is None else values[:, states.skip :].flatten(0, 1)


@torch.inference_mode()
def margins(model: ArmForm | None, states: States, head: Head) -> Tensor:
    """Return per window `[N]` the median over scored positions of P(rank 5) - P(rank 6): how clear the top five are."""
    found, readout = [], Readout(model, head)
    for window in range(len(states)):
        index = slice(window, window + 1)
        plain = head.linear(states.final(index)[:, states.skip :].flatten(0, 1))
        logits = readout.logits(plain, scored(readout.read(states, index), states))
        top = torch.softmax(logits, -1).topk(TOP + 1, dim=-1).values
        found.append((top[:, TOP - 1] - top[:, TOP]).median().double())
    return torch.stack(found).cpu()


@torch.inference_mode()
def evaluate(
    arms: Mapping[Named, ArmForm | None],
    states: States,
    head: Head,
    *,
    reference: ArmForm | None,
    teacher: ArmForm | None,
    windows_per_batch: int = 8,
    agree: bool = True,
) -> Iterator[tuple[Named, str, Tensor]]:
    """Yield (arm, metric, value per window `[N]`) for every arm: means over its scored positions.

    Distributions are formed for a few positions at a time (`EVALUATION_LOGITS`), which keeps them in the processor's
    cache.

    Args:
        arms: name -> fitted arm, None for the raw backbone.
        reference: agreement is measured against it, None for the raw backbone; teacher: `teacher_js_nats`, if there is
        one. agree: without it only `loss_nats` is computed (off-domain text).
    """
    collected: dict[tuple[Named, str], list[Tensor]] = {}
    chunk = rows_at_once(max(EVALUATION_ROWS, EVALUATION_LOGITS // len(head.weight)), len(head.weight), states.device)
    judges = [reference, *([] if teacher is None else [teacher])] if agree else []
    readouts = {id(model): Readout(model, head) for model in [*arms.values(), *judges]}
    said = progress(len(states))
    for start in range(0, len(states), windows_per_batch):
        index = slice(start, min(start + windows_per_batch, len(states)))
        said(index.stop, f"windows, {len(arms)} arms")
        targets = states.targets(index)[:, states.skip :].flatten()
        final = states.final(index)[:, states.skip :].flatten(0, 1)
        reads = {key: scored(readout.read(states, index), states) for key, readout in readouts.items()}
        # Whole, not in parts: small results between large blocks keep freed memory from being taken again.
        found: dict[tuple[Named, str], Tensor] = {}
        for at in range(0, len(targets), chunk):
            rows = slice(at, at + chunk)
            plain = head.linear(final[rows])
            known = {
                id(model): distribution(readouts[id(model)].logits(plain, reads[id(model)], rows)) for model in judges
            }
            for name, model in arms.items():
                if agree:
                    own = known.get(id(model)) or distribution(
                        readouts[id(model)].logits(plain, reads[id(model)], rows)
                    )
                    values = {"loss_nats": loss_nats(own, targets[rows]), **agreement(known[id(reference)], own)}
                    if teacher is not None:
                        values["teacher_js_nats"] = js_nats(known[id(teacher)], own)
                else:
                    logits = readouts[id(model)].logits(plain, reads[id(model)], rows)
                    values = {"loss_nats": losses_nats(logits, targets[rows])}
                for metric, value in values.items():
                    if (name, metric) not in found:
                        found[name, metric] = torch.empty(len(targets), dtype=torch.float64, device=value.device)
                    found[name, metric][rows] = value
        for key, whole in found.items():
            collected.setdefault(key, []).append(whole.view(index.stop - start, -1).mean(1))
    for (name, metric), parts in collected.items():
        yield name, metric, torch.cat(parts).cpu()


# rows


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
    return [
        Score(scope, key, metric, values)
        for scope, states in scopes.items()
        for key, metric, values in evaluate(
            arms,
            states,
            head,
            reference=reference,
            teacher=teacher,
            agree=scope in agree_on,
            windows_per_batch=windows_per_batch,
        )
    ]


def ngram_scores(
    counted: States,
    own: Vocabulary,
    target: Vocabulary,
    scopes: Mapping[str, States],
    head: Head,
    shape: NgramSection,
) -> list[Score]:
    """Return the loss of an n-gram model on every scope, mixed with the plain backbone.

    Args: counted: the windows whose text it counts, in tokens of the vocabulary `own`; target: that of the backbone.
    """
    foretold = Foretold(Ngrams(texts_of(own, counted), shape.order), target)
    return [
        Score(scope, Key(UNFITTED, NGRAM), "loss_nats", mixed_losses(foretold, states, head, shape.share))
        for scope, states in scopes.items()
    ]


def evidence_rows(
    scores: Iterable[Score], scopes: Mapping[str, States], seed: int, reference: str = REFERENCE
) -> Iterator[EvidenceRow]:
    """Yield the evidence rows of one seed. The arm `reference` has losses alone: agreement is measured against it."""
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

    The record draws `default_rng(seed).integers(0, n, n_chunks)`; here over held-out windows. The reference, which all
    others are held against, has none.
    """
    drawn = {rng_seed: np.random.default_rng(rng_seed).integers(0, n_windows, n_chunks) for rng_seed in rng_seeds}
    for one in scores:
        if one.scope != "domain" or one.metric not in AGREEMENT or one.key.arm == REFERENCE:
            continue
        for rng_seed, chosen in drawn.items():
            for chunk, window in enumerate(chosen):
                key = (one.key.fit, one.key.arm, one.key.draw, seed, rng_seed, chunk)
                yield *key, one.metric, float(one.values[int(window)])
