"""Manifests of how much of the scored test text stands in train."""

from typing import ClassVar

from abi.base.typed import Document, Fraction, Positive, Provenance, Typed


class ScoredDocument(Typed):
    """A test document as far as a backbone's windows reach."""

    bytes: Positive
    in_train: Fraction
    """Share of the different passages (eight words in a row) of these bytes that stand in some document of train."""


class OverlapManifest(Document):
    """overlaps/<backbone>/<text>.json."""

    kind: ClassVar[str] = "overlap"
    text: str
    base_model: str
    documents: dict[str, ScoredDocument]
    provenance: Provenance
