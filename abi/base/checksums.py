"""Lists of hashes in the form that `sha256sum -c` reads (standard library only)."""

from collections.abc import Mapping

MANIFEST = "MANIFEST.sha256"
"""Name of the list in a folder whose files it lists."""


def listing(hashes: Mapping[str, str]) -> str:
    """Return the list of some files. Args: hashes: name -> hex SHA-256."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


def listed(text: str) -> dict[str, str]:
    """Return name -> hex SHA-256 of a list; lines of another form are left out."""
    parts = (line.partition("  ") for line in text.splitlines())
    return {name: sha256 for sha256, _, name in parts if name}
