"""Closed-form maps between spaces: orthogonal Procrustes, ridge least squares, exact transport of a domain net."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from abi.base.errors import AlignmentError
from abi.base.files import read_tensors
from abi.base.manifests.alignments import AlignmentFigures, AlignmentManifest
from abi.models.module import AbiModule
from abi.models.states import States

log = logging.getLogger("abi")


@dataclass(frozen=True)
class Alignment:
    """An orthogonal R `[A, A]` (target rows @ R = source rows) and how good it is."""

    rotation: Tensor
    figures: AlignmentFigures


def fit_procrustes(target: Tensor, source: Tensor, *, held_out: float = 0.2, min_rank_share: float = 0.5) -> Alignment:
    """Return the orthogonal R that minimises `||target @ R - source||_F`, both centred, with its held-out quality.

    Args: target, source: `[N, A]` rows paired by position; the last `held_out` share is kept from the fit.
    `effective_rank` is the exponential of the entropy of the singular values of the cross-covariance; the cosines are
    means over centred held-out rows, since even unrelated data align in sample; the residual is relative and in sample.
    Raises: AlignmentError: widths differ, a row is not finite, or too few rows.
    Source: Schonemann 1966; scipy.linalg.orthogonal_procrustes.
    """
    if target.shape != source.shape:
        raise AlignmentError(
            f"alignment: target rows are {tuple(target.shape)}, source rows {tuple(source.shape)}; use equal d_abi"
        )
    for rows, side in ((target, "target"), (source, "source")):
        if not bool(torch.isfinite(rows).all()):
            raise AlignmentError(f"alignment: {side} rows hold NaN or infinity; rebuild its states or its module")
    cut = int(len(target) * (1 - held_out))
    if cut < 2 * target.shape[1]:
        raise AlignmentError(
            f"alignment: {cut} rows are too few for {target.shape[1]} dimensions; pair at least {2 * target.shape[1]}"
        )
    x, y = target.double().numpy(), source.double().numpy()
    # Held-out rows are centred by the means of the fit: they may not choose what they are compared with.
    mean_x, mean_y = x[:cut].mean(0), y[:cut].mean(0)
    x, y = x - mean_x, y - mean_y
    if not (np.linalg.norm(x[:cut]) and np.linalg.norm(y[:cut])):
        raise AlignmentError("alignment: the rows of one side never vary; its module or its states are degenerate")
    rotation, _ = scipy.linalg.orthogonal_procrustes(x[:cut], y[:cut])
    # Where the cross-covariance has few directions, most of R is arbitrary, however small the residual.
    values = scipy.linalg.svdvals(x[:cut].T @ y[:cut])
    shares = values / values.sum()
    rank = float(np.exp(-(shares * np.log(np.clip(shares, 1e-300, None))).sum()))
    if rank < min_rank_share * x.shape[1]:
        log.warning(
            "alignment: effective rank %.1f of %d, so the text does not determine most of the rotation; give more of "
            "it, or more varied text",
            rank,
            x.shape[1],
        )
    residual = np.linalg.norm(x[:cut] @ rotation - y[:cut]) / np.linalg.norm(y[:cut])
    figures = AlignmentFigures(
        n_rows=float(len(x)),
        effective_rank=rank,
        residual=float(residual),
        cosine_before=_cosine(x[cut:], y[cut:]),
        cosine_held_out=_cosine(x[cut:] @ rotation, y[cut:]),
    )
    return Alignment(torch.from_numpy(rotation).float(), figures)


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean((x * y).sum(1) / np.clip(norms, 1e-12, None)))


def ridge_solve(gram: Tensor, moment: Tensor, penalty: float) -> Tensor:
    """Return the ridge solution of accumulated moments `x'x` `[A, A]` and `x'y` `[A, D]`, as float32.

    The penalty is relative to the mean diagonal, so that one number suits features of any scale.
    """
    regular = gram + penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    solved = scipy.linalg.solve(regular.cpu().numpy(), moment.cpu().numpy(), assume_a="pos")
    return torch.from_numpy(solved).float().to(gram.device)


def conjugated(weights: Mapping[str, Tensor], rotation: Tensor, *, published: bool = False) -> dict[str, Tensor]:
    """Return a domain net's linear weights folded with a rotation R (target to source coordinates of row vectors).

    Right: `W0' = W0 R^T` in PyTorch's `[out, in]` layout for `x @ R`, `W2' = R W2`, `b2' = R b2`. The original folds
    the inverse and leaves `b2` alone; `published=True` does the same.
    """
    r = rotation.T if published else rotation
    out = dict(weights)
    out["domain.net.0.weight"] = weights["domain.net.0.weight"] @ r.T
    out["domain.net.2.weight"] = r @ weights["domain.net.2.weight"]
    if not published:
        out["domain.net.2.bias"] = r @ weights["domain.net.2.bias"]
    return out


def paired_positions(target_ends: np.ndarray, source_ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of positions of two tokenizations that have read the text up to the same character.

    Of several positions with one end the first is taken: the others have read a part of the next character.
    Args: target_ends, source_ends: `[n]`, `[m]` characters fully read by each position of one document, non-decreasing.
    """
    _, at_target, at_source = np.intersect1d(target_ends, source_ends, return_indices=True)
    return at_target, at_source


def pair_states(target: States, source: States, max_rows: int | None) -> tuple[Tensor, Tensor]:
    """Return flat position indices of target and source states that have read the same document to the same character,
    at most `max_rows` of them spread over all.

    Only scored positions are paired: one of the first of its window has read the same character, but nearly nothing
    before it. Raises: AlignmentError: the two share no position.
    """
    there = {name: i for i, name in enumerate(source.manifest.documents)}
    at_target, at_source = [], []
    for i, name in enumerate(target.manifest.documents):
        if name not in there:
            continue
        t_windows = torch.nonzero(target.document == i).flatten()
        s_windows = torch.nonzero(source.document == there[name]).flatten()
        t_at, s_at = _scored(target, t_windows), _scored(source, s_windows)
        t, s = paired_positions(target.char_end.flatten()[t_at].numpy(), source.char_end.flatten()[s_at].numpy())
        at_target.append(t_at[torch.from_numpy(t)])
        at_source.append(s_at[torch.from_numpy(s)])
    if not sum(map(len, at_target)):
        raise AlignmentError(
            f"alignment: {target.path} and {source.path} share no position of any document; use the same text for both"
        )
    paired, of_source = torch.cat(at_target), torch.cat(at_source)
    rows = spread_rows(len(paired), max_rows)
    return paired[rows], of_source[rows]


def spread_rows(n: int, most: int | None) -> Tensor:
    """Return at most `most` indices spread evenly over n: the first ones would all be of the first few documents."""
    return torch.arange(n) if most is None or n <= most else (torch.arange(most) * (n / most)).long()


def _scored(states: States, windows: Tensor) -> Tensor:
    """Return the flat indices of the scored positions of some windows, in order."""
    positions = torch.arange(states.skip, states.manifest.positions)
    return (windows.long().unsqueeze(1) * states.manifest.positions + positions).flatten()


def orthogonal(rotation: Tensor) -> bool:
    """Return whether a tensor is a square matrix whose inverse is its transpose, to what float32 can hold."""
    square = rotation.dim() == 2 and rotation.shape[0] == rotation.shape[1]
    return square and torch.allclose(rotation @ rotation.T, torch.eye(len(rotation)), atol=1e-4)


def read_rotations(manifests: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Return the rotations `[A, A]` of a seed from a redrawn interface: `aligned` to the source's space, `home` to that
    of the positive control, `own` to the oracle's, and maybe `other` to the wrong domain's.

    Raises: AlignmentError: no manifest holds the seed, or it is none; DataError, TamperError: as `read_tensors`.
    """
    for path in manifests:
        promised = AlignmentManifest.read(path).rotations_sha256
        tensors, _ = read_tensors(Path(path).with_suffix(".safetensors"), promised)
        found = {name.partition(".")[2]: rotation for name, rotation in tensors.items() if name.startswith(f"{seed}.")}
        for name, rotation in found.items():
            if not orthogonal(rotation):
                raise AlignmentError(f"{path}: rotation {seed}.{name} is no orthogonal matrix; delete and rebuild them")
        if {"aligned", "home", "own"} <= set(found):
            return found
    raise AlignmentError(
        f"alignment: none of {list(manifests)} holds all rotations of seed {seed}; delete and rebuild them"
    )


@torch.no_grad()
def abi_rows(module: AbiModule, states: States, rows: Tensor, batch: int = 64) -> Tensor:
    """Return the interface states `[len(rows), A]` of flat positions."""
    parts = [
        module.interface_state(states.taps(module.config.taps, slice(i, i + batch))).flatten(0, 1)
        for i in range(0, len(states), batch)
    ]
    return torch.cat(parts)[rows]
