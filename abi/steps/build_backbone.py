"""Job: a backbone in the Hugging Face layout, built from text or downloaded at a pinned revision, with its head."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from abi.base.files import sha256_file, write_json
from abi.base.job import Job
from abi.models.backbone import Window, describe_backbone, load_backbone, save_backbone, save_head
from abi.models.build import build_backbone, download_backbone
from abi.models.tokenizers import spellings
from abi.text.documents import read_assigned


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `model` (folder), `head` (safetensors), `tokens` and `manifest` (JSON). The general train split is all it may read."""
    folder = Path(outputs["model"])
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    figures: dict[str, object] = {}
    if "build" in job.spec:
        texts = [document.text for document in read_assigned(inputs["documents"], inputs["record"], "train")]
        backbone, figures = build_backbone(job.spec["build"], texts, Window(**job.spec["window"]))
        save_backbone(backbone, partial)
        revision = "built"
    else:
        hub = job.spec["hub"]
        download_backbone(hub["id"], hub["revision"], partial)
        revision = hub["revision"]
    backbone = load_backbone(partial)
    facts = describe_backbone(backbone, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    scale = save_head(backbone, outputs["head"])
    spelled = spellings(backbone.tokenizer, facts["head_rows"])
    write_json(outputs["tokens"], "tokens", {"vocabulary": facts["vocabulary"], "spellings": spelled})
    write_json(outputs["manifest"], "backbone", {
        "name": folder.name, "revision": revision, **facts, "head_scale": scale, "head_sha256": sha256_file(outputs["head"]),
        "pretraining": figures, "provenance": job.provenance(),
    })  # fmt: skip
