"""Step admit_update: an updated backbone as a backbone like any other, with its head and its vocabulary."""

import shutil
from pathlib import Path

from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.models.backbone import load_checked, save_backbone
from abi.models.described import describe_backbone
from abi.models.saved import UpdatedBackbone
from abi.models.tokenizers import spellings
from abi.plan.specs.admitted import AdmitUpdate as Spec


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `model` (folder), `head` (safetensors), `tokens` and `manifest` (JSON)."""
    place = UpdatedBackbone.of(inputs["updates"], job.spec.seed)
    backbone, folder = load_checked(place.model, place.about()), Path(outputs["model"])
    partial = folder.with_name(f".{folder.name}.partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    save_backbone(backbone, partial)
    partial.rename(folder)
    about = describe_backbone(
        backbone, folder, outputs["head"], name=folder.name, revision="updated", provenance=job.provenance()
    )
    spelled = spellings(backbone.tokenizer, about.head_rows)
    TokensManifest(vocabulary=about.vocabulary, spellings=spelled).write(outputs["tokens"])
    about.model_copy(update={"provenance": job.provenance(outputs)}).write(outputs["manifest"])
