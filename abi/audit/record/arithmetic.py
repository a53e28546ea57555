"""Arithmetic on printed figures: what their digits allow, least squares, bootstrap percentiles."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from abi.base.files import Json


def half_unit(value: float) -> float:
    """Return half of the last printed digit of a figure: 0.8725 -> 0.00005, 20.0 -> 0.05, an integer -> 0.5."""
    exponent = Decimal(repr(value)).as_tuple().exponent
    return 0.5 * 10.0 ** int(exponent)


def agrees(stated: Json, found: Json) -> bool:
    """Return whether a documented value is the found one, rounded to the digits the document prints."""
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (stated, found)]
    if all(numbers):
        return abs(stated - found) <= half_unit(stated) * (1 + 1e-9)
    return type(stated) is type(found) and stated == found


def spread(formula: Callable[..., float], inputs: Sequence[float]) -> tuple[float, float]:
    """Return the least and greatest value of a formula whose inputs, unless integers, are known to their last digit."""
    steps = [(0.0,) if isinstance(x, int) else (-half_unit(x), 0.0, half_unit(x)) for x in inputs]
    values = [formula(*(x + s for x, s in zip(inputs, chosen, strict=True))) for chosen in itertools.product(*steps)]
    return min(values), max(values)


def follows(stated: float, formula: Callable[..., float], inputs: Sequence[float]) -> bool:
    """Return whether a stated figure is among the values its inputs allow, all read to their last printed digit."""
    low, high = spread(formula, inputs)
    slack = half_unit(stated) + 1e-9 * max(1.0, abs(low), abs(high))
    return low - slack <= stated <= high + slack


def whole_count(share: float, n: int) -> bool:
    """Return whether a printed share is that of a whole number of n units."""
    return abs(round(share * n) / n - share) <= half_unit(share) * (1 + 1e-9)


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Return x of matrix @ x = right (Gauss-Jordan with pivoting; for the three parameters of a published fit)."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(len(rows)):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]


def least_squares(x: list[list[float]], y: list[float]) -> list[float]:
    """Return the ordinary least-squares coefficients."""
    width = range(len(x[0]))
    gram = [[sum(row[i] * row[j] for row in x) for j in width] for i in width]
    return solve(gram, [sum(row[i] * value for row, value in zip(x, y, strict=True)) for i in width])


def predict(row: list[float], coefficients: list[float]) -> float:
    """Return the fitted value of one row."""
    return sum(a * b for a, b in zip(row, coefficients, strict=True))


def r_squared(x: list[list[float]], y: list[float]) -> float:
    """Return 1 - SS_res / SS_tot of the least-squares fit, SS_tot about the mean."""
    coefficients, mean = least_squares(x, y), sum(y) / len(y)
    residual = sum((value - predict(row, coefficients)) ** 2 for row, value in zip(x, y, strict=True))
    return 1 - residual / sum((value - mean) ** 2 for value in y)


def binomial_quantile(n: int, p: float, level: float) -> int:
    """Return the smallest k with P(X <= k) >= level: the percentile of a bootstrap of n passes and failures."""
    total = 0.0
    for k in range(n + 1):
        total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
        if total >= level:
            return k
    return n


def lookup(data: Json, path: str) -> Json:
    """Return the value at a path joined by "/"; a key may itself hold a slash.

    Raises:
        KeyError: no such leaf.
    """
    if path == "":
        return data
    parts = path.split("/")
    if isinstance(data, list) and parts[0].isdigit() and int(parts[0]) < len(data):
        return lookup(data[int(parts[0])], "/".join(parts[1:]))
    if isinstance(data, dict):
        for i in range(1, len(parts) + 1):
            if "/".join(parts[:i]) in data:
                return lookup(data["/".join(parts[:i])], "/".join(parts[i:]))
    raise KeyError(path)


def matching(data: Json, pattern: str) -> list[str]:
    """Return every path of a pattern: a `*` stands for the rest of any key, or for any place of a list."""
    head, star, rest = pattern.partition("*")
    if not star:
        return [pattern]
    parent, _, start = head.rpartition("/")
    node = lookup(data, parent)
    keys = [str(key) for key in (node if isinstance(node, dict) else range(len(node)))]
    found = (f"{head.removesuffix(start)}{key}{rest}" for key in keys if key.startswith(start))
    return [path for one in found for path in matching(data, one)]


def worded(sentence: str, good: bool) -> str:
    """Return a sentence in which `[is|is not]` says whether something is good."""
    return re.sub(r"\[([^\[\]|]*)\|([^\[\]|]*)\]", lambda found: found[1 if good else 2], sentence)


def show(value: Json) -> str:
    """Return a value as a sentence prints it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return "[" + ", ".join(show(x) for x in value) + "]" if isinstance(value, list) else str(value)


def mean(*values: float) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def gain(off: float, on: float) -> float:
    """Return the relative improvement from off to on in per cent."""
    return 100 * (off - on) / off


def per_cent(a: float, b: float) -> float:
    """Return a as per cent of b: the published efficacies E2, E3 (of gains) and E5 (of perplexities)."""
    return 100 * a / b


def share(start: float, reached: float, goal: float) -> float:
    """Return the share of the way from start to goal in per cent: the published efficacies E1 and E4."""
    return 100 * (start - reached) / (start - goal)
