"""Job: one pass of a frozen backbone over the windows of every split of a text."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from abi.base.files import read_json, sha256_file, write_json
from abi.base.job import Job
from abi.models.backbone import Backbone, Window, load_checked
from abi.models.states import Head, Windows, make_windows, write_states
from abi.models.tokenizers import encode
from abi.text.documents import SPLITS, Document, assignment_sha256, read_assigned


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write states (`train`, `calibration`, `test`: manifest paths, the tensors beside them)."""
    documents = read_assigned(inputs["documents"], inputs["record"])
    write_splits(
        job, documents, read_json(inputs["backbone"], "backbone"), inputs["model"], inputs["head"],
        {split: outputs[split] for split in SPLITS},
    )  # fmt: skip


def write_splits(
    job: Job, documents: Sequence[Document], base: Mapping[str, Any], model: str | Path, head_path: str | Path,
    manifests: Mapping[str, str | Path], spec: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Run a backbone over some splits of a text and write states and manifest of each.

    Args: base: the backbone's manifest; model: its folder; manifests: split -> path of the manifest, the tensors go beside it;
        spec: of these states, the job's own if not given.
    Raises: TamperError: the weights are not those of the manifest.
    """
    spec = job.spec if spec is None else spec
    backbone = load_checked(model, base)
    head, window = Head.read(head_path), Window(**spec["window"])
    corpus = {"corpus_sha256": assignment_sha256(documents), "shares": spec["split"], "salt": spec["salt"]}
    for split, manifest in manifests.items():
        windows = windows_of(backbone, documents, split, spec)
        path = Path(manifest)
        tensors = path.with_suffix(".safetensors")
        facts = write_states(backbone, windows, window, spec["taps"], head, tensors)
        write_json(path, "states", {
            "split": split, **facts, **corpus, "base_model": base["name"], "base_revision": base["revision"], "base_sha256": base["weights_sha256"],
            "head_sha256": base["head_sha256"], "vocabulary": base["vocabulary"], "tensors_sha256": sha256_file(tensors),
            "provenance": job.provenance(),
        })  # fmt: skip


def windows_of(backbone: Backbone, documents: Sequence[Document], split: str, spec: Mapping[str, Any]) -> Windows:
    """Return the windows of a split's documents, tokenized for a backbone. Args: spec: of the states (`Jobs.states_spec`)."""
    return make_windows(
        [d for d in documents if d.split == split], partial(encode, backbone.tokenizer), Window(**spec["window"]),
        max_windows=spec["max_windows"][split], max_per_document=spec["max_windows_per_document"][split], min_scored=spec["min_scored"],
    )  # fmt: skip
