"""The instrument tested like a product: independent of every scale."""


rule instrument:
    """Coverage, error rates and power of the verdict rule on simulated studies (minutes)."""
    output:
        record="results/instrument.json",
        markdown="results/instrument.md",
    log:
        "results/logs/instrument.log",
    benchmark:
        "results/benchmarks/instrument.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("instrument", "mem_mb"),
        runtime=resource("instrument", "runtime"),
    params:
        spec=dict(protocol=STUDY.config.protocol, seed=0),
        code=code("simulate_studies.py"),
    script:
        "../../scripts/simulate_studies.py"
