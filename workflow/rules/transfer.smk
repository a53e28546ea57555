"""Moving a module: alignment of spaces, then calibration of every arm with the same data and budget."""


rule fit_alignment:
    """Rotations from a redrawn target interface to the spaces the domain nets come from."""
    input:
        unpack(lambda w: WORKFLOW.alignment_input(w.claim, w.batch)),
    output:
        manifest="<results>/alignments/{claim}/{batch}.json",
        rotations="<results>/alignments/{claim}/{batch}.safetensors",
    log:
        "<logs>/fit_alignment/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/fit_alignment/{claim}.{batch}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("fit_alignment", "threads")
    resources:
        mem_mb=resource("fit_alignment", "mem_mb"),
        runtime=resource("fit_alignment", "runtime"),
    params:
        spec=lambda w: WORKFLOW.alignment_spec(w.claim, w.batch),
        code=code("fit_alignment"),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"


rule write_lesson_text:
    """Text that a source draws with its module, one text per seed of a batch, and the states of source and target on it."""
    input:
        unpack(lambda w: WORKFLOW.written_input(w.claim, w.batch)),
        source_model=ancient(
            lambda w: WORKFLOW.backbone_folder(WORKFLOW.claim(w.claim).source)
        ),
        target_model=ancient(
            lambda w: WORKFLOW.backbone_folder(WORKFLOW.claim(w.claim).target)
        ),
    output:
        manifest="<results>/written/{claim}/{batch}.json",
        folder=directory("<results>/written/{claim}/{batch}"),
    log:
        "<logs>/write_lesson_text/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/write_lesson_text/{claim}.{batch}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("write_lesson_text", "threads")
    resources:
        mem_mb=resource("write_lesson_text", "mem_mb"),
        runtime=resource("write_lesson_text", "runtime"),
        gpu=resource("write_lesson_text", "gpu"),
    params:
        spec=lambda w: WORKFLOW.written_spec(w.claim, w.batch),
        code=code("write_lesson_text"),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"


rule calibrate_arms:
    """Every arm of a claim for a batch of seeds, by gradient and in closed form; frozen parts are hashed."""
    input:
        unpack(lambda w: WORKFLOW.calibration_input(w.claim, w.batch)),
    output:
        manifest="<results>/calibration/{claim}/{batch}.json",
        folder=directory("<results>/calibration/{claim}/{batch}"),
    log:
        "<logs>/calibrate_arms/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/calibrate_arms/{claim}.{batch}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("calibrate_arms", "threads")
    resources:
        mem_mb=resource("calibrate_arms", "mem_mb"),
        runtime=resource("calibrate_arms", "runtime"),
        gpu=resource("calibrate_arms", "gpu"),
    params:
        spec=lambda w: WORKFLOW.calibration_spec(w.claim, w.batch),
        code=lambda w: code(
            "calibrate_arms", WORKFLOW.calibration_spec(w.claim, w.batch)
        ),
        software=SOFTWARE,
    script:
        "../../scripts/job.py"


rule train_lora:
    """The arm `lora` of a claim for a batch of seeds: the only arm that runs a backbone, with the budget of all others."""
    input:
        unpack(lambda w: WORKFLOW.lora_input(w.claim, w.batch)),
        model=ancient(
            lambda w: WORKFLOW.backbone_folder(WORKFLOW.claim(w.claim).target)
        ),
    output:
        manifest="<results>/lora/{claim}/{batch}.json",
        folder=directory("<results>/lora/{claim}/{batch}"),
    log:
        "<logs>/train_lora/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/train_lora/{claim}.{batch}.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: resource("train_lora", "threads")
    resources:
        mem_mb=resource("train_lora", "mem_mb"),
        runtime=resource("train_lora", "runtime"),
        gpu=resource("train_lora", "gpu"),
    params:
        spec=lambda w: WORKFLOW.lora_spec(w.claim, w.batch),
        code=code("train_lora"),
        software=dict(SOFTWARE, peft=versions()["peft"]),
    script:
        "../../scripts/job.py"
