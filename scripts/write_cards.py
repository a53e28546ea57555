"""Rule write_cards: a model card per claim."""

from abi import provenance
from abi.stages import cards

with provenance.job(snakemake, "scripts/write_cards.py") as job:
    cards.run(job, list(snakemake.input), list(snakemake.output))
