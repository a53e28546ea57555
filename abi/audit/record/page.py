"""The judgement as text for any terminal (ASCII, no colour) and as the generated page docs/record.md."""

import textwrap

from abi.audit.record.data import MATCH, STATES, Item, Judgement

WIDTH = 80
MOST = 40  # alterations that the text names; --json names all
INDENT = " " * 15
PLAIN = str.maketrans({"\u2014": "-", "\u2013": "-", "\u2265": ">=", "\u2264": "<=", "\u201c": '"', "\u201d": '"'})
SHORT = ("MATCH", "CONTRA.", "NO EV.", "INCONS.", "VACUOUS")  # column heads


def ascii_only(text: str) -> str:
    """Return a text with every character an ASCII terminal can show."""
    return text.translate(PLAIN).encode("ascii", "replace").decode("ascii")


def _wrapped(item: Item, subject: str = "") -> str:
    first = f"  {item.state:<12} "
    text = subject + item.reason
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=INDENT, break_long_words=False)


def _table(judgement: Judgement, claims: list[str]) -> list[str]:
    width = max(len(claim) for claim in claims)
    lines = [" ".join([" " * width, *(f"{name:>8}" for name in SHORT), f"{'items':>7}"])]
    rows = {claim: list(judgement.counts(claim).values()) for claim in claims}
    totals = [sum(column) for column in zip(*rows.values(), strict=True)]
    for claim, counts in rows.items():
        figures = "".join(f" {count or '.':>8}" for count in counts)
        lines.append(f"{claim:<{width}}{figures} {sum(counts):>7}")
    return [*lines, f"{'total':<{width}}{''.join(f' {count:>8}' for count in totals)} {sum(totals):>7}"]


def _verifier(items: list[Item]) -> list[str]:
    lines = ["The original's 31 lines (verify_result.py, '25 checks', reads one file):"]
    lines += ["  1-24 compare with constants, 25-28 with thresholds, 29-31 cannot fail"]
    for item in items:
        text = f"  {item.id.removeprefix('line '):>4} {item.reason}"
        lines.append(textwrap.fill(text, WIDTH, subsequent_indent=" " * 7))
    return lines


def closing(judgement: Judgement) -> str:
    """Return the last line: what was judged, and whether the record is intact."""
    if judgement.altered:
        return f"record: TAMPERED (alterations: {len(judgement.altered)}); an altered record is not judged"
    counts = ", ".join(f"{n} {state}" for state, n in judgement.counts().items())
    return f"record: intact; {len(judgement.items)} items: {counts}"


def to_text(judgement: Judgement, claims: list[str] | None = None) -> str:
    """Return the judgement for a terminal: counts per claim, findings of one sentence each, closing line.

    Args:
        judgement: of the record.
        claims: show these only; all if None.
    """
    if judgement.altered:
        lines = [f"  TAMPERED     {line}." for line in judgement.altered[:MOST]]
        more = len(judgement.altered) - len(lines)
        lines += [f"  TAMPERED     and {more} more, all named by --json"] if more else []
        named = [textwrap.fill(line, WIDTH, subsequent_indent=INDENT) for line in lines]
        return ascii_only("\n".join([*named, "", closing(judgement)]))
    shown = claims or judgement.claims
    items = [
        item for item in judgement.items if item.claim in shown and item.state != MATCH and item.kind != "verifier"
    ]
    lines = [
        "The published record of ABI, judged from its own figures; nothing of ours enters",
        f"{judgement.n_files} files, {judgement.n_leaves} leaves, all as pinned; "
        f"{judgement.n_entered} of {judgement.n_numeric} numbers enter a check",
        "",
        *_table(judgement, shown),
    ]
    main = [item for item in judgement.items if item.main and item.claim in shown]
    if main:
        lines += ["", "Main findings", *(_wrapped(item, f"{item.claim}: ") for item in main)]
    for claim in shown:
        own = [item for item in items if item.claim == claim and not item.main]
        lines += ["", claim, *map(_wrapped, own)] if own else []
    lines_of = [item for item in judgement.items if item.kind == "verifier" and item.claim in shown]
    lines += ["", *_verifier(lines_of)] if lines_of else []
    return ascii_only("\n".join([*lines, "", closing(judgement)]))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def to_markdown(judgement: Judgement) -> str:
    """Return the generated page docs/record.md: counts per claim, main findings, and every item with its reason."""
    lines = [
        "# The published record, judged",
        "",
        "Generated from `config/record/` by the code behind `abi verify`; edit neither by hand. Every sentence is",
        "computed from the published figures, except where it says *by hand*: that was found by reading the",
        "original's code. Nothing measured by this project enters. States: `MATCH`, `CONTRADICTED` (the document",
        "against its file or its code), `NO EVIDENCE` (nothing to compare with), `INCONSISTENT` (the file against",
        "itself), `VACUOUS` (it passes whatever was measured).",
        "",
        f"{judgement.n_files} files, {judgement.n_leaves} leaves; {judgement.n_entered} of {judgement.n_numeric}",
        "numbers enter a comparison or a recomputation.",
        "",
        f"| claim | {' | '.join(STATES)} |",
        f"| --- | {' | '.join('---:' for _ in STATES)} |",
    ]
    for claim in judgement.claims:
        lines.append(f"| {claim} | {' | '.join(str(n) for n in judgement.counts(claim).values())} |")
    lines += [
        f"| **all** | {' | '.join(f'**{n}**' for n in judgement.counts().values())} |",
        "",
        "## Main findings",
        "",
    ]
    lines += [f"- **{item.state}**, {item.claim}: {_escape(item.reason)}" for item in judgement.items if item.main]
    for claim in judgement.claims:
        lines += ["", f"## {claim}", "", "| item | state | reason | note of the reader |", "| --- | --- | --- | --- |"]
        for item in judgement.items:
            if item.claim == claim:
                note = _escape(item.note or "")
                lines.append(f"| `{item.id.replace('|', '')}` | {item.state} | {_escape(item.reason)} | {note} |")
    return ascii_only("\n".join(lines)) + "\n"
