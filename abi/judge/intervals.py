"""Intervals over groups and seeds: protocol section 4, numpy and scipy only.

A table is `[D, S]`, groups x seeds of one contrast, full. Leading axes, where allowed, are tables of their
own (simulated studies).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from abi.base.errors import EvidenceError
from abi.judge.fits import IntervalFound, Ratio

Array = NDArray[np.float64]
Numbers = Array | float
"""A float of one table, an array `[K]` of K tables."""


class Components(NamedTuple):
    """Mean and mean squares (`msd` groups, `mss` seeds, `mse` the rest) of tables, each of the leading shape."""

    mean: Numbers
    msd: Numbers
    mss: Numbers
    mse: Numbers
    n_groups: int
    n_seeds: int

    def half(self, level: float) -> Numbers:
        """Return the half width at `level` (say 0.95), of the leading shape.

        half = sqrt((t[D-1]^2 MSD + t[S-1]^2 max(MSS - MSE, 0)) / (D S)).  Source: protocol section 4.
        """
        return self._root(quantile(level, self.n_groups - 1) ** 2, quantile(level, self.n_seeds - 1) ** 2)

    def standard_error(self) -> Numbers:
        """Return the standard error of the mean: the half width with both quantiles at 1."""
        return self._root(1.0, 1.0)

    def _root(self, groups: float, seeds: float) -> Numbers:
        size = self.n_groups * self.n_seeds
        if isinstance(self.msd, float):  # the same bits as below, at a tenth of the time
            return math.sqrt((groups * self.msd + seeds * max(self.mss - self.mse, 0.0)) / size)
        return np.sqrt((groups * self.msd + seeds * np.maximum(self.mss - self.mse, 0.0)) / size)


@lru_cache(maxsize=1024)
def quantile(level: float, freedom: int) -> float:
    """Return the two-sided quantile of Student's t: P(|t| <= q) = level.

    Raises: EvidenceError: a level outside (0, 1) or no degree of freedom.
    """
    if not 0.0 < level < 1.0 or freedom < 1:
        raise EvidenceError(f"interval: level {level} with {freedom} degrees of freedom; need a level in (0, 1) and 1")
    return float(stdtrit(freedom, 0.5 + level / 2))


def components(x: Array) -> Components:
    """Return the mean and the mean squares of every table in `x`.

    Args: x: [..., D, S] full tables, D >= 2, S >= 2.
    Raises: EvidenceError: fewer than two groups or seeds, or a value that is not finite.
    """
    x = _checked(x)
    msd, mss, mse = _mean_products(x, x)
    return Components(x.mean((-2, -1)), msd, mss, mse, x.shape[-2], x.shape[-1])


def interval(x: Array, *, level: float, min_groups: int, min_seeds: int) -> IntervalFound | None:
    """Return the interval of the mean of one table, or None where it is too small for one.

    Args: x: [D, S]; level: 0.95 for a 95 % interval; min_groups, min_seeds: the least D and S (protocol: 30 and 3).
    Raises: EvidenceError: a value that is not finite.
    """
    if x.shape[0] < max(min_groups, 2) or x.shape[1] < max(min_seeds, 2):
        return None
    return interval_of(components(x), level)


def interval_of(parts: Components, level: float) -> IntervalFound:
    """Return the interval of the one table that `parts` was computed from."""
    return IntervalFound.model_validate(interval_figures(parts, level))


def interval_figures(parts: Components, level: float) -> dict[str, float]:
    """Return field -> figure of `interval_of`."""
    figures = {key: value if isinstance(value, int) else float(value) for key, value in parts._asdict().items()}
    mean, half = figures["mean"], float(parts.half(level))
    return {**figures, "lower": mean - half, "upper": mean + half, "half": half, "level": level}


def components_of(found: IntervalFound) -> Components:
    """Return the mean and the mean squares that an interval was made of."""
    return Components(found.mean, found.msd, found.mss, found.mse, found.n_groups, found.n_seeds)


def ratio_set(num: Array, den: Array, *, level: float) -> Ratio:
    """Return mean(num) / mean(den) with the Fieller-style set of ratios at `level`.

    The interval of num - g den contains 0 where (m_a - g m_b)^2 <= half(g)^2. half^2 has a max(h, 0), so the set is the
    union of two sets, each of a quadratic in g: one without the seed term and one with it. Where `den` cannot be told
    from 0 the set is unbounded (a line with a hole, or the whole line): that is what the data say, and it is returned
    as it is, an infinite end as None.

    Args: num, den: [D, S] tables of the same groups and seeds.
    Raises: EvidenceError: shapes differ, or a value that is not finite.
    Source: Fieller 1954, with the interval of protocol section 4.
    """
    num, den = _checked(num), _checked(den)
    if num.shape != den.shape or num.ndim != 2:
        raise EvidenceError(f"ratio: expected two tables of one shape [groups, seeds], got {num.shape} and {den.shape}")
    size = num.size
    pairs = ((num, num), (num, den), (den, den))
    squares = np.array([a.mean() * b.mean() for a, b in pairs])
    products = np.array([_mean_products(a, b) for a, b in pairs])  # [3, (msd, mss, mse)]
    without = squares - quantile(level, num.shape[0] - 1) ** 2 * products[:, 0] / size
    seeds = quantile(level, num.shape[1] - 1) ** 2 * (products[:, 1] - products[:, 2]) / size
    pieces = [piece for aa, ab, bb in (without, without - seeds) for piece in _not_positive(bb, -2 * ab, aa)]
    estimate = float(num.mean() / den.mean()) if den.mean() != 0 else float("nan")
    if not pieces:  # arms that differ by the same everywhere: the quadratic has one root, which rounding may lose
        pieces = [(estimate, estimate) if math.isfinite(estimate) else (-math.inf, math.inf)]
    ends = [[_finite(low), _finite(high)] for low, high in _union(pieces)]
    bounded = ends[0][0] is not None and ends[-1][1] is not None
    return Ratio(estimate=_finite(estimate), pieces=ends, bounded=bounded, level=level)


def resolvable_gap(standard_error: float, n_seeds: int, multiples: Sequence[tuple[int, float]]) -> float:
    """Return the gap U - P that a study of this size resolves: its standard error times a multiple of it.

    The multiple is interpolated linearly in 1 / (S - 1), the reciprocal of the seeds' degrees of freedom, in which the
    protocol's three points (12, 8, 6 with 3, 5, 10 seeds) lie nearly on a line; outside them the nearest one holds.

    Args: standard_error: of U - P; multiples: (seeds, standard errors) pairs.
    Raises: EvidenceError: fewer than two seeds.
    """
    if n_seeds < 2:
        raise EvidenceError(f"resolvable gap: {n_seeds} seed; at least 2 are needed")
    points = sorted((1.0 / (seeds - 1), times) for seeds, times in multiples)
    return standard_error * float(np.interp(1.0 / (n_seeds - 1), [p[0] for p in points], [p[1] for p in points]))


def _checked(x: Array) -> Array:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim < 2 or x.shape[-2] < 2 or x.shape[-1] < 2:
        raise EvidenceError(f"interval: expected [groups, seeds] with at least 2 of each, got the shape {x.shape}")
    if not np.isfinite(x).all():
        raise EvidenceError("interval: the table holds a value that is not finite; score or drop it before")
    return x


def _mean_products(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Return the bilinear forms of MSD, MSS and MSE: with a = b they are the mean squares."""
    n_groups, n_seeds = a.shape[-2:]
    ad, asd, ae = _effects(a)
    bd, bsd, be = (ad, asd, ae) if b is a else _effects(b)
    msd = n_seeds * (ad * bd).sum(-1) / (n_groups - 1)
    mss = n_groups * (asd * bsd).sum(-1) / (n_seeds - 1)
    mse = np.einsum("...ij,...ij->...", ae, be) / ((n_groups - 1) * (n_seeds - 1))
    return msd, mss, mse


def _effects(x: Array) -> tuple[Array, Array, Array]:
    """Return group effects [..., D], seed effects [..., S] and residuals [..., D, S] of `x`."""
    rows = x.mean(-1)
    mean = rows.mean(-1)[..., None]
    groups, seeds = rows - mean, x.mean(-2) - mean
    return groups, seeds, x - rows[..., None] - seeds[..., None, :]


def _not_positive(a: float, b: float, c: float) -> list[tuple[float, float]]:
    """Return where a g^2 + b g + c <= 0, as intervals with infinite ends where they have none."""
    inf = float("inf")
    if a == 0:
        if b == 0:
            return [(-inf, inf)] if c <= 0 else []
        return [(-inf, -c / b)] if b > 0 else [(-c / b, inf)]
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return [] if a > 0 else [(-inf, inf)]
    q = -0.5 * (b + np.copysign(np.sqrt(discriminant), b))
    low, high = sorted((float(q / a), float(c / q) if q != 0 else 0.0))
    return [(low, high)] if a > 0 else [(-inf, low), (high, inf)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _union(pieces: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for low, high in sorted(pieces):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
