"""Rule generate_text: text generated with a module on its updated backbone, and with none."""

from abi import provenance
from abi.stages import generated_text

with provenance.job(snakemake, "scripts/generate_text.py") as job:
    generated_text.run(job, snakemake.input, snakemake.output)
