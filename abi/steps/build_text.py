"""Job: a text as documents with groups and splits."""

from collections.abc import Mapping
from typing import Any

from abi.base.files import write_json
from abi.base.job import Job
from abi.text.corpus import TextSpec, build_text, summary
from abi.text.documents import write_documents, write_manifest


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `documents` (gzip JSON lines), `manifest` (CSV) and `record` (JSON with counts and provenance)."""
    spec: dict[str, Any] = dict(job.spec)
    documents = build_text(TextSpec(**spec))
    write_documents(documents, outputs["documents"])
    write_manifest(documents, outputs["manifest"])
    write_json(outputs["record"], "text", {**summary(documents), "provenance": job.provenance()})
