"""Small sections that several specs hold."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from abi.base.hub import HubFile
from abi.base.typed import Count, Positive, Typed

Rate = Annotated[float, Field(gt=0)]
Portion = Annotated[float, Field(gt=0, lt=1)]
Seeds = list[Count]
Revision = Annotated[str, Field(pattern="^([0-9a-f]{40}|unpinned)$", description="40 hex digits or unpinned")]
Warmup = Annotated[Count, Field(description="steps of linear warm-up")]
WeightDecay = Annotated[float, Field(ge=0, description="AdamW weight decay")]


def _once(values: list[Any]) -> list[Any]:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands there twice; take it out once")
    return values


Once = AfterValidator(_once)
UNIQUE: dict[str, JsonValue] = {"uniqueItems": True}
Names = Annotated[list[str], Field(min_length=1, json_schema_extra=UNIQUE), Once]
"""Some names, at least one, each once."""
BatchOf = Annotated[
    Literal["windows", "positions"],
    Field(description="`positions` are drawn singly from all windows; whole windows otherwise"),
]


class Pinned(Typed):
    """What is taken from the hub, at one revision."""

    id: Annotated[str, Field(min_length=1)]
    """model or data set of the hub"""
    revision: Revision
    files: dict[str, HubFile] = {}
    """name -> size and hash, as `abi pin` found them"""


class Shares(Typed):
    """Share of a text's groups per split; they sum to 1."""

    train: Portion
    calibration: Portion
    test: Portion


class PerSplit(Typed):
    """A number of windows per split."""

    train: Positive
    calibration: Positive
    test: Positive


class Window(Typed):
    """How a backbone reads text."""

    length: Annotated[int, Field(ge=8)]
    """tokens per window"""
    prefix: Count
    """tokens the encoder sees; 0 for a decoder-only model"""
    skip: Count
    """first positions that are not scored"""


class Phase(Typed):
    """A part of a training run."""

    steps: Positive
    """steps"""
    lr: Rate
    """peak learning rate"""
    warmup: Warmup = 0
    decay: Literal["constant", "cosine"] = "constant"
    """course after the warm-up"""


Phases = Annotated[list[Phase], Field(min_length=1)]
