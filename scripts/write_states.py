"""Rule write_states: one pass of a frozen backbone over a text."""

from abi import provenance
from abi.stages import states_of_text

with provenance.job(snakemake, "scripts/write_states.py") as job:
    states_of_text.run(job, snakemake.input, snakemake.output)
