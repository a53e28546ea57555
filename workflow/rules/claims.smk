"""Verdicts: one result file per claim under the original's file name, a target per claim id, the summary."""


rule judge_claim:
    """The result file of a claim: verdict, reason, every arm's figures, the published record beside them."""
    input:
        unpack(lambda w: STUDY.verdict_input(STUDY.claim_of_file(w.result))),
    output:
        result="<results>/{result}.json",
    log:
        "<logs>/judge_claim/{result}.log",
    benchmark:
        "<benchmarks>/judge_claim/{result}.tsv"
    wildcard_constraints:
        result="|".join(Path(path).stem for path in STUDY.result_files()),
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("judge_claim", "mem_mb"),
        runtime=resource("judge_claim", "runtime"),
    params:
        spec=lambda w: STUDY.verdict_spec(STUDY.claim_of_file(w.result)),
        code=code("judge_claim.py"),
    script:
        "../../scripts/judge_claim.py"


rule summarise:
    """Table of all verdicts as Markdown and terminal text."""
    input:
        STUDY.result_files(),
    output:
        markdown="<results>/summary.md",
        text="<results>/summary.txt",
        record="<results>/summary.json",
    log:
        "<logs>/summarise.log",
    benchmark:
        "<benchmarks>/summarise.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("summarise", "mem_mb"),
        runtime=resource("summarise", "runtime"),
    params:
        spec=dict(protocol=STUDY.config.protocol),
        code=code("summarise.py"),
    script:
        "../../scripts/summarise.py"


rule verify:
    """The published record and the results of this checkout, judged (no torch): `abi verify` as a file."""
    input:
        STUDY.result_files(),
        "<results>/summary.md",
    output:
        "<results>/verify.json",
    log:
        "<logs>/verify.log",
    benchmark:
        "<benchmarks>/verify.tsv"
    conda:
        "../../envs/abi.yaml"
    threads: 1
    resources:
        mem_mb=resource("verify", "mem_mb"),
        runtime=resource("verify", "runtime"),
    params:
        code=code_digest("abi/verification/__init__.py", ROOT),
    shell:
        "python -m abi verify --json > {output} 2> {log}"


for _claim in STUDY.config.claims:

    rule:
        name:
            _claim
        input:
            STUDY.result_file(_claim),
        localrule: True

    getattr(rules, _claim).rule.docstring = STUDY.claim(_claim)["title"]
