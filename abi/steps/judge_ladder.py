"""Job: the result file of a claim about several others: a ladder of sizes, or the original's aggregate (no torch)."""

from collections.abc import Mapping, Sequence

from abi.base.job import Job
from abi.judge.judgement import judge_ladder
from abi.plan.specs.judge import JudgeLadder as Spec


def run(job: Job[Spec], inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> None:
    """Write the result file (`result`)."""
    named = {
        name: list(inputs[name]) for name in inputs.keys()
    }  # Snakemake's list of inputs knows no `in` and no `get`
    judge_ladder(job.spec, named, job.provenance).write(outputs["result"])
