"""What the report and the model cards depend on besides result files: their specs and inputs, as `specs` for all other jobs."""

from typing import Any

from abi.base.files import sha256_file
from abi.plan.transfers import Study

CARDED = frozenset({"transfer", "reconstruction"})
"""Kinds of claims that leave calibrated modules behind."""


def report_spec(study: Study) -> dict[str, Any]:
    """Return what the report depends on besides result files and documents."""
    return {
        "scale": study.config.name, "description": study.scale["description"], "meaningless": study.scale["meaningless"],
        "counted": study.published(), "criteria": study.config.protocol["criteria"],
        "pending": {name: claim["title"] for name, claim in study.config.pending.items()},
        "benchmarks": f"{study.results}/benchmarks",
        "published_sha256": sha256_file(study.config.root / "config" / "record" / "published.json"),
    }  # fmt: skip


def card_spec(study: Study) -> dict[str, Any]:
    """Return what model cards depend on: where modules lie, and the hub's name of every backbone that comes from there."""
    hubs = {name: backbone["hub"] for name, backbone in study.scale["backbones"].items() if "hub" in backbone}
    return {"scale": study.config.name, "results": study.results, "hubs": hubs}


def carded(study: Study) -> list[str]:
    """Return the claims that leave modules behind, each with a card for all its regimes."""
    return [name for name, claim in study.config.claims.items() if claim["kind"] in CARDED and "of" not in claim]


def card_inputs(study: Study) -> list[str]:
    """Return the result files of every regime of the claims that have a card."""
    heads = set(carded(study))
    return study.result_files(name for name, claim in study.config.claims.items() if claim.get("of", name) in heads)
