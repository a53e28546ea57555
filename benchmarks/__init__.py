"""Speed and memory: the pipeline against the original's loop (`snakemake benchmarks`), and single questions."""
