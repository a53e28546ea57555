"""What all results say together."""


rule tabulate_transfers:
    """Pairs x regimes: gap closure of the moved module, its placebos and what a user would do instead; cost beside each."""
    input:
        WORKFLOW.result_files(WORKFLOW.transfers()),
    output:
        markdown="<results>/transfer.md",
        csv="<results>/transfer.csv",
        figure="<results>/transfer.svg",
        record="<results>/transfer.json",
    log:
        "<logs>/tabulate_transfers.log",
    benchmark:
        "<benchmarks>/tabulate_transfers.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("tabulate_transfers", "mem_mb"),
        runtime=resource("tabulate_transfers", "runtime"),
    params:
        spec=table_spec(WORKFLOW),
        code=code("tabulate_transfers"),
    script:
        "../../scripts/job.py"


rule write_report:
    """The report of the run: one HTML file, the same as Markdown, and every figure with its numbers."""
    input:
        results=WORKFLOW.page_files("summary"),
        summary="<results>/summary.json",
        documents=documents(),
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
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("write_report", "mem_mb"),
        runtime=resource("write_report", "runtime"),
    params:
        spec=report_spec(WORKFLOW),
        code=code("write_report"),
    script:
        "../../scripts/job.py"


rule write_cards:
    """A model card per claim that leaves modules behind, with the verdicts of all its regimes."""
    input:
        card_inputs(WORKFLOW),
    output:
        expand("<results>/cards/{claim}.md", claim=carded(WORKFLOW)),
    log:
        "<logs>/write_cards.log",
    benchmark:
        "<benchmarks>/write_cards.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("write_cards", "mem_mb"),
        runtime=resource("write_cards", "runtime"),
    params:
        spec=card_spec(WORKFLOW),
        code=code("write_cards"),
    script:
        "../../scripts/job.py"


rule transfer:
    """Every transfer in every regime, and the table of them."""
    input:
        "<results>/transfer.md",
    localrule: True
