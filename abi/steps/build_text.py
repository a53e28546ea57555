"""Step build_text: a text as documents with groups and splits."""

from abi.base.job import InputFiles, Job, OutputFiles
from abi.plan.specs.text import BuildText as Spec
from abi.text.corpus import build_text, summary
from abi.text.documents import write_documents, write_manifest


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `documents` (gzip JSON lines), `manifest` (CSV) and `record` (JSON with counts and provenance)."""
    documents = build_text(job.spec)
    write_documents(documents, outputs["documents"])
    write_manifest(documents, outputs["manifest"])
    summary(documents, job.provenance(outputs)).write(outputs["record"])
