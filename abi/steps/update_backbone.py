"""Step update_backbone: backbones updated on general text, one per seed, with or without the term that holds states."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.job import InputFiles, Job
from abi.base.manifests import BackboneManifest, BatchManifest, Member, UpdateFigures
from abi.base.seeds import derive_seed
from abi.base.typed import Provenance
from abi.models.backbone import Backbone, Window, describe_backbone, load_checked, save_backbone
from abi.models.loop import Schedule
from abi.models.saved import UpdatedBackbone, module_of_seed
from abi.models.update import UpdateRecipe, general_loss, named, part_of_round, update
from abi.plan.specs.studies import UpdateBackbone
from abi.text.documents import read_assigned

Spec = UpdateBackbone


def run(job: Job[UpdateBackbone], inputs: InputFiles, outputs: Mapping[str, str]) -> None:
    """Write `manifest` (a batch) and in `folder` per seed `seed<n>.json` (a backbone's manifest), model and head."""
    spec, folder, members = job.spec, Path(outputs["folder"]), []
    documents = read_assigned(inputs["documents"], inputs["record"])
    texts = [document.text for document in documents if document.split == "train"]
    held_out = [document.text for document in documents if document.split == "calibration"]
    texts = part_of_round(texts, spec.round, spec.rounds)
    if not texts:
        raise DataError(f"update {spec.update}: round {spec.round} has no text; lower `rounds` or add text")
    for seed in spec.seeds:
        name = named(spec.update, spec.way, spec.round, seed)
        backbone, figures = updated(spec, inputs, texts, held_out, seed, job.scratch / f"{seed}.safetensors")
        manifest = save(backbone, folder, name, seed, job.provenance())
        members.append(Member(seed=seed, files={manifest.name: sha256_file(manifest)}, figures=figures))
    BatchManifest(members=members, provenance=job.provenance()).write(outputs["manifest"])


def updated(
    spec: UpdateBackbone,
    inputs: InputFiles,
    texts: list[str],
    held_out: list[str],
    seed: int,
    checkpoint: Path,
) -> tuple[Backbone, UpdateFigures]:
    """Return a seed's updated backbone and what the update did, its loss on held-out general text before and after.

    Raises: DataError: a figure is not finite.
    """
    base, window = BackboneManifest.read(inputs["backbone"]), Window.of(spec.window)
    anchor, backbone = load_checked(inputs["model"], base), begin(inputs, base, seed)
    name = named(spec.update, spec.way, spec.round, seed)
    before = general_loss(backbone, held_out, window)
    done = update(
        backbone,
        anchor,
        texts,
        window,
        recipe_of(spec, seed),
        modules=[module_of_seed(inputs[f"source_{text}"], seed, base=base) for text in spec.holds],
        checkpoint=checkpoint,
        label=name,
    )
    figures = {key: value for key, value in asdict(done).items() if value is not None}
    figures |= {"general_loss_before": before, "general_loss_after": general_loss(backbone, held_out, window)}
    if not all(math.isfinite(value) for value in figures.values()):
        raise DataError(f"{name}: a figure of the update is not finite; lower its rate")
    return backbone, UpdateFigures(**figures)


def recipe_of(spec: UpdateBackbone, seed: int) -> UpdateRecipe:
    """Return how a seed's update is made; both ways of a seed and round see the text in one order."""
    training = spec.training
    order = derive_seed("update", spec.update, spec.round, seed)
    schedule = Schedule.given(training.phases, training.weight_decay)
    return UpdateRecipe(schedule, training.batch, spec.trains, spec.stability, order)


def begin(inputs: InputFiles, base: BackboneManifest, seed: int) -> Backbone:
    """Return the backbone a round begins with: that of the round before, or the backbone itself."""
    if "before" not in inputs.keys():
        return load_checked(inputs["model"], base)
    before = UpdatedBackbone.of([inputs["before"]], seed)
    return load_checked(before.model, before.about())


def save(backbone: Backbone, folder: Path, name: str, seed: int, provenance: Provenance) -> Path:
    """Write an updated backbone with its head and its manifest, which is that of any backbone; return the manifest's
    path.
    """
    place = UpdatedBackbone(folder / f"seed{seed}.json")
    shutil.rmtree(place.folder, ignore_errors=True)
    save_backbone(backbone, place.model)
    about = describe_backbone(backbone, place.model, place.head, name=name, revision="updated", provenance=provenance)
    about.write(place.manifest)
    return place.manifest
