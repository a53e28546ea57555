"""Rule build_text: one text as documents with groups and splits."""

from abi import provenance
from abi.stages import text

with provenance.job(snakemake, "scripts/build_text.py") as job:
    text.run(job, snakemake.output)
