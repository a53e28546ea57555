"""The pages that list verdicts (summary, headline, README), and the tables of a study that the report has too."""

import textwrap
from collections.abc import Mapping, Sequence

from abi.base.names import UNFITTED
from abi.judge.fits import Fit, Scope
from abi.judge.results import AnyResult, LadderResult, Result, StudyResult
from abi.report.render import Cell, Table, markdown
from abi.report.words import (
    closure_words,
    criteria_words,
    deciding,
    fit_words,
    gain_words,
    grouped,
    holds,
    in_groups,
    in_order,
    interval_words,
    published_words,
    regime_of,
    share_words,
    studies,
    units_words,
    verdict_words,
    with_interval,
)

HEADS = ("claim", "regime", "published", "published criteria here", "verdict", "why")
SCORES: tuple[tuple[Scope, str, str], ...] = (
    ("domain", "js_nats", "JS (nats)"),
    ("domain", "top1", "top-1"),
    ("domain", "top5", "top-5"),
    ("domain", "entropy_diff_nats", "entropy diff. (nats)"),
    ("domain", "bits_per_byte", "bits/byte"),
    ("general", "bits_per_byte", "bits/byte general"),
)
READING = (
    "How to read this: `docs/protocol.md`. It holds for these backbones and this text; documents and seeds are "
    "sampled, backbones are not."
)


def summary_pages(results: Sequence[AnyResult], sentence: str) -> dict[str, str]:
    """Return the page of some results as Markdown (`.md`) and for a terminal (`.txt`), by ending of the file name.

    Args: sentence: counts the claims.
    """
    return {".md": page(results, sentence), ".txt": terminal_page(results, sentence)}


def claims_table(results: Sequence[AnyResult]) -> Table:
    """Return one row of words per result, regimes after their claim."""
    return Table(HEADS, [claim_row(result) for result in in_groups(results)])


def claim_row(result: AnyResult) -> list[str]:
    """Return the cells of a result under `HEADS`."""
    words = [published_words(result.record), criteria_words(result), verdict_words(result), result.reason]
    return [result.claim.id, regime_of(result), *words]


def readme_table(results: Sequence[AnyResult], why: Mapping[str, str] | None = None) -> Table:
    """Return the README's table of verdicts with one row per claim; its other regimes share a cell.

    Args: why: claim -> its reason in other words than its own.
    """
    rows = []
    for result, others in grouped(results):
        regimes = [f"{regime_of(other)}: **{other.verdict}**" for other in others]
        _, _, published, criteria, verdict, reason = claim_row(result)
        told = [f"**{verdict}**", (why or {}).get(result.claim.id, reason), share_words(deciding(result))]
        rows.append(
            [f"`{result.claim.id}`", published, criteria, *told, units_words(result), "; ".join(regimes) or "-"]
        )
    heads = ["claim", "published", "published criteria here", "verdict", "why", "share", "rests on", "other regimes"]
    return Table(heads, rows)


def terminal_page(results: Sequence[AnyResult], sentence: str) -> str:
    """Return the verdicts for a terminal, ASCII only; the other regimes of a claim are indented under it."""
    blocks = []
    for result, others in grouped(results):
        name, _, published, criteria, verdict, reason = claim_row(result)
        told = {"published": published, "published criteria here": criteria, "why": reason}
        lines = [f"{name}: {verdict}", *(line for key in told for line in _wrapped(f"{key}: {told[key]}", 4))]
        for rung in result.rungs if isinstance(result, LadderResult) else ():
            lines += _wrapped(f"rung {rung.id}: {rung.verdict}", 4)
        for other in others:
            lines += _wrapped(f"{regime_of(other)}: {verdict_words(other)}", 4)
            lines += _wrapped(f"why: {other.reason}", 8)
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, sentence]) + "\n"


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def page(results: Sequence[AnyResult], sentence: str) -> str:
    """Return the page: the table of claims, then per claim its tests and arms in every regime, per ladder its rungs."""
    first = results[0]
    note = " **The budgets of this scale are too small to say anything; it only tests the machinery.**"
    about = f"Scale `{first.scale}`, protocol {first.protocol}.{note if first.meaningless else ''} {sentence}."
    lines = ["# Verdicts", "", about, "", *markdown(claims_table(results))]
    for result, others in grouped(results):
        lines += ["", f"## `{result.claim.id}`: {result.claim.title}", "", result.claim.statement, ""]
        lines += _section(result)
        for other in others:
            lines += [f"## `{other.claim.id}`: the same claim, regime {regime_of(other)}", ""]
            lines += [f"The target side sees {other.claim.sees or '-'}.", "", *_section(other)]
    return "\n".join([*lines, "", READING]) + "\n"


def _section(result: AnyResult) -> list[str]:
    """Return the rungs of a ladder, or the sections of all fits, the deciding one first."""
    if isinstance(result, LadderResult):
        heads = ["rung", "verdict", "at the strict level", "why"]
        rows = [[f"`{rung.id}`", rung.verdict, rung.verdict_at_strict_level, rung.reason] for rung in result.rungs]
        return [f"### Ladder: {result.verdict}", "", f"{result.reason}.", "", *markdown(Table(heads, rows)), ""]
    lines = [] if deciding(result) else [f"### {result.verdict}", "", f"{result.reason}.", ""]
    for name, fit in studies(result).items():
        lines += [f"### Fit `{name}` ({fit_words(result, name)}): {fit.verdict}", "", f"{fit.reason}.", ""]
        lines += [f"{fit.published_criteria.sentence}.", ""] if fit.published_criteria else []
        lines += [f"{gain_words(fit)}.", ""] if gain_words(fit) else []
        lines += [*markdown(tests_table(fit)), "", *markdown(arms_table(result, name, fit)), ""]
    return lines


def tests_table(fit: Fit) -> Table:
    """Return the table of a study's tests."""
    rows: list[list[Cell]] = [
        [test.id, test.contrast, test.metric, test.mean, interval_words(test.interval), holds(test)]
        for test in fit.tests
    ]
    level = f"{100 * fit.level:g} % interval"
    caption = "More is better; a test holds if its interval lies above its limit"
    return Table(["test", "contrast", "metric", "mean", level, "above its limit"], rows, caption)


def arms_table(result: Result | StudyResult, name: str, fit: Fit) -> Table:
    """Return the table of arms: agreement with the reference, bits per byte, the part of the gap closed."""
    criteria = fit.published_criteria.arms if fit.published_criteria else {}
    rows: list[list[Cell]] = []
    for arm in in_order(fit.arms):
        figures = [with_interval(fit.arms[arm].of(scope).get(metric)) for scope, metric, _ in SCORES]
        closed, met = closure_words(fit.gap_closures.get(arm), "-"), criteria.get(arm)
        rows.append([arm, *figures, closed, perplexity(result, name, arm), None if met is None else met.passed])
    return Table(["arm", *(words for _, _, words in SCORES), "gap closed", "perplexity", "published criteria"], rows)


def perplexity(result: Result | StudyResult, name: str, arm: str) -> float | None:
    """Return an arm's perplexity on domain text, of a fit or of no fit at all."""
    if isinstance(result, StudyResult):
        return result.perplexity.get(name, {}).get(arm, result.perplexity.get(UNFITTED, {}).get(arm))
    found = result.perplexity.get(name, {}).get(arm) or result.perplexity.get(UNFITTED, {}).get(arm, {})
    return found.get("domain")
