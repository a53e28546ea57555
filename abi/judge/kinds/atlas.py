"""One shared module with a chart per domain (protocol section 6): is each domain's own chart the best."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from abi.base.names import CHART, CHART_OF, LINEAR, LINEAR_NARROW, MIXED, PERMUTED, RANDOM, RANDOM_OF
from abi.base.regimes import Roles
from abi.judge.contrasts import Contrast, Plan, Questions, Refutation
from abi.judge.fits import Check, Curve, Fit, Matrix, Series, TableShown
from abi.judge.kinds import Findings, OfStudies, StudiesGiven
from abi.judge.protocol import BPB, Asks
from abi.judge.results import ClaimFacts, StudyResult
from abi.judge.studies import judge_studies, same_words
from abi.plan.specs.judge import Criteria, JudgeStudy

UNITS = {
    "js_nats": "JS to a second native module (nats, less is better)",
    "bits_per_byte": "bits per byte (less is better)",
}
SHARED_CHARTS, RANDOM_CHARTS = "charts of the shared module", "charts of a random net, the control"


def atlas_roles(others: Sequence[str]) -> Roles:
    """Return the roles of a domain's chart: its placebos, the linear map, the charts of the other domains."""
    return Roles(CHART, (RANDOM, PERMUTED), (LINEAR, *(f"{CHART_OF}{other}" for other in others)))


def atlas_plan(criteria: Criteria, roles: Roles, kind: str = "atlas") -> Plan:
    """Return what one domain's chart is asked: better than every other domain's chart, a random net's and a linear map.

    In agreement with a second native module and in bits per byte, on that domain's held-out text; reported beside it,
    the same of a linear map of the chart's rank. REFUTED: an upper bound says that the chart is no better than one of
    them.
    """
    asks = Asks(roles, criteria)
    both = (asks.agree, BPB)
    against = tuple(contrast for m in both for contrast in asks.beaten(m, f".{m.metric}"))
    narrow = [
        Contrast(f"4.attribution.{m.metric}.{LINEAR_NARROW}", m, {CHART: 1, LINEAR_NARROW: -1}, required=False)
        for m in both
    ]
    tests = [test for ask in (asks.room, asks.better) for m in both for test in ask(m)]
    own = Questions(
        (*tests, asks.benefit("5.benefit.bits_per_byte"), *narrow),
        (Refutation("g", against), asks.text_refutations()[0]),
    )
    return Plan(kind, None, roles, asks.agree, own, asks.vacuous(), {})


def studies(claim: ClaimFacts, rounds: int) -> list[str]:
    """Return the studies of an atlas: its texts."""
    return list(claim.texts)


def asked(claim: ClaimFacts, study: str, arms: Collection[str], criteria: Criteria) -> Plan:
    """Return what the chart of one domain is asked."""
    return atlas_plan(criteria, atlas_roles([text for text in claim.texts if text != study]), claim.kind)


def judge(given: StudiesGiven) -> Findings:
    """Return the verdict of all domains; matrices, locality, mixtures and the original's pass rules beside it."""
    return _beside(judge_studies(given), given.claim)


def again(stored: StudyResult, spec: JudgeStudy, strict: float) -> Findings:
    """Return what stands beside the verdict of a stored result, made again from its fits."""
    return _beside(same_words(stored), stored.claim)


def _beside(found: Findings, claim: ClaimFacts) -> Findings:
    charts, fresh, _ = matrices = [
        chart_matrix(claim, found.fits, "charts", "js_nats", SHARED_CHARTS),
        chart_matrix(claim, found.fits, "random-charts", "js_nats", RANDOM_CHARTS, own=RANDOM, other=RANDOM_OF),
        chart_matrix(claim, found.fits, "charts-bpb", "bits_per_byte", SHARED_CHARTS),
    ]
    return replace(
        found,
        matrices=matrices,
        tables=[locality_table({SHARED_CHARTS: charts, RANDOM_CHARTS: fresh})],
        checks=[nib_check(text, found.fits[text]) for text in claim.texts],
        curves=mixture_curves(claim, found.fits),
    )


def chart_matrix(
    claim: ClaimFacts,
    fits: Mapping[str, Fit],
    id: str,
    metric: str,
    words: str,
    *,
    own: str = CHART,
    other: str = CHART_OF,
) -> Matrix:
    """Return a metric of every chart on every domain's text.

    Args: own, other: arm of a domain's own chart, and how the arms of the others' charts begin.
    """
    texts = claim.texts
    values: list[list[float | None]] = [
        [fits[domain].arms[own if chart == domain else f"{other}{chart}"].domain[metric].mean for domain in texts]
        for chart in texts
    ]
    return Matrix(
        id=id,
        title=f"Chart by domain, {words}",
        caption=f"{UNITS[metric]} of every chart on every domain's held-out text.",
        row_label=CHART,
        column_label="domain",
        rows=texts,
        columns=texts,
        values=values,
    )


def locality_table(matrices: Mapping[str, Matrix]) -> TableShown:
    """Return how local charts are. Args: matrices: words -> JS by chart and domain."""
    caption = "Above 1: charts are local. The same figure for charts of a random net says how much of it any net gives."
    return TableShown(
        id="locality",
        title="Locality ratio",
        columns=["charts", "mean JS off the diagonal / on it"],
        rows=[[words, locality(matrix.values)] for words, matrix in matrices.items()],
        caption=caption,
    )


def locality(values: Sequence[Sequence[float | None]]) -> float | None:
    """Return mean off-diagonal over mean diagonal of a chart-by-domain matrix, as the original does."""
    n = len(values)
    off = [float(values[i][j] or 0) for i in range(n) for j in range(n) if i != j]
    own = [float(values[i][i] or 0) for i in range(n)]
    return sum(off) / len(off) / (sum(own) / n) if off and sum(own) > 0 else None


def nib_check(text: str, fit: Fit) -> Check:
    """Return whether a domain's chart meets the published thresholds: the original's pass rule of the diagonal."""
    assert fit.published_criteria is not None
    met = fit.published_criteria.arms[CHART]
    words = f"published NIB thresholds on {text}, top-5 beside them"
    return Check(id=f"nib-{text}", words=words, value=met.means.top5, threshold=None, passed=met.passed)


def mixture_curves(claim: ClaimFacts, fits: Mapping[str, Fit]) -> list[Curve]:
    """Return bits per byte of the mixtures of two charts on both of their domains; nothing where none is asked for."""
    if not claim.mixture:
        return []
    one, other = claim.mixture
    series = []
    for text in (one, other):
        shares = sorted(int(arm.removeprefix(MIXED)) for arm in fits[text].arms if arm.startswith(MIXED))
        figures = {share / 100: fits[text].arms[f"{MIXED}{share}"].domain[BPB.metric] for share in shares}
        series.append(Series.of(f"on {text}", figures))
    caption = (
        f"Corrections of the charts of {one} and {other}, added with weights w and 1 - w, on the held-out text of both."
    )
    return [
        Curve(
            id="mixture",
            title="Mixture of two charts",
            x_label=f"weight w of the chart of {one}",
            y_label="bits per byte (less is better)",
            caption=caption,
            log_x=False,
            series=series,
        )
    ]


JUDGED = (OfStudies("atlas", studies, judge, again, asked),)
