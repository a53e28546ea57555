"""Text, frozen backbones, their states, and modules trained beside them: what every claim stands on."""


use rule step as build_text with:
    """One text as documents: extracted, deduplicated, grouped by folder and split by group."""
    output:
        documents="<results>/corpus/{text}.jsonl.gz",
        manifest="<results>/corpus/{text}.csv",
        record="<results>/corpus/{text}.json",
    log:
        "<logs>/build_text/{text}.log",
    benchmark:
        "<benchmarks>/build_text/{text}.tsv"
    threads: resource("build_text", "threads")
    resources:
        **resources_of("build_text", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.text_spec(w.text),
        code=code("build_text"),
        software=software_of("build_text"),


use rule step as build_backbone with:
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
    wildcard_constraints:
        backbone=one_of(WORKFLOW.scale.backbones),
    threads: resource("build_backbone", "threads")
    resources:
        **resources_of("build_backbone", "mem_mb", "runtime", of="backbone"),
    params:
        spec=lambda w: WORKFLOW.backbone_spec(w.backbone),
        code=code("build_backbone"),
        software=software_of("build_backbone"),


use rule step as admit_update with:
    """A backbone after an update, admitted as a backbone like any other: what modules are moved to."""
    input:
        unpack(lambda w: WORKFLOW.admission_input(w.backbone)),
    output:
        manifest="<results>/backbones/{backbone}.json",
        head="<results>/heads/{backbone}.safetensors",
        tokens="<results>/heads/{backbone}.tokens.json",
        model=directory("<results>/backbones/{backbone}"),
    log:
        "<logs>/admit_update/{backbone}.log",
    benchmark:
        "<benchmarks>/admit_update/{backbone}.tsv"
    wildcard_constraints:
        backbone=one_of(WORKFLOW.scale.updates),
    threads: resource("admit_update", "threads")
    resources:
        **resources_of("admit_update", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.admission_spec(w.backbone),
        code=code("admit_update"),
        software=software_of("admit_update"),


use rule step as write_states with:
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
    threads: resource("write_states", "threads")
    resources:
        **resources_of("write_states", "mem_mb", "runtime", "gpu", of="backbone"),
    params:
        spec=lambda w: WORKFLOW.states_spec(w.backbone, w.text),
        code=code("write_states"),
        software=software_of("write_states"),


use rule step as measure_overlap with:
    """How much of each test document stands in train, as far as the windows of a backbone reach."""
    input:
        unpack(lambda w: WORKFLOW.text_files(w.text)),
        states="<results>/states/{backbone}/{text}.test.json",
    output:
        manifest="<results>/overlaps/{backbone}/{text}.json",
    log:
        "<logs>/measure_overlap/{backbone}.{text}.log",
    benchmark:
        "<benchmarks>/measure_overlap/{backbone}.{text}.tsv"
    threads: resource("measure_overlap", "threads")
    resources:
        **resources_of("measure_overlap", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.overlap_spec(w.backbone, w.text),
        code=code("measure_overlap"),
        software=software_of("measure_overlap"),


use rule step as train_portable with:
    """Portable modules of a source, one per seed of the batch, and the controls trained with them (zero-text)."""
    input:
        domain="<results>/states/{backbone}/{text}.train.json",
        domain_tensors=ancient("<results>/states/{backbone}/{text}.train.safetensors"),
        general=lambda w: WORKFLOW.states(w.backbone, WORKFLOW.general, "train"),
        head="<results>/heads/{backbone}.safetensors",
        tokens="<results>/heads/{backbone}.tokens.json",
    output:
        manifest="<results>/modules/{backbone}/{text}/portable/portable/{batch}.json",
        folder=directory(
            "<results>/modules/{backbone}/{text}/portable/portable/{batch}"
        ),
    log:
        "<logs>/train_portable/{backbone}.{text}.{batch}.log",
    benchmark:
        "<benchmarks>/train_portable/{backbone}.{text}.{batch}.tsv"
    threads: resource("train_portable", "threads")
    resources:
        **resources_of("train_portable", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.portable_spec(w.text, w.batch),
        code=code("train_portable"),
        software=software_of("train_portable"),


use rule step as train_modules with:
    """Native modules of one shape and role (source, oracle, reference, home), one per seed of the batch."""
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
    wildcard_constraints:
        role="source|oracle|reference|home",
    threads: resource("train_modules", "threads")
    resources:
        **resources_of("train_modules", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.module_spec(w.text, w.shape, w.role, w.batch),
        code=code("train_modules"),
        software=software_of("train_modules"),
