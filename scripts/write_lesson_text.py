"""Rule write_lesson_text: what a source writes with its module, and the states of source and target on it."""

from abi import provenance
from abi.stages import written_text

with provenance.job(snakemake, "scripts/write_lesson_text.py") as job:
    written_text.run(job, snakemake.input, snakemake.output)
