"""What `compare` finds for a seed, as it is kept: evidence rows, what fits cost, chosen learning rates."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from abi.api.comparison import Cost
from abi.arms.metrics import EvidenceRow
from abi.base.typed import Typed


class Evidence(Typed):
    """Rows of a seed, what the fits of each arm cost, whether frozen nets stayed as they were (protocol test 7)."""

    rows: list[EvidenceRow]
    costs: dict[str, list[Cost]]
    unmoved: bool


@dataclass
class Found:
    """The evidence of a seed while it is made."""

    rows: list[EvidenceRow] = field(default_factory=list)
    costs: dict[str, list[Cost]] = field(default_factory=dict)
    unmoved: bool = True

    def note(self, arm: str, seconds: float, n_trained: int, memory_mb: float | None) -> None:
        """Note what a fit of an arm cost."""
        self.costs.setdefault(arm, []).append(Cost(seconds=seconds, n_trained=n_trained, memory_mb=memory_mb))


def costs_of(evidence: Sequence[Evidence]) -> dict[str, Cost]:
    """Return arm -> the mean seconds of its fits, and the most memory that one took."""
    found: dict[str, list[Cost]] = {}
    for one in evidence:
        for arm, costs in one.costs.items():
            found.setdefault(arm, []).extend(costs)
    return {
        arm: Cost(
            seconds=float(np.mean([cost.seconds for cost in costs])),
            n_trained=costs[0].n_trained,
            memory_mb=max((cost.memory_mb for cost in costs if cost.memory_mb is not None), default=None),
        )
        for arm, costs in found.items()
    }


class Rates(Typed):
    """Arm -> the learning rate that was chosen for it."""

    rates: dict[str, float]
