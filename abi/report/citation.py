"""How this project wants to be cited, as `CITATION.cff` says it."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Citation(NamedTuple):
    """What a file says; without one, what stands here. Args: license: its id in the list of SPDX."""

    title: str = "abi"
    version: str = "unknown"
    license: str = "Apache-2.0"
    authors: tuple[str, ...] = ("The abi maintainers",)

    @classmethod
    def of(cls, root: Path) -> "Citation":
        """Return that of a checkout."""
        path = root / "CITATION.cff"
        told: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        named = {key: told[key] for key in cls._fields if key in told}
        if "authors" in named:
            people = (a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in told["authors"])
            named["authors"] = tuple(people)
        return cls(**named)
