"""Text: sources to documents with groups and splits."""


rule build_text:
    """One text as documents: extracted, deduplicated, grouped by folder and split by group."""
    output:
        documents="<results>/corpus/{text}.jsonl.gz",
        manifest="<results>/corpus/{text}.csv",
        record="<results>/corpus/{text}.json",
    log:
        "<logs>/build_text/{text}.log",
    benchmark:
        "<benchmarks>/build_text/{text}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("build_text", "threads")
    resources:
        mem_mb=resource("build_text", "mem_mb"),
        runtime=resource("build_text", "runtime"),
    params:
        spec=lambda w: WORKFLOW.text_spec(w.text),
        code=code("build_text"),
    script:
        "../../scripts/job.py"
