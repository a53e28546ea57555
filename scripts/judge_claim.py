"""Rule judge_claim: the result file of a claim."""

from abi import provenance
from abi.stages import verdict

with provenance.job(snakemake, "scripts/judge_claim.py") as job:
    verdict.run(job, snakemake.input, snakemake.output)
