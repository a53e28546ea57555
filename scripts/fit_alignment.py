"""Rule fit_alignment: rotations from the target's redrawn interface to the spaces of the nets."""

from abi import provenance
from abi.stages import alignments

with provenance.job(snakemake, "scripts/fit_alignment.py") as job:
    alignments.run(job, snakemake.input, snakemake.output)
