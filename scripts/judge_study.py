"""Rule judge_study: the result file of a claim made of several studies."""

from abi import provenance
from abi.stages import study_verdict

with provenance.job(snakemake, "scripts/judge_study.py") as job:
    study_verdict.run(job, snakemake.input, snakemake.output)
