"""Rule instrument: the verdict rule on simulated studies."""

from abi import provenance
from abi.stages import simulation

with provenance.job(snakemake, "scripts/simulate_studies.py") as job:
    simulation.run(job, snakemake.output)
