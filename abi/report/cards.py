"""Model cards of calibrated modules that carry their verdicts: front matter of the hub, worth, limits (no torch)."""

from collections.abc import Sequence

from abi.judge.results import Result
from abi.plan.specs.report import WriteCards
from abi.report.render import Table, markdown
from abi.report.templates import template
from abi.report.verdicts import arms_table
from abi.report.words import counts_words, criteria_words, regime_of, share_words, verdict_words


def card(results: Sequence[Result], spec: WriteCards) -> str:
    """Return the card of a claim's modules. Args: results: all its regimes, the claim first."""
    claim = results[0].claim
    hub = spec.hubs.get(str(claim.target))
    regimes = [
        {
            "words": f"{regime_of(result)} ({counts_words(result.deciding)})",
            "arms": markdown(arms_table(result, str(result.claim.fit), result.deciding)),
        }
        for result in results
    ]
    return template("card.md.j2").render(
        claim=claim,
        results=results,
        spec=spec,
        regimes=regimes,
        regime_of=regime_of,
        meaningless=results[0].meaningless,
        base=hub.id if hub else f"{spec.results}/backbones/{claim.target}",
        verdicts=markdown(_verdicts(results)),
    )


def _verdicts(results: Sequence[Result]) -> Table:
    heads = ["regime", "verdict", "at the strict level", "published criteria here", "share that is the net's own"]
    rows = [
        [
            regime_of(result),
            f"**{verdict_words(result)}**",
            result.verdict_at_strict_level,
            criteria_words(result),
            share_words(result.deciding),
        ]
        for result in results
    ]
    return Table(heads, rows)
