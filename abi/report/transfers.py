"""The transfer table: pairs x regimes, what a moved module is worth beside its placebos and what a user would do instead."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abi.base.names import fits_of, written_variants

Record = Mapping[str, Any]
REGIMES = ("oracle-kd", "few-shot", "general-only")
PLACEBOS = ("random", "permuted")
INSTEAD = ("native", "direct", "lora")
ADVISED = ("transferred", "random", "permuted", "native", "direct", "lora", "linear", "bias", "no-domain")
"""The arms that stand in the figure, the claimed one first, then its placebos."""
COLUMNS = (
    "claim", "source", "target", "regime", "fit", "arm", "gap_closure", "lower", "upper", "seconds", "steps", "verdict",
)  # fmt: skip


def rows(results: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row per transfer result, fit and arm: gap closure in bits per byte with interval, seconds, verdict."""
    found = []
    for result in results:
        claim, training = result["claim"], {(t["fit"], t["arm"]): t for t in result["training"]}
        for fit in fits_of(claim):
            judged = result["fits"][fit]
            for arm, closure in judged["gap_closures"].items():
                told = training.get((fit, arm), {})
                lower, upper = bounds(closure)
                found.append({
                    "claim": claim.get("of", claim["id"]), "source": claim["source"], "target": claim["target"],
                    "regime": claim["regime"], "fit": fit, "arm": arm, "gap_closure": closure["estimate"], "lower": lower,
                    "upper": upper, "seconds": told.get("elapsed_s"), "steps": told.get("steps"), "verdict": judged["verdict"],
                })  # fmt: skip
    return found


def bounds(closure: Record) -> tuple[float | None, float | None]:
    """Return the ends of a bounded set of gap closures, or (None, None)."""
    pieces = closure["pieces"]
    return (pieces[0][0], pieces[-1][1]) if closure["bounded"] else (None, None)


def lead(judged: Record) -> Record | None:
    """Return the contrast moved net - best placebo in bits per byte: the one of its tests with the smallest mean."""
    tests = [t for t in judged["tests"] if t["metric"] == "bits_per_byte" and t["id"].startswith("4.attribution")]
    against = [t for t in tests if t["id"].rpartition(".")[2] in PLACEBOS]
    return min(against, key=lambda t: float(t["mean"]), default=None)


def best_placebo(judged: Record) -> str | None:
    """Return the placebo with the largest gap closure; None where no gap is shown."""
    closures = judged["gap_closures"]
    there = [arm for arm in PLACEBOS if arm in closures]
    return max(there, key=lambda arm: float(closures[arm]["estimate"] or 0), default=None)


HEADS = (
    "pair", "regime", "verdict", "moved", "best placebo", "moved - placebo (bits per byte)", "native", "direct", "LoRA",
    "published criteria",
)  # fmt: skip
LADDER_HEADS = ("fit", "steps", "moved", "best placebo", "moved - placebo (bits per byte)")


def markdown(results: Sequence[Record]) -> str:
    """Return the table as a Markdown page, a line of advice per pair below it."""
    lines = [
        "# Transfers", "",
        "Gap closure: (raw - arm) / (raw - oracle) in bits per byte on held-out domain text, with 95 % sets; in brackets seconds of",
        "one fit (arms are fitted together, so each is given an equal share). Few-shot figures are means over the ladder of windows. A module is worth moving where `moved` is ahead of",
        "its best placebo, and worth more than retraining where it is ahead of `direct` and LoRA.", "",
        "| " + " | ".join(HEADS) + " |", "|" + " --- |" * len(HEADS),
    ]  # fmt: skip
    lines += ["| " + " | ".join(cells) + " |" for cells in pair_cells(results)]
    lines += ["", "## What a user should do", ""]
    lines += [f"- `{pair}`: {advice(found)}" for pair, found in by_pair(results).items()]
    ladders = [_ladder(result) for result in results if result["claim"].get("variants")]
    return "\n".join([*lines, *[line for part in ladders for line in part]]) + "\n"


def pair_cells(results: Sequence[Record]) -> list[list[str]]:
    """Return the cells of the table under `HEADS`: a row per pair and regime."""
    return [
        [f"`{pair}`", regime, *_cells(found[regime])]
        for pair, found in by_pair(results).items()
        for regime in REGIMES
        if regime in found
    ]


def by_pair(results: Iterable[Record]) -> dict[str, dict[str, Record]]:
    """Return claim -> regime -> result of the transfers."""
    found: dict[str, dict[str, Record]] = {}
    for result in results:
        claim = result["claim"]
        found.setdefault(claim.get("of", claim["id"]), {})[claim["regime"]] = result
    return found


def _cells(result: Record) -> list[str]:
    fit = result["claim"]["fit"]
    judged, training = result["fits"][fit], {t["arm"]: t for t in result["training"] if t["fit"] == fit}
    placebo, contrast = best_placebo(judged), lead(judged)
    cells = [f"**{result['verdict']}**", _cell(judged, training, "transferred")]
    cells += [f"{placebo} {_cell(judged, training, placebo)}" if placebo else "-"]
    cells += [_contrast(contrast) if contrast else "-"]
    cells += [_cell(judged, training, arm) for arm in INSTEAD]
    return [*cells, judged["published_criteria"]["sentence"].removeprefix("published criteria met by: ")]


def _cell(judged: Record, training: Record, arm: str) -> str:
    closure = judged["gap_closures"].get(arm)
    if closure is None or closure["estimate"] is None:
        return "-"
    lower, upper = bounds(closure)
    interval = "" if lower is None else f" [{lower:.3f}, {upper:.3f}]"
    seconds = training.get(arm, {}).get("elapsed_s")
    return f"{closure['estimate']:.3f}{interval}" + ("" if seconds is None else f" ({seconds:.1f} s)")


def _contrast(test: Record) -> str:
    interval = test["interval"]
    return f"{test['mean']:.4f}" + ("" if interval is None else f" [{interval['lower']:.4f}, {interval['upper']:.4f}]")


def advice(found: Mapping[str, Record]) -> str:
    """Return one sentence on what a user of a pair should do, from its figures alone."""
    parts = []
    if "general-only" in found:
        parts.append(_general_advice(found["general-only"]))
    if "few-shot" in found:
        parts.append(_few_advice(found["few-shot"]))
    if "oracle-kd" in found:
        parts.append(_oracle_advice(found["oracle-kd"]))
    return "; ".join(parts) + "."


def _general_advice(result: Record) -> str:
    claim, budget = result["claim"], result["provenance"]["spec"]["budget"]
    written = written_variants(claim, budget.get("variants", {}))
    usual, *lessons = (_worth(result["fits"][fit]) for fit in (claim["fit"], *written))
    sentence = f"without domain text, move it ({usual})" if usual else "without domain text nothing is shown"
    return sentence + "".join(f"; on a lesson that its source writes ({lesson})" for lesson in lessons if lesson)


def _worth(judged: Record) -> str | None:
    """Return in words the gap closure of the moved net and of its best placebo, or None where nothing is shown."""
    closures, contrast, placebo = judged["gap_closures"], lead(judged), best_placebo(judged)
    closure = closures.get("transferred")
    if closure is None or closure["estimate"] is None or contrast is None or contrast["interval"] is None:
        return None
    words = "less than" if contrast["interval"]["upper"] < 0 else "not shown to be more than"
    if contrast["interval"]["lower"] > 0:
        words = "more than"
    beside = f"its best placebo's {closures[placebo]['estimate']:.2f}" if placebo else "a placebo's"
    return f"{closure['estimate']:.2f} of the oracle's gain, {words} {beside}"


def _few_advice(result: Record) -> str:
    judged = result["fits"][result["claim"]["fit"]]
    closures, contrast = judged["gap_closures"], lead(judged)
    there = {arm: closures[arm]["estimate"] for arm in ("transferred", "direct", "lora") if arm in closures}
    if not there:
        return "with a few windows nothing is shown"
    best = max(there, key=lambda arm: float(there[arm]))
    words = {"transferred": "move it", "direct": "train a module there", "lora": "train LoRA there"}[best]
    others = ", ".join(f"{arm} {value:.2f}" for arm, value in there.items() if arm != best)
    ahead = contrast is not None and contrast["interval"] is not None and contrast["interval"]["lower"] > 0
    note = (
        ", where the moved net is not shown to be worth more than a placebo"
        if best == "transferred" and not ahead
        else ""
    )
    return f"with a few windows of domain text, {words} ({there[best]:.2f}{'; ' + others if others else ''}){note}"


def _oracle_advice(result: Record) -> str:
    return f"with the whole domain text, use the oracle itself (moved: {result['verdict']})"


def _ladder(result: Record) -> list[str]:
    """Return the ladder of a claim's variants as Markdown."""
    claim = result["claim"]
    lines = ["", f"## Ladder of `{claim.get('of', claim['id'])}`, {claim['regime']}", ""]
    lines += ["| " + " | ".join(LADDER_HEADS) + " |", "|" + " --- |" * len(LADDER_HEADS)]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in ladder_cells(result))]


def ladder_cells(result: Record) -> list[list[str]]:
    """Return under `LADDER_HEADS` a row per fit of a claim: gap closure, and the moved net's lead over its best placebo."""
    rows = []
    for fit in fits_of(result["claim"]):
        judged, training = result["fits"][fit], {t["arm"]: t for t in result["training"] if t["fit"] == fit}
        placebo, contrast = best_placebo(judged), lead(judged)
        steps = training.get("transferred", {}).get("steps", "-")
        cells = [fit, str(steps), _cell(judged, training, "transferred")]
        cells += [f"{placebo} {_cell(judged, training, placebo)}" if placebo else "-"]
        rows.append([*cells, _contrast(contrast) if contrast else "-"])
    return rows
