"""Model cards of calibrated modules that carry their verdicts: front matter of the hub, worth, limits (no torch)."""

from collections.abc import Sequence

from abi.judge.results import Result
from abi.plan.specs.report import WriteCards
from abi.report.render import Table
from abi.report.study_words import share_words
from abi.report.templates import fill
from abi.report.verdicts import arms_table
from abi.report.words import criteria_words, regime_of, verdict_words


def card(results: Sequence[Result], spec: WriteCards) -> str:
    """Return the card of a claim's modules. Args: results: all its regimes, the claim first."""
    heads = ["regime", "verdict", "at the strict level", "published criteria here", "share that is the net's own"]
    rows = [
        [regime_of(r), f"**{verdict_words(r)}**", r.verdict_at_strict_level, criteria_words(r), share_words(r.deciding)]
        for r in results
    ]
    given = {"results": results, "spec": spec, "verdicts": Table(heads, rows)}
    return fill("card.md.j2", arms_table, hub=spec.hubs.get(str(results[0].claim.target)), **given)
