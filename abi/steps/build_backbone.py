"""Step build_backbone: a backbone in the Hugging Face layout, built or loaded at a pinned revision, with its head."""

import shutil
from pathlib import Path

from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.models.backbone import Window, describe_backbone, load_backbone, save_backbone
from abi.models.build import build_backbone
from abi.models.hub import download_backbone
from abi.models.tokenizers import spellings
from abi.plan.specs.models import BuildBackbone as Spec
from abi.text.documents import read_assigned


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `model` (folder), `head` (safetensors), `tokens` and `manifest` (JSON).

    The general train split is all that a backbone may read.
    """
    folder = Path(outputs["model"])
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    spec, revision, left = job.spec, "built", None
    if spec.hub is not None:
        revision = spec.hub.revision
        download_backbone(spec.hub, partial)
    else:
        assert spec.build is not None
        assert spec.window is not None
        texts = [document.text for document in read_assigned(inputs["documents"], inputs["record"], "train")]
        built, left = build_backbone(spec.build, texts, Window.of(spec.window))
        save_backbone(built, partial)
    backbone = load_backbone(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    about = describe_backbone(
        backbone,
        folder,
        outputs["head"],
        name=folder.name,
        revision=revision,
        pretraining=left,
        provenance=job.provenance(),
    )
    spelled = spellings(backbone.tokenizer, about.head_rows)
    TokensManifest(vocabulary=about.vocabulary, spellings=spelled).write(outputs["tokens"])
    about.model_copy(update={"provenance": job.provenance(outputs)}).write(outputs["manifest"])
