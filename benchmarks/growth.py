"""How the cost of a KD step grows with vocabulary, width, positions and arms, against the operations that it counts."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from abi.base.manifests.speed import Growth, Point
from benchmarks.sides import Shape, Sides

ROUNDS = 5
BASE = Shape("kd", 8192, layers=1, taps=(1,))
SIZES = {
    "vocabulary": (2048, 8192, 32768, 131072),
    "width": (128, 256, 512, 1024),
    "positions": (32, 128, 512),
    "arms": (1, 2, 4, 8, 14),
}
TITLES = {
    "vocabulary": "Tokens of the vocabulary",
    "width": "Width of the backbone",
    "positions": "Positions per window, four windows a step",
    "arms": "Arms fitted together",
}


def at(name: str, size: int, folder: Path) -> Point:
    """Return the cost of a step at one size of what grows."""
    shape = BASE if name == "arms" else replace(BASE, **{name: size})
    sides = Sides.of(shape, 2 * shape.batch, folder)
    turns = sides.turns(ROUNDS, arms=size if name == "arms" else 1, against=False)
    return Point(size=size, seconds=turns.middle["engine"], flop=turns.flop)


def slope(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Return the least-squares slope of log cost over log size."""
    return float(np.polyfit([math.log(size) for size in sizes], [math.log(cost) for cost in costs], 1)[0])


def measured() -> list[Growth]:
    """Return every curve."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in SIZES.items():
            points = [at(name, size, Path(folder)) for size in sizes]
            seconds, flop = ([getattr(point, part) for point in points] for part in ("seconds", "flop"))
            slopes = {"slope": slope(sizes, seconds), "theory": slope(sizes, flop)}
            found.append(Growth(name=name, title=TITLES[name], points=points, **slopes))
    return found
