"""The report of a run: its text is `templates/report.md.j2`, and here are the tables and figures that it shows."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abi.audit.record.data import STATES, Item, Judgement
from abi.audit.record.judgement import judged
from abi.base.catalogue import arm_words
from abi.base.names import VERDICTS
from abi.base.regimes import EXPERIMENT, KINDS, transfer_regimes
from abi.base.wording import number
from abi.judge.fits import Fit
from abi.judge.results import AnyResult, LadderResult, Published, Result, StudyResult
from abi.plan import DEFAULT, PRETRAINED
from abi.plan.measured import Measured, measured_jobs, work
from abi.plan.specs.report import WriteReport
from abi.report import dots, effort, experiments, figures, transfers, verdicts
from abi.report.beside import beside
from abi.report.blocks import Code, Page, Para, Plots, sections_of
from abi.report.citation import Citation
from abi.report.figures import Drawing, Edge
from abi.report.known import found, in_short, known
from abi.report.ladder import picture, rows
from abi.report.render import Cell, Table, link, listed
from abi.report.statements import deciding_statements
from abi.report.study_words import counts_words
from abi.report.words import (
    are_words,
    grouped,
    how_many,
    in_groups,
    in_order,
    plain_words,
    regime_of,
    strictly_words,
    studies,
    verdict_words,
)

MOST = 6
"""Published figures in the open, where the original set no pass mark."""
FAMILIES = {
    "transfer": "transfers",
    "reconstruction": "the reconstruction",
    "update": "updates and successions",
    "atlas": "the atlas",
    "near_transfer": "transfers to a near backbone",
}


@dataclass(frozen=True)
class Facts:
    """Results with every regime after its claim, configuration, the record's judgement, and what the run took.

    Args: headline: the sentence that counts claims; edges, deviations, citation: from documents; committed: results of
        another scale that stand beside these.
    """

    results: Sequence[AnyResult]
    spec: WriteReport
    headline: str
    judgement: Judgement
    jobs: Sequence[Measured]
    edges: Sequence[Edge]
    deviations: Sequence[Sequence[str]]
    citation: Citation
    committed: Sequence[AnyResult] = ()


def gather(
    results: Sequence[AnyResult], spec: WriteReport, headline: str, root: Path, committed: Sequence[AnyResult] = ()
) -> Facts:
    """Return the facts of a report. Args: root: of the checkout, whose documents are quoted where they are there."""
    paths = [root / name for name in ("docs/architecture.md", "docs/deviations.md")]
    graph, deviations = (path.read_text(encoding="utf-8") if path.exists() else "" for path in paths)
    return Facts(
        results=in_groups(results),
        spec=spec,
        headline=headline,
        judgement=judged(),
        jobs=measured_jobs(spec.benchmarks),
        edges=rule_edges(graph),
        deviations=table_rows(deviations),
        citation=Citation.of(root),
        committed=committed,
    )


def rule_edges(text: str) -> list[Edge]:
    """Return the edges of the graph of rules that docs/architecture.md quotes."""
    part = text.partition("<!-- dag:begin")[2].partition("<!-- dag:end")[0]
    return [(start, end) for start, end in re.findall(r"^\s+(\w+) --> (\w+)$", part, re.MULTILINE)]


def table_rows(text: str) -> list[list[str]]:
    """Return the rows of the first Markdown table of a text, its head first."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    reader = csv.reader((line.strip("|") for line in lines), delimiter="|", quoting=csv.QUOTE_NONE)
    rows = [[cell.strip() for cell in row] for row in reader]
    return [row for row in rows if not set("".join(row)) <= set("-: ")]


# the page


def page(facts: Facts) -> Page:
    """Return the page of a run."""
    used = (
        *(Para, Table, arms_of_kinds, as_before, backbones, card_plots, cited, claim_ladder, counted, drawn),
        *(found, in_short),
        *(headline_words, known, ladder_drawing, marks_met, open_arms, other_plots, plots, pretrained, published),
        *(record, replace, rungs, sampled, shown_tables, states, study_plots, transfer_plots, work),
    )
    given = {
        "facts": facts,
        "effort": effort,
        "experiments": experiments,
        "figures": figures,
        "transfers": transfers,
        "verdicts": verdicts,
        "pending": [f"`{name}` ({title})" for name, title in facts.spec.pending.items()],
        "texts": sorted({f"`{result.claim.text}`" for result in facts.results if result.claim.text}),
        "regimes": [
            f"`{name}`" for name in transfer_regimes() if name in {regime_of(result) for result in facts.results}
        ],
    }
    about = (
        f"Scale `{facts.spec.scale}`, {len(facts.results)} result files, protocol {facts.results[0].protocol}. "
        "Generated from result files; no word and no figure of it is written by hand."
    )
    sections = sections_of("report.md.j2", *used, **given)
    return Page("Claims about autonomous basis injection, tested again", about, sections)


# summary and limits


def pretrained(facts: Facts) -> Table:
    """Return the verdicts on pretrained models beside those on small ones, whichever of them the report is about."""
    both = [facts.committed, facts.results]
    own, small = reversed(both) if facts.spec.scale == PRETRAINED else both
    return beside(own, small, DEFAULT)


def counted(results: Sequence[AnyResult]) -> str:
    """Return how many results have which verdict."""
    found = Counter[str](result.verdict for result in results)
    return listed([f"{found[word]} **{word}**" for word in VERDICTS if found[word]] or ["no verdict yet"])


def marks_met(results: Sequence[AnyResult]) -> tuple[list[bool], list[bool]]:
    """Return whether the claimed arms, and whether the controls, meet the original's own thresholds."""
    own: list[bool] = []
    controls: list[bool] = []
    for result in (result for result in results if isinstance(result, Result)):
        met, arm = result.deciding.published_criteria, KINDS[result.claim.kind].claimed
        if met is not None and arm in met.arms:
            own.append(met.arms[arm].passed)
            controls += [met.arms[name].passed for name in met.controls if name in met.arms]
    return own, controls


def headline_words(facts: Facts) -> str:
    """Return how many of the published claims are SUPPORTED, also with the wider intervals that all together need."""
    counted = [result for result in facts.results if result.claim.id in facts.spec.counted]
    if not counted:
        return f"{facts.headline}."
    return (
        f"Of {number(len(counted), 'published claim')}, {are_words(how_many(counted))} SUPPORTED; with the wider "
        f"intervals that several claims together need, {strictly_words(counted)}."
    )


def ladder_drawing(facts: Facts) -> Drawing:
    """Return the picture of all claims."""
    return Drawing(
        name="ladder",
        caption=(
            "Every claim with its verdict. Dots: the part of the gain that the best placebo does not reach; hollow: "
            "the part that an interface trained without a net lacks."
        ),
        words="; ".join(f"{result.claim.id} {result.verdict}" for result in facts.results),
        columns=("result", "verdict", "share", "lower", "upper", "lead over an interface without a net"),
        rows=rows(facts.results),
        svg=lambda: picture(facts.results, facts.spec.criteria),
    )


def claim_ladder(facts: Facts) -> Table:
    """Return the table of all claims with their verdicts."""
    rows = []
    for result, _ in grouped(facts.results):
        verdict = verdict_words(result).replace(result.verdict, f"**{result.verdict}**")
        rows.append([link(result.claim.id), verdict, plain_words(result)])
    return Table(["claim", "verdict", "in one sentence"], rows)


def backbones(results: Sequence[AnyResult]) -> list[str]:
    """Return the backbones that results rest on, with class, size and revision."""
    found = {name: its for r in results if isinstance(r, Result) for name, its in r.backbones.items()}
    return [
        f"`{name}` ({its.model_class}, {its.n_parameters:,} parameters, {its.revision[:12]})"
        for name, its in sorted(found.items())
    ]


def sampled(results: Sequence[AnyResult]) -> str:
    """Return how many groups of documents and seeds the studies rest on."""
    counts = [fit.counts for result in results for fit in result.studies.values()]
    seeds, groups = {len(c.seeds) for c in counts}, {c.groups["domain"] for c in counts if "domain" in c.groups}
    if not seeds or not groups:
        return "Documents and seeds"
    spans = [" to ".join(str(n) for n in sorted({min(found), max(found)})) for found in (groups, seeds)]
    return f"Documents ({spans[0]} held-out groups) and seeds ({spans[1]})"


def arms_of_kinds(results: Sequence[AnyResult]) -> dict[str, Table]:
    """Return a table of arms per kind of claim: one name may mean another thing in another kind."""
    seen: dict[str, set[str]] = {}
    for result in results:
        if result.claim.kind == EXPERIMENT:
            continue  # every experiment has arms of its own, and a table of them
        family = "update" if result.claim.kind == "succession" else result.claim.kind
        for fit in studies(result).values():
            seen.setdefault(family, set()).update(fit.arms)
    return {
        f"The {len(names)} arms of {FAMILIES.get(kind, kind)}": Table(
            ["arm", "what it is"], [[f"`{arm}`", arm_words(kind, arm)] for arm in in_order(names)]
        )
        for kind, names in seen.items()
        if names
    }


# a claim


def published(facts: Facts, result: AnyResult) -> tuple[Table, Table]:
    """Return what the original published: figures it set a pass mark for (else the first), and the others."""
    claim = result.claim.record.claim
    states = {item.id.removeprefix(f"{claim}."): item.state for item in facts.judgement.items if item.claim == claim}
    rows: dict[str, list[Cell]] = {}
    for name, told in result.record.items():
        mark = None if told.threshold is None else f"{told.comparator} {told.threshold}"
        state = f"**{states[name]}**" if states[name] in STATES else states[name]
        rows[name] = [f"`{name}`", _whole(told.value), mark, told.holds, state]
    main = [name for name, told in result.record.items() if told.threshold is not None] or list(rows)[:MOST]
    heads = ["figure", "published", "its own pass mark", "passes it", "do document and file agree"]
    rest = [row for name, row in rows.items() if name not in main]
    return Table(heads, [rows[name] for name in main], "What the original published"), Table(heads, rest)


def _whole(value: Published) -> Cell:
    """Return a published value with every digit it has; lists in words."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value) if isinstance(value, float) else value


def states(items: Sequence[Item]) -> str:
    """Return how many relations are in which state."""
    counts = Counter(item.state for item in items)
    return ", ".join(f"**{state}** {counts[state]}" for state in STATES if counts[state])


def rungs(result: LadderResult) -> Table:
    """Return the table of what a ladder rests on, with links to the sections of its rungs."""
    table = verdicts.rungs_table(result)
    told = zip(result.rungs, table.rows, strict=True)
    rows = [[link(rung.id), f"**{word}**", f"**{strict}**", why] for rung, (_, word, strict, why) in told]
    return replace(table, rows=rows)


def open_arms(result: Result | StudyResult, name: str, fit: Fit) -> Table | None:
    """Return the table of arms without columns that say nothing, or None where no other is left."""
    table = verdicts.arms_table(result, name, fit).filled().coded()
    caption = f"Every arm, mean [interval], {counts_words(fit)}"
    return replace(table, caption=caption) if len(table.heads) > 1 else None


def as_before(result: Result | StudyResult, name: str) -> str:
    """Return words for a study whose every arm an earlier one of the result has shown, under whatever name; else ""."""
    own = studies(result)[name].arms
    for other, fit in studies(result).items():
        if other == name:
            return ""
        there = {figure.model_dump_json(): arm for arm, figure in fit.arms.items()}
        named = {arm: there.get(figure.model_dump_json()) for arm, figure in own.items()}
        if None not in named.values():
            renamed = [f"`{arm}` is its `{of}`" for arm, of in named.items() if arm != of]
            return f"Its arms have the figures of study `{other}`{': ' + listed(renamed) if renamed else ''}."
    return ""


def shown_tables(result: AnyResult) -> list[Table]:
    """Return the tables that a result brings along."""
    found = [] if isinstance(result, Result) else result.tables
    return [
        Table(t.columns, t.rows, ". ".join(part.rstrip(".") for part in (t.title, t.caption) if part)) for t in found
    ]


def card_plots(result: AnyResult) -> list[Drawing]:
    """Return the one figure that a claim's card shows: its arms, or else the first that it brings along.

    An experiment shows the metric by which its verdict is decided.
    """
    if isinstance(result, StudyResult) and result.claim.kind == EXPERIMENT:
        said = deciding_statements(result)[0]
        return dots.of_metric(result.claim.id, said.study, result.studies[said.study], said.metric)
    fits = [(name, fit) for name, fit in studies(result).items() if name == result.claim.fit]
    own = [drawing for name, fit in fits for drawing in dots.arms(result.claim.id, name, fit)]
    first = own or drawn(result)
    studied = (dots.arms(result.claim.id, name, fit) for name, fit in studies(result).items())
    return first[:1] or next(studied, [])[:1]


def other_plots(drawings: Sequence[Drawing], result: AnyResult) -> list[Drawing]:
    """Return figures without the one that the claim's card shows."""
    shown = {drawing.name for drawing in card_plots(result)}
    return [drawing for drawing in drawings if drawing.name not in shown]


def study_plots(result: AnyResult, name: str) -> list[Drawing]:
    """Return the figures of a study's arms that neither the claim's card nor an earlier study of the result shows."""
    shown: list[Sequence[Sequence[Cell]]] = []
    for other, fit in studies(result).items():
        own = dots.arms(result.claim.id, other, fit)
        if other == name:
            return [drawing for drawing in other_plots(own, result) if drawing.rows not in shown]
        shown += [drawing.rows for drawing in own]
    return []


def transfer_plots(moved: Sequence[Result]) -> list[Drawing]:
    """Return the figure of all transfers, where any of them closes a gap."""
    drawing = transfers.drawing(moved)
    closed = transfers.COLUMNS.index("gap_closure")
    return [drawing] if any(row[closed] is not None for row in drawing.rows) else []


def drawn(result: AnyResult) -> list[Drawing]:
    """Return the figures that a result brings along."""
    matrices = result.matrices if isinstance(result, StudyResult) else []
    own = [figures.curve(result.claim.id, entry) for entry in result.curves]
    return [*own, *(figures.matrix(result.claim.id, entry) for entry in matrices)]


def plots(drawings: Sequence[Drawing]) -> Plots | None:
    """Return figures side by side, where there are any."""
    return Plots(drawings) if drawings else None


def cited(facts: Facts, result: AnyResult) -> Code:
    """Return how to cite a result."""
    citation, claim = facts.citation, result.claim
    note = [
        f"version {citation.version}",
        f"claim {claim.id}" + (f" ({claim.record.number} of the record)" if claim.record.number else ""),
        f"scale {result.scale}",
        f"protocol {result.protocol}",
        f"code {result.provenance.code}",
        f"verdict {result.verdict}",
    ]
    entry = [
        f"@misc{{abi_{result.scale}_{claim.id},",
        f"  author = {{{{{' and '.join(citation.authors)}}}}},",
        f"  title = {{{citation.title}}},",
        f"  note = {{{'; '.join(note)}}},",
        "}",
    ]
    return Code("\n".join(entry))


# the record


def record(facts: Facts) -> Table:
    """Return the published record judged by itself, claim by claim, also of claims that were not run here."""
    judgement = facts.judgement
    here = {result.claim.record.claim: result.claim.id for result in facts.results}
    rows: list[list[Cell]] = []
    for claim in judgement.claims:
        name = f"[{claim}](#claim-{here[claim]})" if claim in here else f"`{claim}`"
        rows.append([name, *judgement.counts(claim).values()])
    caption = f"{judgement.n_files} files, {judgement.n_entered} of {judgement.n_numeric} numbers enter a check"
    return Table(["claim", *STATES], rows, caption)
