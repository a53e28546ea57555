"""Rule evaluate_studies: evidence of a claim made of several studies."""

from abi import provenance
from abi.stages import evidence_of_studies

with provenance.job(snakemake, "scripts/evaluate_studies.py") as job:
    evidence_of_studies.run(job, snakemake.input, snakemake.output)
