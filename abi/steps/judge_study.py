"""Job: the result file of a claim made of several studies: verdict, studies, what the original computes (no torch)."""

from collections.abc import Mapping, Sequence

from abi.base.job import Job
from abi.judge.judgement import judge_study
from abi.plan.specs.judge import JudgeStudy as Spec


def run(job: Job[Spec], inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> None:
    """Write the result file (`result`)."""
    named = {
        name: list(inputs[name]) for name in inputs.keys()
    }  # Snakemake's list of inputs knows no `in` and no `get`
    judge_study(job.spec, named, job.provenance).write(outputs["result"])
