"""What all results say together."""


rule tabulate_transfers:
    """Pairs x regimes: gap closure of the moved module, its placebos and what a user would do instead; cost beside each."""
    input:
        STUDY.result_files(STUDY.transfers()),
    output:
        markdown="<results>/transfer.md",
        csv="<results>/transfer.csv",
        figure="<results>/transfer.svg",
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
        spec=dict(scale=STUDY.config.name),
        code=code("tabulate_transfers.py"),
    script:
        "../../scripts/tabulate_transfers.py"


rule transfer:
    """Every transfer in every regime, and the table of them."""
    input:
        "<results>/transfer.md",
    localrule: True
