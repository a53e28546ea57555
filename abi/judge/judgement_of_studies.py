"""From evidence rows to the result file of a claim made of several studies."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from abi.judge.contrasts import Criteria
from abi.judge.judgement import row_sums
from abi.judge.published import figures_of
from abi.judge.studies import (
    atlas_parts,
    efficacy_table,
    generation_table,
    judge_studies,
    law_parts,
    perplexities,
    round_curves,
    study_names,
    update_checks,
)
from abi.judge.verdict import strict_level

Record = dict[str, Any]


def judged(spec: Mapping[str, Any], evidence: pd.DataFrame, draws: pd.DataFrame, generation: Record | None) -> Record:
    """Return everything of a result file that follows from the evidence."""
    claim, protocol = spec["claim"], spec["protocol"]
    criteria, thresholds = Criteria.from_mapping(protocol["criteria"]), protocol["published_criteria"]
    names, ppl = study_names(claim, spec.get("rounds", 1)), perplexities(evidence, criteria.min_positions)
    parts: Record = {"checks": [], "tables": [], "curves": [], "matrices": []}
    strict = strict_level(criteria, spec["n_claims"])
    if claim["kind"] == "scaling_law":
        found = law_parts(evidence, claim, spec["widths"], spec["budgets"], thresholds, criteria.min_positions, strict)
        parts |= {**found, "fits": {}}
    else:
        parts |= judge_studies(evidence, claim, names, criteria, thresholds, strict)
        if claim["kind"] == "atlas":
            parts |= atlas_parts(claim, parts["fits"])
        else:
            parts["tables"] = [efficacy_table(parts["fits"], ppl)]
            parts["tables"] += [generation_table(generation)] if generation else []
            parts["checks"] = update_checks(claim, parts["fits"], ppl, generation)
            parts["curves"] = round_curves(claim, parts["fits"]) if claim["kind"] == "succession" else []
    return {
        "claim": {"id": spec["id"], **claim}, "scale": spec["scale"], "meaningless": spec["meaningless"],
        "protocol": protocol["protocol"], **parts, "perplexity": ppl,
        "rows": {"evidence": row_sums(evidence), "draws": row_sums(draws)},
        "record": figures_of(claim["record"]["claim"]) if "claim" in claim["record"] else {},
    }  # fmt: skip


def update_table(batches: list[tuple[str, Record]]) -> Record:
    """Return the table of what the updates did to the backbones: general loss before and after, drift of the held states."""
    rows: list[list[Any]] = []
    for path, batch in batches:
        update, stage = path.split("/")[-3:-1]
        for entry in batch["members"]:
            told = entry["figures"]
            figures = [
                told["general_loss_before"],
                told["general_loss_after"],
                told.get("stability_mse"),
                told["steps"],
            ]
            rows.append([update, stage, entry["seed"], *figures])
    columns = ["update", "stage", "seed", "general loss before", "after", "mean squared drift of held states", "steps"]
    caption = "Held-out general text in nats per token; stages `held` have the stability term, `free` ones do not."
    return {"id": "updates", "title": "What the updates did", "caption": caption, "columns": columns, "rows": rows}
