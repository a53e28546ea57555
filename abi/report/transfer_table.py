"""The transfer table: pairs x regimes, what a moved module is worth beside placebos and what one would do instead."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from abi.base.catalogue import DIRECT, LORA, MOVED, NATIVE, REGIMES, TRANSFERRED
from abi.judge.fits import Fit, Ratio, Test
from abi.judge.results import Result, Training
from abi.plan.specs.judge import JudgeClaim
from abi.report.render import Table, markdown
from abi.report.words import met_words, studies

SEEN = tuple(regime.name for regime in REGIMES.values() if regime.roles is MOVED)
"""The regimes of a transfer, in the order of columns and panels."""
INSTEAD = (NATIVE, DIRECT, LORA)
ADVISED = (MOVED.candidate, *MOVED.placebos, *INSTEAD, *MOVED.controls)
"""The arms that stand in the figure, the claimed one first, then its placebos."""
INTRODUCTION = (
    "# Transfers",
    "",
    "Gap closure: (raw - arm) / (raw - oracle) in bits per byte on held-out domain text, with 95 % sets; "
    "in brackets seconds of",
    "one fit (arms are fitted together, so each is given an equal share). Few-shot figures are means over the ladder "
    "of windows. A module is worth moving where `moved` is ahead of",
    "its best placebo, and worth more than retraining where it is ahead of `direct` and LoRA.",
    "",
)
LEAD = "moved - placebo (bits per byte)"
HEADS = ("pair", "regime", "verdict", "moved", "best placebo", LEAD, NATIVE, DIRECT, "LoRA", "published criteria")
LADDER_HEADS = ("fit", "steps", "moved", "best placebo", LEAD)


@dataclass(frozen=True)
class Row:
    """Gap closure in bits per byte of a transfer, fit and arm. Args: decides: whether its fit decides."""

    claim: str
    source: str
    target: str
    regime: str
    fit: str
    arm: str
    gap_closure: float | None
    lower: float | None
    upper: float | None
    seconds: float | None
    steps: int | None
    verdict: str
    decides: bool


COLUMNS = tuple(name for name in Row.__dataclass_fields__ if name != "decides")


def rows(results: Sequence[Result]) -> list[Row]:
    """Return one row per transfer result, fit and arm."""
    found = []
    for result in results:
        claim = result.claim
        for name, fit in studies(result).items():
            told = trained(result, name)
            for arm, closure in fit.gap_closures.items():
                lower, upper = ends(closure)
                seconds, steps = (told[arm].elapsed_s, told[arm].steps) if arm in told else (None, None)
                about = (pair_of(result), str(claim.source), str(claim.target), str(claim.regime), name, arm)
                figures = (closure.estimate, lower, upper, seconds, steps)
                found.append(Row(*about, *figures, fit.verdict, name == claim.fit))
    return found


def pair_of(result: Result) -> str:
    """Return the claim whose regime a result is."""
    return result.claim.of or result.claim.id


def trained(result: Result, fit: str) -> dict[str, Training]:
    """Return arm -> what its fit took."""
    return {entry.arm: entry for entry in result.training if entry.fit == fit}


def ends(closure: Ratio) -> tuple[float | None, float | None]:
    """Return the ends of a bounded set of gap closures, or (None, None)."""
    return (closure.pieces[0][0], closure.pieces[-1][1]) if closure.bounded else (None, None)


def lead(fit: Fit) -> Test | None:
    """Return the contrast moved net - best placebo in bits per byte: the one of its tests with the smallest mean."""
    tests = [t for t in fit.tests if t.metric == "bits_per_byte" and t.id.startswith("4.attribution")]
    against = [t for t in tests if t.id.rpartition(".")[2] in MOVED.placebos]
    return min(against, key=lambda test: test.mean, default=None)


def best_placebo(fit: Fit) -> str | None:
    """Return the placebo with the largest gap closure; None where no gap is shown."""
    there = [arm for arm in MOVED.placebos if arm in fit.gap_closures]
    return max(there, key=lambda arm: fit.gap_closures[arm].estimate or 0.0, default=None)


def page(results: Sequence[Result]) -> str:
    """Return the table as a Markdown page, a line of advice per pair below it, then the ladders of variants."""
    lines = [*INTRODUCTION, *markdown(pairs_table(results)), "", "## What a user should do", ""]
    lines += [f"- `{pair}`: {advice(found)}" for pair, found in by_pair(results).items()]
    for result in results:
        if result.claim.variants:
            title = f"## Ladder of `{pair_of(result)}`, {result.claim.regime}"
            lines += ["", title, "", *markdown(ladder_table(result))]
    return "\n".join(lines) + "\n"


def pairs_table(results: Sequence[Result], caption: str = "") -> Table:
    """Return the table of transfers: a row per pair and regime."""
    cells = [
        [f"`{pair}`", regime, *_cells(found[regime])]
        for pair, found in by_pair(results).items()
        for regime in SEEN
        if regime in found
    ]
    return Table(HEADS, cells, caption)


def by_pair(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """Return claim -> regime -> result of the transfers."""
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        found.setdefault(pair_of(result), {})[str(result.claim.regime)] = result
    return found


def _cells(result: Result) -> list[str]:
    fit, took = result.deciding, trained(result, str(result.claim.fit))
    instead = [_closure(fit, took, arm) for arm in INSTEAD]
    return [f"**{result.verdict}**", *_moved_and_placebo(fit, took), *instead, met_words(fit)]


def _moved_and_placebo(fit: Fit, took: Mapping[str, Training]) -> list[str]:
    """Return the cells of the moved net, of its best placebo, and of the difference between the two."""
    placebo, contrast = best_placebo(fit), lead(fit)
    beside = f"{placebo} {_closure(fit, took, placebo)}" if placebo else "-"
    return [_closure(fit, took, TRANSFERRED), beside, _contrast(contrast) if contrast else "-"]


def _closure(fit: Fit, took: Mapping[str, Training], arm: str) -> str:
    closure = fit.gap_closures.get(arm)
    if closure is None or closure.estimate is None:
        return "-"
    lower, upper = ends(closure)
    interval = "" if lower is None else f" [{lower:.3f}, {upper:.3f}]"
    seconds = took[arm].elapsed_s if arm in took else None
    return f"{closure.estimate:.3f}{interval}" + ("" if seconds is None else f" ({seconds:.1f} s)")


def _contrast(test: Test) -> str:
    interval = test.interval
    return f"{test.mean:.4f}" + ("" if interval is None else f" [{interval.lower:.4f}, {interval.upper:.4f}]")


def advice(found: Mapping[str, Result]) -> str:
    """Return one sentence on what a user of a pair should do, from its figures alone."""
    told = {"general-only": _general_advice, "few-shot": _few_advice, "oracle-kd": _oracle_advice}
    return "; ".join(words(found[regime]) for regime, words in told.items() if regime in found) + "."


def _general_advice(result: Result) -> str:
    spec = JudgeClaim.model_validate(result.provenance.spec)
    written = [name for name in result.claim.variants if spec.budget.variants[name].text == "written"]
    usual, *lessons = (_worth(result.fits[fit]) for fit in (str(result.claim.fit), *written))
    sentence = f"without domain text, move it ({usual})" if usual else "without domain text nothing is shown"
    return sentence + "".join(f"; on a lesson that its source writes ({lesson})" for lesson in lessons if lesson)


def _worth(fit: Fit) -> str | None:
    """Return in words the gap closure of the moved net and of its best placebo, or None where nothing is shown."""
    closure, contrast, placebo = fit.gap_closures.get(TRANSFERRED), lead(fit), best_placebo(fit)
    if closure is None or closure.estimate is None or contrast is None or contrast.interval is None:
        return None
    words = "less than" if contrast.interval.upper < 0 else "not shown to be more than"
    if contrast.interval.lower > 0:
        words = "more than"
    beside = f"its best placebo's {fit.gap_closures[placebo].estimate:.2f}" if placebo else "a placebo's"
    return f"{closure.estimate:.2f} of the oracle's gain, {words} {beside}"


def _few_advice(result: Result) -> str:
    fit = result.deciding
    closed = {arm: fit.gap_closures[arm].estimate for arm in (TRANSFERRED, DIRECT, LORA) if arm in fit.gap_closures}
    there = {arm: value for arm, value in closed.items() if value is not None}
    if not there:
        return "with a few windows nothing is shown"
    best = max(there, key=lambda arm: there[arm])
    words = {TRANSFERRED: "move it", DIRECT: "train a module there", LORA: "train LoRA there"}[best]
    others = ", ".join(f"{arm} {value:.2f}" for arm, value in there.items() if arm != best)
    contrast = lead(fit)
    ahead = contrast is not None and contrast.interval is not None and contrast.interval.lower > 0
    doubt = ", where the moved net is not shown to be worth more than a placebo"
    note = doubt if best == TRANSFERRED and not ahead else ""
    return f"with a few windows of domain text, {words} ({there[best]:.2f}{'; ' + others if others else ''}){note}"


def _oracle_advice(result: Result) -> str:
    return f"with the whole domain text, use the oracle itself (moved: {result.verdict})"


def ladder_table(result: Result, caption: str = "") -> Table:
    """Return a row per fit of a claim: gap closure, and the moved net's lead over its best placebo."""
    cells = []
    for name, fit in studies(result).items():
        took = trained(result, name)
        steps = took[TRANSFERRED].steps if TRANSFERRED in took else None
        cells.append([name, steps, *_moved_and_placebo(fit, took)])
    return Table(LADDER_HEADS, cells, caption)
