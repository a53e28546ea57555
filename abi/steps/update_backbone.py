"""Job: backbones updated on general text, one per seed, with or without the term that holds their modules' ABI states."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.base.errors import DataError
from abi.base.files import read_json, sha256_file, write_json
from abi.base.job import Job
from abi.base.seeds import derive_seed
from abi.models.backbone import Backbone, Window, describe_backbone, load_checked, save_backbone, save_head
from abi.models.loop import Schedule
from abi.models.saved import UpdatedBackbone, module_of_seed
from abi.models.update import Recipe, general_loss, named, part_of_round, update
from abi.text.documents import read_assigned


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` (a batch) and in `folder` per seed `seed<n>.json` (a backbone's manifest), its model and head."""
    spec: dict[str, Any] = dict(job.spec)
    base = read_json(inputs["backbone"], "backbone")
    window, folder, members = Window(**spec["window"]), Path(outputs["folder"]), []
    documents = read_assigned(inputs["documents"], inputs["record"])
    texts = [document.text for document in documents if document.split == "train"]
    held_out = [document.text for document in documents if document.split == "calibration"]
    texts = part_of_round(texts, spec["round"], spec["rounds"])
    if not texts:
        raise DataError(f"update {spec['update']}: round {spec['round']} has no text; lower `rounds` or add text")
    for seed in spec["seeds"]:
        name = named(spec["update"], spec["way"], spec["round"], seed)
        anchor, backbone = load_checked(inputs["model"], base), begin(inputs, base, seed)
        before = general_loss(backbone, held_out, window)
        figures = update(
            backbone, anchor, texts, window, recipe_of(spec, seed),
            modules=[module_of_seed(inputs[f"source_{text}"], seed, base=base) for text in spec["holds"]],
            checkpoint=job.scratch / f"{seed}.safetensors", label=name,
        )  # fmt: skip
        figures |= {"general_loss_before": before, "general_loss_after": general_loss(backbone, held_out, window)}
        if not all(math.isfinite(value) for value in figures.values()):
            raise DataError(f"{name}: a figure of the update is not finite; lower its rate")
        manifest = save(job, backbone, folder, name, seed)
        members.append({"seed": seed, "files": {manifest.name: sha256_file(manifest)}, "figures": figures})
    write_json(outputs["manifest"], "batch", {"members": members, "provenance": job.provenance()})


def recipe_of(spec: Mapping[str, Any], seed: int) -> Recipe:
    """Return how a seed's update is made; both ways of a seed and round see the text in one order."""
    training = spec["training"]
    order = derive_seed("update", spec["update"], spec["round"], seed)
    return Recipe(
        Schedule.given(training, training["phases"]), training["batch"], spec["trains"], spec["stability"], order
    )


def begin(inputs: Mapping[str, Any], base: Mapping[str, Any], seed: int) -> Backbone:
    """Return the backbone a round begins with: that of the round before, or the backbone itself."""
    if "before" not in inputs.keys():
        return load_checked(inputs["model"], base)
    before = UpdatedBackbone.of([inputs["before"]], seed)
    return load_checked(before.model, before.facts())


def save(job: Job, backbone: Backbone, folder: Path, name: str, seed: int) -> Path:
    """Write an updated backbone with its head and its manifest, which is that of any backbone; return the manifest's path."""
    place = UpdatedBackbone(folder / f"seed{seed}.json")
    shutil.rmtree(place.folder, ignore_errors=True)
    save_backbone(backbone, place.model)
    facts = describe_backbone(backbone, place.model)
    scale = save_head(backbone, place.head)
    write_json(place.manifest, "backbone", {
        "name": name, "revision": "updated", **facts, "head_scale": scale, "head_sha256": sha256_file(place.head),
        "pretraining": {}, "provenance": job.provenance(),
    })  # fmt: skip
    return place.manifest
