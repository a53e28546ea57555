"""What was found in the results of a checkout, for any terminal (ASCII, no colour)."""

import textwrap
from collections.abc import Sequence

from abi.audit.record.text import INDENT, WIDTH, ascii_only
from abi.audit.results.checkout import Scale
from abi.audit.results.findings import CODES, NOTE, STALE, Finding

MOST = 40  # findings of one kind that the text names; --json names all
NOTHING = "results: none in this folder (make them with `make reproduce`, or with `make smoke` in two minutes)"


def to_text(scales: Sequence[Scale]) -> str:
    """Return counts, verdicts and findings per scale, and a closing line."""
    if not scales:
        return NOTHING
    lines = ["The results of this checkout, checked against themselves"]
    for scale in scales:
        lines += ["", *_scale(scale)]
    return ascii_only("\n".join([*lines, "", closing(scales)]))


def _scale(scale: Scale) -> list[str]:
    hashes = ", ".join(f"{n} {word}" for word, n in scale.hashes.items() if n)
    head = f"{scale.folder}: {len(scale.results)} result files, {scale.numbers} numbers, {scale.checked} relations; input hashes: {hashes or 'none'}"
    lines = [textwrap.fill(head, WIDTH, subsequent_indent="  ")]
    width = max((len(name) for name in scale.results), default=0)
    for name, result in scale.results.items():
        again = f"  {scale.recomputed[name]} numbers recomputed" if name in scale.recomputed else ""
        note = " (meaningless scale)" if result["meaningless"] else ""
        lines.append(f"  {name:<{width}}  {result['verdict']}{note}{again}")
    if scale.compared:
        found = scale.compared
        words = f"against {found['folder']}: {found['beyond']} leaves differ beyond {found['tolerance']:g}, {found['within']} less than that"
        equal = f"against {found['folder']}: every leaf equal, bit for bit"
        same = not found["beyond"] and not found["within"]
        lines.append(textwrap.fill(equal if same else words, WIDTH, initial_indent="  ", subsequent_indent="  "))
    return [*lines, *_findings(scale.findings)]


def _findings(findings: Sequence[Finding]) -> list[str]:
    lines: list[str] = []
    for kind in CODES:
        own = [finding for finding in findings if finding.kind == kind]
        lines += [
            textwrap.fill(finding.words(), WIDTH, initial_indent=f"  {kind:<12} ", subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
            for finding in own[:MOST]
        ]  # fmt: skip
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
