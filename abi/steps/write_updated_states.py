"""Step write_updated_states: states of updated backbones on a text, one per seed, written as those of any backbone."""

from collections.abc import Mapping
from pathlib import Path

from abi.base.files import sha256_file
from abi.base.job import Job
from abi.base.manifests import BatchManifest, Member
from abi.models.saved import UpdatedBackbone
from abi.plan.specs.models import WriteUpdatedStates
from abi.steps.write_states import write_splits
from abi.text.documents import read_assigned

Spec = WriteUpdatedStates


def run(job: Job[WriteUpdatedStates], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `manifest` (a batch) and in `folder` per seed and split the states and their manifest
    `seed<n>.<split>.json`.
    """
    documents, folder, members = read_assigned(inputs["documents"], inputs["record"]), Path(outputs["folder"]), []
    for seed in job.spec.seeds:
        updated = UpdatedBackbone.of([inputs["updated"]], seed)
        manifests = {split: folder / f"seed{seed}.{split}.json" for split in job.spec.splits}
        place = updated.model, updated.head
        write_splits(job.spec, documents, updated.about(), *place, manifests, job.provenance())
        members.append(Member(seed=seed, files={path.name: sha256_file(path) for path in manifests.values()}))
    BatchManifest(members=members, provenance=job.provenance()).write(outputs["manifest"])
