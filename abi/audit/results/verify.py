"""The results of a checkout, judged by themselves: the second part of `abi verify` (no torch).

A result file is read as its model, checked against the hashes of its inputs and judged again from its own figures: a
verdict must follow from the stored mean squares, a mean from its seeds, a flag from its figure. `recompute` judges
again from the evidence, `against` compares with another run. Kinds of findings: `TAMPERED` and `DIFFERS` (exit code 1),
`UNREADABLE` (2), `STALE` and `NOTE` (0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abi.audit.results.findings import Finding
from abi.audit.results.places import REFERENCE, config_root, folders
from abi.base.errors import ConfigError, DataError
from abi.base.files import Json

if TYPE_CHECKING:
    from abi.audit.results.checkout import Render, Scale

__all__ = ["Finding", "Verification", "config_root", "verify"]

NOTHING = "results: none in this folder (make them with `make reproduce`, or with `make smoke` in two minutes)"


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

    def as_dict(self) -> dict[str, Json]:
        """Return plain data for `--json`."""
        return {"code": self.code(), "scales": {str(scale.folder): scale.as_dict() for scale in self.scales}}

    def text(self) -> str:
        """Return the findings for a terminal."""
        if not self.scales:
            return NOTHING
        from abi.audit.results.words import to_text

        return to_text(self.scales)


def verify(
    claims: Sequence[str] = (),
    *,
    scale: str | None = None,
    recompute: bool = False,
    against: str | None = None,
    tolerance: float = 1e-6,
    render: Render | None = None,
) -> Verification:
    """Return what is found in results/ of the working directory.

    Args: claims: only these; scale: only this one; recompute: judge again from the evidence; against: `reference` or
        the folder of another run; tolerance: relative, of that comparison; render: makes the pages that count claims,
        to be compared with those there are.
    Raises: ConfigError: a scale without results; DataError: nothing to compare with; both in one sentence.
    """
    every = folders()
    places = [place for place in every if scale is None or place.name == scale]
    if not 0 <= tolerance < 1:
        raise ConfigError(f"--tolerance {tolerance:g}: is not a relative size; give a number from 0 to below 1")
    if scale is not None and not places:
        there = ", ".join(dict.fromkeys(place.name for place in folders())) or "none"
        raise ConfigError(f"results/{scale}: holds no result file; scales with results: {there}")
    if not places and against is None:
        return Verification(())
    from abi.audit.results.against import compare
    from abi.audit.results.checkout import published, verified

    known = published()
    scales = [verified(place, known, claims, render) for place in places]
    if against is not None:
        for found in _compared_with(against, scales, scale):
            compare(found, against, tolerance)
    if recompute:
        from abi.audit.results.recomputation import recompute as judge_again  # pandas, and all that a job imports

        for found in scales:
            judge_again(found, config_root())
    return Verification(tuple(scales))


def _compared_with(against: str, scales: Sequence[Scale], scale: str | None) -> list[Scale]:
    """Return the scales that have something to be compared with: all of them, if none has a reference."""
    own = [found for found in scales if not found.is_reference]
    if not own:
        raise DataError(f"results: no result file to compare with {against}; make them with `make reproduce`")
    if scale is None and against == REFERENCE:
        return [found for found in own if (found.folder.parent / REFERENCE / found.folder.name).is_dir()] or own
    return own
