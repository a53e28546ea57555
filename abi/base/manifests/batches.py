"""Manifests of what lies in one folder per seed: updates, states on them, written text."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.typed import Document, Positive, Provenance, Sha256, Typed


class UpdateFigures(Typed):
    """What an update did; losses in nats per token."""

    steps: Positive
    tokens_seen: Positive
    loss_nats: float
    stability_mse: float | None = None
    """Mean squared drift of the held ABI states in the last steps."""
    elapsed_s: float
    general_loss_before: float
    general_loss_after: float


class Member(Typed):
    """What lies beside a batch's manifest for one seed: file -> its hash."""

    seed: Positive
    files: Annotated[dict[str, Sha256], Field(min_length=1)]
    figures: UpdateFigures | None = None


class BatchManifest(Document):
    """updates/..., updated_states/... and written/..., one file per batch of seeds."""

    kind: ClassVar[str] = "batch"
    members: Annotated[list[Member], Field(min_length=1)]
    provenance: Provenance
