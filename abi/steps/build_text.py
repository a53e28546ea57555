"""Step build_text: a text as documents with groups and splits."""

from collections.abc import Mapping

from abi.base.job import Job
from abi.plan.specs.text import BuildText
from abi.text.corpus import build_text, summary
from abi.text.documents import write_documents, write_manifest

Spec = BuildText


def run(job: Job[BuildText], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `documents` (gzip JSON lines), `manifest` (CSV) and `record` (JSON with counts and provenance)."""
    documents = build_text(job.spec)
    write_documents(documents, outputs["documents"])
    write_manifest(documents, outputs["manifest"])
    summary(documents, job.provenance()).write(outputs["record"])
