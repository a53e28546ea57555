"""Step build_text: a text as documents with groups and splits."""

from abi.base.job import InputFiles, Job, OutputFiles
from abi.plan.specs.text import BuildText as Spec
from abi.text.corpus import build_text, reasons, summary
from abi.text.documents import write_documents, write_manifest


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `documents` (gzip JSON lines), `manifest` (CSV) and `record` (JSON with counts and provenance)."""
    chosen = build_text(job.spec)
    print(f"{len(chosen.documents)} documents; files left out: {reasons(chosen.left_out)}")
    write_documents(chosen.documents, outputs["documents"])
    write_manifest(chosen.documents, outputs["manifest"])
    summary(chosen, job.provenance(outputs)).write(outputs["record"])
