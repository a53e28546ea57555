"""Modules trained natively beside a frozen backbone, on its stored states."""


rule train_modules:
    """Native modules of one shape and role (source, oracle, reference), one per seed of the batch."""
    input:
        train="<results>/states/{backbone}/{text}.train.json",
        tensors=ancient("<results>/states/{backbone}/{text}.train.safetensors"),
        head="<results>/heads/{backbone}.safetensors",
    output:
        manifest="<results>/modules/{backbone}/{text}/{shape}/{role}/{batch}.json",
        folder=directory("<results>/modules/{backbone}/{text}/{shape}/{role}/{batch}"),
    log:
        "<logs>/train_modules/{backbone}.{text}.{shape}.{role}.{batch}.log",
    benchmark:
        "<benchmarks>/train_modules/{backbone}.{text}.{shape}.{role}.{batch}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("train_modules", "threads")
    resources:
        mem_mb=resource("train_modules", "mem_mb"),
        runtime=resource("train_modules", "runtime"),
        gpu=resource("train_modules", "gpu"),
    params:
        spec=lambda w: WORKFLOW.module_spec(w.text, w.shape, w.role, w.batch),
        code=code("train_modules"),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"
