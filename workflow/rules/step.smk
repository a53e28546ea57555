"""What rules have in common that run a step."""


rule step:
    """What every rule has that runs a step: its environment and its script. Nothing asks for a job of this one."""
    output:
        "<results>/{step}.step",
    log:
        "<logs>/step/{step}.log",
    wildcard_constraints:
        step="(?!)",
    conda:
        "../../envs/abi.yaml"
    threads: 1
    script:
        "../../scripts/job.py"
