"""Step measure_overlap: how much of each test document, as far as a backbone scores it, stands in train."""

from collections.abc import Iterable

from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.overlaps import OverlapManifest, ScoredDocument
from abi.models.saved import read_states
from abi.models.states import States
from abi.plan.specs.text import MeasureOverlap as Spec
from abi.text.copies import passages, share_in
from abi.text.documents import Document, read_assigned


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest`."""
    states = read_states(inputs["states"], "test")
    documents = overlaps(read_assigned(inputs["documents"], inputs["record"]), states)
    made = job.provenance(outputs)
    OverlapManifest(text=job.spec.text, base_model=job.spec.backbone, documents=documents, provenance=made).write(
        outputs["manifest"]
    )


def overlaps(documents: Iterable[Document], states: States) -> dict[str, ScoredDocument]:
    """Return test document -> how much of its windows' text stands in train, of whose documents all counts.

    Windows of a document follow each other from its beginning: what the last position has read is all of their text but
    its last token.
    """
    known = {document.document: document for document in documents}
    train = {passage for one in known.values() if one.split == "train" for passage in passages(one.text)}
    names, ends = states.manifest.documents, dict.fromkeys(states.manifest.documents, 0)
    for place, end in zip(states.document.tolist(), states.char_end.amax(1).tolist(), strict=True):
        ends[names[place]] = max(ends[names[place]], end)
    scored = {name: known[name].text[:end] for name, end in ends.items()}
    return {
        name: ScoredDocument(bytes=len(text.encode()), in_train=share_in(train, text)) for name, text in scored.items()
    }
