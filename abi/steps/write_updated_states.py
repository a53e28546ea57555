"""Job: states of updated backbones on a text, one backbone per seed, written as those of any backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.base.files import sha256_file, write_json
from abi.base.job import Job
from abi.models.saved import UpdatedBackbone
from abi.steps.write_states import write_splits
from abi.text.documents import read_assigned


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` (a batch) and in `folder` per seed and split the states and their manifest `seed<n>.<split>.json`."""
    documents, folder, members = read_assigned(inputs["documents"], inputs["record"]), Path(outputs["folder"]), []
    for seed in job.spec["seeds"]:
        updated = UpdatedBackbone.of([inputs["updated"]], seed)
        manifests = {split: folder / f"seed{seed}.{split}.json" for split in job.spec["splits"]}
        write_splits(job, documents, updated.facts(), updated.model, updated.head, manifests)
        members.append({"seed": seed, "files": {path.name: sha256_file(path) for path in manifests.values()}})
    write_json(outputs["manifest"], "batch", {"members": members, "provenance": job.provenance()})
