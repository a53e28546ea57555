"""Claims made of several studies: each study judged, one verdict of all, and what the original computed from such figures.

Evidence rows carry the study in `fit`. Source: protocol section 6; EXPERIMENTS section 0 (E1 to E5) and C4 to C7, T2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT
from abi.judge.contrasts import Criteria, Measure
from abi.judge.ladder import of_several
from abi.judge.protocol import BPB, UPDATE, atlas_plan, atlas_roles, update_plan
from abi.judge.scaling_law import Point, fit_law, judge_law
from abi.judge.tables import scoped_perplexities
from abi.judge.verdict import judge_study, published_criteria, thresholds_met

Record = dict[str, Any]
CONTROLS = {
    "update": ("raw", "random", "random-net", "zero-shot-off"),
    "atlas": ("raw", "random", "permuted", "linear", "shared"),
}
CANDIDATE = {"update": "zero-shot", "atlas": "chart"}


def judge_studies(
    evidence: pd.DataFrame, claim: Mapping[str, Any], studies: Sequence[str], criteria: Criteria,
    thresholds: Mapping[str, float], strict: float,
) -> Record:  # fmt: skip
    """Return verdict, reason, verdict at the strict level and every judged study of a claim.

    SUPPORTED if every study is ("every" needs no correction); REFUTED if some study is at the level of one of k; VACUOUS if
    every study is. Args: strict: the level of a headline that counts several claims.
    """
    kind = "atlas" if claim["kind"] == "atlas" else "update"
    fits, words, named = {}, {}, {}
    for level in (criteria.level, strict):
        one_of_k = 1 - (1 - level) / len(studies)
        for study in studies:
            judged = _judge(evidence, kind, study, claim, criteria, level)
            refuted = _judge(evidence, kind, study, claim, criteria, one_of_k)
            vacuous = judged["verdict"] == "VACUOUS"  # refuted means: not vacuous, at the level that decides
            words[study, level] = judged["verdict"], refuted["verdict"] == "REFUTED" and not vacuous
            if level == criteria.level:
                judged["published_criteria"] = published_criteria(
                    evidence, fit=study, criteria=criteria, thresholds=thresholds, candidate=CANDIDATE[kind],
                    controls=CONTROLS[kind],
                )  # fmt: skip
                fits[study], named[study] = judged, refuted["reason"]
    verdicts = [combined([words[study, level] for study in studies]) for level in (criteria.level, strict)]
    short = [study for study in studies if fits[study]["verdict"] != "SUPPORTED"]
    refuting = [study for study in studies if words[study, criteria.level][1]]
    if not short:
        reason = f"all {len(studies)} studies are SUPPORTED" if len(studies) > 1 else fits[studies[0]]["reason"]
    else:
        first = (refuting or short)[0]
        why = named[first] if refuting else fits[first]["reason"]
        counted = (
            f"{len(studies) - len(short)} of {len(studies)} studies are SUPPORTED; {first}: "
            if len(studies) > 1
            else ""
        )
        reason = f"{counted}{why}"
    return {"verdict": verdicts[0], "reason": reason, "verdict_at_strict_level": verdicts[1], "fits": fits}


def combined(words: Sequence[tuple[str, bool]]) -> str:
    """Return the verdict of several studies. Args: each study's verdict, and whether it is refuted at the level of one of k."""
    return of_several([word for word, _ in words], any(refuted for _, refuted in words))


def _judge(
    evidence: pd.DataFrame, kind: str, study: str, claim: Mapping[str, Any], criteria: Criteria, level: float
) -> Record:
    if kind == "update":
        plan, roles, own = update_plan(criteria), UPDATE, BPB
    else:
        roles = atlas_roles([text for text in claim["texts"] if text != study])
        plan, own = atlas_plan(criteria, roles), Measure(criteria.primary_metric, "domain")
    return judge_study(
        evidence, kind=claim["kind"], study=study, plan=plan, roles=roles, own=own, criteria=criteria, level=level
    )


def study_names(claim: Mapping[str, Any], rounds: int) -> list[str]:
    """Return the studies of a claim: rounds and texts of an update, texts of an atlas, updates and texts of a scaling law."""
    if claim["kind"] == "atlas":
        return list(claim["texts"])
    if claim["kind"] == "scaling_law":
        return [f"{update}-{text}" for update in claim["updates"] for text in claim["texts"]]
    return [f"round{number}-{text}" for number in range(1, rounds + 1) for text in claim["texts"]]


def perplexities(evidence: pd.DataFrame, min_positions: int) -> dict[str, dict[str, float]]:
    """Return study -> arm -> perplexity per token on the study's own text (`evidence.scoped_perplexities`)."""
    found = scoped_perplexities(evidence, min_positions)
    return {study: {arm: of["domain"] for arm, of in arms.items()} for study, arms in found.items()}


def efficacies(ppl: Mapping[str, float], closure: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Return the protocol's efficacy and the record's E1 to E5 of one study; None where a denominator is not positive.

    Args: ppl: arm -> perplexity; closure: the protocol's, in bits per byte. Source: EXPERIMENTS section 0.
    """
    gain = {arm: (ppl[f"{arm}-off"] - ppl[arm]) / ppl[f"{arm}-off"] for arm in ("zero-shot", "oracle")}
    cold = (ppl["random"] - ppl["oracle"]) / ppl["random"]
    return {
        "protocol": None if closure is None else closure["estimate"],
        "E1": _part(ppl["raw"] - ppl["zero-shot"], ppl["raw"] - ppl["oracle-before"]),
        "E2": _part(gain["zero-shot"], gain["oracle"]),
        "E3": _part(gain["zero-shot"], cold),
        "E4": _part(ppl["random-off"] - ppl["zero-shot"], ppl["random-off"] - ppl["oracle"]),
        "E5": ppl["zero-shot"] / ppl["oracle"],
    }


def _part(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def efficacy_table(fits: Mapping[str, Record], ppl: Mapping[str, Mapping[str, float]]) -> Record:
    """Return the table of efficacies of every study: the protocol's with its interval, the record's beside it."""
    rows: list[list[Any]] = []
    for study, judged in fits.items():
        found = efficacies(ppl[study], judged["gap_closures"].get("zero-shot"))
        piece = bounds(judged["gap_closures"].get("zero-shot"))
        rows.append([study, found["protocol"], *piece, *(found[f"E{i}"] for i in range(1, 6))])
    columns = ["study", "efficacy", "lower", "upper", "E1", "E2", "E3", "E4", "E5"]
    caption = (
        "Efficacy of the protocol: (raw - zero-shot) / (raw - oracle) on the updated backbone in bits per byte, with its 95 % set. "
        "E1 to E5 are the record's, from perplexities: E1 divides by a gain measured on the backbone before the update, E2 and E3 by "
        "relative gains on other bases, E4 starts from an untrained interface, E5 is a ratio of perplexities (1 is parity, above is worse)."
    )
    return {"id": "efficacies", "title": "Efficacies", "caption": caption, "columns": columns, "rows": rows}


def bounds(closure: Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    """Return the ends of a bounded set, or (None, None)."""
    if closure is None or not closure["bounded"]:
        return None, None
    return closure["pieces"][0][0], closure["pieces"][-1][1]


def update_checks(claim: Mapping[str, Any], fits: Mapping[str, Record], ppl: Mapping[str, Mapping[str, float]],
                  generation: Mapping[str, Any] | None) -> list[Record]:  # fmt: skip
    """Return the original's pass rules of an update or a succession on our figures (EXPERIMENTS C4 to C6)."""
    gains = {study: _gains(ppl[study]) for study in fits}
    found = {study: efficacies(ppl[study], None) for study in fits}
    first = next(iter(fits))
    if claim["kind"] == "succession":
        last = {text: [study for study in fits if study.endswith(f"-{text}")][-1] for text in claim["texts"]}
        start = min(gains[f"round1-{text}"]["before"] for text in claim["texts"])
        least = min(gains[study]["zero-shot"] for study in fits)
        return [
            check("start", "least gain of a domain before any update", start, 0.03, above=True),
            *(check(s, f"zero-shot gain of {s}", gains[s]["zero-shot"], 0.03, above=True) for s in fits),
            *(check(f"efficacy-{text}", f"E3 of {text} after the last round", found[s]["E3"], 0.40) for text, s in last.items()),
            check("all-rounds", "least zero-shot gain of all rounds and domains", least, 0.03, above=True),
        ]  # fmt: skip
    if generation is None:
        return [check("E1", "E1, published rule of the T5 update", found[first]["E1"], 0.50)]
    ratio = generation["ratio"]
    checks = [
        check("S1", "gain of the domain net before the update", gains[first]["before"], 0.03, above=True),
        check("S2", "zero-shot gain after the update", gains[first]["zero-shot"], 0.03, above=True),
        check("S3", "E2", found[first]["E2"], 0.50),
    ]
    whole = all(item["passed"] for item in checks)
    fourth = {"id": "S4", "words": "perplexity of the last over the first part of generated text", "value": ratio,
              "threshold": 3.0, "passed": ratio < 3.0}  # fmt: skip
    return [*checks, fourth, {"id": "S5", "words": "S1, S2 and S3", "value": None, "threshold": None, "passed": whole}]


def generation_table(generation: Mapping[str, Any]) -> Record:
    """Return the table of generated texts: ratio of perplexities and variety, with the module and without."""
    rows = [
        [entry["arm"], entry["seed"], entry["ratio"], entry["distinct4"], entry["text"][:80]]
        for entry in generation["samples"]
    ]
    caption = (
        "Greedy, 100 tokens after 20 random ones. Ratio: perplexity of the last quarter over that of the first, the original's figure; "
        "text that repeats itself passes it, so the share of different 4-grams stands beside it."
    )
    columns = ["arm", "seed", "ratio", "different 4-grams", "begins with"]
    return {"id": "generation", "title": "Generated text", "caption": caption, "columns": columns, "rows": rows}


def _gains(ppl: Mapping[str, float]) -> dict[str, float]:
    """Return (off - on) / off of the module before the update, and after it."""
    return {arm: (ppl[f"{arm}-off"] - ppl[arm]) / ppl[f"{arm}-off"] for arm in ("before", "zero-shot")}


def check(id: str, words: str, value: float | None, threshold: float, *, above: bool = False) -> Record:
    """Return one pass rule of the original: at least its threshold, or above it."""
    passed = value is not None and (value > threshold if above else value >= threshold)
    return {"id": id, "words": words, "value": value, "threshold": threshold, "passed": passed}


def round_curves(claim: Mapping[str, Any], fits: Mapping[str, Record]) -> list[Record]:
    """Return bits per byte by round for every text of a succession."""
    curves = []
    for text in claim["texts"]:
        own = {int(study[5:].split("-")[0]): judged for study, judged in fits.items() if study.endswith(f"-{text}")}
        series = []
        for arm in ("raw", "zero-shot", "zero-shot-free", "random-net", "oracle", "before"):
            figures = [judged["arms"][arm]["domain"]["bits_per_byte"] for judged in own.values()]
            series.append({"name": arm, "x": [float(n) for n in own], **_lines(figures)})
        caption = f"Held-out {text} text after every round of updates; `before` is the module on the backbone it was trained beside."
        curves.append({
            "id": f"rounds-{text}", "title": f"Rounds of updates, {text}", "x_label": "round", "y_label": "bits per byte (less is better)",
            "caption": caption, "log_x": False, "series": series,
        })  # fmt: skip
    return curves


def _lines(figures: Sequence[Mapping[str, Any]]) -> Record:
    """Return y, and the ends of intervals where every figure has one."""
    made: Record = {"y": [figure["mean"] for figure in figures]}
    if all(figure["lower"] is not None for figure in figures):
        made |= {key: [figure[key] for figure in figures] for key in ("lower", "upper")}
    return made


def atlas_parts(claim: Mapping[str, Any], fits: Mapping[str, Record]) -> Record:
    """Return matrices (chart by domain), the locality ratios, mixtures and the original's diagonal pass rules of an atlas."""
    texts = claim["texts"]
    matrices, ratios = [], []
    for name, own, metric, words in (
        ("charts", "chart", "js_nats", "charts of the shared module"),
        ("random-charts", "random", "js_nats", "charts of a random net, the control"),
        ("charts-bpb", "chart", "bits_per_byte", "charts of the shared module"),
    ):
        values = [
            [_mean(fits[domain], own if chart == domain else f"{own}-of-{chart}", metric) for domain in texts]
            for chart in texts
        ]
        unit = (
            "JS to a second native module (nats, less is better)"
            if metric == "js_nats"
            else "bits per byte (less is better)"
        )
        matrices.append({
            "id": name, "title": f"Chart by domain, {words}", "caption": f"{unit} of every chart on every domain's held-out text.",
            "row_label": "chart", "column_label": "domain", "rows": texts, "columns": texts, "values": values,
        })  # fmt: skip
        if metric == "js_nats":
            ratios.append([words, locality(values)])
    table = {
        "id": "locality", "title": "Locality ratio", "columns": ["charts", "mean JS off the diagonal / on it"], "rows": ratios,
        "caption": "Above 1: charts are local. The same figure for charts of a random net says how much of it any net gives.",
    }  # fmt: skip
    checks = []
    for text in texts:
        met = fits[text]["published_criteria"]["arms"]["chart"]
        words = f"published NIB thresholds on {text}, top-5 beside them"
        checks.append(
            {
                "id": f"nib-{text}",
                "words": words,
                "value": met["means"]["top5"],
                "threshold": None,
                "passed": met["passed"],
            }
        )
    return {"matrices": matrices, "tables": [table], "checks": checks, "curves": _mixture(claim, fits)}


def locality(values: Sequence[Sequence[float]]) -> float | None:
    """Return mean off-diagonal over mean diagonal of a chart-by-domain matrix (EXPERIMENTS section 0)."""
    n = len(values)
    off = [values[i][j] for i in range(n) for j in range(n) if i != j]
    own = [values[i][i] for i in range(n)]
    return sum(off) / len(off) / (sum(own) / n) if off and sum(own) > 0 else None


def _mean(judged: Mapping[str, Any], arm: str, metric: str) -> float:
    return float(judged["arms"][arm]["domain"][metric]["mean"])


def _mixture(claim: Mapping[str, Any], fits: Mapping[str, Record]) -> list[Record]:
    """Return bits per byte of the mixtures of two charts on both of their domains."""
    if "mixture" not in claim:
        return []
    one, other = claim["mixture"]
    series = []
    for text in (one, other):
        arms = sorted((arm for arm in fits[text]["arms"] if arm.startswith("mix-")), key=lambda arm: int(arm[4:]))
        figures = [fits[text]["arms"][arm]["domain"]["bits_per_byte"] for arm in arms]
        series.append({"name": f"on {text}", "x": [int(arm[4:]) / 100 for arm in arms], **_lines(figures)})
    caption = (
        f"Corrections of the charts of {one} and {other}, added with weights w and 1 - w, on the held-out text of both."
    )
    return [{
        "id": "mixture", "title": "Mixture of two charts", "x_label": f"weight w of the chart of {one}",
        "y_label": "bits per byte (less is better)", "caption": caption, "log_x": False, "series": series,
    }]  # fmt: skip


def law_parts(
    evidence: pd.DataFrame, claim: Mapping[str, Any], widths: Mapping[str, int], budgets: Sequence[int],
    thresholds: Mapping[str, float], min_positions: int, strict: float,
) -> Record:  # fmt: skip
    """Return verdict, reason, verdict at the strict level, the fit, and the points of a scaling law: floors, margins, agreement by budget.

    A floor is the least budget at which all four published thresholds are met on held-out text, against the oracle that
    teaches, as the original has it. Args: widths: update -> backbone width.
    """
    points, rows, series = [], [], []
    for update in claim["updates"]:
        for text in claim["texts"]:
            study = f"{update}-{text}"
            means = arm_means(evidence, study, min_positions)
            passed = [n for n in budgets if meets(means[f"budget-{n}"], thresholds)]
            margin = means["margin"]["top5_margin"]
            points.append(Point(study, widths[update], margin, min(passed, default=None)))
            top5 = [means[f"budget-{n}"]["top5"] for n in budgets]
            rows.append([study, widths[update], margin, min(passed, default=None), top5[0], top5[-1]])
            series.append({"name": study, "x": [float(n) for n in budgets], "y": top5})
    law = fit_law(points)
    verdict, reason = judge_law(law)
    table = {
        "id": "points", "title": "Points of the law", "rows": rows,
        "columns": ["point", "d_model", "median top-5 margin of the oracle", "floor (steps)", "top-5 at the first budget", "top-5 at the last"],
        "caption": "The floor is the least budget that meets all four published thresholds; none means that no budget does.",
    }  # fmt: skip
    curve = {
        "id": "budgets", "title": "Agreement with the oracle by budget", "x_label": "calibration steps", "y_label": "top-5 overlap",
        "caption": "Held-out domain text; one run per point, its rate constant.", "log_x": False, "series": series,
    }  # fmt: skip
    at_strict = judge_law(fit_law(points, strict))[0]
    return {
        "verdict": verdict,
        "reason": reason,
        "verdict_at_strict_level": at_strict,
        "law": law,
        "tables": [table],
        "curves": [curve],
    }


def arm_means(evidence: pd.DataFrame, study: str, min_positions: int) -> dict[str, dict[str, float]]:
    """Return arm -> metric -> mean over documents and seeds of a study. Raises: EvidenceError: it has no rows."""
    rows = evidence[(evidence["fit"] == study) & (evidence["n_positions"] >= min_positions)]
    if rows.empty:
        raise EvidenceError(f"evidence: study {study!r} has no rows; rerun the evaluation")
    found: dict[str, dict[str, float]] = {}
    for (arm, metric), values in rows.groupby(["arm", "metric"])["value"]:
        found.setdefault(str(arm), {})[str(metric)] = float(values.mean())
    return found


def meets(means: Mapping[str, float], thresholds: Mapping[str, float]) -> bool:
    """Return whether all four published thresholds are met: two of them below, two at or above."""
    return all(thresholds_met({metric: means[metric] for metric in AGREEMENT}, thresholds).values())
