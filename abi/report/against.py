"""Two runs side by side: did one reproduce the other, and where do they differ (`templates/against.md.j2`).

`here` is the run that was compared, `there` the one it was compared with; `abi.audit.results.agreement` judges.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from abi.audit.results.agreement import REPRODUCED, WORDS, Agreed, ArmPair, Word, arm_pairs, overall
from abi.audit.results.checkout import Scale
from abi.audit.results.findings import differences, show
from abi.base.catalogue import CLAIMED, CONTROL, Purpose
from abi.base.errors import ConfigError, DataError
from abi.judge.fits import ContrastFound, Law
from abi.judge.results import AnyResult, LadderResult, StudyResult
from abi.plan.config import load
from abi.report.blocks import Page, Para, sections_of
from abi.report.dots import FOOT, IN_THE_DARK, TOP, WIDTH, axis
from abi.report.figures import Drawing, name_of
from abi.report.page import plots
from abi.report.render import Table, bounds, figure, link, listed
from abi.report.templates import fill
from abi.report.verdicts import SCORES
from abi.report.words import checks_of, in_groups, in_order, sentence_of, studies

LINE = 36.0
"""Height of a contrast in the figure: its formula, and below it a line for each run."""
MARGIN = 12.0
"""Room on both sides of the axis."""
MOST = 6
"""Leaves of the configuration that the table of what made two runs names."""
SAME_AS = {"loss_nats": "bits_per_byte"}
"""Metric that is another one in another unit; it is left out where that stands."""


@dataclass(frozen=True)
class Pair:
    """The result of a claim in both runs, and how they agree."""

    here: AnyResult
    there: AnyResult
    agreed: Agreed

    @property
    def id(self) -> str:
        """Return the id of the claim."""
        return self.here.claim.id


@dataclass(frozen=True)
class TwoRuns:
    """Two runs of a scale: their folders, the claims of both in the order of every page, and those of one alone.

    Args: tolerance: how far the figures of an arm may be apart, relative to the largest of any arm in that metric.
    """

    here: str
    there: str
    pairs: Sequence[Pair]
    only_here: Sequence[str]
    only_there: Sequence[str]
    tolerance: float


class Contrasted(NamedTuple):
    """A contrast that decides, in both runs."""

    here: ContrastFound
    there: ContrastFound

    @property
    def name(self) -> str:
        """Return its formula, and what text it is measured on where that is not text of the domain."""
        return self.here.contrast + (f" ({self.here.scope})" if self.here.scope != "domain" else "")


class Mark(NamedTuple):
    """Where a run's mean and the ends of its interval stand in the figure."""

    x: float
    ends: tuple[float, float] | None
    y: float


class Line(NamedTuple):
    """A contrast in the figure. Args: limits: where what it must lie above stands, here and there."""

    name: str
    y: float
    here: Mark
    there: Mark
    limits: tuple[float | None, float | None]


def two_runs(scale: Scale) -> TwoRuns:
    """Return what a scale that was compared has to show. Raises: DataError: it shares no claim with the other run."""
    compared = scale.compared
    if compared is None or not compared.claims:
        there = compared.folder if compared else "the other run"
        raise DataError(f"{there}: holds no claim that {scale.folder} holds, too; name another run")
    order = _order(scale.folder.name)
    named = sorted(compared.claims, key=lambda name: order.get(name, len(order)))
    results = in_groups([scale.results[name].result for name in named])
    return TwoRuns(
        str(scale.folder),
        compared.folder,
        [Pair(r, compared.others[r.claim.id].result, compared.claims[r.claim.id]) for r in results],
        sorted(scale.results.keys() - compared.others.keys()),
        sorted(compared.others.keys() - scale.results.keys()),
        compared.tolerance,
    )


def _order(scale: str) -> dict[str, int]:
    """Return the places of a scale's claims, none of a scale that is not configured here."""
    try:
        return {name: place for place, name in enumerate(load(scale).every())}
    except ConfigError:
        return {}


def page(runs: TwoRuns) -> Page:
    """Return the page of two runs."""
    about = f"Here: `{runs.here}`. There: `{runs.there}`. Every word and figure follows from the result files of both."
    used = (
        agreement,
        arm_tables,
        both_verdicts,
        counted,
        drawings,
        ladder,
        made_by,
        reproduced,
        side_tables,
        word_of_all,
    )
    sections = sections_of("against.md.j2", *used, Para, plots, runs=runs)
    return Page("Two runs side by side", about, sections, folder="")


# in short


def word_of_all(runs: TwoRuns) -> Word:
    """Return one word for all claims: the worst."""
    return overall({pair.id: pair.agreed for pair in runs.pairs})


def reproduced(runs: TwoRuns) -> str:
    """Return whether a run was reproduced, as the beginning of a sentence."""
    return sentence_of(REPRODUCED[word_of_all(runs)], "")


def counted(runs: TwoRuns) -> str:
    """Return how many claims have which word."""
    found = Counter(pair.agreed.word for pair in runs.pairs)
    return listed([f"{found[word]} **{word}**" for word in WORDS if found[word]])


def made_by(runs: TwoRuns) -> Table | None:
    """Return what made the two runs, as far as it differs; None where nothing does."""
    here, there = _makers(pair.here for pair in runs.pairs), _makers(pair.there for pair in runs.pairs)
    rows = []
    for what in dict.fromkeys([*here, *there]):
        ours, theirs = (", ".join(sorted(made[what])) or "nothing" for made in (here, there))
        rows += [[what, beside(ours, theirs)]] if ours != theirs else []
    leaves = {
        leaf: (x, y)
        for pair in runs.pairs
        for leaf, x, y, _ in differences(pair.here.provenance.spec, pair.there.provenance.spec, tolerance=0.0)
    }
    named = list(leaves.items())[:MOST]
    rows += [[f"configuration, `{leaf}`", beside(f"`{show(x)}`", f"`{show(y)}`")] for leaf, (x, y) in named]
    rows += [["configuration", f"{len(leaves) - MOST} more settings differ"]] if len(leaves) > MOST else []
    return Table(["what made them", "where the two runs differ"], rows) if rows else None


def _makers(results: Iterable[AnyResult]) -> defaultdict[str, set[str]]:
    """Return what made some results -> all that they name."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for result in results:
        made, its, at = result.provenance, result.provenance.hardware, result.provenance.compute
        told = {
            "processor": its.cpu,
            "system": f"{its.system} {its.machine}",
            "cores": its.cpus,
            "threads per job": made.threads,
            "device": f"{at.name or at.device}, {at.precision}" if at else None,
            "protocol": result.protocol,
            **made.versions,
            f"code of `{made.rule}`": f"`{made.code}`",
        }
        for what, value in told.items():
            found[what] |= set() if value is None else {str(value)}
    return found


def ladder(runs: TwoRuns) -> Table:
    """Return the table of all claims with their words."""
    rows = []
    for pair in runs.pairs:
        others = (found for found in pair.agreed.differences if not found.leaf.endswith("verdict"))
        first = next((f"; {found.sentence} (`{found.leaf}`)" for found in others), "")
        rows.append([link(pair.id), f"**{pair.agreed.word}**", both_verdicts(pair) + first])
    return Table(["claim", "agreement", "verdicts, and where they differ"], rows)


def both_verdicts(pair: Pair) -> str:
    """Return the verdicts of both runs."""
    return beside(f"**{pair.here.verdict}**", f"**{pair.there.verdict}**")


def beside(here: str, there: str) -> str:
    """Return what stands in both runs, where a narrow screen has no room for a column each."""
    return f"{here} in both" if here == there else f"{here} here, {there} there"


# a claim


def agreement(pair: Pair) -> str:
    """Return how a claim agrees, with what the word rests on."""
    return pair.agreed.words().replace(pair.agreed.word, f"**{pair.agreed.word}**", 1)


def drawings(pair: Pair) -> list[Drawing]:
    """Return a figure per study that decides and metric: every test that a verdict asks for, in both runs."""
    return [
        _drawing(pair.id, study, metric, [one for one in found if one.here.metric == metric])
        for study, found in _decided(pair)
        for metric in dict.fromkeys(one.here.metric for one in found)
    ]


def _decided(pair: Pair) -> Iterator[tuple[str, list[Contrasted]]]:
    fits = studies(pair.here)
    decides = pair.here.claim.fit if pair.here.claim.fit in fits else None
    for name in [decides] if decides else fits:
        if name in pair.there.studies:
            theirs = {test.id: test for test in pair.there.studies[name].tests}
            tests = (test for test in fits[name].tests if test.required and test.id in theirs)
            yield name, [Contrasted(test, theirs[test.id]) for test in tests]


def _drawing(claim: str, study: str, metric: str, found: Sequence[Contrasted]) -> Drawing:
    name = name_of("lead", claim, study, metric)
    unit = next((words for _, known, words in SCORES if known == metric), metric)
    caption = f"{claim}, {study}: {unit}. Diamond: here; square: there."
    words = "; ".join(
        f"{one.name}: here {_told(one.here)}, there {_told(one.there)}, limit {_limits(one)}" for one in found
    )
    differ = any(here != there for here, there in map(_both_limits, found))
    apart = ("limit there",) if differ else ()
    return Drawing(
        name=name,
        caption=caption,
        words=words,
        columns=("contrast", "here", "lower", "upper", "there", "lower there", "upper there", "limit", *apart),
        rows=[(one.name, *_ends(one.here), *_ends(one.there), *_both_limits(one)[: 1 + len(apart)]) for one in found],
        svg=lambda: _svg(f"lead in {unit}; more is better", found, {"caption": caption, "words": words}),
    )


def _ends(found: ContrastFound) -> tuple[float | None, ...]:
    its = found.interval
    return (found.mean, its.lower, its.upper) if its else (found.mean, None, None)


def _told(found: ContrastFound) -> str:
    mean, *ends = _ends(found)
    return figure(mean) + bounds(*ends)


def _both_limits(one: Contrasted) -> tuple[float | None, float | None]:
    return one.here.limit, one.there.limit


def _limits(one: Contrasted) -> str:
    here, there = map(figure, _both_limits(one))
    return here if here == there else f"{here} here, {there} there"


def _svg(label: str, found: Sequence[Contrasted], told: Mapping[str, str]) -> str:
    """Return the figure as SVG. Args: told: caption and words."""
    values = [value for one in found for value in (*_ends(one.here), *_ends(one.there), *_both_limits(one))]
    x, ticks = axis([value for value in values if value is not None], (MARGIN, WIDTH - MARGIN))

    def mark(one: ContrastFound, y: float) -> Mark:
        its = one.interval
        return Mark(x(one.mean), (x(its.lower), x(its.upper)) if its else None, y)

    lines = []
    for place, one in enumerate(found):
        y = TOP + LINE * place + 9
        here_at, there_at = (None if limit is None else x(limit) for limit in _both_limits(one))
        lines.append(Line(one.name, y, mark(one.here, y + 9), mark(one.there, y + 18), (here_at, there_at)))
    bottom = TOP + LINE * len(found)
    room = {"width": WIDTH, "height": bottom + FOOT, "top": TOP, "bottom": bottom, "middle": WIDTH / 2}
    sides: dict[str, Purpose] = {"here": CLAIMED, "there": CONTROL}
    looks = [(side, purpose.colour, IN_THE_DARK[purpose.name]) for side, purpose in sides.items()]
    return fill("pairs.svg.j2", label=label, lines=lines, ticks=ticks, looks=looks, **room, **told)


def arm_tables(pair: Pair, tolerance: float) -> list[Table]:
    """Return every arm on held-out text, in both runs: a table per study, or one for studies of the same arms."""
    found: defaultdict[str, dict[tuple[str, str, str], ArmPair]] = defaultdict(dict)
    for one in arm_pairs(pair.here, pair.there):
        found[one.fit][one.arm, one.scope, one.metric] = one
    tables: list[Table] = []
    for study, pairs in found.items():
        there = dict.fromkeys((scope, metric) for _, scope, metric in pairs)
        known = {(scope, metric): words for scope, metric, words in SCORES if (scope, metric) in there}
        others = [of for of in there if of not in known and (of[0], SAME_AS.get(of[1])) not in there]
        heads = known | {of: " ".join([of[1]] + [of[0]] * (of[0] != "domain")) for of in others}
        arms = in_order({arm for arm, *_ in pairs})
        rows = [[f"`{arm}`", *(_both(pairs.get((arm, *of)), tolerance) for of in heads)] for arm in arms]
        same = next((i for i, table in enumerate(tables) if table.rows == rows), None)
        if same is None:
            tables.append(Table(["arm", *heads.values()], rows, f"Arms of `{study}`"))
        else:
            tables[same] = replace(tables[same], caption=f"{tables[same].caption}, `{study}`")
    return tables


def _both(pair: ArmPair | None, tolerance: float) -> str | None:
    """Return a figure of an arm in both runs and how far they are apart; one figure where they are equal."""
    if pair is None:
        return None
    here, there = figure(pair.here.mean), figure(pair.there.mean)
    apart = f"{100 * pair.off:.2g} %"
    marked = f"**{apart}**" if pair.off > tolerance else apart
    return here if pair.here.mean == pair.there.mean else f"{here} / {there} [{marked}]"


def side_tables(pair: Pair) -> list[Table]:
    """Return what else a verdict rests on, in both runs: rungs, a law, and the original's own pass rules."""
    here, there = pair.here, pair.there
    told: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    if isinstance(here, LadderResult) and isinstance(there, LadderResult):
        ours, theirs = ({f"`{rung.id}`": f"**{rung.verdict}**" for rung in run.rungs} for run in (here, there))
        told |= {"rung": (ours, theirs)}
    if isinstance(here, StudyResult) and isinstance(there, StudyResult) and here.law and there.law:
        told |= {"law": (_law(here.law), _law(there.law))}
    told |= {"pass rule of the original": (_checks(here), _checks(there))}
    return [
        Table(
            [head, "what came out"],
            [[what, beside(value, theirs.get(what, "nothing"))] for what, value in ours.items()],
        )
        for head, (ours, theirs) in told.items()
        if ours
    ]


def _law(law: Law) -> dict[str, str]:
    """Return what a law says, in few figures."""
    gamma = (law.coefficients or {}).get("gamma")
    return {
        "exponent": figure(gamma) + bounds(*(law.gamma_interval or (None, None))),
        "R2": figure(law.r2),
        "error of a point left out, in steps": figure(law.loo_mae_steps),
    }


def _checks(result: AnyResult) -> dict[str, str]:
    return {one.words: f"{figure(one.value)} ({'passed' if one.passed else 'failed'})" for one in checks_of(result)}
