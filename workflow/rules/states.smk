"""States: one pass over a frozen backbone per text; everything after it never runs a backbone."""


rule write_states:
    """Tapped and final hidden states of every window of a text, memory-mapped, one file per split."""
    input:
        unpack(lambda w: WORKFLOW.text_files(w.text)),
        backbone="<results>/backbones/{backbone}.json",
        head="<results>/heads/{backbone}.safetensors",
        model=ancient("<results>/backbones/{backbone}"),
    output:
        train="<results>/states/{backbone}/{text}.train.json",
        calibration="<results>/states/{backbone}/{text}.calibration.json",
        test="<results>/states/{backbone}/{text}.test.json",
        tensors=expand(
            "<results>/states/{{backbone}}/{{text}}.{split}.safetensors",
            split=["train", "calibration", "test"],
        ),
    log:
        "<logs>/write_states/{backbone}.{text}.log",
    benchmark:
        "<benchmarks>/write_states/{backbone}.{text}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("write_states", "threads")
    resources:
        mem_mb=resource("write_states", "mem_mb"),
        runtime=resource("write_states", "runtime"),
        gpu=resource("write_states", "gpu"),
    params:
        spec=lambda w: WORKFLOW.states_spec(w.backbone, w.text),
        code=code("write_states"),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"
