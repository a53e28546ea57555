"""Model cards of calibrated modules that carry their verdicts: Hugging Face front matter, what they are worth, their limits (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Any

from abi.report.tables import (
    arm_cells,
    counts_words,
    criteria_words,
    primary_fit,
    regime_of,
    share_words,
    table,
    verdict_words,
)

Record = Mapping[str, Any]


def card(results: Sequence[Record], spec: Record) -> str:
    """Return the card of a claim's modules. Args: results: all its regimes, the claim first; spec: of `Study.card_spec`."""
    head = results[0]
    claim = head["claim"]
    lines = [*_front(claim, spec), "", f"# Modules of `{claim['id']}`: {claim['title']}", "", claim["statement"], ""]
    lines += ["## Verdicts", "", *_verdicts(results), "", *[f"- {regime_of(r)}: {r['reason']}." for r in results], ""]
    lines += ["## Where the modules are", "", *_folders(results, spec["results"]), ""]
    lines += ["## Figures, controls beside the claimed arm", ""]
    for result in results:
        judged = primary_fit(result)
        if judged is not None:
            heads, rows = arm_cells(result, result["claim"]["fit"], judged)
            lines += [f"### {regime_of(result)} ({counts_words(judged)})", "", *table(heads, rows), ""]
    return "\n".join([*lines, "## Limits", "", *_limits(results)]) + "\n"


def _front(claim: Record, spec: Record) -> list[str]:
    """Return the front matter; a backbone that was built names its folder, one of the hub its id."""
    target = claim["target"]
    hub = spec["hubs"].get(target)
    base = hub["id"] if hub else f"{spec['results']}/backbones/{target}"
    lines = ["---", "library_name: abi", f"base_model: {base}", "base_model_relation: adapter"]
    tags = ["abi", "domain-module", claim["kind"], f"scale-{spec['scale']}"]
    return [*lines, "license: apache-2.0", f"tags: [{', '.join(tags)}]", "---"]


def _verdicts(results: Sequence[Record]) -> list[str]:
    rows = [
        [
            regime_of(r),
            f"**{verdict_words(r)}**",
            r["verdict_at_strict_level"],
            criteria_words(r),
            share_words(primary_fit(r) or {}),
        ]
        for r in results
    ]
    return table(
        ["regime", "verdict", "at the strict level", "published criteria here", "share that is the net's own"], rows
    )


def _folders(results: Sequence[Record], root: str) -> list[str]:
    lines = ["One folder per fit, arm and seed; the manifests name and hash them."]
    return [*lines, "", *[f"- {regime_of(r)}: `{root}/calibration/{r['claim']['id']}/`" for r in results]]


def _limits(results: Sequence[Record]) -> list[str]:
    claim = results[0]["claim"]
    lines = [
        f"- A module works only with its own backbone `{claim['target']}`, whose weights and vocabulary its `abi_config.json` names by hash.",
        f"- The verdicts hold for this backbone and text `{claim['text']}`: documents and seeds are sampled, backbones are not.",
        "- Non-inferior is not identical, a refuted recipe is no proof that no recipe works, and nothing here is about production use.",
    ]
    if results[0]["meaningless"]:
        lines.append("- **This scale only tests the machinery: its verdicts mean nothing.**")
    return lines
