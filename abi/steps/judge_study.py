"""Job: the result file of a claim made of several studies: verdict, studies, what the original computes (no torch)."""

from collections.abc import Mapping

from abi.base.job import InputFiles, Job
from abi.judge.judgement import judge_study
from abi.plan.specs.judge import JudgeStudy as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write the result file (`result`)."""
    judge_study(job.spec, inputs, job.provenance).write(outputs["result"])
