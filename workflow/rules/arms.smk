"""Claims with arms of their own: alignment of spaces, every arm with the same data and budget, its evidence."""


use rule step as fit_alignment with:
    """Rotations from a redrawn target interface to the spaces the domain nets come from."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).alignment_input(w.batch)),
    output:
        manifest="<results>/alignments/{claim}/{batch}.json",
        rotations="<results>/alignments/{claim}/{batch}.safetensors",
    log:
        "<logs>/fit_alignment/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/fit_alignment/{claim}.{batch}.tsv"
    threads: resource("fit_alignment", "threads")
    resources:
        **resources_of("fit_alignment", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).alignment_spec(w.batch),
        code=code("fit_alignment"),
        software=software_of("fit_alignment"),


use rule step as write_lesson_text with:
    """Text that a source draws with its module, one text per seed of a batch, and the states of source and target on it."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).written_input(w.batch)),
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
    threads: resource("write_lesson_text", "threads")
    resources:
        **resources_of("write_lesson_text", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).written_spec(w.batch),
        code=code("write_lesson_text"),
        software=software_of("write_lesson_text"),


use rule step as choose_rates with:
    """The learning rate of every arm of a claim, chosen on calibration text with a seed that no study has."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).rates_input()),
        model=ancient(lambda w: WORKFLOW.of(w.claim).rates_model()),
    output:
        manifest="<results>/rates/{claim}.json",
    log:
        "<logs>/choose_rates/{claim}.log",
    benchmark:
        "<benchmarks>/choose_rates/{claim}.tsv"
    threads: resource("choose_rates", "threads")
    resources:
        **resources_of("choose_rates", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).rates_spec(),
        code=lambda w: code("choose_rates", WORKFLOW.of(w.claim).rates_spec()),
        software=software_of("choose_rates"),


use rule step as calibrate_arms with:
    """Every arm of a claim for a batch of seeds, by gradient and in closed form; frozen parts are hashed."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).calibration_input(w.batch)),
    output:
        manifest="<results>/calibration/{claim}/{batch}.json",
        folder=directory("<results>/calibration/{claim}/{batch}"),
    log:
        "<logs>/calibrate_arms/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/calibrate_arms/{claim}.{batch}.tsv"
    threads: resource("calibrate_arms", "threads")
    resources:
        **resources_of("calibrate_arms", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).calibration_spec(w.batch),
        code=lambda w: code(
            "calibrate_arms", WORKFLOW.of(w.claim).calibration_spec(w.batch)
        ),
        software=software_of("calibrate_arms"),


use rule step as calibrate_placebos with:
    """Placebos of a claim's portable modules (zero-text), calibrated on general text of the target."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).placebos_input(w.batch)),
    output:
        manifest="<results>/placebos/{claim}/{batch}.json",
        folder=directory("<results>/placebos/{claim}/{batch}"),
    log:
        "<logs>/calibrate_placebos/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/calibrate_placebos/{claim}.{batch}.tsv"
    threads: resource("calibrate_placebos", "threads")
    resources:
        **resources_of("calibrate_placebos", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).placebos_spec(w.batch),
        code=code("calibrate_placebos"),
        software=software_of("calibrate_placebos"),


use rule step as train_lora with:
    """The arm `lora` of a claim for a batch of seeds: the only arm that runs a backbone, with the budget of all others."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).lora_input(w.batch)),
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
    threads: resource("train_lora", "threads")
    resources:
        **resources_of("train_lora", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).lora_spec(w.batch),
        code=code("train_lora"),
        software=software_of("train_lora"),


use rule step as evaluate_arms with:
    """Evidence rows and the record's random draws of a claim for a batch of seeds; with evaluate_studies and evaluate_experiment the only rule that scores the test split."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).evidence_input(w.batch)),
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
    threads: resource("evaluate_arms", "threads")
    resources:
        **resources_of("evaluate_arms", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).evidence_spec(w.batch),
        code=code("evaluate_arms"),
        software=software_of("evaluate_arms"),
