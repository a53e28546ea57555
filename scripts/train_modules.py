"""Rule train_modules: native modules on stored states, one per seed."""

from abi import provenance
from abi.stages import modules

with provenance.job(snakemake, "scripts/train_modules.py") as job:
    modules.run(job, snakemake.input, snakemake.output)
