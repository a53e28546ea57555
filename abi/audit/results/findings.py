"""What a check of a result can find, and how two figures or two documents are compared (standard library only)."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from abi.audit.record.data import is_number
from abi.base.files import Json

TAMPERED = "TAMPERED"
UNREADABLE = "UNREADABLE"
DIFFERS = "DIFFERS"
STALE = "STALE"
NOTE = "NOTE"
CODES = {TAMPERED: 1, DIFFERS: 1, UNREADABLE: 2, STALE: 0, NOTE: 0}
CLOSE = 1e-9  # of figures that another machine computed again
MEAN_SQUARES = ("msd", "mss", "mse")
TIGHT = 1e-12  # of figures that follow from others of the same file by a few additions


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, the file and leaf it is in ("" for the whole file), and one sentence.

    Args: worded: whether what is stored there may be other words for what must be: as new words, with their figures.
    """

    kind: str
    file: str
    leaf: str
    sentence: str
    worded: bool = field(default=False, compare=False)

    def as_dict(self) -> dict[str, str]:
        """Return plain data for `--json`."""
        return {"kind": self.kind, "file": self.file, "leaf": self.leaf, "sentence": self.sentence}

    def words(self) -> str:
        """Return place and sentence on one line."""
        place = f"{self.file}: leaf {self.leaf}" if self.leaf else self.file
        return f"{place}: {self.sentence}"


@dataclass
class Checks:
    """Compares what a file stores with what follows from its other leaves, and keeps what does not agree."""

    file: str
    found: list[Finding] = field(default_factory=list)
    n_checked: int = 0

    def add(self, leaf: str, sentence: str, kind: str = TAMPERED, *, worded: bool = False) -> None:
        """Add a finding. Args: worded: as in `Finding`."""
        self.found.append(Finding(kind, self.file, leaf, sentence, worded))

    def holds(self, leaf: str, good: bool, sentence: str) -> None:
        """Add a finding unless `good`."""
        self.n_checked += 1
        if not good:
            self.add(leaf, sentence)

    def equal(self, leaf: str, stored: Json, expected: Json, by: str, *, scale: float = 0.0) -> None:
        """Add a finding for every leaf of `stored` that differs from what follows `by` other leaves.

        Args: scale: size of what a difference was taken of, so that a figure near zero is not judged by its own size.
        """
        self.n_checked += 1
        if type(stored) is type(expected) and stored == expected:
            return  # most of what is compared is equal bit for bit
        for place, a, b, _ in differences(stored, expected, tolerance=TIGHT, scale=scale):
            where = f"{leaf}/{place}" if place else leaf
            self.add(where, f"{show(a)} is stored, from {by} follows {show(b)}", worded=may_be_words_of(a, b))


ABSENT = "(absent)"
FIGURE = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def may_be_words_of(stored: Json, expected: Json) -> bool:
    """Return whether a stored sentence says no figure that the expected one does not say."""
    if not (isinstance(stored, str) and isinstance(expected, str)):
        return False
    return {*FIGURE.findall(stored)} <= {*FIGURE.findall(expected)}


def differences(a: Json, b: Json, *, tolerance: float, scale: float = 0.0) -> list[tuple[str, Json, Json, float]]:
    """Return (leaf, value in a, value in b, relative size) of every leaf in which two JSON values differ.

    Numbers differ where |a - b| > tolerance x size; the size is the larger of both, of `scale`, and for a mean or a
    bound that of its interval. With a tolerance of 0 they must be equal. The relative size is infinite for what is
    no number.
    """
    return list(_differences(a, b, tolerance, scale, ""))


def _differences(
    a: Json, b: Json, tolerance: float, scale: float, leaf: str
) -> Iterator[tuple[str, Json, Json, float]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            size = max(scale, interval_size(a, key))
            place = f"{leaf}/{key}" if leaf else key
            yield from _differences(a.get(key, ABSENT), b.get(key, ABSENT), tolerance, size, place)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, tolerance, scale, f"{leaf}/{i}" if leaf else str(i))
    elif is_number(a) and is_number(b):
        size = max(abs(a), abs(b), scale)
        if a != b and not abs(a - b) <= tolerance * size:  # so that a figure that is missing (NaN) differs from any
            yield leaf, a, b, abs(a - b) / size
    elif type(a) is not type(b) or a != b:
        yield leaf, a, b, math.inf


def interval_size(parent: dict[str, Json], key: str) -> float:
    """Return the size by which a mean or a bound is judged: that of the interval it belongs to, else 0.

    A mean square is judged by the largest of the three: without a seed effect the others are rounding alone.
    """
    if key in MEAN_SQUARES:
        return max((float(parent[name]) for name in MEAN_SQUARES if is_number(parent.get(name))), default=0.0)
    if key not in ("mean", "lower", "upper", "half"):
        return 0.0
    bounds = parent.get("interval") or parent
    ends = [bounds.get("lower"), bounds.get("upper")] if isinstance(bounds, dict) else []
    return max((abs(float(end)) for end in ends if end is not None and is_number(end)), default=0.0)


def show(value: Json) -> str:
    """Return a JSON value in few characters, with every digit of a number."""
    text = value if value == ABSENT else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 70 else f"{text[:67]}..."


def count_numbers(node: Json) -> int:
    """Return how many numeric leaves a JSON value has."""
    n = 0
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else [node]:
        kind = type(value)
        if kind is float or kind is int:  # by far the most: not worth a call each
            n += 1
        elif kind is dict or kind is list:
            n += count_numbers(value)
        else:
            n += is_number(value)
    return n
