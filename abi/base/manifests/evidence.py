"""Manifests of evidence."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.typed import Count, Document, Positive, Provenance, Sha256, Typed


class RowsFile(Typed):
    """One csv.gz beside an evidence manifest."""

    sha256: Sha256
    rows: Positive


class EvidenceFiles(Typed):
    """The two files beside an evidence manifest."""

    evidence: RowsFile
    draws: RowsFile


class EvidenceContents(Typed):
    """The different values of the evidence rows."""

    fits: Annotated[list[str], Field(min_length=1)]
    arms: Annotated[list[str], Field(min_length=1)]
    draws: Annotated[list[Count], Field(min_length=1)]
    seeds: Annotated[list[Count], Field(min_length=1)]
    scopes: Annotated[list[str], Field(min_length=1)]


class EvidenceManifest(Document):
    """evidence/<claim>/<batch>.json."""

    kind: ClassVar[str] = "evidence"
    files: EvidenceFiles
    contents: EvidenceContents
    provenance: Provenance
