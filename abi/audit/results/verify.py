"""The results of a checkout, judged by themselves: the second part of `abi verify` (no torch).

A result file is read as its model, checked against the hashes of its inputs and judged again from its own figures: a
verdict must follow from the stored mean squares, a mean from its seeds, a flag from its figure. `recompute` judges
again from the evidence, `against` compares with another run. Kinds of findings: `TAMPERED` and `DIFFERS` (exit code 1),
`UNREADABLE` (2), `STALE` and `NOTE` (0).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abi.audit.record.page import INDENT, WIDTH, ascii_only
from abi.audit.results.findings import CODES, NOTE, STALE, Finding
from abi.audit.results.places import REFERENCE, folders
from abi.base.errors import ConfigError, DataError
from abi.base.files import Json, checkout
from abi.base.wording import number

if TYPE_CHECKING:
    from abi.audit.results.checkout import Compared, Render, Scale

NOTHING = "results: none in this folder (make them with `make reproduce`, or with `make smoke` in two minutes)"
MOST = 40  # findings of one kind that the text names; --json names all


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
        return to_text(self.scales) if self.scales else NOTHING


def verify(
    claims: Sequence[str] = (),
    *,
    scale: str | None = None,
    recompute: bool = False,
    against: str | None = None,
    tolerance: float | None = None,
    render: Render | None = None,
) -> Verification:
    """Return what is found in results/ of the working directory.

    Args: claims: only these; scale: only this one; recompute: judge again from the evidence; against: `reference` or
        the folder of another run; tolerance: of that comparison (`agreement.TOLERANCE`); render: makes the pages that
        count claims, to be compared with those there are.
    Raises: ConfigError: a scale without results; DataError: nothing to compare with; both in one sentence.
    """
    every = folders()
    places = [place for place in every if scale is None or place.name == scale]
    if tolerance is not None and against is None:
        raise ConfigError("--tolerance: is of a comparison; name a run beside it by --against")
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ConfigError(f"--tolerance {tolerance:g}: is not a relative size; give a number from 0 to below 1")
    if scale is not None and not places:
        there = ", ".join(dict.fromkeys(place.name for place in every)) or "none"
        raise ConfigError(f"results/{scale}: holds no result file; scales with results: {there}")
    if not places and against is None:
        return Verification(())
    from abi.audit.results.checkout import compare, holds, published, verified

    known, committed = published(), [place for place in places if place.parent.name == REFERENCE]
    own = [verified(place, known, claims, render) for place in places if place not in committed]
    if against == REFERENCE:  # of which only the claims that are compared matter
        claims = claims or [name for found in own for name in found.results]
    scales = [*own, *(verified(place, known, claims, render) for place in committed)]
    if against is not None:
        if not own:
            raise DataError(f"results: no result file to compare with {against}; make them with `make reproduce`")
        comparable = [one for one in own if holds(against, one)] if scale is None else []
        for one in comparable or own:
            compare(one, against, tolerance)
    if recompute:
        from abi.audit.results.recomputation import recompute as judge_again  # pandas, and all that a job imports

        for found in scales:
            judge_again(found, checkout())
    return Verification(tuple(scales))


# in words, for any terminal (ASCII, no colour)


def to_text(scales: Sequence[Scale]) -> str:
    """Return counts, verdicts and findings per scale, and a closing line."""
    lines = ["The results of this checkout, checked against themselves"]
    compared = any(scale.compared for scale in scales)
    for scale in scales:
        # what was compared with, or holds nothing that was asked for
        if scale.findings or not ((compared and scale.is_reference) or not scale.results):
            lines += ["", *_scale(scale)]
    return ascii_only("\n".join([*lines, "", closing(scales)]))


def _scale(scale: Scale) -> list[str]:
    words = {"absent": "absent (a run's files are not committed)"} if scale.is_reference else {}
    hashes = ", ".join(f"{n} {words.get(word, word)}" for word, n in scale.hashes.items() if n) or "none"
    counts = f"{number(len(scale.results), 'result file')}, {scale.numbers} numbers, {scale.checked} relations"
    lines = [textwrap.fill(f"{scale.folder}: {counts}; input hashes: {hashes}", WIDTH, subsequent_indent="  ")]
    width = max((len(name) for name in scale.results), default=0)
    for name, file in scale.results.items():
        again = f"  {scale.recomputed[name]} numbers recomputed" if name in scale.recomputed else ""
        note = " (meaningless scale)" if file.result.meaningless else ""
        compared = scale.compared.claims.get(name) if scale.compared else None
        agreement = f"  {compared.words()}" if compared else ""
        lines.append(f"  {name:<{width}}  {file.result.verdict:<12}{note}{again}{agreement}".rstrip())
    lines += [_compared(scale.compared)] if scale.compared else []
    return [*lines, *_findings(scale.findings)]


def _compared(found: Compared) -> str:
    words = f"against {found.folder}: {found.words()}"
    return textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _findings(findings: Sequence[Finding]) -> list[str]:
    lines: list[str] = []
    wrapped = textwrap.TextWrapper(WIDTH, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
    for kind in CODES:
        own = [finding for finding in findings if finding.kind == kind]
        lines += [wrapped.fill(f"  {kind:<12} {finding.words()}") for finding in own[:MOST]]
        lines += [f"  {kind:<12} and {len(own) - MOST} more, all named by --json"] if len(own) > MOST else []
    return lines


def closing(scales: Sequence[Scale]) -> str:
    """Return the last line: whether the results are intact and, if not, of which kind the findings are."""
    kinds = [finding.kind for scale in scales for finding in scale.findings]
    n = sum(len(scale.results) for scale in scales)
    bad = {kind: kinds.count(kind) for kind in CODES if CODES[kind] and kind in kinds}
    if bad:
        return "results: " + ", ".join(f"{kind} ({count})" for kind, count in bad.items())
    aside = [f"{kinds.count(kind)} {kind}" for kind in (STALE, NOTE) if kind in kinds]
    return f"results: intact; {number(n, 'result file')}" + (f"; {', '.join(aside)}" if aside else "")
