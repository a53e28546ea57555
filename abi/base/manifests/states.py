"""Manifests of stored states."""

from typing import ClassVar

from abi.base.manifests.texts import Shares
from abi.base.typed import Count, Document, Fraction, Positive, Provenance, Sha256, Split, Typed


class BaseFacts(Typed):
    """Which backbone something was made with."""

    base_model: str
    base_revision: str
    base_sha256: Sha256
    identity_sha256: Sha256 | None = None
    """Of weights, stored buffers, config and tokenizer together; files of older code lack it."""
    head_sha256: Sha256
    vocabulary: str

    @property
    def base(self) -> "BaseFacts":
        """These facts alone, of a manifest that holds them among others."""
        return BaseFacts(**{name: getattr(self, name) for name in BaseFacts.model_fields})


class StoredWindows(Typed):
    """What a store of states holds."""

    n_windows: Positive
    """N."""
    length: Positive
    """Tokens per window."""
    positions: Positive
    """T, predicted positions per window."""
    width: Positive
    """D."""
    taps: list[int]
    final_tap: int
    dtype: str
    skip: Count
    """First positions that are not scored."""
    documents: list[str]
    groups: list[str]


class StatesManifest(StoredWindows, BaseFacts, Document):
    """states/<backbone>/<text>.<split>.json."""

    kind: ClassVar[str] = "states"
    split: Split
    characters_lost: Fraction | None = None
    """Share of the characters of its documents that the tokenizer loses; files of older code lack it."""
    tensors_sha256: Sha256
    corpus_sha256: Sha256
    """`assignment_sha256` of the text's manifest."""
    shares: Shares
    salt: str
    """Mixed into the group hash that splits."""
    provenance: Provenance
