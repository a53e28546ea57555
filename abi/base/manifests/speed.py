"""Manifest of the benchmarks: what was timed against the original's loop, what it was to reach, and how cost grows."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from abi.base.machine import Machine
from abi.base.typed import Count, Document, Positive, Provenance, Typed

Quantity = Literal["ratio", "seconds", "memory_mib", "share"]
"""Times faster than the original's loop; CPU seconds; MiB above inputs; part of the machine's rate of products."""
Amount = Annotated[float, Field(gt=0)]


class Target(Typed):
    """What a quantity is to reach: at least or at most a gate, better still a goal."""

    better: Literal["more", "less"]
    gate: Amount
    goal: Amount | None = None

    def reached(self, value: float, limit: float) -> bool:
        """Return whether a value is as good as a limit."""
        return value >= limit if self.better == "more" else value <= limit

    def words(self, value: float) -> str:
        """Return in plain words whether a value meets gate and goal, or by how much it misses the gate."""
        if not self.reached(value, self.gate):
            apart = self.gate / value if self.better == "more" else value / self.gate
            return f"gate missed by a factor of {apart:.2f}"
        if self.goal is None:
            return "gate met"
        return "gate and goal met" if self.reached(value, self.goal) else "gate met, goal not"


class Targets(Typed):
    """benchmarks/targets.yaml: name of a benchmark -> quantity -> what it is to reach."""

    benchmarks: dict[str, dict[Quantity, Target]]


class Benchmark(Typed):
    """One line of the table: what was measured, and what it was to reach."""

    name: str
    title: str
    rounds: Positive
    """Times it was measured; figures are medians."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """CPU seconds of what abi does."""
    reference_s: Annotated[float, Field(gt=0)] | None = None
    """Those of what the original does."""
    ratio: float | None = None
    memory_mib: Annotated[float, Field(ge=0)] | None = None
    """Most memory above inputs."""
    share: float | None = None
    """Of the rate at which this machine multiplies matrices."""
    note: str = ""
    targets: dict[Quantity, Target] = {}

    def value(self, quantity: Quantity) -> float | None:
        """Return a measured quantity."""
        found: float | None = getattr(self, quantity)
        return found

    @property
    def missed(self) -> list[Quantity]:
        """The quantities that were measured and are not as good as their gate."""
        values = ((quantity, self.value(quantity), target) for quantity, target in self.targets.items())
        return [quantity for quantity, value, of in values if value is not None and not of.reached(value, of.gate)]


class Point(Typed):
    """Cost at one size."""

    size: Positive
    seconds: Amount
    flop: Count
    """Of matrix products, counted."""


class Growth(Typed):
    """How the cost of a step grows with one size while all others stay."""

    name: str
    title: str
    points: list[Point]
    slope: float
    """Of log seconds over log size: 1 is proportional."""
    theory: float
    """The same of the counted operations."""


class SpeedManifest(Document):
    """results/benchmarks.json."""

    kind: ClassVar[str] = "speed"
    machine: Machine
    load_after: float | None
    elapsed_s: Amount
    benchmarks: list[Benchmark]
    growth: list[Growth]
    provenance: Provenance
