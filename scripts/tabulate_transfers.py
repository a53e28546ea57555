"""Rule tabulate_transfers: pairs x regimes."""

from abi import provenance
from abi.stages import table

with provenance.job(snakemake, "scripts/tabulate_transfers.py") as job:
    table.run(job, snakemake.input, snakemake.output)
