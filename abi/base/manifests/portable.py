"""Manifests of portable modules (`models/portable.py`) and of the batches they are trained in."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.manifests.modules import TrainedEntry
from abi.base.manifests.states import BaseFacts
from abi.base.typed import Document, Positive, Provenance, Sha256, Typed


class PortableShape(Typed):
    """Sizes of a portable module and its anchors, as its folder records them."""

    anchors: Annotated[list[str], Field(min_length=1)]
    """Strings it writes on, bytes as Latin-1 text."""
    d_abi: Positive
    expansion: Positive
    context: Positive
    """Bytes of the text it reads."""
    byte_width: Positive
    domain_net: bool


class PortableFacts(BaseFacts):
    """What a portable module says of itself: the backbone it was trained beside, which form of it, text and seed."""

    name: str
    text: str
    seed: int


class PortableManifest(PortableFacts, Document):
    """abi_config.json of the folder of a portable module."""

    kind: ClassVar[str] = "portable-module"
    portable: PortableShape
    sha256: Sha256


class PortableEntry(TrainedEntry):
    """One portable module of a batch, or a control that is trained with it."""

    arm: str
    """The arm it is made of: `transferred`, `no-domain` or `bias`."""


class PortablesManifest(Document):
    """modules/<backbone>/<text>/portable/portable/<batch>.json."""

    kind: ClassVar[str] = "portable-modules"
    modules: Annotated[list[PortableEntry], Field(min_length=1)]
    provenance: Provenance
