"""Rule update_backbone: backbones updated on general text, one per seed of a batch."""

from abi import provenance
from abi.stages import updated_backbones

with provenance.job(snakemake, "scripts/update_backbone.py") as job:
    updated_backbones.run(job, snakemake.input, snakemake.output)
