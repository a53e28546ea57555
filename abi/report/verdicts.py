"""The pages that list verdicts (summary, headline), and the tables of a study, for report and cards too."""

import textwrap
from collections.abc import Sequence

from abi.base.manifests.pages import Headline
from abi.base.names import UNFITTED
from abi.judge.fits import Check, Fit, Scope
from abi.judge.results import AnyResult, LadderResult, Result, StudyResult, headline
from abi.plan.specs.judge import Summarise
from abi.report.render import Cell, Table, listed
from abi.report.study_words import closure_words, holds, interval_words, with_interval
from abi.report.templates import fill
from abi.report.words import criteria_words, in_groups, in_order, published_words, regime_of, verdict_words

CHECKS = "The original's own pass rules, applied to what was measured here; they decide nothing"
SCORES: tuple[tuple[Scope, str, str], ...] = (
    ("domain", "js_nats", "JS (nats)"),
    ("domain", "top1", "top-1"),
    ("domain", "top5", "top-5"),
    ("domain", "entropy_diff_nats", "entropy diff. (nats)"),
    ("domain", "bits_per_byte", "bits/byte"),
    ("general", "bits_per_byte", "bits/byte general"),
)


def judged_words(result: AnyResult) -> str:
    """Return the verdict as tables show it, with the word at the strict level where that is another."""
    strict = result.verdict_at_strict_level
    return f"**{verdict_words(result)}**" + ("" if strict == result.verdict else f" (strict level: {strict})")


def summary_pages(results: Sequence[AnyResult], sentence: str) -> dict[str, str]:
    """Return the page of some results as Markdown (`.md`) and for a terminal (`.txt`, ASCII), by ending of its name.

    Args: sentence: counts the claims.
    """
    used = (claims_table, rungs_table, tests_table, arms_table, wrapped)
    return {end: fill(f"summary{end}.j2", *used, results=results, sentence=sentence) for end in (".md", ".txt")}


def headline_of(results: Sequence[AnyResult], spec: Summarise) -> Headline:
    """Return how many of the counted results are SUPPORTED, and how many stay so at the strict level."""
    counted = [result for result in results if result.claim.id in spec.counted]
    return headline(
        {result.claim.id: result.verdict for result in counted},
        {result.claim.id: result.verdict_at_strict_level for result in counted},
        spec.protocol.criteria.level,
        spec.n_claims,
    )


def wrapped(text: str, indent: int) -> str:
    """Return a text as indented lines for a terminal."""
    return textwrap.fill(text, 110, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def claims_table(results: Sequence[AnyResult]) -> Table:
    """Return one row of words per result, regimes after their claim."""
    rows = [
        [r.claim.id, regime_of(r), published_words(r.record), criteria_words(r), verdict_words(r), r.reason]
        for r in in_groups(results)
    ]
    return Table(["claim", "regime", "published", "published criteria here", "verdict", "why"], rows)


def rungs_table(result: LadderResult) -> Table:
    """Return the table of what a ladder rests on."""
    rows = [[f"`{rung.id}`", rung.verdict, rung.verdict_at_strict_level, rung.reason] for rung in result.rungs]
    return Table(["rung", "verdict", "at the strict level", "why"], rows, "The claims this one rests on")


def checks_table(checks: Sequence[Check]) -> Table:
    """Return the table of the original's pass rules."""
    rows = [[f"`{c.id}`", c.words, c.value, c.threshold, "passed" if c.passed else "failed"] for c in checks]
    return Table(["check", "rule", "measured here", "threshold", "outcome"], rows, CHECKS)


def tests_table(fit: Fit) -> Table:
    """Return the table of a study's tests."""
    rows: list[list[Cell]] = [
        [test.id, test.contrast, test.metric, test.mean, interval_words(test.interval), test.limit, holds(test)]
        for test in fit.tests
    ]
    level = f"{100 * fit.level:g} % interval"
    turned = sorted({f"`{test.metric}`" for test in fit.tests if test.turned})
    sign = f": the sign of {listed(turned)} is turned" if turned else ""
    caption = f"Tests. More is better{sign}. A test holds if its interval lies above its limit"
    return Table(["test", "contrast", "metric", "mean", level, "limit", "holds"], rows, caption)


def arms_table(result: Result | StudyResult, name: str, fit: Fit) -> Table:
    """Return the table of arms: agreement with the reference, bits per byte, the part of the gap closed."""
    criteria = fit.published_criteria.arms if fit.published_criteria else {}
    rows: list[list[Cell]] = []
    for arm in in_order(fit.arms):
        figures = [with_interval(fit.arms[arm].of(scope).get(metric)) for scope, metric, _ in SCORES]
        closed, met = closure_words(fit.gap_closures.get(arm), "-"), criteria.get(arm)
        rows.append([arm, *figures, closed, _perplexity(result, name, arm), None if met is None else met.passed])
    return Table(["arm", *(words for _, _, words in SCORES), "gap closed", "perplexity", "published criteria"], rows)


def _perplexity(result: Result | StudyResult, name: str, arm: str) -> float | None:
    """Return an arm's perplexity on domain text, of a fit or of no fit at all."""
    fits = (result.perplexity.get(fit, {}) for fit in (name, UNFITTED))
    found = next((arms[arm] for arms in fits if arm in arms), None)
    return found.get("domain") if isinstance(found, dict) else found
