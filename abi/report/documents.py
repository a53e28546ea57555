"""What documents quote: tables from the committed reference results, the record, the schemas and the DAG."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from abi.base.errors import DataError
from abi.base.files import ROOT, SCHEMAS, read_json, read_result, write_text
from abi.judge.contrasts import Contrast, Plan
from abi.plan.config import load
from abi.plan.estimate import adopt_jobs
from abi.plan.transfers import Study
from abi.report.tables import figure, table

REFERENCE = ROOT / "results" / "reference"


INSTRUMENT = "instrument"


SIMULATED = ROOT / "docs" / f"{INSTRUMENT}.json"


def generated_parts() -> list[tuple[str, str, str]]:
    """Return (document, name of its part, content) of everything that is generated."""
    from abi.judge.contrasts import Criteria
    from abi.judge.protocol import atlas_plan, atlas_roles, update_plan
    from abi.report import outcomes, simulation

    results = reference_results("tiny")
    instrument = read_json(SIMULATED, INSTRUMENT)
    figures = instrument["figures"]
    criteria = Criteria.from_mapping(load("tiny").protocol["criteria"])
    return [
        ("README.md", "verdicts", outcomes.verdicts(results)),
        ("README.md", "claims", block(claim_map())),
        ("README.md", "effort", block([effort("tiny")])),
        ("config/README.md", "keys", key_tables()),
        ("docs/record.md", "record", record_page()),
        ("docs/architecture.md", "dag", rule_graph()),
        ("docs/regimes.md", "transfers", block(outcomes.transfer_tables(results))),
        ("docs/updates.md", "outcomes", block(outcomes.study_tables(results))),
        ("docs/updates.md", "update-plan", block(plan_table(update_plan(criteria)))),
        ("docs/updates.md", "atlas-plan", block(plan_table(atlas_plan(criteria, atlas_roles(["other"]))))),
        ("docs/instrument.md", "instrument", f"\n{made_by(instrument)}\n\n{simulation.render(figures)}\n"),
        ("docs/protocol.md", "coverage", block(simulation.coverage_by_seeds(figures))),
        ("docs/protocol.md", "power", block(simulation.conditions(figures["conditions"]))),
        ("docs/protocol.md", "before", block(contrast_table(results, "t5_same_backbone", "before"))),
    ]


def effort(scale: str) -> str:
    """Return what the reference run of a scale took, in a sentence."""
    from abi.plan.estimate import REFERENCE, read_measured

    jobs = read_measured(REFERENCE / scale / "jobs.csv")
    minutes, memory = sum(job.seconds for job in jobs) / 60, max((job.mem_mb or 0.0 for job in jobs), default=0.0)
    return (
        f"The run behind the figures below: {len(jobs)} jobs, {minutes:.0f} minutes of work, about {minutes / 2:.0f} minutes on two cores, "
        f"{memory:.0f} MB at most in one job (`results/reference/{scale}/jobs.csv`)."
    )


def claim_map() -> list[str]:
    """Return the table of all claims of config/claims.yaml: target, the original's number, kind, result files."""
    study = Study(load("tiny"))
    rows = []
    for claim_id, claim in (study.config.every() | study.config.pending).items():
        if "of" in claim:
            continue
        record = claim.get("record", {})
        others = [study.config.claims[other] for other in study.regimes_of(claim_id)[1:]]
        files = [record.get("result_file", f"{claim_id}.json"), *(other["record"]["result_file"] for other in others)]
        where = ", ".join(f"`{file}`" for file in files)
        pending = f" (scale {', '.join(claim['scales'])} alone)" if claim_id in study.config.pending else ""
        rows.append([f"`{claim_id}`", record.get("number", "-"), claim["kind"].replace("_", " ") + pending, where])
    return table(["claim, a target", "number", "kind", "result file, then those of its other regimes"], rows)


def plan_table(plan: "Plan") -> list[str]:
    """Return the table of everything a plan asks: contrast, measure, limit, and what it decides."""
    rows = [[*_asked(test), "SUPPORTED needs it" if test.required else "reported"] for test in plan.own.tests]
    for refutation in plan.own.refutations:
        level = " at level 1 - .05 / K" if len(refutation.contrasts) > 1 else ""
        rows += [
            [*_asked(c), f"REFUTED ({refutation.id}) if its upper bound is {_below(c)}{level}"]
            for c in refutation.contrasts
        ]
    rows += [[*_asked(c), f"VACUOUS if its upper bound is {_below(c)}"] for c in plan.vacuous]
    return table(["id", "contrast", "measure", "limit", "decides"], rows)


def _asked(contrast: "Contrast") -> list[str]:
    limit = f"{contrast.margin:g} raw" if contrast.margin else "0"
    return [f"`{contrast.id}`", contrast.words(), f"{contrast.measure.metric} on {contrast.measure.scope}", limit]


def _below(contrast: "Contrast") -> str:
    return "at or below the limit" if contrast.closed else "below the limit"


def contrast_table(results: Sequence[Mapping[str, Any]], claim: str, arm: str) -> list[str]:
    """Return the tests of a claim that compare its candidate with one arm, per way of fitting, and which tests fail at all."""
    judged = {
        fit: j for result in results if result["claim"]["id"] == claim for fit, j in result.get("fits", {}).items()
    }
    rows, failing = [], []
    for fit, own in judged.items():
        for test in own["tests"]:
            if test["id"].endswith(f".{arm}"):
                bounds = f"[{figure(test['interval']['lower'])}, {figure(test['interval']['upper'])}]"
                words = [f"`{test['id']}`", test["contrast"], figure(test["mean"]), bounds]
                rows.append([f"`{fit}`", own["verdict"], *words, "yes" if test["passed"] else "no"])
        required = [test for test in own["tests"] if test["required"]]
        missed = [f"`{test['id']}`" for test in required if not test["passed"]]
        failing.append(
            f"Required tests of `{fit}` that fail: {len(missed)} of {len(required)} ({', '.join(missed) or 'none'})."
        )
    heads = ["fit", "verdict", "test", "contrast (more is better)", "mean", "95 % interval", "above 0"]
    return [*table(heads, rows), "", *failing]


def made_by(instrument: Mapping[str, Any]) -> str:
    """Return what made the instrument's figures, in a sentence."""
    made, effort = instrument["provenance"], instrument["figures"]["settings"]["effort"]
    packages = ", ".join(
        f"{name} {made['versions'][name]}" for name in ("python", "numpy", "scipy") if name in made["versions"]
    )
    return (
        f"Made by `snakemake instrument`: seed {instrument['figures']['settings']['seed']}, {effort['tables']:,} tables per kind of table "
        f"({effort['rerun']:,} where the first result is just outside), {effort['studies']:,} studies per kind of study, {effort['power']:,} per "
        f"point of the power tables; protocol {made['spec']['protocol']['protocol']}, code `{made['code']}`, {packages}, {made['elapsed_s'] / 60:.0f} minutes."
    )


def block(lines: Sequence[str]) -> str:
    """Return lines as they stand between two markers."""
    return "\n" + "\n".join(lines) + "\n\n"


def rule_graph() -> str:
    """Return the DAG of rules as Snakemake draws it, as a mermaid block with sorted edges.

    Raises: DataError: Snakemake is not there or cannot plan.
    """
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word of why"])[-1][:160]
        raise DataError(f"docs: Snakemake cannot draw the rules ({reason}); run `make setup`, then `snakemake -n`")
    drawn = done.stdout
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", drawn))
    edges = sorted(f"    {names[start]} --> {names[end]}" for start, end in re.findall(r"(id\d+) --> (id\d+)", drawn))
    return "\n```mermaid\n" + "\n".join(["flowchart TB", *edges]) + "\n```\n\n"


def record_page() -> str:
    """Return the judgement of the published record as Markdown."""
    from abi.audit.record.judgement import judge, load, to_markdown

    return "\n" + to_markdown(judge(load())) + "\n"


def key_tables() -> str:
    """Return one table of keys per configuration file, from its schema: key, type, meaning."""
    lines = []
    for kind in ("claims", "scale", "protocol"):
        schema = yaml.safe_load((SCHEMAS / f"{kind}.schema.yaml").read_text(encoding="utf-8"))
        lines += ["", f"## {schema['title']}", "", "| key | what |", "| --- | --- |"]
        lines += [f"| `{key}` | {what} |" for key, what in _keys(schema, schema, "")]
    return "\n".join(lines) + "\n\n"


def _keys(schema: dict[str, Any], root: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    """Return (dotted key, meaning) of every key of a schema, references followed."""
    if "$ref" in schema:
        schema = {
            **root["$defs"][schema["$ref"].rpartition("/")[2]],
            **{k: v for k, v in schema.items() if k != "$ref"},
        }
    rows = []
    children = dict(schema.get("properties", {}))
    if isinstance(schema.get("additionalProperties"), dict):
        children["<name>"] = schema["additionalProperties"]
    if (
        isinstance(schema.get("items"), dict)
        and schema["items"].get("type", "object") == "object"
        and "enum" not in schema["items"]
    ):
        rows += _keys(schema["items"], root, f"{prefix}[]")
    for name, child in children.items():
        key = f"{prefix}.{name}" if prefix else name
        what = child.get("description", "")
        choices = f" (one of {', '.join(map(str, child['enum']))})" if "enum" in child else ""
        if what or choices:
            rows.append((key, (what + choices).strip()))
        rows += _keys(child, root, key)
    return rows


def adopt(scale: str) -> None:
    """Copy to the committed reference: result files, summary and measured jobs of a scale, or the instrument's figures."""
    if scale == INSTRUMENT:
        simulated = Path(f"results/{INSTRUMENT}.json")
        read_json(simulated, INSTRUMENT)
        write_text(SIMULATED, simulated.read_text(encoding="utf-8"))
        return
    study, folder = Study(load(scale)), REFERENCE / scale
    wanted = [Path(path) for path in study.page_files("summary")]
    made = {path.name: path.read_text(encoding="utf-8") for path in wanted if path.exists() and read_result(path)}
    if not made:
        raise DataError(f"results/{scale}: holds no result to adopt; run `snakemake --config scale={scale}` first")
    pages = [Path(f"results/{scale}/{page}.md") for page in ("headline", "summary", "transfer")]
    made |= {page.name: page.read_text(encoding="utf-8") for page in pages if page.exists()}
    for old in [*folder.glob("*.json"), *folder.glob("*.md")]:
        if old.name not in made:
            old.unlink()  # of another run: a reference holds one run's files
    for name, text in made.items():
        write_text(folder / name, text)
    adopt_jobs(scale)


def reference_results(scale: str) -> list[dict[str, Any]]:
    """Return the committed result files of a scale, in the order of the claims; a reference may hold some of them."""
    study = Study(load(scale))
    paths = [REFERENCE / scale / Path(path).name for path in study.page_files("summary")]
    return [read_result(path) for path in paths if path.exists()]


def between(text: str, name: str, content: str) -> str:
    """Return text with what stands between the markers `name:begin` and `name:end` replaced."""
    head, _, rest = text.partition(f"<!-- {name}:begin")
    marker, _, tail = rest.partition("-->")
    _, _, tail = tail.partition(f"<!-- {name}:end -->")
    return f"{head}<!-- {name}:begin{marker}-->\n{content}<!-- {name}:end -->{tail}"
