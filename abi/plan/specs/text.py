"""What a text depends on."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from abi.base.typed import Fraction, Positive, Typed
from abi.plan.specs.shared import PerSplit, Pinned, Shares


def _inside(pattern: str) -> str:
    if ".." in pattern.split("/"):
        raise ValueError("leads out of the source; name that folder as a source of its own")
    return pattern


def _compiles(expression: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error}); correct it") from None
    return expression


Glob = Annotated[str, AfterValidator(_inside), Field(description="glob of files")]
Expression = Annotated[str, AfterValidator(_compiles)]


class Package(Typed):
    """Files of an installed distribution."""

    kind: Literal["package"]
    package: Annotated[str, Field(min_length=1)]
    """installed distribution"""
    version: Annotated[str, Field(min_length=1)]
    """pinned version"""
    pattern: Glob = "**/*.py"
    containing: Expression | None = None
    """regular expression of what a file must hold to be taken, for example the year of its copyright"""
    group_by: Literal["folder", "file"] = "folder"
    """whether the files of a folder are a group, or each file is one; of kinds `package` and `folder`"""


class Metadata(Typed):
    """Descriptions of installed distributions; one is a group."""

    kind: Literal["metadata"]
    packages: Annotated[dict[str, str], Field(min_length=1)]
    """installed distribution -> pinned version, whose descriptions are read"""
    part_bytes: Positive
    """bytes of sections that are joined to one document"""


class Folder(Typed):
    """Files of a folder."""

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    """folder"""
    label: str | None = None
    """name of the folder in document names, its own if absent"""
    group_by: Literal["folder", "file"] = "folder"
    pattern: Glob = "**/*"
    version: str = "local"
    """version in the manifest of documents"""


class HubData(Pinned):
    """Files of a data set of the hub."""

    kind: Literal["hub"]
    pattern: Glob = "**/*.txt"
    column: str | None = None
    """text column of a parquet file"""
    heading: Expression | None = None
    """regular expression of the line that starts a document"""


class Synthetic(Typed):
    """Text that a grammar makes."""

    kind: Literal["grammar"]
    name: Literal["sql"]
    """grammar of synthetic text"""
    seed: Positive
    """seed of the synthetic text"""
    documents: Positive
    """synthetic documents"""
    groups: Positive
    """data base schemas, each a group, that the documents are about"""
    lines_per_document: Positive
    """least lines of a synthetic document"""


Source = Annotated[Package | Metadata | Folder | HubData | Synthetic, Field(discriminator="kind")]


class Selection(Typed):
    """What of its sources a text takes. Sizes in bytes of UTF-8; a cap is hit at a line's end."""

    extract: Literal["code", "prose", "markdown", "plain"]
    """what of a file is taken"""
    max_bytes: Annotated[int, Field(ge=1000)]
    """bytes in all"""
    max_bytes_per_document: Annotated[int, Field(ge=200)]
    """bytes per document"""
    min_bytes_per_document: Positive
    """shorter documents are left out"""
    max_documents_per_group: Positive
    """documents per group"""
    max_copied_share: Fraction
    """most of a document's passages (eight words in a row) that other groups may hold too"""
    min_test_groups: Positive
    """fewer test groups are an error"""


class TextSection(Selection):
    """How a text is made, and how many windows are cut from it."""

    sources: str
    """name under sources"""
    split: Shares | None = None
    """shares of this text's groups per split, where the scale's leave too few for a split"""
    max_windows: PerSplit
    """token windows per split"""
    max_windows_per_document: PerSplit
    """token windows per document and split"""


class BuildText(Selection):
    """What a text depends on."""

    sources: list[Source]
    split: Shares
    salt: str


class MeasureOverlap(Typed):
    """Which test text is compared with train, and whose windows say how far it is scored."""

    text: str
    backbone: str
