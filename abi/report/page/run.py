"""What stands last: transfers side by side, the DAG, what the run took, deviations, the record as a whole."""

from collections import Counter
from collections.abc import Sequence

from abi.audit.record.data import STATES
from abi.base.names import fits_of
from abi.plan.estimate import Measured
from abi.report import transfers
from abi.report.figures import closures, graph
from abi.report.page.blocks import Block, Bullets, Fold, Para, Plots, Section, Table
from abi.report.page.facts import Facts, Record
from abi.report.page.overview import anchor
from abi.report.tables import figure
from abi.report.words import number


def transfer_section(facts: Facts) -> Section | None:
    """Return the transfers, pairs x regimes, with their figure, what a user should do, and the ladders of variants."""
    results = [
        r for r in facts.results if r["claim"]["kind"] == "transfer" and set(fits_of(r["claim"])) <= set(r["fits"])
    ]
    if not results:
        return None
    told = (
        "Gap closure is (raw - arm) / (raw - oracle) in bits per byte on held-out domain text, with 95 % sets; seconds of one fit in brackets. A module is "
        "worth moving where `moved` is ahead of its best placebo, and worth more than retraining where it is ahead of `direct` and LoRA. Every fit and arm stands in `transfer.csv`."
    )
    drawing = closures.transfer_drawing(transfers.rows(results))
    advice = [f"`{pair}`: {transfers.advice(found)}" for pair, found in transfers.by_pair(results).items()]
    blocks: list[Block] = [
        Para(told),
        Plots([drawing]),
        Table(transfers.HEADS, transfers.pair_cells(results), "Pairs and regimes"),
    ]
    blocks += [Para("What a user should do, from these figures alone:"), Bullets(advice)]
    for result in results:
        if result["claim"].get("variants"):
            caption = f"Ladder of `{result['claim'].get('of', result['claim']['id'])}`, {result['claim']['regime']}: other steps, less text or other text"
            blocks.append(Table(transfers.LADDER_HEADS, transfers.ladder_cells(result), caption))
    return Section("transfers", "Transfers side by side", blocks)


def graph_section(facts: Facts) -> Section | None:
    """Return the DAG of rules as a figure."""
    if not facts.edges:
        return None
    told = "Every figure of this page comes out of these rules; each result file names the digest of the code and the hash of every file it was made from."
    return Section("rules", "How it was made", [Para(told), Plots([graph.drawing(facts.edges)])])


def effort_section(facts: Facts) -> Section:
    """Return the reproducibility matrix: what each claim and each rule took in this run, on which machine, with which versions."""
    blocks: list[Block] = [Table(*_targets(facts)), *_rules(facts.jobs), *_machines(facts.results)]
    return Section("effort", "What it takes to run it again", blocks)


def _targets(facts: Facts) -> tuple[list[str], list[list[str]], str]:
    rows = []
    for result in facts.results:
        claim, made = result["claim"], result["provenance"]
        own = [job for job in facts.jobs if claim["id"] in job.wildcards.split("/")]
        wall, cpu = sum(job.seconds for job in own), [job.cpu_s for job in own if job.cpu_s is not None]
        command = f"`snakemake --config scale={facts.spec['scale']} -- {claim['id']}`"
        memory = max((job.mem_mb or 0.0 for job in own), default=made["peak_memory_mb"])
        rows.append([
            f"[{claim['id']}](#{anchor(result)})", command, str(len(own)) if own else "-", _minutes(wall) if own else "-",
            _minutes(sum(cpu)) if cpu else "-", f"{memory:.0f}", f"`{made['code']}`",
        ])  # fmt: skip
    heads = ["target", "command", "own jobs", "wall (min)", "CPU (min)", "peak (MB)", "code of the verdict"]
    return (
        heads,
        rows,
        "Per target: jobs that are its own; backbones, states and modules are shared and stand in the next table",
    )


def _rules(jobs: Sequence[Measured]) -> list[Block]:
    if not jobs:
        return [Para("This folder holds no benchmark files, so no time per rule is reported.", "note")]
    rows = []
    for rule, n in sorted(Counter(job.rule for job in jobs).items()):
        own = [job for job in jobs if job.rule == rule]
        cpu = [job.cpu_s for job in own if job.cpu_s is not None]
        memory = max((job.mem_mb or 0.0 for job in own), default=0.0)
        rows.append([
            f"`{rule}`", str(n), _minutes(sum(job.seconds for job in own)), _minutes(max(job.seconds for job in own)),
            _minutes(sum(cpu)) if cpu else "-", f"{memory:.0f}" if memory else "-",
        ])  # fmt: skip
    total = sum(job.seconds for job in jobs)
    caption = f"Per rule, as measured by this run: {number(len(jobs), 'job')}, {_minutes(total)} minutes of wall time one after the other"
    return [Table(["rule", "jobs", "wall (min)", "longest (min)", "CPU (min)", "peak (MB)"], rows, caption)]


def _minutes(seconds: float) -> str:
    return figure(seconds / 60)


def _machines(results: Sequence[Record]) -> list[Block]:
    """Return the machines and versions that the results name."""
    made = [result["provenance"] for result in results]
    machines = Counter(
        f"{p['hardware'].get('cpu', 'unknown processor')}, {p['hardware'].get('cpus')} cores, {p['hardware'].get('system')} {p['hardware'].get('machine')}, "
        f"{number(p['threads'], 'thread')} per job"
        for p in made
    )
    software = Counter(", ".join(f"{name} {version}" for name, version in p["versions"].items()) for p in made)
    items = [f"{number(n, 'result')} made on {words}" for words, n in machines.items()]
    return [Bullets([*items, *(f"{number(n, 'result')} made with {words}" for words, n in software.items())])]


def deviation_section(facts: Facts) -> Section | None:
    """Return where this differs from the original, and why."""
    if len(facts.deviations) < 2:
        return None
    heads, *rows = facts.deviations
    told = f"{number(len(rows), 'deviation')}, each with its reason (docs/deviations.md)."
    return Section(
        "deviations", "Deviations from the original", [Para(told), Fold("All of them", [Table(heads, rows)])]
    )


def record_section(facts: Facts) -> Section:
    """Return the published record judged by itself, claim by claim, also of claims that were not run here."""
    judgement = facts.judgement
    here = {r["claim"].get("record", {}).get("claim"): anchor(r) for r in facts.results}
    rows = [
        [
            f"[{claim}](#{here[claim]})" if claim in here else f"`{claim}`",
            *(str(n) for n in judgement.counts(claim).values()),
        ]
        for claim in judgement.claims
    ]
    told = (
        "Nothing measured here enters this table: it compares the original's documents with its own result files, and those files with themselves. "
        "**MATCH** the document and its file agree; **CONTRADICTED** they do not; **NO EVIDENCE** there is nothing to compare with; "
        "**INCONSISTENT** the file contradicts itself; **VACUOUS** it passes whatever was measured."
    )
    caption = f"{judgement.n_files} files, {judgement.n_entered} of {judgement.n_numeric} numbers enter a check"
    return Section(
        "record", "The published record, judged by itself", [Para(told), Table(["claim", *STATES], rows, caption)]
    )
