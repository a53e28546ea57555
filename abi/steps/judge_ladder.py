"""Job: the result file of a claim about others: a ladder of sizes, a dose, or the original's aggregate (no torch)."""

from collections.abc import Mapping

from abi.base.job import InputFiles, Job
from abi.judge.judgement import judge_ladder
from abi.plan.specs.judge import JudgeLadder as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write the result file (`result`)."""
    judge_ladder(job.spec, inputs, job.provenance).write(outputs["result"])
