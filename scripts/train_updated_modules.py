"""Rule train_updated_modules: native modules beside updated backbones."""

from abi import provenance
from abi.stages import modules

with provenance.job(snakemake, "scripts/train_updated_modules.py") as job:
    modules.run_updated(job, snakemake.input, snakemake.output)
