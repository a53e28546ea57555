"""What stands last: transfers side by side, the DAG, what the run took, deviations, the record as a whole."""

from collections import Counter
from collections.abc import Sequence

from abi.audit.record.data import STATES
from abi.base.typed import Provenance
from abi.judge.results import AnyResult, Result
from abi.plan.measured import Measured
from abi.report import transfer_table
from abi.report.figures import closures, graph
from abi.report.page.blocks import Block, Bullets, Fold, Para, Plots, Section
from abi.report.page.facts import Facts
from abi.report.page.overview import anchor
from abi.report.render import Cell, Table
from abi.report.words import number

TRANSFERS = (
    "Gap closure is (raw - arm) / (raw - oracle) in bits per byte on held-out domain text, with 95 % sets; "
    "seconds of one fit in brackets. A module is worth moving where `moved` is ahead of its best placebo, and "
    "worth more than retraining where it is ahead of `direct` and LoRA. Every fit and arm stands in "
    "`transfer.csv`."
)
RULES = (
    "Every figure of this page comes out of these rules; each result file names the digest of the code and the "
    "hash of every file it was made from."
)
TARGETS = "Per target: jobs that are its own; backbones, states and modules are shared and stand in the next table"
RECORD = (
    "Nothing measured here enters this table: it compares the original's documents with its own result files, "
    "and those files with themselves. **MATCH** the document and its file agree; **CONTRADICTED** they do not; "
    "**NO EVIDENCE** there is nothing to compare with; **INCONSISTENT** the file contradicts itself; **VACUOUS** "
    "it passes whatever was measured."
)


def transfer_section(facts: Facts) -> Section | None:
    """Return the transfers, pairs x regimes, with their figure, what a user should do, and the ladders of variants."""
    results = [result for result in facts.results if isinstance(result, Result) and result.claim.kind == "transfer"]
    if not results:
        return None
    drawing = closures.transfer_drawing(transfer_table.rows(results))
    pairs = transfer_table.by_pair(results)
    advice = [f"`{pair}`: {transfer_table.advice(found)}" for pair, found in pairs.items()]
    table = transfer_table.pairs_table(results, "Pairs and regimes")
    blocks: list[Block] = [Para(TRANSFERS), Plots([drawing]), table]
    blocks += [Para("What a user should do, from these figures alone:"), Bullets(advice)]
    for result in results:
        if result.claim.variants:
            name = f"`{transfer_table.pair_of(result)}`, {result.claim.regime}"
            caption = f"Ladder of {name}: other steps, less text or other text"
            blocks.append(transfer_table.ladder_table(result, caption))
    return Section("transfers", "Transfers side by side", blocks)


def graph_section(facts: Facts) -> Section | None:
    """Return the DAG of rules as a figure."""
    if not facts.edges:
        return None
    return Section("rules", "How it was made", [Para(RULES), Plots([graph.drawing(facts.edges)])])


def effort_section(facts: Facts) -> Section:
    """Return what each claim and each rule took in this run, on which machine, with which versions."""
    blocks: list[Block] = [_targets(facts), *_rules(facts.jobs), *_machines(facts.results)]
    return Section("effort", "What it takes to run it again", blocks)


def _targets(facts: Facts) -> Table:
    rows: list[list[Cell]] = []
    for result in facts.results:
        claim, made = result.claim, result.provenance
        own = [job for job in facts.jobs if claim.id in job.wildcards.split("/")]
        memory = max((job.mem_mb or 0.0 for job in own), default=made.peak_memory_mb)
        command = f"`snakemake --config scale={facts.spec.scale} -- {claim.id}`"
        times = [len(own), _wall(own), _cpu(own)] if own else [None, None, None]
        rows.append([f"[{claim.id}](#{anchor(result)})", command, *times, f"{memory:.0f}", f"`{made.code}`"])
    heads = ["target", "command", "own jobs", "wall (min)", "CPU (min)", "peak (MB)", "code of the verdict"]
    return Table(heads, rows, TARGETS)


def _rules(jobs: Sequence[Measured]) -> list[Block]:
    if not jobs:
        return [Para("This folder holds no benchmark files, so no time per rule is reported.", "note")]
    rows: list[list[Cell]] = []
    for rule, n in sorted(Counter(job.rule for job in jobs).items()):
        own = [job for job in jobs if job.rule == rule]
        memory = max((job.mem_mb or 0.0 for job in own), default=0.0)
        longest = max(job.seconds for job in own) / 60
        rows.append([f"`{rule}`", n, _wall(own), longest, _cpu(own), f"{memory:.0f}" if memory else None])
    total = f"{number(len(jobs), 'job')}, {_wall(jobs):.3g} minutes of wall time one after the other"
    caption = f"Per rule, as measured by this run: {total}"
    return [Table(["rule", "jobs", "wall (min)", "longest (min)", "CPU (min)", "peak (MB)"], rows, caption)]


def _wall(jobs: Sequence[Measured]) -> float:
    """Return minutes of wall time of some jobs, one after the other."""
    return sum(job.seconds for job in jobs) / 60


def _cpu(jobs: Sequence[Measured]) -> float | None:
    """Return minutes of CPU of the jobs that told theirs."""
    told = [job.cpu_s for job in jobs if job.cpu_s is not None]
    return sum(told) / 60 if told else None


def _machines(results: Sequence[AnyResult]) -> list[Block]:
    """Return the machines and versions that the results name."""
    machines = Counter(_machine(result.provenance) for result in results)
    software = Counter(
        ", ".join(f"{name} {version}" for name, version in result.provenance.versions.items()) for result in results
    )
    items = [f"{number(n, 'result')} made on {words}" for words, n in machines.items()]
    return [Bullets([*items, *(f"{number(n, 'result')} made with {words}" for words, n in software.items())])]


def _machine(made: Provenance) -> str:
    its = made.hardware
    system = f"{its.cpus} cores, {its.system} {its.machine}"
    return f"{its.cpu or 'unknown processor'}, {system}, {number(made.threads, 'thread')} per job"


def deviation_section(facts: Facts) -> Section | None:
    """Return where this differs from the original, and why."""
    if len(facts.deviations) < 2:
        return None
    heads, *rows = facts.deviations
    told = Para(f"{number(len(rows), 'deviation')}, each with its reason (docs/deviations.md).")
    return Section("deviations", "Deviations from the original", [told, Fold("All of them", [Table(heads, rows)])])


def record_section(facts: Facts) -> Section:
    """Return the published record judged by itself, claim by claim, also of claims that were not run here."""
    judgement = facts.judgement
    here = {result.claim.record.claim: anchor(result) for result in facts.results}
    rows: list[list[Cell]] = []
    for claim in judgement.claims:
        name = f"[{claim}](#{here[claim]})" if claim in here else f"`{claim}`"
        rows.append([name, *judgement.counts(claim).values()])
    caption = f"{judgement.n_files} files, {judgement.n_entered} of {judgement.n_numeric} numbers enter a check"
    blocks: list[Block] = [Para(RECORD), Table(["claim", *STATES], rows, caption)]
    return Section("record", "The published record, judged by itself", blocks)
