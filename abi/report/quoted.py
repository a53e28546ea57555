"""What documents quote: tables from the committed reference run, the record, the imports and the DAG."""

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

from abi.audit.results.adopted import ALL, SIMULATED, TIMED, codes_changed
from abi.audit.results.carried import read_carried
from abi.base.errors import DataError
from abi.base.files import ROOT
from abi.base.machine import GB
from abi.base.manifests.pages import InstrumentManifest
from abi.base.manifests.speed import SpeedManifest
from abi.base.regimes import EXPERIMENT
from abi.judge.contrasts import Contrast, Plan
from abi.judge.results import AnyResult, Result, StudyResult
from abi.judge.simulation import Effort
from abi.plan import DEFAULT, PRETRAINED
from abi.plan.config import load
from abi.plan.forecast import left_on_disk
from abi.plan.measured import REFERENCE, committed, read_measured, work
from abi.plan.specs.judge import SimulateStudies
from abi.plan.work import Work
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates
from abi.report import experiments, instrument_page, ngrams, speed, transfers
from abi.report.beside import beside, rooms
from abi.report.config_keys import key_tables
from abi.report.graphs import rule_graph, wing_graph
from abi.report.known import found, in_short, known
from abi.report.ladder import TAUGHT, ZERO_TEXT, picture
from abi.report.reference import reference_pages, reference_results
from abi.report.render import Cell, Table, figure, markdown
from abi.report.replicates import Replicated, counted, replicated
from abi.report.replicates import table as replicates_table
from abi.report.statements import decided_by, deciding_statements
from abi.report.study_words import share_words
from abi.report.verdicts import checks_table, judged_words
from abi.report.words import (
    criteria_words,
    deciding,
    grouped,
    in_words,
    plain_words,
    published_words,
    regime_of,
    units_words,
)

NOTHING = "No reference run of these claims is committed yet."
SHOWN = ("doses", "largest-doses", "efficacies", "locality", "points", "generation")
"""Tables of results that documents show; the others stand in the report."""
VERSION_1 = ROOT / "docs" / "protocol1.csv"
"""The words of the last reference run that version 1 of the protocol judged."""


class Part(NamedTuple):
    """What stands between the markers `<!-- name:begin -->` and `<!-- name:end -->` of a document."""

    document: str
    name: str
    content: str


def generated_parts() -> list[Part]:
    """Return every part of a document that is generated."""
    from abi.judge.kinds.atlas import atlas_plan, atlas_roles
    from abi.judge.kinds.update import update_plan

    results, instrument = reference_results(DEFAULT), InstrumentManifest.read(SIMULATED)
    others, again = reference_results(PRETRAINED), rebuilt_pairs(results)
    beside, counted = (ngrams.measured(transfers.moved_of(of)) for of in (results, others))
    figures, criteria = instrument.figures, load(DEFAULT).protocol.criteria
    return [
        Part("README.md", "short", block(in_short(results))),
        Part("README.md", "found", block(found(results, again))),
        Part("README.md", "small", block(small_models(results))),
        Part("README.md", "verdicts", block(plain_table(results))),
        Part("README.md", "replicates", block(rebuilt_words(again))),
        Part("README.md", "pretrained", block(beside_table(others, results))),
        Part("docs/reproducing.md", "code", block(code_words())),
        Part("README.md", "effort", block(effort(DEFAULT))),
        Part("docs/pretrained.md", "verdicts", block(beside_table(others, results))),
        Part("docs/pretrained.md", "ngrams", block(ngrams.shown(counted))),
        Part("docs/pretrained.md", "room", block(markdown(rooms(others)) if others else NOTHING)),
        Part("docs/pretrained.md", "updates", block(study_tables(others))),
        Part("docs/pretrained.md", "effort", block(effort(PRETRAINED) if others else NOTHING)),
        Part("docs/verdicts.md", "known", block(known(results, again))),
        Part("docs/verdicts.md", "details", block(verdict_table(results))),
        Part("docs/verdicts.md", "replicates", block(rebuilt_table(again))),
        Part("docs/verdicts.md", "claims", block(claim_map())),
        Part("config/README.md", "keys", key_tables()),
        Part("docs/experiments.md", "statements", block(statements(results))),
        Part("docs/experiments.md", "registered", block(registered())),
        Part("docs/record.md", "record", record_page()),
        Part("docs/architecture.md", "wings", wing_graph()),
        Part("docs/architecture.md", "dag", rule_graph()),
        Part("docs/regimes.md", "transfers", block(transfer_tables(results))),
        Part("docs/regimes.md", "ngrams", block(ngrams.shown(beside))),
        Part("docs/updates.md", "outcomes", block(study_tables(results))),
        Part("docs/updates.md", "update-plan", block(plan_table(update_plan(criteria)))),
        Part("docs/updates.md", "atlas-plan", block(plan_table(atlas_plan(criteria, atlas_roles(["other"]))))),
        Part("docs/instrument.md", "instrument", f"\n{made_by(instrument)}\n\n{instrument_page.render(figures)}\n"),
        Part("docs/speed.md", "speed", block(speed.sections(SpeedManifest.read(TIMED)))),
        Part("docs/protocol.md", "coverage", block(instrument_page.coverage_by_seeds(figures))),
        Part("docs/protocol.md", "versions", block(versions_table(results))),
        Part("docs/protocol.md", "power", block(instrument_page.conditions(figures.conditions))),
    ]


def generated_files() -> dict[str, str]:
    """Return the text of every file below the checkout that is generated as a whole, by its path."""
    results, criteria = reference_results(DEFAULT), load(DEFAULT).protocol.criteria
    drawn = {
        "docs/verdicts.svg": picture(results, criteria),
        "docs/transfers.svg": picture(results, criteria, only=(TAUGHT, ZERO_TEXT)),
        "docs/speed.svg": speed.drawing(SpeedManifest.read(TIMED)),
    }
    pages = (reference_pages(folder.name) for folder in sorted(REFERENCE.iterdir()) if folder.is_dir())
    return drawn | {name: text for made in pages for name, text in made.items()}


# the committed reference run


def rebuilt_pairs(results: Sequence[AnyResult]) -> list[Replicated]:
    """Return the claims of some results that were built again on backbones from other pretraining seeds."""
    names = filter(committed, replicates(DEFAULT))
    return replicated(results, {name: reference_results(name) for name in names})


def rebuilt_table(rows: Sequence[Replicated]) -> str:
    """Return what came of rebuilt pairs in sentences, and their table."""
    return f"{counted(rows)}\n\n{markdown(replicates_table(rows))}" if rows else NOTHING


def rebuilt_words(rows: Sequence[Replicated]) -> str:
    """Return in how many rebuilt pairs verdicts are the same, in sentences."""
    where = "[verdicts.md](docs/verdicts.md#with-backbones-from-other-pretraining-seeds)"
    return f"{counted(rows)} Figures: {where}." if rows else NOTHING


def code_words() -> str:
    """Return for each committed run in a sentence whether the code of this checkout made it."""
    lines = []
    for scale in (DEFAULT, PRETRAINED, *filter(committed, replicates(DEFAULT))):
        changed, carried_on = codes_changed(scale), read_carried(REFERENCE / scale)
        if changed:
            rules = ", ".join(f"`{rule}`" for rule in sorted({row.rule for row in changed}))
            said = f"the code of {rules} has changed since"
            rest = {name for row in changed for name in row.results.split()}
            if rest != {ALL} and len(rest) < len(committed(scale)):
                names = ", ".join(f"`{name.removesuffix('.json')}`" for name in sorted(rest))
                since = ", or by code that gives the same figures" if carried_on else ""
                said = f"behind {names}, {said}; the other results were made by the code of this checkout{since}"
        else:
            said = "which code made it was not recorded" if changed is None else "made by the code of this checkout"
            if carried_on and changed is not None:
                said = "made by earlier code; what was edited since changes no figure (`carried.csv`)"
        lines.append(f"- `results/reference/{scale}`: {said}.")
    return "\n".join(lines)


# markers


def refreshed(text: str, parts: Sequence[Part]) -> str:
    """Return the text of a document with all its generated parts as they are due now.

    Raises: DataError: a part has not both its markers, once and in order, or a marker belongs to no part.
    """
    named = {part.name for part in parts}
    for name in re.findall(r"<!-- ([\w-]+):(?:begin|end)\b", text):
        if name not in named:
            raise DataError(
                f"{parts[0].document}: nothing writes the part {name!r} (known: {', '.join(sorted(named))})"
            )
    for part in parts:
        begins = list(re.finditer(rf"<!-- {part.name}:begin\b[^\n]*?-->\n", text))
        ends = list(re.finditer(rf"<!-- {part.name}:end -->", text))
        if len(begins) != 1 or len(ends) != 1 or begins[0].end() > ends[0].start():
            raise DataError(
                f"{part.document}: the markers {part.name}:begin and {part.name}:end must stand there once each, in "
                f"this order; restore them with `git checkout -- {part.document}`"
            )
        text = text[: begins[0].end()] + part.content + text[ends[0].start() :]
    return text


def block(text: str) -> str:
    """Return a text as it stands between two markers."""
    return f"\n{text}\n\n"


# results


def plain_table(results: Sequence[AnyResult]) -> str:
    """Return the README's table: each claim, whose it is, what was published, its verdict and one plain sentence."""
    rows = []
    for result, _ in grouped(results):
        published = published_words(result.record)
        named = f"`{result.claim.id}`: {result.claim.title}"
        rows.append([named, origin(result), published, judged_words(result), plain_words(result)])
    return markdown(Table(["claim", "origin", "published", "verdict", "in one sentence"], rows)) if rows else NOTHING


def origin(result: AnyResult) -> str:
    """Return whether the original made a claim of it, or an experiment, or it is a question of ours."""
    if result.claim.kind == EXPERIMENT:
        return "experiment"
    return "ours" if result.claim.record.claim is None else "claim"


def beside_table(results: Sequence[AnyResult], others: Sequence[AnyResult]) -> str:
    """Return the verdicts on pretrained models, with the words that such claims get on small ones."""
    return markdown(beside(results, others, DEFAULT)) if results else NOTHING


def verdict_table(results: Sequence[AnyResult]) -> str:
    """Return the table of verdicts with all their details, one row per claim; its other regimes share a cell."""
    rows = []
    for result, others in grouped(results):
        told = [published_words(result.record), criteria_words(result), judged_words(result)]
        rests = [why(result), share_words(deciding(result)), units_words(result)]
        regimes = [f"{regime_of(other)}: {judged_words(other)}" for other in others]
        rows.append([f"`{result.claim.id}`", *told, *rests, "; ".join(regimes) or "-"])
    heads = ["claim", "published", "published criteria here", "verdict", "why", "share", "rests on", "other regimes"]
    return markdown(Table(heads, rows)) if results else NOTHING


def versions_table(results: Sequence[AnyResult]) -> str:
    """Return every verdict with the word of version 1 of the protocol beside it, and why it is what it is now."""
    with VERSION_1.open(encoding="utf-8", newline="") as file:
        before = {row["claim"]: row["verdict"] for row in csv.DictReader(file)}
    rows: list[list[Cell]] = []
    for result in results:
        old = before.get(result.claim.id, "-")
        changed = "new" if old == "-" else "same word" if old == result.verdict else "changed"
        rows.append([f"`{result.claim.id}`", old, f"**{result.verdict}**", changed, plain_words(result)])
    return markdown(Table(["claim", "version 1", "version 2", "", "in one sentence"], rows))


def why(result: AnyResult) -> str:
    """Return why a verdict is what it is in plain words, or the reason as the result states it."""
    if isinstance(result, StudyResult) and result.claim.kind == EXPERIMENT:
        return f"{plain_words(result)} {decided_by(deciding_statements(result)[0])}."
    return in_words(result) or f"{result.reason}."


def transfer_tables(results: Sequence[AnyResult]) -> str:
    """Return the table of transfers, the advice per pair and the ladders of steps, a heading level lower."""
    found = transfers.moved_of(results)
    return re.sub("(?m)^#", "##", transfers.page(found).split("\n\n", 1)[1].rstrip()) if found else NOTHING


def study_tables(results: Sequence[AnyResult]) -> str:
    """Return verdict, reason, pass rules of the original and tables of claims of several studies; no experiments."""
    parts = []
    for result in (r for r in results if isinstance(r, StudyResult) and r.claim.kind != EXPERIMENT):
        parts.append(f"**`{result.claim.id}`**: {result.verdict}. {why(result)}")
        if result.fits:
            parts.append("\n".join(f"- `{name}`: {fit.verdict}" for name, fit in result.fits.items()))
        if result.checks:
            parts.append(markdown(checks_table(result.checks)))
        parts += [markdown(Table(table.columns, table.rows)) for table in result.tables if table.id in SHOWN]
    return "\n\n".join(parts) or NOTHING


def statements(results: Sequence[AnyResult]) -> str:
    """Return the table of statements of the experiments that were run."""
    if not experiments.experiments_of(results):
        return NOTHING
    return "\n\n".join(filter(None, [markdown(experiments.statements_table(results)), experiments.at_ends(results)]))


def registered() -> str:
    """Return what decides every statement of every experiment, as config/claims.yaml registers it."""
    workflow = Workflow(load(DEFAULT))
    return markdown(
        experiments.registered_table({name: workflow.of(name).claim.statements for name in workflow.experiments})
    )


# the run, the configuration, the record


def effort(scale: str) -> str:
    """Return what the reference run of a scale took, in a sentence."""
    jobs = read_measured(REFERENCE / scale / "jobs.csv")
    minutes, memory = work(jobs), max((job.mem_mb or 0.0 for job in jobs), default=0.0)
    disk = sum(left_on_disk(Work(Workflow(load(scale))), [(job.rule, job.wildcards) for job in jobs]).values())
    return (
        f"The committed run of `{scale}` had {len(jobs)} jobs and took {minutes:.0f} minutes of work, about "
        f"{minutes / 2:.0f} minutes on two cores; no job needed more than {memory:.0f} MB of memory, and the results "
        f"take about {disk / GB:.0f} GB (`results/reference/{scale}/jobs.csv`)."
    )


def small_models(results: Sequence[AnyResult]) -> str:
    """Return how small the backbones of some results are, in a sentence."""
    sizes = {name: its.n_parameters for r in results if isinstance(r, Result) for name, its in r.backbones.items()}
    if not sizes:
        return NOTHING
    least, most = (figure(size(sizes.values()) / 1e6, 2) for size in (min, max))
    return (
        f"**These are small models.** `gpt2_large`, `t5_large` and the others are named after the published models and "
        f"have their architecture, but only {least} to {most} million parameters. They are built here, within minutes, "
        "from the text of installed packages. The published models themselves have not been run "
        "([what is not claimed](#what-is-not-claimed))."
    )


def claim_map() -> str:
    """Return the table of all claims of config/claims.yaml: target, the original's number, kind, result files."""
    workflow = Workflow(load(DEFAULT))
    heads = {name: claim for name, claim in workflow.config.every().items() if getattr(claim, "of", None) is None}
    rows = []
    for name, claim in (heads | workflow.config.pending).items():
        others = [workflow.claim(other).record.result_file for other in workflow.regimes_of(name)[1:]]
        files = ", ".join(f"`{file}`" for file in (claim.record.result_file or f"{name}.json", *others))
        pending = f" (scale {', '.join(claim.scales or [])} alone)" if name in workflow.config.pending else ""
        rows.append([f"`{name}`", claim.record.number or "-", claim.kind.replace("_", " ") + pending, files])
    return markdown(Table(["claim, a target", "number", "kind", "result file, then those of its other regimes"], rows))


def plan_table(plan: Plan) -> str:
    """Return the table of everything a plan asks: contrast, measure, limit, and what it decides."""
    asked = [(test, "SUPPORTED needs it" if test.required else "reported") for test in plan.own.tests]
    for refutation in plan.own.refutations:
        level = " at level 1 - .05 / K" if len(refutation.contrasts) > 1 else ""
        told = f"REFUTED ({refutation.id}) if its upper bound is"
        asked += [(contrast, f"{told} {_below(contrast)}{level}") for contrast in refutation.contrasts]
    asked += [(contrast, f"VACUOUS if its upper bound is {_below(contrast)}") for contrast in plan.vacuous]
    rows = [
        [
            f"`{c.id}`",
            c.words(),
            f"{c.measure.metric} on {c.measure.scope}",
            f"{c.margin:g} raw" if c.margin else "0",
            w,
        ]
        for c, w in asked
    ]
    return markdown(Table(["id", "contrast", "measure", "limit", "decides"], rows))


def _below(contrast: Contrast) -> str:
    return "at or below the limit" if contrast.closed else "below the limit"


def made_by(instrument: InstrumentManifest) -> str:
    """Return what made the instrument's figures, in a sentence."""
    made, settings = instrument.provenance, instrument.figures.settings
    asked, spec = Effort(**settings.effort), SimulateStudies.model_validate(made.spec)
    packages = [f"{name} {made.versions[name]}" for name in ("python", "numpy", "scipy") if name in made.versions]
    return (
        f"Made by `snakemake instrument`: seed {settings.seed}, {asked.tables:,} tables per kind of table "
        f"({asked.rerun:,} where the first result is just outside), {asked.studies:,} studies per kind of study, "
        f"{asked.power:,} per point of the power tables; protocol {spec.protocol.protocol}, code "
        f"`{made.code}`, {', '.join(packages)}, {made.elapsed_s / 60:.0f} minutes."
    )


def record_page() -> str:
    """Return the judgement of the published record as Markdown."""
    from abi.audit.record.judgement import judged
    from abi.audit.record.page import to_markdown

    return "\n" + to_markdown(judged()) + "\n"
