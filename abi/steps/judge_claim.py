"""Job: the result file of a claim: verdict, figures, controls, the record beside them (no torch)."""

from collections.abc import Mapping

from abi.base.job import InputFiles, Job
from abi.judge.judgement import judge_claim
from abi.plan.specs.judge import JudgeClaim as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write the result file (`result`)."""
    judge_claim(job.spec, inputs, job.provenance).write(outputs["result"])
