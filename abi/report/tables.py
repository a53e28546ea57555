"""Tables of verdicts for people: terminal and Markdown (no torch)."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abi.base.names import CLOSED_FORM, UNFITTED

Record = Mapping[str, Any]
ORDER = (
    "raw", "raw-before", "raw-free", "untrained", "reference", "oracle", "oracle-before", "before", "native", "candidate", "transferred",
    "zero-shot", "chart", "zero-shot-free", "random", "random-net", "permuted", "identity", "published", "shared", "no-domain", "zero-shot-off",
    "oracle-off", "before-off", "random-off", "linear", "bias", "unfrozen", "direct", "lora", "wrong-domain",
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


PUBLISHED = (  # figure of the record, its words, its unit
    ("nib.top5", "top-5", ""), ("nib.js", "JS", ""), ("efficacy_pct", "efficacy", " %"), ("py_efficacy_pct", "py", " %"),
    ("md_efficacy_pct", "md", " %"), ("r2", "R2", ""), ("locality_ratio", "locality", ""), ("n_diag_pass", "passing", ""),
)  # fmt: skip


def in_order(arms: Iterable[str]) -> list[str]:
    """Return arms in the order that every table and figure shares; unknown ones last, by name."""
    return sorted(arms, key=lambda arm: (ORDER.index(arm) if arm in ORDER else len(ORDER), arm))


def published_words(result: Record) -> str:
    """Return what the original published for a claim, in a few words."""
    figures = result.get("record", {})
    words = [f"{name} {figures[key]['value']}{unit}" for key, name, unit in PUBLISHED if key in figures]
    return ", ".join(words) or "nothing"


def share_words(judged: Record) -> str:
    """Return the share of the gain that is the moved net's own."""
    share = judged.get("share")
    if share is None or share["estimate"] is None:
        return "-"
    piece = share["pieces"][0] if share["bounded"] and len(share["pieces"]) == 1 else None
    bounds = f" [{figure(piece[0])}, {figure(piece[1])}]" if piece else ""
    return f"{figure(share['estimate'])}{bounds} (against {share['placebo']})"


def is_ladder(result: Record) -> bool:
    """Return whether a result file is that of a ladder: a verdict from the verdicts of other claims."""
    return "rungs" in result


def studies(result: Record) -> dict[str, Record]:
    """Return fit -> what it found, the deciding one first; nothing of a verdict that rests on no evidence of its own."""
    own = result["claim"].get("fit")
    fits = result.get("fits", {})
    return {fit: fits[fit] for fit in sorted(fits, key=lambda fit: fit != own)}


def primary_fit(result: Record) -> Record | None:
    """Return what the fit that decides found; None where every study counts, or none does."""
    own = result["claim"].get("fit")
    judged: Record | None = None if own is None else result["fits"][own]
    return judged


def grouped(results: Sequence[Record]) -> list[tuple[Record, list[Record]]]:
    """Return every claim with its other regimes, in the order given; a regime whose claim is not there stands alone."""
    there = {result["claim"]["id"] for result in results}
    others: dict[str, list[Record]] = {}
    for result in results:
        if result["claim"].get("of") in there:
            others.setdefault(result["claim"]["of"], []).append(result)
    heads = [result for result in results if result["claim"].get("of") not in there]
    return [(head, others.get(head["claim"]["id"], [])) for head in heads]


def in_groups(results: Sequence[Record]) -> list[Record]:
    """Return results with every regime right after its claim."""
    return [result for head, others in grouped(results) for result in (head, *others)]


def regime_of(result: Record) -> str:
    """Return the regime of a result, or its kind where there are no regimes."""
    return str(result["claim"].get("regime", result["claim"]["kind"]))


def verdict_words(result: Record) -> str:
    """Return the verdict, marked where the scale is too small to mean anything."""
    return str(result["verdict"]) + (" (meaningless scale)" if result["meaningless"] else "")


def criteria_words(result: Record) -> str:
    """Return what meets the published criteria here; of a ladder how many rungs are supported."""
    if is_ladder(result):
        supported = [rung for rung in result["rungs"] if rung["verdict"] == "SUPPORTED"]
        words = f"{len(supported)} of {len(result['rungs'])} rungs SUPPORTED"
        return words + (f"; {checks_words(result)}" if result.get("checks") else "")
    met = (primary_fit(result) or {}).get("published_criteria")
    if met is not None:
        return str(met["sentence"]).removeprefix("published criteria met by: ")
    return checks_words(result) if result.get("checks") else "-"


def checks_words(result: Record) -> str:
    """Return how many of the original's own pass rules our figures meet."""
    checks = result["checks"]
    return f"{sum(bool(check['passed']) for check in checks)} of {len(checks)} rules of the original met"


def units_words(result: Record) -> str:
    """Return what a verdict rests on: groups, documents and seeds, or rungs."""
    if is_ladder(result):
        return ", ".join(rung["id"] for rung in result["rungs"])
    primary, found = primary_fit(result), studies(result)
    if primary is None:
        return f"{len(found)} {'study' if len(found) == 1 else 'studies'}" if found else "-"
    return counts_words(primary)


def counts_words(judged: Record) -> str:
    """Return how many groups, documents and seeds a study rests on."""
    counts = judged.get("counts")
    if counts is None:
        return "-"
    of = {unit: counts[unit].get("domain", sum(counts[unit].values())) for unit in ("groups", "documents")}
    return f"{of['groups']} groups, {of['documents']} documents, {len(counts['seeds'])} seeds"


def claim_rows(results: Sequence[Record]) -> list[dict[str, str]]:
    """Return one row of words per result, regimes after their claim: id, regime, published, criteria, verdict, reason."""
    return [
        {
            "claim": result["claim"]["id"],
            "regime": regime_of(result),
            "published": published_words(result),
            "published criteria here": criteria_words(result),
            "verdict": verdict_words(result),
            "why": result["reason"],
        }
        for result in in_groups(results)
    ]


def readme_table(results: Sequence[Record], why: Mapping[str, str] | None = None) -> str:
    """Return the README's verdict table with one row per claim; its other regimes share a cell.

    Args: why: claim -> its reason in other words than its own.
    """
    if not results:
        return "\nNo reference run of these claims is committed yet.\n\n"
    rows = []
    for result, others in grouped(results):
        regimes = [f"{regime_of(other)}: **{other['verdict']}**" for other in others]
        share = share_words(primary_fit(result) or {})
        cells = [f"`{result['claim']['id']}`", published_words(result), criteria_words(result)]
        reason = (why or {}).get(result["claim"]["id"], result["reason"])
        cells += [f"**{verdict_words(result)}**", reason, share, units_words(result)]
        rows.append([*cells, "; ".join(regimes) or "-"])
    heads = ["claim", "published", "published criteria here", "verdict", "why", "share", "rests on", "other regimes"]
    return "\n" + "\n".join(table(heads, rows)) + "\n\n"


def terminal(results: Sequence[Record], headline: str) -> str:
    """Return the verdicts for a terminal, ASCII only; the other regimes of a claim are indented under it."""
    blocks = []
    for result, others in grouped(results):
        [row] = claim_rows([result])
        lines = [f"{row['claim']}: {row['verdict']}"]
        for key in ("published", "published criteria here", "why"):
            lines += _wrapped(f"{key}: {row[key]}", 4)
        for rung in result.get("rungs", ()):
            lines += _wrapped(f"rung {rung['id']}: {rung['verdict']}", 4)
        for other in others:
            lines += _wrapped(f"{regime_of(other)}: {verdict_words(other)}", 4)
            lines += _wrapped(f"why: {other['reason']}", 8)
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, headline]) + "\n"


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def markdown(results: Sequence[Record], headline: str) -> str:
    """Return the page: the table of claims, then per claim its tests and arms in every regime, per ladder its rungs."""
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
    for result, others in grouped(results):
        claim = result["claim"]
        lines += ["", f"## `{claim['id']}`: {claim['title']}", "", claim["statement"], ""]
        lines += _ladder_section(result) if is_ladder(result) else _fit_sections(result)
        for other in others:
            regime = f"## `{other['claim']['id']}`: the same claim, regime {regime_of(other)}"
            lines += [regime, "", f"The target side sees {other['claim'].get('sees', '-')}.", "", *_fit_sections(other)]
    lines += [
        "",
        "How to read this: `docs/protocol.md`. It holds for these backbones and this text; documents and seeds are sampled, backbones are not.",
    ]
    return "\n".join(lines) + "\n"


def _ladder_section(result: Record) -> list[str]:
    """Return the verdict of a ladder and the table of its rungs."""
    heads = ["rung", "verdict", "at the strict level", "why"]
    rows = [
        [f"`{rung['id']}`", rung["verdict"], rung["verdict_at_strict_level"], rung["reason"]]
        for rung in result["rungs"]
    ]
    return [f"### Ladder: {result['verdict']}", "", f"{result['reason']}.", "", *table(heads, rows), ""]


def _fit_sections(result: Record) -> list[str]:
    """Return the sections of all fits of a result, the deciding one first."""
    lines = [] if primary_fit(result) else [f"### {result['verdict']}", "", f"{result['reason']}.", ""]
    return lines + [line for fit, judged in studies(result).items() for line in _fit_section(result, fit, judged)]


def fit_words(result: Record, fit: str) -> str:
    """Return what a fit is for: it decides, or it stands beside as a variant or in closed form."""
    if "fit" not in result["claim"]:
        return "a study of its own"
    if fit == result["claim"]["fit"]:
        return "primary"
    how = "fitted without gradient steps" if fit == CLOSED_FORM else "a variant, other steps, less text or other text"
    return f"{how}; decides nothing"


def _fit_section(result: Record, fit: str, judged: Record) -> list[str]:
    lines = [f"### Fit `{fit}` ({fit_words(result, fit)}): {judged['verdict']}", "", f"{judged['reason']}.", ""]
    lines += [f"{judged['published_criteria']['sentence']}.", ""] if "published_criteria" in judged else []
    lines += [f"{gain_words(judged)}.", ""] if judged.get("share") or judged.get("gap_closure") else []
    heads, rows = test_cells(judged)
    lines += table(heads, rows)
    heads, rows = arm_cells(result, fit, judged)
    return [*lines, "", *table(heads, rows), ""]


def gain_words(judged: Record) -> str:
    """Return the net's own share of the gain and the part of the gap it closes."""
    closed = closure_words(judged.get("gap_closure"))
    return f"Share of the gain that is the net's own: {share_words(judged)}. Gap closure in bits per byte: {closed}"


def test_cells(judged: Record) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of a study's tests."""
    rows = [
        [t["id"], t["contrast"], t["metric"], figure(t["mean"]), bounds_words(t["interval"]), holds(t)]
        for t in judged.get("tests", ())
    ]
    level = f"{100 * judged.get('level', 0.95):g} % interval"
    return ["test", "contrast", "metric", "mean", level, "above its limit"], rows


def holds(test: Record) -> str:
    """Return whether a test holds; one that decides nothing says so."""
    return ("yes" if test.get("passed") else "no") + ("" if test.get("required", True) else " (reported only)")


def closure_words(closure: Record | None, nothing: str = "not reported, no room is shown") -> str:
    """Return a gap closure with its interval."""
    if closure is None or closure["estimate"] is None:
        return nothing
    piece = closure["pieces"][0] if closure["bounded"] and len(closure["pieces"]) == 1 else None
    return figure(closure["estimate"]) + (
        f" [{figure(piece[0])}, {figure(piece[1])}]" if piece else " (unbounded interval)"
    )


def bounds_words(interval: Record | None) -> str:
    """Return an interval in brackets, or a dash."""
    return "-" if interval is None else f"[{figure(interval['lower'])}, {figure(interval['upper'])}]"


SCORES = (
    ("domain", "js_nats", "JS (nats)"),
    ("domain", "top1", "top-1"),
    ("domain", "top5", "top-5"),
    ("domain", "entropy_diff_nats", "entropy diff. (nats)"),
    ("domain", "bits_per_byte", "bits/byte"),
    ("general", "bits_per_byte", "bits/byte general"),
)


def arm_cells(result: Record, fit: str, judged: Record) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of arms: agreement with the reference, bits per byte, the part of the gap closed."""
    perplexity, closures = result.get("perplexity", {}), judged.get("gap_closures", {})
    criteria = judged.get("published_criteria", {}).get("arms", {})
    rows = []
    for arm in in_order(judged.get("arms", {})):
        scopes = judged["arms"][arm]
        known = perplexity.get(fit, {}).get(arm) or perplexity.get(UNFITTED, {}).get(arm, {})
        met = criteria.get(arm)
        figures = [with_interval(scopes.get(scope, {}).get(metric)) for scope, metric, _ in SCORES]
        passed = "-" if met is None else "yes" if met["passed"] else "no"
        known = (
            known.get("domain") if isinstance(known, dict) else known
        )  # a study made of several has domain text alone
        rows.append([arm, *figures, closure_words(closures.get(arm), "-"), figure(known), passed])
    return ["arm", *(words for _, _, words in SCORES), "gap closed", "perplexity", "published criteria"], rows


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table; a bar in a cell becomes a slash."""
    cells = [[cell.replace("|", "/") for cell in row] for row in rows]
    return [
        f"| {' | '.join(heads)} |",
        f"| {' | '.join('---' for _ in heads)} |",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
