"""What a fit on stored states may read: windows, head, teacher, lesson; and what a step draws from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from abi.base.errors import DataError
from abi.models.module import AbiModule
from abi.models.states import Head, States


@dataclass(frozen=True)
class Objective:
    """What a gradient fit minimises: `ce`, `kd`, `matched` (temperature, weight of the teacher) or `correction-mse`."""

    kind: str
    temperature: float = 2.0
    kd_weight: float = 0.9


@dataclass(frozen=True)
class Batch:
    """What a step reads: whole `windows`, or `positions` drawn singly from all of them.

    Positions of one window are much alike: a quarter as many drawn singly teach as much (benchmarks/batches.py).
    """

    size: int
    of: str = "windows"

    def at_most(self, states: States) -> "Batch":
        """Return a batch that some states can fill."""
        whole = 1 if self.of == "windows" else states.manifest.positions
        return replace(self, size=min(self.size, len(states) * whole))

    def as_windows(self, states: States) -> int:
        """Return how many whole windows hold at least as many positions (a backbone must read windows); all at most."""
        wanted = self.size if self.of == "windows" else math.ceil(self.size / states.manifest.positions)
        return min(wanted, len(states))


@dataclass
class Lesson:
    """Paired positions as one-position windows: target states, and what the source's module does to each token there.

    Args: states: `[P, 1, ...]`; head: of the target; shift: `[P, V]` float16, log-ratio of the source's distribution
        with and without its module at every token both vocabularies hold, 0 elsewhere.
    """

    states: States
    head: Head
    shift: Tensor


@dataclass
class FitData:
    """What a fit may read: train states, the frozen head, and for a teacher its corrections `[N, T, D]`.

    `shift` `[N, V]`: of one-position windows, the log-ratio a lesson asks for (`matched`); the corrections then are its
    nearest ones in the head, for closed forms. `held_out`: a lesson no fit sees, on which a gain is chosen. `carried`:
    the source's interface, carried on this text (a share of it keeps that of the whole). `others`: name of another text
    -> the same on that text.
    """

    states: States
    head: Head
    teacher: Tensor | None = None
    shift: Tensor | None = None
    held_out: Lesson | None = None
    carried: AbiModule | None = None
    others: Mapping[str, "FitData"] = field(default_factory=dict)

    def of_text(self, name: str) -> "FitData":
        """Return the data of another text, these for "". Raises: DataError: there is none of that name."""
        if name and name not in self.others:
            raise DataError(f"fit: there is no {name} text to fit on (there is: {', '.join(self.others) or 'none'})")
        return self.others[name] if name else self

    def first(self, share: float) -> "FitData":
        """Return the first windows only: a share of them."""
        if share == 1:
            return self
        return self.select(list(range(max(1, int(share * len(self.states))))))

    def at_most(self, rows: int | None) -> "FitData":
        """Return whole windows spread evenly over the data, of about so many positions; all without a limit."""
        wanted = None if rows is None else max(1, rows // self.states.manifest.positions)
        if wanted is None or wanted >= len(self.states):
            return self
        return self.select(spread_rows(len(self.states), wanted).tolist())

    def by_position(self) -> "FitData":
        """Return every position as a window of its own."""
        teacher = None if self.teacher is None else self.teacher.flatten(0, 1).unsqueeze(1)
        return replace(self, states=self.states.by_position(), teacher=teacher)

    def select(self, windows: list[int]) -> "FitData":
        """Return some windows, each with what its teacher says of it."""
        return replace(
            self,
            states=self.states.select(windows),
            teacher=None if self.teacher is None else self.teacher[windows],
            shift=None if self.shift is None else self.shift[windows],
        )


def spread_rows(n: int, most: int) -> Tensor:
    """Return at most `most` indices spread evenly over n: the first ones would all be of the first few documents."""
    return torch.arange(n) if n <= most else (torch.arange(most) * (n / most)).long()
