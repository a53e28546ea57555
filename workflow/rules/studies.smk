"""Claims made of several studies: updated backbones, what stands beside them, their evidence and verdicts.

Their chain of jobs is the longest of the DAG, so it goes first where there is a choice (`priority`).
"""


use rule step as update_backbone with:
    """Backbones updated on general text, one per seed of a batch, each a backbone like any other."""
    input:
        unpack(lambda w: WORKFLOW.update_input(w.lineage, w.stage, w.batch)),
        model=ancient(
            lambda w: WORKFLOW.backbone_folder(
                WORKFLOW.scale.updates[w.lineage].backbone
            )
        ),
    output:
        manifest="<results>/updates/{lineage}/{stage}/{batch}.json",
        folder=directory("<results>/updates/{lineage}/{stage}/{batch}"),
    log:
        "<logs>/update_backbone/{lineage}.{stage}.{batch}.log",
    benchmark:
        "<benchmarks>/update_backbone/{lineage}.{stage}.{batch}.tsv"
    priority: 1
    threads: resource("update_backbone", "threads")
    resources:
        **resources_of("update_backbone", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.update_spec(w.lineage, w.stage, w.batch),
        code=code("update_backbone"),
        software=software_of("update_backbone"),


use rule step as write_updated_states with:
    """States of updated backbones on a text, one backbone per seed."""
    input:
        unpack(lambda w: WORKFLOW.text_files(w.text)),
        updated="<results>/updates/{lineage}/{stage}/{batch}.json",
        folder=ancient("<results>/updates/{lineage}/{stage}/{batch}"),
    output:
        manifest="<results>/updated_states/{lineage}/{stage}/{text}/{batch}.json",
        folder=directory("<results>/updated_states/{lineage}/{stage}/{text}/{batch}"),
    log:
        "<logs>/write_updated_states/{lineage}.{stage}.{text}.{batch}.log",
    benchmark:
        "<benchmarks>/write_updated_states/{lineage}.{stage}.{text}.{batch}.tsv"
    priority: 1
    threads: resource("write_updated_states", "threads")
    resources:
        **resources_of(
            "write_updated_states",
            "mem_mb",
            "runtime",
            "gpu",
            of="lineage",
        ),
    params:
        spec=lambda w: WORKFLOW.updated_states_spec(w.lineage, w.stage, w.text, w.batch),
        code=code("write_updated_states"),
        software=software_of("write_updated_states"),


use rule step as train_updated_modules with:
    """Native modules beside updated backbones, one per seed, with the budget of every native module."""
    input:
        states="<results>/updated_states/{lineage}/{stage}/{text}/{batch}.json",
        folder=ancient("<results>/updated_states/{lineage}/{stage}/{text}/{batch}"),
        updated="<results>/updates/{lineage}/{stage}/{batch}.json",
    output:
        manifest="<results>/updated_modules/{lineage}/{stage}/{text}/{role}/{batch}.json",
        folder=directory(
            "<results>/updated_modules/{lineage}/{stage}/{text}/{role}/{batch}"
        ),
    log:
        "<logs>/train_updated_modules/{lineage}.{stage}.{text}.{role}.{batch}.log",
    benchmark:
        "<benchmarks>/train_updated_modules/{lineage}.{stage}.{text}.{role}.{batch}.tsv"
    priority: 1
    threads: resource("train_updated_modules", "threads")
    resources:
        **resources_of("train_updated_modules", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.updated_module_spec(
            w.lineage, w.stage, w.text, w.role, w.batch
        ),
        code=code("train_updated_modules"),
        software=software_of("train_updated_modules"),


use rule step as generate_text with:
    """Text generated with a module on its updated backbone, and with none (tier S4 of the original)."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).generation_input()),
    output:
        manifest="<results>/generation/{claim}.json",
    log:
        "<logs>/generate_text/{claim}.log",
    benchmark:
        "<benchmarks>/generate_text/{claim}.tsv"
    threads: resource("generate_text", "threads")
    resources:
        **resources_of("generate_text", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).generation_spec(),
        code=code("generate_text"),
        software=software_of("generate_text"),


use rule step as evaluate_studies with:
    """Evidence rows and the record's random draws of a claim made of several studies, for a batch of seeds."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).evidence_input(w.batch)),
    output:
        evidence="<results>/evidence/{claim}/{batch}.csv.gz",
        draws="<results>/evidence/{claim}/{batch}.draws.csv.gz",
        manifest="<results>/evidence/{claim}/{batch}.json",
    log:
        "<logs>/evaluate_studies/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/evaluate_studies/{claim}.{batch}.tsv"
    wildcard_constraints:
        claim=one_of(
            name
            for name in WORKFLOW.config.studies
            if name not in WORKFLOW.experiments
        ),
    priority: 1
    threads: resource("evaluate_studies", "threads")
    resources:
        **resources_of("evaluate_studies", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).evidence_spec(w.batch),
        code=code("evaluate_studies"),
        software=software_of("evaluate_studies"),


use rule step as evaluate_experiment with:
    """Arms of an experiment, fitted on stored states for all its seeds, and their evidence; rates are tried once."""
    input:
        unpack(lambda w: WORKFLOW.of(w.claim).evidence_input(w.batch)),
        model=ancient(lambda w: WORKFLOW.of(w.claim).model()),
    output:
        evidence="<results>/evidence/{claim}/{batch}.csv.gz",
        draws="<results>/evidence/{claim}/{batch}.draws.csv.gz",
        manifest="<results>/evidence/{claim}/{batch}.json",
        fits="<results>/fits/{claim}/{batch}.json",
    log:
        "<logs>/evaluate_experiment/{claim}.{batch}.log",
    benchmark:
        "<benchmarks>/evaluate_experiment/{claim}.{batch}.tsv"
    wildcard_constraints:
        claim=one_of(WORKFLOW.experiments),
    threads: resource("evaluate_experiment", "threads")
    resources:
        **resources_of("evaluate_experiment", "mem_mb", "runtime", "gpu"),
    params:
        spec=lambda w: WORKFLOW.of(w.claim).evidence_spec(w.batch),
        code=code("evaluate_experiment"),
        software=software_of("evaluate_experiment"),


use rule step as judge_study with:
    """The result file of a claim made of several studies: verdict, every study, what the original computes."""
    input:
        unpack(lambda w: WORKFLOW.of_file(w.result).verdict_input()),
    output:
        result="<results>/{result}.json",
    log:
        "<logs>/judge_study/{result}.log",
    benchmark:
        "<benchmarks>/judge_study/{result}.tsv"
    wildcard_constraints:
        result=results_of(WORKFLOW.config.studies),
    threads: resource("judge_study", "threads")
    resources:
        **resources_of("judge_study", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.of_file(w.result).verdict_spec(),
        code=code("judge_study"),
        software=software_of("judge_study"),
