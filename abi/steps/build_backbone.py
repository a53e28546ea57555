"""Step build_backbone: a backbone in the Hugging Face layout, from wherever its definition says, with its head."""

import shutil
from pathlib import Path

from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.models.acquire import acquire
from abi.models.backbone import load_backbone
from abi.models.described import describe_backbone
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
    built = job.spec.build is not None
    documents = read_assigned(inputs["documents"], inputs["record"], "train") if built else []
    found = acquire(job.spec, [document.text for document in documents], partial, job.scratch)
    backbone = load_backbone(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    about = describe_backbone(
        backbone,
        folder,
        outputs["head"],
        name=folder.name,
        revision=found.revision,
        pretraining=found.pretraining,
        licence=found.licence,
        facts=backbone.facts,
        provenance=job.provenance(),
    )
    spelled = spellings(backbone.tokenizer, about.head_rows)
    TokensManifest(vocabulary=about.vocabulary, spellings=spelled).write(outputs["tokens"])
    about.model_copy(update={"provenance": job.provenance(outputs)}).write(outputs["manifest"])
