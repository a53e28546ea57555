"""Rule evaluate_arms: evidence rows of every arm on held-out text."""

from abi import provenance
from abi.stages import evidence_of_claim

with provenance.job(snakemake, "scripts/evaluate_arms.py") as job:
    evidence_of_claim.run(job, snakemake.input, snakemake.output)
