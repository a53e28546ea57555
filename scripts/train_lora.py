"""Rule train_lora: LoRA adapters on a claim's target backbone, and the final states they give."""

from abi import provenance
from abi.stages import lora

with provenance.job(snakemake, "scripts/train_lora.py") as job:
    lora.run(job, snakemake.input, snakemake.output)
