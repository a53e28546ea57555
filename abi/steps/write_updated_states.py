"""Step write_updated_states: states of updated backbones on a text, one per seed, written as those of any backbone."""

from functools import partial
from pathlib import Path

from abi.base import compute
from abi.base.files import sha256_file
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.batches import BatchManifest, Member
from abi.models.backbone import load_checked
from abi.models.saved import UpdatedBackbone
from abi.models.tokenizers import PerTokenizer
from abi.models.windows import windows_and_lost_share
from abi.plan.specs.models import WriteUpdatedStates as Spec
from abi.steps.write_states import write_splits
from abi.text.documents import read_assigned


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` (a batch) and in `folder` the states of every seed and split, `seed<n>.<split>.json`."""
    documents, folder, members = read_assigned(inputs["documents"], inputs["record"]), Path(outputs["folder"]), []
    cut = PerTokenizer(partial(windows_and_lost_share, documents, job.spec))
    for seed in job.spec.seeds:
        updated = UpdatedBackbone.of([inputs["updated"]], seed)
        manifests = {split: folder / f"seed{seed}.{split}.json" for split in job.spec.splits}
        base = updated.about()
        backbone = load_checked(updated.model, base, compute.use_precision(job.spec.precision))
        write_splits(job.spec, documents, base, backbone, updated.head, manifests, job.provenance, cut.of)
        members.append(Member(seed=seed, files={path.name: sha256_file(path) for path in manifests.values()}))
    BatchManifest(members=members, provenance=job.provenance(outputs)).write(outputs["manifest"])
