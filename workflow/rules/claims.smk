"""Verdicts: one result file per claim under the original's file name, a target per claim id, the summary."""


use rule step as judge_claim with:
    """The result file of a claim: verdict, reason, every arm's figures, the published record beside them."""
    input:
        unpack(lambda w: WORKFLOW.of_file(w.result).verdict_input()),
    output:
        result="<results>/{result}.json",
    log:
        "<logs>/judge_claim/{result}.log",
    benchmark:
        "<benchmarks>/judge_claim/{result}.tsv"
    wildcard_constraints:
        result=results_of(WORKFLOW.config.claims),
    threads: resource("judge_claim", "threads")
    resources:
        **resources_of("judge_claim", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.of_file(w.result).verdict_spec(),
        code=code("judge_claim"),
        software=software_of("judge_claim"),


use rule step as judge_ladder with:
    """The result file of a claim about several others: a verdict from the verdicts of its rungs."""
    input:
        unpack(lambda w: WORKFLOW.of_file(w.result).verdict_input()),
    output:
        result="<results>/{result}.json",
    log:
        "<logs>/judge_ladder/{result}.log",
    benchmark:
        "<benchmarks>/judge_ladder/{result}.tsv"
    wildcard_constraints:
        result=results_of(WORKFLOW.config.ladders),
    threads: resource("judge_ladder", "threads")
    resources:
        **resources_of("judge_ladder", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.of_file(w.result).verdict_spec(),
        code=code("judge_ladder"),
        software=software_of("judge_ladder"),


use rule step as summarise with:
    """A page of verdicts as Markdown and terminal text: `summary` of all claims, `headline` of those config names."""
    input:
        lambda w: WORKFLOW.page_files(w.page),
    output:
        markdown="<results>/{page}.md",
        text="<results>/{page}.txt",
        record="<results>/{page}.json",
    log:
        "<logs>/summarise/{page}.log",
    benchmark:
        "<benchmarks>/summarise/{page}.tsv"
    wildcard_constraints:
        page="|".join(PAGES),
    threads: resource("summarise", "threads")
    resources:
        **resources_of("summarise", "mem_mb", "runtime"),
    params:
        spec=lambda w: WORKFLOW.page_spec(w.page),
        code=code("summarise"),


rule headline:
    """The claims that `headline` of config/claims.yaml names, with their page."""
    input:
        WORKFLOW.page_files("headline"),
        "<results>/headline.md",
    localrule: True


for _claim in WORKFLOW.config.every():

    rule:
        name:
            _claim
        input:
            WORKFLOW.result_file(_claim),
        localrule: True

    getattr(rules, _claim).rule.docstring = WORKFLOW.claim(_claim).title
