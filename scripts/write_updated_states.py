"""Rule write_updated_states: states of updated backbones on a text."""

from abi import provenance
from abi.stages import updated_states

with provenance.job(snakemake, "scripts/write_updated_states.py") as job:
    updated_states.run(job, snakemake.input, snakemake.output)
