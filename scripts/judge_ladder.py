"""Rule judge_ladder: the result file of a ladder of claims."""

from abi import provenance
from abi.stages import ladder

with provenance.job(snakemake, "scripts/judge_ladder.py") as job:
    ladder.run(job, snakemake.input, snakemake.output)
