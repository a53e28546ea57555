"""Manifests of trained modules."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from abi.base.manifests.states import BaseFacts
from abi.base.typed import Count, Document, Positive, Provenance, Sha256, Typed


class ModuleShape(Typed):
    """Sizes of a module, as its folder records them."""

    width: Positive
    taps: list[int]
    d_abi: Positive
    expansion: Positive
    tap_norms: bool
    domain_net: bool


class ModuleFacts(BaseFacts):
    """What a saved module says of itself beside its weights: its backbone, name, role, text and seed."""

    name: str
    role: Literal["source", "oracle", "reference", "home", "arm"]
    text: str
    seed: int


class ModuleManifest(ModuleFacts, Document):
    """abi_config.json of a module folder."""

    kind: ClassVar[str] = "module"
    module: ModuleShape
    rotated: bool
    """Whether the domain net sits behind a fixed rotation."""
    sha256: Sha256


class TrainedEntry(Typed):
    """One module of a batch, native or portable."""

    seed: int
    folder: str
    """Module folder beside the manifest."""
    sha256: Sha256
    steps: Count
    final_loss: float
    """Mean of the last 50 steps, nats per position."""
    elapsed_s: float
    n_parameters: Positive


class ModuleEntry(TrainedEntry):
    """One native module of a batch."""

    domain_sha256: Sha256


class ModulesManifest(Document):
    """modules/<backbone>/<text>/<shape>/<role>/<batch>.json."""

    kind: ClassVar[str] = "modules"
    modules: Annotated[list[ModuleEntry], Field(min_length=1)]
    provenance: Provenance
