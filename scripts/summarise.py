"""Rule summarise: the summary of all claims."""

from abi import provenance
from abi.stages import summary

with provenance.job(snakemake, "scripts/summarise.py") as job:
    summary.run(job, list(snakemake.input), snakemake.output)
