"""Where alignment carries a net: transfers as rungs by the held-out cosine of their spaces (registered, `cosine`).

From the rungs' own contrasts: C - P of every placebo, in the agreement that decides and in bits per byte, as test 4
reports them, without a margin; and refutation (b), that less than a tenth of the gain is the moved net's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from abi.base.errors import EvidenceError
from abi.base.regimes import MOVED
from abi.judge.fits import ContrastFound, Curve, Fit, IntervalFound, Row, Series, TableShown
from abi.judge.intervals import Array, components_of, interval_of
from abi.judge.kinds import Findings, OfClaims
from abi.judge.protocol import BPB
from abi.judge.results import AlignmentFacts, AnyResult, Result, level_of_one
from abi.plan.specs.judge import DoseClaim, JudgeLadder

LEAST_RUNGS = 5
"""for a rank correlation"""
UNITS = {"js_nats": "JS in nats", BPB.metric: "bits per byte"}


@dataclass(frozen=True)
class Dose:
    """A rung: how well the two spaces are aligned, and what the moved net is worth there."""

    name: str
    pair: str
    aligned: AlignmentFacts
    fit: Fit

    @property
    def metrics(self) -> tuple[str, str]:
        """The agreement that decides, and bits per byte."""
        return self.fit.primary_metric, BPB.metric

    def lead(self, metric: str, placebo: str) -> ContrastFound:
        """Return C - P in a metric. Raises: EvidenceError: the rung has none."""
        wanted = f"4.attribution.{metric}.{placebo}"
        found = next((test for test in self.fit.tests if test.id == wanted), None)
        if found is None:
            raise EvidenceError(f"rung {self.name}: has no test {wanted}; judge it again")
        return found

    def leads(self) -> list[ContrastFound]:
        """Return C - P of every placebo in both metrics."""
        return [self.lead(metric, placebo) for metric in self.metrics for placebo in MOVED.placebos]

    def least(self, metric: str) -> ContrastFound:
        """Return C - P against the best placebo."""
        return min((self.lead(metric, placebo) for placebo in MOVED.placebos), key=lambda found: found.mean)

    def shares(self) -> list[ContrastFound]:
        """Return the contrasts of refutation (b): the part of the gain that is the moved net's, less a tenth."""
        return [bound for way in self.fit.refutations if way.id == "b" for bound in way.contrasts]


def judge(spec: JudgeLadder, results: Mapping[str, AnyResult]) -> Findings:
    """Return the verdict on some rungs, their table and their curves.

    Args: results: claim -> its result, in the order of the rungs. Raises: EvidenceError: a rung has no alignment.
    """
    assert isinstance(spec.claim, DoseClaim)
    assert spec.level is not None
    assert spec.n_claims is not None
    doses = sorted(map(dose_of, results.values()), key=lambda dose: dose.aligned.cosine_held_out)
    verdict, reason = word_of(doses, spec.claim.cosine, spec.level)
    strict, _ = word_of(doses, spec.claim.cosine, level_of_one(spec.level, spec.n_claims))
    curves = [curve(doses, metric) for metric in doses[0].metrics]
    return Findings(
        verdict, reason, strict, tables=[rungs_table(doses, spec.claim.cosine), trend(doses)], curves=curves
    )


def dose_of(result: AnyResult) -> Dose:
    """Return the rung of a transfer's result. Raises: EvidenceError: it has no alignment."""
    aligned = [a for a in result.alignments if a.rotation == "aligned"] if isinstance(result, Result) else []
    if not isinstance(result, Result) or not aligned:
        raise EvidenceError(f"rung {result.claim.id}: is no transfer that was moved by an alignment; take it out")
    pair = f"{result.claim.source} -> {result.claim.target}"
    return Dose(result.claim.id, pair, aligned[0], result.deciding)


# the verdict


def word_of(doses: Sequence[Dose], cosine: float, level: float) -> tuple[str, str]:
    """Return verdict and reason.

    Asked are the rungs whose held-out cosine is at least `cosine` and where there is something to transfer. VACUOUS:
    there is none. REFUTED: at some of them the upper bound of some C - P is at or below 0, or (b) holds; of K
    contrasts each at the level of one of K. SUPPORTED: not refuted, and every lower bound of C - P is above 0.
    """
    asked = [dose for dose in doses if dose.aligned.cosine_held_out >= cosine and dose.fit.verdict != "VACUOUS"]
    if not asked:
        top = max(doses, key=lambda dose: dose.aligned.cosine_held_out)
        reached = f"{top.name} comes nearest with {top.aligned.cosine_held_out:.3f}"
        return "VACUOUS", f"no rung with something to transfer has a held-out cosine of {cosine:g} or more; {reached}"
    names = ", ".join(dose.name for dose in asked)
    words = f"at {len(asked)} of {len(doses)} rungs ({names}) the held-out cosine is {cosine:g} or more"
    if small := next((dose for dose in asked if any(lead.interval is None for lead in dose.leads())), None):
        return "INCONCLUSIVE", f"{words}, and {small.name} is too small for an interval: {small.fit.reason}"
    if told := next(refuting(asked, level), None):
        return "REFUTED", f"{words}; {told}"
    every = [(dose, lead, at(lead, level)) for dose in asked for lead in dose.leads()]
    dose, lead, closest = min(every, key=lambda item: item[2].clearance())
    said = f"{dose.name}: {_figures(lead, closest)}"
    if closest.lower <= 0:
        return "INCONCLUSIVE", f"{words}; the moved net is not shown to be worth more than a placebo at {said}"
    where = "there" if len(asked) == 1 else "at each"
    return "SUPPORTED", f"{words}, and {where} the moved net is worth more than every placebo; the closest is {said}"


def refuting(asked: Sequence[Dose], level: float) -> Iterator[str]:
    """Yield what refutes, in words with its figures: a net worth no more than a placebo, or a tenth of the gain."""
    leads = [(dose, lead) for dose in asked for lead in dose.leads()]
    shares = [(dose, share) for dose in asked for share in dose.shares()]
    for dose, found in leads:
        interval = at(found, level_of_one(level, len(leads)))
        if interval.upper <= 0:
            yield f"at {dose.name} the moved net is worth no more than a placebo: {_figures(found, interval)}"
    for dose, found in shares:
        interval = at(found, level_of_one(level, len(shares)))
        if interval.upper < 0:
            yield f"at {dose.name} too little of the gain is the moved net's own: {_figures(found, interval)}"


def at(found: ContrastFound, level: float) -> IntervalFound:
    """Return the interval of a stored contrast at a level."""
    stored = found.interval
    if stored is None:
        raise EvidenceError(f"{found.id}: has no interval; judge its claim again")
    return interval_of(components_of(stored), level)


def _figures(found: ContrastFound, interval: IntervalFound) -> str:
    bounds = f"{interval.mean:.3g} [{interval.lower:.3g}, {interval.upper:.3g}]"
    return f"{found.contrast} in {found.metric} is {bounds}"


# what is shown


def rungs_table(doses: Sequence[Dose], cosine: float) -> TableShown:
    """Return the table of rungs, the best aligned last."""
    rows: list[Row] = []
    for dose in doses:
        fit, facts = dose.fit, dose.aligned
        found = [cell for metric in dose.metrics for cell in _cells(dose.least(metric))]
        share = None if fit.share is None else fit.share.shown
        asked = "no" if facts.cosine_held_out < cosine else "yes"
        said = "nothing to transfer" if fit.verdict == "VACUOUS" else asked
        if facts.residual >= 1:
            said += "; the alignment predicts no better than the mean"
        rows.append(
            [dose.name, dose.pair, facts.cosine_held_out, facts.residual, facts.effective_rank, *found, share, said]
        )
    heads = [head for metric in doses[0].metrics for head in (f"C - P, {UNITS.get(metric, metric)}", "lower", "upper")]
    columns = ["rung", "pair", "held-out cosine", "relative residual", "effective rank", *heads, "share", "asked"]
    caption = (
        "C - P: the lead of the moved net over its best placebo, 95 % interval, above 0 where it is better. Share: the "
        "part of the gain that is the moved net's own. Asked: whether the verdict rests on it, at a cosine of "
        f"{cosine:g} or more."
    )
    return TableShown(id="doses", title="Rungs by alignment", caption=caption, columns=columns, rows=rows)


def _cells(found: ContrastFound) -> list[float | None]:
    interval = found.interval
    return [found.mean, *((interval.lower, interval.upper) if interval else (None, None))]


def trend(doses: Sequence[Dose]) -> TableShown:
    """Return the rank correlation of the cosine with what the moved net is worth, where there are rungs enough."""
    cosines = [dose.aligned.cosine_held_out for dose in doses]
    worth = {UNITS.get(m, m): [dose.least(m).mean for dose in doses] for m in doses[0].metrics}
    rows: list[Row] = [[name, len(doses), rank_correlation(cosines, values)] for name, values in worth.items()]
    caption = f"Over {LEAST_RUNGS} or more rungs. Rungs share backbones, so there is no interval; it decides nothing."
    columns = ["C - P in", "rungs", "Spearman's rank correlation"]
    return TableShown(id="trend", title="Held-out cosine against C - P", caption=caption, columns=columns, rows=rows)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's coefficient; None of fewer than five pairs, or where one side never varies."""
    if len(x) < LEAST_RUNGS or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> Array:
    """Return the rank of every value; equal ones share the mean of theirs."""
    # not by scipy.stats, whose import takes longer than all that `abi verify` does with the ladder
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def curve(doses: Sequence[Dose], metric: str) -> Curve:
    """Return C - P of every placebo against the held-out cosine."""
    series = []
    for placebo in MOVED.placebos:
        found = [(dose.aligned.cosine_held_out, dose.lead(metric, placebo)) for dose in doses]
        cells = [_cells(lead) for _, lead in found]
        mean, lower, upper = ([row[i] for row in cells] for i in range(3))
        ends = {} if None in lower else {"lower": lower, "upper": upper}
        series.append(Series(name=placebo, x=[x for x, _ in found], y=mean, **ends))
    return Curve(
        id=f"dose-{metric.replace('_', '-')}",
        title="What the moved net is worth by how well its space is aligned",
        x_label="held-out cosine of the alignment",
        y_label=f"lead of the moved net over a placebo, {UNITS.get(metric, metric)}",
        caption="One point per rung and placebo, 95 % intervals; above 0 the moved net is worth more.",
        log_x=False,
        series=series,
    )


JUDGED = (OfClaims("dose", judge=judge),)
