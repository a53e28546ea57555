"""The manifest of an n-gram model that is used as a module (`models/ngram_module.py`)."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.manifests.portable import PortableFacts
from abi.base.typed import Count, Document, Fraction, Sha256, Typed


class NgramShape(Typed):
    """Sizes of an n-gram model, as its folder records them."""

    order: Annotated[int, Field(ge=1, le=64)]
    """Bytes of the longest gram."""
    share: Fraction
    """Part of the weights of model and n-grams that is dealt out evenly again after every token."""
    bytes: Count
    """Of the text that it counts, and holds."""
    texts: Count


class NgramManifest(PortableFacts, Document):
    """abi_config.json of the folder of an n-gram model."""

    kind: ClassVar[str] = "n-gram-module"
    ngrams: NgramShape
    sha256: Sha256
