"""What all results say together, and the instrument tested like a product, independent of every scale."""


use rule step as tabulate_transfers with:
    """Pairs x regimes: gap closure of the moved module, its placebos and what a user would do instead; cost beside each."""
    input:
        WORKFLOW.table_input(),
    output:
        markdown="<results>/transfer.md",
        csv="<results>/transfer.csv",
        figure="<results>/transfer.svg",
        record="<results>/transfer.json",
    log:
        "<logs>/tabulate_transfers.log",
    benchmark:
        "<benchmarks>/tabulate_transfers.tsv"
    threads: resource("tabulate_transfers", "threads")
    resources:
        **resources_of("tabulate_transfers", "mem_mb", "runtime"),
    params:
        spec=WORKFLOW.table_spec(),
        code=code("tabulate_transfers"),


use rule step as tabulate_experiments with:
    """Every sentence of the original that rests on an experiment: its verdict, the figure that decides it."""
    input:
        WORKFLOW.result_files(WORKFLOW.experiments),
    output:
        markdown="<results>/experiments.md",
    log:
        "<logs>/tabulate_experiments.log",
    benchmark:
        "<benchmarks>/tabulate_experiments.tsv"
    threads: resource("tabulate_experiments", "threads")
    resources:
        **resources_of("tabulate_experiments", "mem_mb", "runtime"),
    params:
        spec=WORKFLOW.experiments_spec(),
        code=code("tabulate_experiments"),


rule experiments:
    """All experiments and nothing else, with their page."""
    input:
        WORKFLOW.experiments_page(),
    localrule: True


use rule step as write_report with:
    """The report of the run: one HTML file, the same as Markdown, and every figure with its numbers."""
    input:
        results=WORKFLOW.page_files("summary"),
        summary="<results>/summary.json",
        documents=documents(),
        committed=WORKFLOW.committed_beside(),
    output:
        html=report(
            "<results>/report.html",
            caption="../report/page.rst",
            category="Report",
        ),
        markdown="<results>/report.md",
        record="<results>/report.json",
        figures=report(
            directory("<results>/figures"),
            patterns=["{name}.svg"],
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.tsv"
    threads: resource("write_report", "threads")
    resources:
        **resources_of("write_report", "mem_mb", "runtime"),
    params:
        spec=WORKFLOW.report_spec(),
        code=code("write_report"),


use rule step as write_cards with:
    """A model card per claim that leaves modules behind, with the verdicts of all its regimes."""
    input:
        WORKFLOW.card_inputs(),
    output:
        WORKFLOW.cards(),
    log:
        "<logs>/write_cards.log",
    benchmark:
        "<benchmarks>/write_cards.tsv"
    threads: resource("write_cards", "threads")
    resources:
        **resources_of("write_cards", "mem_mb", "runtime"),
    params:
        spec=WORKFLOW.card_spec(),
        code=code("write_cards"),


rule crate:
    """The run as a Provenance Run Crate: every job from the texts to the verdicts, with hashes, code and software."""
    input:
        WORKFLOW.finals(),
    output:
        record="<results>/ro-crate-metadata.json",
        workflow=directory("<results>/workflow"),
    log:
        "<logs>/crate.log",
    benchmark:
        "<benchmarks>/crate.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("crate", "threads")
    resources:
        **resources_of("crate", "mem_mb", "runtime"),
    params:
        folder=lambda w, output: str(Path(output.record).parent),
        code=code_digest("abi/cli/crate.py", root=ROOT),
        # It describes the rules, holds a copy of them, and names the authors.
        described=lambda w: [
            sha256_file(path)
            for path in (
                Path(ROOT, "CITATION.cff"),
                Path(ROOT, "workflow/Snakefile"),
                *sorted(Path(ROOT, "workflow").rglob("*.smk")),
            )
        ],
    shell:
        "python -m abi.cli crate {params.folder} > {log} 2>&1"


rule transfer:
    """Every transfer in every regime, and the table of them."""
    input:
        "<results>/transfer.md",
    localrule: True


use rule step as simulate_studies with:
    """Coverage, error rates and power of the verdict rule on simulated studies (minutes)."""
    output:
        record="results/instrument.json",
        markdown="results/instrument.md",
    log:
        "results/logs/simulate_studies.log",
    benchmark:
        "results/benchmarks/simulate_studies.tsv"
    threads: resource("simulate_studies", "threads")
    resources:
        **resources_of("simulate_studies", "mem_mb", "runtime"),
    params:
        spec=WORKFLOW.simulation_spec(),
        code=code("simulate_studies"),
        software=software_of("simulate_studies"),


rule instrument:
    """The instrument's own test: `results/instrument.md`."""
    input:
        "results/instrument.md",
    localrule: True


rule measure_speed:
    """Speed and memory of the pipeline against the original's loop, on this machine (minutes)."""
    input:
        targets=os.path.relpath(ROOT / "benchmarks/targets.yaml"),
    output:
        record="results/benchmarks.json",
        markdown="results/benchmarks.md",
        figure="results/benchmarks.svg",
    log:
        "results/logs/measure_speed.log",
    benchmark:
        "results/benchmarks/measure_speed.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt("mem_mb", 3000),  # the same at every scale
        runtime=per_attempt("runtime", 60),
    params:
        code=code_digest(
            *sorted(
                f"benchmarks/{name}.py"
                for name in (
                    "__main__",
                    "growth",
                    "reference",
                    "rows",
                    "sides",
                    "timing",
                )
            ),
            root=ROOT,
        ),
    shell:
        "python -m benchmarks {output.record} {output.markdown} {output.figure} {params.code} > {log} 2>&1"


rule benchmarks:
    """The pipeline measured: `results/benchmarks.md`, how fast and how much memory."""
    input:
        "results/benchmarks.md",
    localrule: True
