"""Manifests of fitted arms."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.typed import Count, Document, Positive, Provenance, Sha256, Typed


def place_of(seed: int, fit: str, arm: str, draw: int) -> str:
    """Return the folder that a fitted arm has beside its manifest."""
    return f"seed{seed}/{fit}/{arm}-{draw}"


class FitFigures(Typed):
    """What a fit leaves of an arm; the training figures are absent where it was solved."""

    n_trainable: Count
    frozen_sha256: Sha256
    steps: Count
    lr: Annotated[float, Field(ge=0)] | None = None
    """Peak learning rate, the arm's own."""
    gain: Annotated[float, Field(ge=0)] | None = None
    """Factor of the correction, chosen on held-out general text (general-only)."""
    final_loss: float | None = None
    phase_floors: list[float] = []
    best_step: int | None = None
    elapsed_s: float | None = None


class ArmEntry(FitFigures):
    """One fitted arm of a seed."""

    arm: str
    fit: str
    draw: Count
    seed: int
    domain_sha256: Sha256 | None = None
    folder: str

    @property
    def place(self) -> str:
        """The folder that an arm of this name, fit, draw and seed has."""
        return place_of(self.seed, self.fit, self.arm, self.draw)


class FittedEntry(ArmEntry):
    """One arm that was fitted on stored states."""

    sha256: Sha256
    """Of its tensors."""


class CalibrationManifest(Document):
    """calibration/<claim>/<batch>.json."""

    kind: ClassVar[str] = "calibration"
    arms: Annotated[list[FittedEntry], Field(min_length=1)]
    provenance: Provenance


class ScopeRun(Typed):
    """The states whose windows an adapted backbone was run on."""

    tensors_sha256: Sha256
    n_windows: Positive


class LoraEntry(ArmEntry):
    """One LoRA adapter of a seed."""

    adapter_sha256: Sha256
    """Tensors of adapter_model.safetensors."""
    finals_sha256: Sha256
    """File of the final states."""


class LoraManifest(Document):
    """lora/<claim>/<batch>.json."""

    kind: ClassVar[str] = "lora"
    base_model: str
    base_sha256: Sha256
    """Weights of the backbone, checked before and after every fit."""
    rank: Positive
    alpha: Positive
    """PEFT's `lora_alpha`, twice the rank."""
    target_modules: Annotated[list[str], Field(min_length=1)]
    n_interface: Positive
    """Trainable parameters of the interface of the claim's module."""
    n_trainable: Positive
    scopes: dict[str, ScopeRun]
    arms: Annotated[list[LoraEntry], Field(min_length=1)]
    provenance: Provenance
