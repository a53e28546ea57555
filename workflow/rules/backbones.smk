"""Backbones: built from general text at small scales, downloaded at a pinned revision otherwise."""


rule build_backbone:
    """A frozen backbone in the Hugging Face layout, with a copy of its head."""
    input:
        unpack(lambda w: WORKFLOW.backbone_input(w.backbone)),
    output:
        manifest="<results>/backbones/{backbone}.json",
        head="<results>/heads/{backbone}.safetensors",
        tokens="<results>/heads/{backbone}.tokens.json",
        model=directory("<results>/backbones/{backbone}"),
    log:
        "<logs>/build_backbone/{backbone}.log",
    benchmark:
        "<benchmarks>/build_backbone/{backbone}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("build_backbone", "threads")
    resources:
        mem_mb=resource("build_backbone", "mem_mb"),
        runtime=resource("build_backbone", "runtime"),
        gpu=resource("build_backbone", "gpu"),
    params:
        spec=lambda w: WORKFLOW.backbone_spec(w.backbone),
        code=code("build_backbone"),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"
