"""The results of a checkout, judged by themselves: the second part of `abi verify` (standard library and PyYAML).

A result file is checked against its schema, the hashes of its inputs and every relation between its own leaves: a verdict
must follow from the stored intervals, a mean from its seeds, a flag from its figure. `recompute` judges again from the
evidence, `against` compares with another run. Kinds of findings: `TAMPERED` and `DIFFERS` (exit code 1), `UNREADABLE`
(2), `STALE` and `NOTE` (0).
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abi.audit.results.against import compare
from abi.audit.results.checkout import REFERENCE, Scale, folders, verified
from abi.audit.results.findings import Finding
from abi.audit.results.text import to_text
from abi.base.errors import ConfigError, DataError
from abi.base.files import ROOT

__all__ = ["Finding", "Verification", "config_root", "verify"]


@dataclass(frozen=True)
class Verification:
    """What was found in every scale that has results."""

    scales: tuple[Scale, ...]

    @property
    def findings(self) -> list[Finding]:
        """Return every finding."""
        return [finding for scale in self.scales for finding in scale.findings]

    def code(self) -> int:
        """Return the exit code: 0 honest, 1 tampered or not reproducible, 2 unreadable."""
        return max((scale.code() for scale in self.scales), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {"code": self.code(), "scales": {str(scale.folder): scale.as_dict() for scale in self.scales}}

    def text(self) -> str:
        """Return the findings for a terminal."""
        return to_text(self.scales)


def verify(
    claims: Sequence[str] = (),
    *,
    scale: str | None = None,
    recompute: bool = False,
    against: str | None = None,
    tolerance: float = 1e-6,
) -> Verification:
    """Return what is found in results/ of the working directory.

    Args: claims: only these; scale: only this one; recompute: judge again from the evidence; against: `reference` or the
        folder of another run; tolerance: relative, of that comparison.
    Raises: ConfigError: a scale without results; DataError: nothing to compare with; both in one sentence.
    """
    places = [place for place in folders() if scale is None or place.name == scale]
    if not 0 <= tolerance < 1:
        raise ConfigError(f"--tolerance {tolerance:g}: is not a relative size; give a number from 0 to below 1")
    if scale is not None and not places:
        there = ", ".join(dict.fromkeys(place.name for place in folders())) or "none"
        raise ConfigError(f"results/{scale}: holds no result file; scales with results: {there}")
    scales = [verified(place, claims) for place in places]
    own = [found for found in scales if not found.is_reference]
    if against is not None and not own:
        raise DataError(f"results: no result file to compare with {against}; make them with `make reproduce`")
    if against is not None and scale is None and against == REFERENCE:
        paired = [found for found in own if (found.folder.parent / REFERENCE / found.folder.name).is_dir()]
        own = paired or own
    for found in own if against is not None else []:
        compare(found, str(against), tolerance)
    if recompute:
        judge = importlib.import_module("abi.verification.recomputation").recompute
        for found in scales:
            judge(found, config_root())
    return Verification(tuple(scales))


def config_root() -> Path:
    """Return the folder whose `config/` counts: the working directory if it has one, else this checkout."""
    return Path() if Path("config/claims.yaml").is_file() else ROOT
