"""Rule build_backbone: a frozen backbone in the Hugging Face layout, with its head."""

from abi import provenance
from abi.stages import backbone

with provenance.job(snakemake, "scripts/build_backbone.py") as job:
    backbone.run(job, snakemake.input, snakemake.output)
