"""Tables of verdicts for people: terminal and Markdown (no torch)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
ORDER = (
    "raw", "reference", "oracle", "before", "native", "candidate", "transferred", "random", "permuted", "identity", "published",
    "no-domain", "linear", "bias", "unfrozen", "direct",
)  # fmt: skip


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with three significant digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def with_interval(entry: Record | None) -> str:
    """Return `mean [lower, upper]` of an arm's figure."""
    if entry is None:
        return "-"
    bounds = "" if entry.get("lower") is None else f" [{figure(entry['lower'])}, {figure(entry['upper'])}]"
    return figure(entry["mean"]) + bounds


def published_words(result: Record) -> str:
    """Return what the original published for a claim, in a few words."""
    figures = result["record"]
    words = [
        f"{name} {figures[key]['value']}" for name, key in (("top-5", "nib.top5"), ("JS", "nib.js")) if key in figures
    ]
    return ", ".join(words) or "nothing"


def share_words(judged: Record) -> str:
    """Return the share of the gain that is the moved net's own."""
    share = judged["share"]
    if share is None or share["estimate"] is None:
        return "-"
    piece = share["pieces"][0] if share["bounded"] and len(share["pieces"]) == 1 else None
    bounds = f" [{figure(piece[0])}, {figure(piece[1])}]" if piece else ""
    return f"{figure(share['estimate'])}{bounds} (against {share['placebo']})"


def claim_rows(results: Sequence[Record]) -> list[dict[str, str]]:
    """Return one row of words per claim: id, published, published criteria on held-out text, verdict, reason."""
    rows = []
    for result in results:
        primary = result["fits"][result["claim"]["fit"]]
        rows.append({
            "claim": result["claim"]["id"],
            "published": published_words(result),
            "published criteria here": primary["published_criteria"]["sentence"].removeprefix("published criteria met by: "),
            "verdict": result["verdict"] + (" (meaningless scale)" if result["meaningless"] else ""),
            "why": result["reason"],
        })  # fmt: skip
    return rows


def readme_table(results: Sequence[Record]) -> str:
    """Return the README's verdict table with one row per claim, and the headline of what it rests on."""
    if not results:
        return "\nNo reference run is committed yet.\n\n"
    rows = []
    for result in results:
        primary = result["fits"][result["claim"]["fit"]]
        words = claim_rows([result])[0]
        counts = primary["counts"]
        units = f"{counts['groups']['domain']} groups, {counts['documents']['domain']} documents, {len(counts['seeds'])} seeds"
        cells = [
            f"`{words['claim']}`",
            words["published"],
            words["published criteria here"],
            f"**{words['verdict']}**",
            words["why"],
        ]
        rows.append([*cells, share_words(primary), units])
    heads = ["claim", "published", "published criteria here", "verdict", "why", "share", "rests on"]
    return "\n" + "\n".join(table(heads, rows)) + "\n\n"


def terminal(results: Sequence[Record], headline: str) -> str:
    """Return the verdicts for a terminal, ASCII only."""
    blocks = []
    for row in claim_rows(results):
        lines = [f"{row['claim']}: {row['verdict']}"]
        for key in ("published", "published criteria here", "why"):
            lines += textwrap.wrap(f"{key}: {row[key]}", 110, initial_indent="    ", subsequent_indent="      ")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, headline]) + "\n"


def markdown(results: Sequence[Record], headline: str) -> str:
    """Return the summary page: the table of claims, then per claim its tests and arms."""
    lines = ["# Verdicts", ""]
    scale = results[0]["scale"]
    note = (
        " **The budgets of this scale are too small to say anything; it only tests the machinery.**"
        if results[0]["meaningless"]
        else ""
    )
    lines += [f"Scale `{scale}`, protocol {results[0]['protocol']}.{note} {headline}.", ""]
    rows = claim_rows(results)
    lines += table(list(rows[0]), [list(row.values()) for row in rows])
    for result in results:
        lines += ["", f"## `{result['claim']['id']}`: {result['claim']['title']}", "", result["claim"]["statement"], ""]
        for fit, judged in result["fits"].items():
            lines += _fit_section(result, fit, judged)
    lines += [
        "",
        "How to read this: `docs/protocol.md`. It holds for these backbones and this text; documents and seeds are sampled, backbones are not.",
    ]
    return "\n".join(lines) + "\n"


def _fit_section(result: Record, fit: str, judged: Record) -> list[str]:
    name = "primary" if fit == result["claim"]["fit"] else "also fitted without gradient steps; decides nothing"
    lines = [
        f"### Fit `{fit}` ({name}): {judged['verdict']}",
        "",
        f"{judged['reason']}.",
        "",
        judged["published_criteria"]["sentence"] + ".",
        "",
    ]
    closure = judged["gap_closure"]
    lines += [
        f"Share of the gain that is the net's own: {share_words(judged)}. Gap closure in bits per byte: {_closure(closure)}.",
        "",
    ]
    tests = [
        [
            t["id"],
            t["contrast"],
            t["metric"],
            figure(t["mean"]),
            _bounds(t["interval"]),
            "yes" if t.get("passed") else "no",
        ]
        for t in judged["tests"]
    ]
    lines += table(["test", "contrast", "metric", "mean", "95 % interval", "above its limit"], tests)
    lines += ["", *_arm_table(result, fit, judged), ""]
    return lines


def _closure(closure: Record | None) -> str:
    if closure is None or closure["estimate"] is None:
        return "not reported, no room is shown"
    piece = closure["pieces"][0] if closure["bounded"] and len(closure["pieces"]) == 1 else None
    return figure(closure["estimate"]) + (
        f" [{figure(piece[0])}, {figure(piece[1])}]" if piece else " (unbounded interval)"
    )


def _bounds(interval: Record | None) -> str:
    return "-" if interval is None else f"[{figure(interval['lower'])}, {figure(interval['upper'])}]"


def _arm_table(result: Record, fit: str, judged: Record) -> list[str]:
    """Return the table of arms: agreement with the reference and bits per byte on held-out domain and general text."""
    columns = [("domain", m) for m in ("js_nats", "top1", "top5", "entropy_diff_nats", "bits_per_byte")] + [
        ("general", "bits_per_byte")
    ]
    perplexity = result["perplexity"]
    rows = []
    for arm in sorted(judged["arms"], key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        scopes = judged["arms"][arm]
        known = perplexity.get(fit, {}).get(arm) or perplexity["-"].get(arm, {})
        met = judged["published_criteria"]["arms"].get(arm)
        figures = [with_interval(scopes.get(scope, {}).get(metric)) for scope, metric in columns]
        rows.append(
            [arm, *figures, figure(known.get("domain")), "-" if met is None else "yes" if met["passed"] else "no"]
        )
    heads = [
        "arm",
        "JS (nats)",
        "top-1",
        "top-5",
        "entropy diff. (nats)",
        "bits/byte",
        "bits/byte general",
        "perplexity",
        "published criteria",
    ]
    return table(heads, rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table; a bar in a cell becomes a slash."""
    cells = [[cell.replace("|", "/") for cell in row] for row in rows]
    return [
        f"| {' | '.join(heads)} |",
        f"| {' | '.join('---' for _ in heads)} |",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
