"""Evidence: every arm on held-out text, one row per document, seed, arm and metric."""


rule evaluate_arms:
    """Evidence rows and the record's random draws of a claim for a batch of seeds; with evaluate_studies the only rule that scores the test split."""
    input:
        unpack(lambda w: WORKFLOW.evaluation_input(w.claim, w.batch)),
    output:
        evidence="<results>/evidence/{claim}/{batch}.csv.gz",
        draws="<results>/evidence/{claim}/{batch}.draws.csv.gz",
        manifest="<results>/evidence/{claim}/{batch}.json",
    log:
        "<logs>/evaluate_arms/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/evaluate_arms/{claim}.{batch}.tsv"
    wildcard_constraints:
        claim=one_of(WORKFLOW.config.claims),
    conda:
        "../../envs/abi.yaml"
    threads: resource("evaluate_arms", "threads")
    resources:
        mem_mb=resource("evaluate_arms", "mem_mb"),
        runtime=resource("evaluate_arms", "runtime"),
        gpu=resource("evaluate_arms", "gpu"),
    params:
        spec=lambda w: WORKFLOW.evaluation_spec(w.claim, w.batch),
        code=code("evaluate_arms"),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"
