"""Manifests of texts."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from abi.base.typed import Count, Document, Fraction, Positive, Provenance, Sha256, Split, Typed


class Shares(Typed):
    """Share of the groups of a text per split, by which a group's split is found again."""

    train: float
    calibration: float
    test: float


LeftOut = Literal["no such text", "no Python 3", "short", "copy", "group full", "text full"]
"""Why a file of a source gives no document."""


class SplitCounts(Typed):
    """How much of a text is in one split."""

    groups: Count
    documents: Count
    bytes: Count


class HeldOutDocument(Typed):
    """A document that nothing is trained on: how much of it train holds too."""

    split: Literal["calibration", "test"]
    package: str
    """The largest unit its group belongs to: its source, or the group itself where a text has one source alone."""
    in_train: Fraction
    """Share of its different passages (eight words in a row) that stand in some document of the train split."""


class TextManifest(Document):
    """corpus/<text>.json."""

    kind: ClassVar[str] = "text"
    splits: dict[Split, SplitCounts]
    assignment_sha256: Sha256
    """Of document -> (group, split, hash of its text)."""
    identifier_share: Annotated[float, Field(ge=0)]
    """Share of words that are program identifiers: code that is left in prose."""
    held_out: dict[str, HeldOutDocument]
    """Every document of calibration and test."""
    left_out: dict[LeftOut, Positive]
    """Files of the sources that give no document, by reason."""
    copies: dict[str, str]
    """A document that is left out as a copy -> the one that it mostly copies."""
    provenance: Provenance

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for split in ("calibration", "test"):
            told, there = sum(of.split == split for of in self.held_out.values()), self.splits.get(split)
            if told != (there.documents if there else 0):
                raise ValueError(f"held_out tells of {told} {split} documents, splits of another number")
        if len(self.copies) != self.left_out.get("copy", 0):
            raise ValueError(f"copies names {len(self.copies)} documents, left_out another number")
        return self
