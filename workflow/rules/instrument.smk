"""The instrument tested like a product: independent of every scale."""


rule simulate_studies:
    """Coverage, error rates and power of the verdict rule on simulated studies (minutes)."""
    output:
        record="results/instrument.json",
        markdown="results/instrument.md",
    log:
        "results/logs/simulate_studies.log",
    benchmark:
        "results/benchmarks/simulate_studies.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("simulate_studies", "mem_mb"),
        runtime=resource("simulate_studies", "runtime"),
    params:
        spec=WORKFLOW.simulation_spec(),
        code=code("simulate_studies"),
    script:
        "../../scripts/job.py"


rule instrument:
    """The instrument's own test: `results/instrument.md`."""
    input:
        "results/instrument.md",
    localrule: True
