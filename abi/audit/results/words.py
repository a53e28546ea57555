"""What was found in the results of a checkout, for any terminal (ASCII, no colour)."""

import textwrap
from collections.abc import Sequence

from abi.audit.record.page import INDENT, WIDTH, ascii_only
from abi.audit.results.checkout import Compared, Scale
from abi.audit.results.findings import CODES, NOTE, STALE, Finding

MOST = 40  # findings of one kind that the text names; --json names all


def to_text(scales: Sequence[Scale]) -> str:
    """Return counts, verdicts and findings per scale, and a closing line."""
    lines = ["The results of this checkout, checked against themselves"]
    for scale in scales:
        lines += ["", *_scale(scale)]
    return ascii_only("\n".join([*lines, "", closing(scales)]))


def _scale(scale: Scale) -> list[str]:
    hashes = ", ".join(f"{n} {word}" for word, n in scale.hashes.items() if n) or "none"
    counts = f"{len(scale.results)} result files, {scale.numbers} numbers, {scale.checked} relations"
    lines = [textwrap.fill(f"{scale.folder}: {counts}; input hashes: {hashes}", WIDTH, subsequent_indent="  ")]
    width = max((len(name) for name in scale.results), default=0)
    for name, file in scale.results.items():
        again = f"  {scale.recomputed[name]} numbers recomputed" if name in scale.recomputed else ""
        note = " (meaningless scale)" if file.result.meaningless else ""
        lines.append(f"  {name:<{width}}  {file.result.verdict}{note}{again}")
    lines += [_compared(scale.compared)] if scale.compared else []
    return [*lines, *_findings(scale.findings)]


def _compared(found: Compared) -> str:
    beyond = f"{found.beyond} leaves differ beyond {found.tolerance:g}, {found.within} less than that"
    words = beyond if found.beyond or found.within else "every leaf equal, bit for bit"
    return textwrap.fill(f"against {found.folder}: {words}", WIDTH, initial_indent="  ", subsequent_indent="  ")


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
    return f"results: intact; {n} result files" + (f"; {', '.join(aside)}" if aside else "")
