"""Rule calibrate_arms: every arm of a claim, fitted with the same data and budget."""

from abi import provenance
from abi.stages import calibration

with provenance.job(snakemake, "scripts/calibrate_arms.py") as job:
    calibration.run(job, snakemake.input, snakemake.output)
