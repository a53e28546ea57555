"""What documents quote: tables from the committed reference results, the record, the schemas and the DAG."""

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from abi.base.catalogue import BEFORE
from abi.base.errors import DataError
from abi.base.files import ROOT
from abi.base.page_manifests import InstrumentManifest
from abi.judge.contrasts import Contrast, Plan
from abi.judge.fits import Test
from abi.judge.results import AnyResult, LadderResult, Result, StudyResult
from abi.judge.simulation import Effort
from abi.plan.config import load
from abi.plan.specs.judge import ClaimSaid, Criteria, SimulateStudies
from abi.plan.workflow import Workflow
from abi.report import instrument_page, transfer_table
from abi.report.config_keys import key_tables
from abi.report.reference import REFERENCE, SIMULATED, reference_results
from abi.report.render import Table, markdown
from abi.report.verdicts import readme_table
from abi.report.wings import wing_graph
from abi.report.words import in_words, interval_words

NOTHING = ["No reference run of these claims is committed yet."]
SHOWN = ("efficacies", "locality", "points", "generation")
"""Tables of results that documents show; the others stand in the report."""


class Part(NamedTuple):
    """What stands between the markers `<!-- name:begin -->` and `<!-- name:end -->` of a document."""

    document: str
    name: str
    content: str


def generated_parts() -> list[Part]:
    """Return every part of a document that is generated."""
    from abi.judge.kinds.atlas import atlas_plan, atlas_roles
    from abi.judge.kinds.update import update_plan

    results, instrument = reference_results("tiny"), InstrumentManifest.read(SIMULATED)
    figures, criteria = instrument.figures, load("tiny").protocol.criteria
    return [
        Part("README.md", "verdicts", block(verdict_table(results))),
        Part("README.md", "claims", block(claim_map())),
        Part("README.md", "effort", block([effort("tiny")])),
        Part("config/README.md", "keys", key_tables()),
        Part("docs/record.md", "record", record_page()),
        Part("docs/architecture.md", "wings", wing_graph()),
        Part("docs/architecture.md", "dag", rule_graph()),
        Part("docs/regimes.md", "transfers", block(transfer_tables(results))),
        Part("docs/updates.md", "outcomes", block(study_tables(results))),
        Part("docs/updates.md", "update-plan", block(plan_table(update_plan(criteria)))),
        Part("docs/updates.md", "atlas-plan", block(plan_table(atlas_plan(criteria, atlas_roles(["other"]))))),
        Part("docs/instrument.md", "instrument", f"\n{made_by(instrument)}\n\n{instrument_page.render(figures)}\n"),
        Part("docs/protocol.md", "coverage", block(instrument_page.coverage_by_seeds(figures))),
        Part("docs/protocol.md", "power", block(instrument_page.conditions(figures.conditions))),
        Part("docs/protocol.md", BEFORE, block(contrast_table(results, "t5_same_backbone", BEFORE))),
    ]


# markers


def refreshed(text: str, parts: Iterable[Part]) -> str:
    """Return the text of a document with all its generated parts as they are due now.

    Raises: DataError: a part has not both its markers, or has them twice, or a marker belongs to no part.
    """
    parts = list(parts)
    known = {part.name for part in parts}
    for name in re.findall(r"<!-- ([\w-]+):(?:begin|end)\b", text):
        if name not in known:
            raise DataError(
                f"{parts[0].document}: nothing writes the part {name!r} (known: {', '.join(sorted(known))})"
            )
    for part in parts:
        text = between(text, part)
    return text


def between(text: str, part: Part) -> str:
    """Return a text with what stands between the markers of a part replaced.

    Raises: DataError: not each of the two markers is there, once and in order.
    """
    begins = list(re.finditer(rf"<!-- {part.name}:begin\b[^\n]*?-->\n", text))
    ends = list(re.finditer(rf"<!-- {part.name}:end -->", text))
    if len(begins) != 1 or len(ends) != 1 or begins[0].end() > ends[0].start():
        raise DataError(
            f"{part.document}: the markers {part.name}:begin and {part.name}:end must stand there once each, in this "
            f"order; restore them with `git checkout -- {part.document}`"
        )
    return text[: begins[0].end()] + part.content + text[ends[0].start() :]


def block(lines: Sequence[str]) -> str:
    """Return lines as they stand between two markers."""
    return "\n" + "\n".join(lines) + "\n\n"


# results


def verdict_table(results: Sequence[AnyResult]) -> list[str]:
    """Return the README's table of verdicts, each with its reason in plain words where there are any."""
    reasons = {result.claim.id: why(result, results) for result in results}
    return markdown(readme_table(results, reasons)) if results else NOTHING


def why(result: AnyResult, results: Sequence[AnyResult]) -> str:
    """Return why a verdict is what it is in plain words, or the reason as the result states it."""
    return in_words(result, criteria_of(result, results)) or f"{result.reason}."


def criteria_of(result: AnyResult, results: Sequence[AnyResult]) -> Criteria:
    """Return the numbers a verdict was found by: for a ladder those of a rung, or else of the protocol."""
    if not isinstance(result, LadderResult):
        return Criteria.model_validate(result.provenance.spec["protocol"]["criteria"])
    rungs = {rung.id for rung in result.rungs}
    for other in results:
        if other.claim.id in rungs and not isinstance(other, LadderResult):
            return criteria_of(other, results)
    return load(result.scale).protocol.criteria


def transfer_tables(results: Sequence[AnyResult]) -> list[str]:
    """Return the table of transfers, the advice per pair and the ladders of steps, a heading level lower."""
    found = [result for result in results if isinstance(result, Result) and result.claim.kind == "transfer"]
    lines = transfer_table.page(found).splitlines()[2:] if found else NOTHING
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def study_tables(results: Sequence[AnyResult]) -> list[str]:
    """Return verdict, reason, the original's pass rules and the tables of claims made of several studies."""
    lines: list[str] = []
    for result in (result for result in results if isinstance(result, StudyResult)):
        lines += [f"**`{result.claim.id}`**: {result.verdict}. {why(result, results)}", ""]
        lines += [f"- `{name}`: {fit.verdict}" for name, fit in result.fits.items()]
        lines += [""] if result.fits else []
        if result.checks:
            rows = [[c.id, c.words, c.value, c.threshold, c.passed] for c in result.checks]
            lines += [*markdown(Table(["rule of the original", "what", "here", "threshold", "met"], rows)), ""]
        for shown in (table for table in result.tables if table.id in SHOWN):
            lines += [*markdown(Table(shown.columns, shown.rows)), ""]
    return lines[:-1] or NOTHING


def contrast_table(results: Sequence[AnyResult], claim: str, arm: str) -> list[str]:
    """Return the tests of a claim against one arm, per way of fitting, and which tests fail at all."""
    rows, failing = [], []
    fits = {name: fit for result in results if result.claim.id == claim for name, fit in result.studies.items()}
    for name, fit in fits.items():
        rows += [[f"`{name}`", fit.verdict, *_compared(test)] for test in fit.tests if test.id.endswith(f".{arm}")]
        required = [test for test in fit.tests if test.required]
        missed = [f"`{test.id}`" for test in required if not test.passed]
        told = f"{len(missed)} of {len(required)} ({', '.join(missed) or 'none'})"
        failing.append(f"Required tests of `{name}` that fail: {told}.")
    heads = ["fit", "verdict", "test", "contrast (more is better)", "mean", "95 % interval", "above 0"]
    return [*markdown(Table(heads, rows)), "", *failing]


def _compared(test: Test) -> list[str | float | bool]:
    return [f"`{test.id}`", test.contrast, test.mean, interval_words(test.interval), test.passed]


# the run, the configuration, the record


def effort(scale: str) -> str:
    """Return what the reference run of a scale took, in a sentence."""
    from abi.plan.measured import read_measured

    jobs = read_measured(REFERENCE / scale / "jobs.csv")
    minutes, memory = sum(job.seconds for job in jobs) / 60, max((job.mem_mb or 0.0 for job in jobs), default=0.0)
    return (
        f"The run behind the figures below: {len(jobs)} jobs, {minutes:.0f} minutes of work, about {minutes / 2:.0f} "
        f"minutes on two cores, {memory:.0f} MB at most in one job (`results/reference/{scale}/jobs.csv`)."
    )


def claim_map() -> list[str]:
    """Return the table of all claims of config/claims.yaml: target, the original's number, kind, result files."""
    study = Workflow(load("tiny"))
    heads = {name: claim for name, claim in study.config.every().items() if getattr(claim, "of", None) is None}
    rows = [_claim_cells(study, name, claim) for name, claim in heads.items()]
    rows += [_claim_cells(study, name, claim) for name, claim in study.config.pending.items()]
    return markdown(Table(["claim, a target", "number", "kind", "result file, then those of its other regimes"], rows))


def _claim_cells(study: Workflow, name: str, claim: ClaimSaid) -> list[str]:
    others = [study.claim(other) for other in study.regimes_of(name)[1:]]
    files = [claim.record.result_file or f"{name}.json", *(other.record.result_file for other in others)]
    pending = f" (scale {', '.join(claim.scales or [])} alone)" if name in study.config.pending else ""
    kind, where = claim.kind.replace("_", " ") + pending, ", ".join(f"`{file}`" for file in files)
    return [f"`{name}`", claim.record.number or "-", kind, where]


def plan_table(plan: Plan) -> list[str]:
    """Return the table of everything a plan asks: contrast, measure, limit, and what it decides."""
    rows = [[*_asked(test), "SUPPORTED needs it" if test.required else "reported"] for test in plan.own.tests]
    for refutation in plan.own.refutations:
        level = " at level 1 - .05 / K" if len(refutation.contrasts) > 1 else ""
        told = f"REFUTED ({refutation.id}) if its upper bound is"
        rows += [[*_asked(contrast), f"{told} {_below(contrast)}{level}"] for contrast in refutation.contrasts]
    rows += [[*_asked(c), f"VACUOUS if its upper bound is {_below(c)}"] for c in plan.vacuous]
    return markdown(Table(["id", "contrast", "measure", "limit", "decides"], rows))


def _asked(contrast: Contrast) -> list[str]:
    limit = f"{contrast.margin:g} raw" if contrast.margin else "0"
    return [f"`{contrast.id}`", contrast.words(), f"{contrast.measure.metric} on {contrast.measure.scope}", limit]


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


def rule_graph() -> str:
    """Return the DAG of rules as Snakemake draws it, as a mermaid block with sorted edges.

    Raises: DataError: Snakemake is not there or cannot plan.
    """
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word of why"])[-1][:160]
        raise DataError(f"docs: Snakemake cannot draw the rules ({reason}); run `make setup`, then `snakemake -n`")
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", done.stdout))
    found = re.findall(r"(id\d+) --> (id\d+)", done.stdout)
    edges = sorted(f"    {names[start]} --> {names[end]}" for start, end in found)
    return "\n```mermaid\n" + "\n".join(["flowchart TB", *edges]) + "\n```\n\n"


def record_page() -> str:
    """Return the judgement of the published record as Markdown."""
    from abi.audit.record.judgement import judge, load, to_markdown

    return "\n" + to_markdown(judge(load())) + "\n"
