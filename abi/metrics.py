"""NIB metrics and losses per position and per document (torch). Source: EXPERIMENTS section 0, PROTOCOL sections 1 and 5."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from abi.errors import DataError
from abi.fitting import Evaluated, correction_of, logit_bias_of
from abi.states import Head, States

TOP = 5
CHUNK = 64
LOG_ZERO, TINY = -1e4, 1e-38


@dataclass(frozen=True)
class Distribution:
    """A distribution per position with what every comparison needs, computed once."""

    p: Tensor
    log_p: Tensor
    entropy: Tensor
    top: Tensor


def distribution(logits: Tensor) -> Distribution:
    """Return the distributions `[N, V]` of logits, entropies `[N]` in nats and the ids of the five largest `[N, 5]`.

    -inf logits are fine (probability zero). Raises: DataError: NaN, +inf, or a row without any finite logit.
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)
    p = log_p.exp()
    entropy = -(p * log_p.clamp_min(LOG_ZERO)).sum(-1)
    _check_finite(entropy)
    return Distribution(p, log_p, entropy, top_ids(logits, TOP))


def _check_finite(per_row: Tensor) -> None:
    """Raise where a row's figure is NaN or infinite: one bad logit makes its whole row so."""
    if not bool(torch.isfinite(per_row).all()):
        raise DataError("metrics: logits are NaN or infinite; they cannot be scored as agreement")


def top_ids(logits: Tensor, k: int) -> Tensor:
    """Return the ids `[N, k]` of the k largest logits, ties broken by the smaller token id, whatever the library's sort does."""
    values, ids = torch.topk(logits, min(k + 1, logits.shape[-1]), dim=-1)
    tied = (values[:, 1:] == values[:, :-1]).any(-1)
    ids = ids[:, :k].clone()
    if bool(tied.any()):
        ids[tied] = torch.sort(logits[tied], dim=-1, descending=True, stable=True).indices[:, :k]
    return ids


def js_nats(p: Distribution, q: Distribution) -> Tensor:
    """Return the Jensen-Shannon divergence `[N]` in nats, 0 to ln 2: `H((p + q) / 2) - (H(p) + H(q)) / 2`."""
    middle = (p.p + q.p).mul_(0.5)
    entropy = -(middle * middle.clamp_min(TINY).log_()).sum(-1)
    return (entropy - 0.5 * (p.entropy + q.entropy)).clamp(0.0, math.log(2))


def agreement(reference: Distribution, candidate: Distribution) -> dict[str, Tensor]:
    """Return the four NIB metrics `[N]` per position: JS (nats), top-1 agreement, top-5 overlap, |entropy difference| (nats)."""
    overlap = (reference.top.unsqueeze(-1) == candidate.top.unsqueeze(-2)).any(-1).float().mean(-1)
    return {
        "js_nats": js_nats(reference, candidate),
        "top1": (reference.top[:, 0] == candidate.top[:, 0]).float(),
        "top5": overlap,
        "entropy_diff_nats": (reference.entropy - candidate.entropy).abs(),
    }


def loss_nats(log_p: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-probability `[N]` of the targets under `log_p` `[N, V]`, in nats."""
    return -log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def scored_states(model: Evaluated | None, states: States, index: slice) -> Tensor:
    """Return an arm's corrected final states `[n, D]` of the scored positions of some windows, flattened."""
    final = states.final(index)
    correction = correction_of(model, states, index)
    final = final if correction is None else final + correction
    return final[:, states.skip :].flatten(0, 1)


@torch.inference_mode()
def margins(model: Evaluated | None, states: States, head: Head) -> Tensor:
    """Return per window `[N]` the median over scored positions of P(rank 5) - P(rank 6): how clear the top five are."""
    found = []
    for window in range(len(states)):
        final = scored_states(model, states, slice(window, window + 1))
        top = torch.softmax(arm_logits(model, final, head), -1).topk(TOP + 1, dim=-1).values
        found.append((top[:, TOP - 1] - top[:, TOP]).median().double())
    return torch.stack(found)


def arm_logits(model: Evaluated | None, final: Tensor, head: Head) -> Tensor:
    """Return an arm's logits `[n, V]` of its corrected final states `[n, D]`."""
    logits = head.logits(final)
    bias = logit_bias_of(model)
    return logits if bias is None else logits + bias


@torch.inference_mode()
def evaluate(
    arms: Mapping[str, Evaluated | None],
    states: States,
    head: Head,
    *,
    reference: Evaluated | None,
    teacher: Evaluated | None,
    windows_per_batch: int = 8,
    agree: bool = True,
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (arm, metric, value per window `[N]`) for every arm: means over its scored positions.

    Distributions are formed for `CHUNK` positions at a time, which keeps them in the processor's cache.

    Args:
        arms: name -> fitted arm, None for the raw backbone.
        reference: agreement is measured against it, None for the raw backbone; teacher: `teacher_js_nats`, if there is one.
        agree: without it only `loss_nats` is computed (off-domain text).
    """
    collected: dict[tuple[str, str], list[Tensor]] = {}
    judges = [reference, *([] if teacher is None else [teacher])] if agree else []
    for start in range(0, len(states), windows_per_batch):
        index = slice(start, min(start + windows_per_batch, len(states)))
        targets = states.targets(index)[:, states.skip :].flatten()
        finals = {id(model): scored_states(model, states, index) for model in [*arms.values(), *judges]}
        found: dict[tuple[str, str], list[Tensor]] = {}
        for at in range(0, len(targets), CHUNK):
            rows = slice(at, at + CHUNK)
            known = {id(model): distribution(arm_logits(model, finals[id(model)][rows], head)) for model in judges}
            for name, model in arms.items():
                if agree:
                    own = known.get(id(model)) or distribution(arm_logits(model, finals[id(model)][rows], head))
                    values = {"loss_nats": loss_nats(own.log_p, targets[rows]), **agreement(known[id(reference)], own)}
                    if teacher is not None:
                        values["teacher_js_nats"] = js_nats(known[id(teacher)], own)
                else:
                    log_p = torch.log_softmax(arm_logits(model, finals[id(model)][rows], head), -1)
                    values = {"loss_nats": loss_nats(log_p, targets[rows])}
                    _check_finite(values["loss_nats"])
                for metric, value in values.items():
                    found.setdefault((name, metric), []).append(value.double())
        for key, parts in found.items():
            collected.setdefault(key, []).append(torch.cat(parts).view(index.stop - start, -1).mean(1))
    for (name, metric), parts in collected.items():
        yield name, metric, torch.cat(parts)
