"""Manifests of alignments, and what a result repeats of them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from abi.base.typed import Document, Provenance, Sha256, Typed


class AlignmentFigures(Typed):
    """How good a rotation is; cosines are of held-out rows."""

    n_rows: Annotated[float, Field(ge=1)]
    effective_rank: float
    residual: float
    """Relative, in sample."""
    cosine_before: float
    cosine_held_out: float


class AlignmentEntry(AlignmentFigures):
    """One rotation of a seed."""

    seed: int
    rotation: Literal["aligned", "home", "own", "other"]


class AlignmentManifest(Document):
    """alignments/<claim>/<batch>.json."""

    kind: ClassVar[str] = "alignment"
    alignments: list[AlignmentEntry]
    rotations_sha256: Sha256
    """Of the file of rotations."""
    provenance: Provenance
