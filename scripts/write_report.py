"""Rule write_report: the report of a run."""

from abi import provenance
from abi.stages import report_page

with provenance.job(snakemake, "scripts/write_report.py") as job:
    report_page.run(job, snakemake.input, snakemake.output)
