"""Step update_backbone: backbones updated on general text, one per seed, with or without the term that holds states."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.batches import BatchManifest, Member, UpdateFigures
from abi.models.backbone import Backbone, Window, load_checked, save_backbone
from abi.models.described import describe_backbone
from abi.models.loop import Schedule
from abi.models.module import derive_seed
from abi.models.saved import UpdatedBackbone, module_of_seed
from abi.models.tokenizers import PerTokenizer, pack
from abi.models.update import UpdateRecipe, general_loss, named, part_of_round, update
from abi.plan.specs.studies import UpdateBackbone as Spec
from abi.text.documents import read_assigned


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` (a batch) and in `folder` per seed `seed<n>.json` (a backbone's manifest), model and head."""
    spec, folder, members = job.spec, Path(outputs["folder"]), []
    documents = read_assigned(inputs["documents"], inputs["record"])
    texts = [document.text for document in documents if document.split == "train"]
    held_out = [document.text for document in documents if document.split == "calibration"]
    texts = part_of_round(texts, spec.round, spec.rounds)
    if not texts:
        raise DataError(f"update {spec.update}: round {spec.round} has no text; lower `rounds` or add text")
    length = spec.window.length
    trained_on, judged_on = (
        PerTokenizer(lambda backbone, some=some: pack(backbone.tokenizer, some, length)) for some in (texts, held_out)
    )
    for seed in spec.seeds:
        name = named(spec.update, spec.way, spec.round, seed)
        backbone, figures = updated(spec, inputs, trained_on, judged_on, seed, job.scratch / f"{seed}.safetensors")
        place = UpdatedBackbone(folder / f"seed{seed}.json")
        shutil.rmtree(place.folder, ignore_errors=True)
        save_backbone(backbone, place.model)
        about = describe_backbone(
            backbone, place.model, place.head, name=name, revision="updated", provenance=job.provenance()
        )
        about.write(place.manifest)
        members.append(Member(seed=seed, files={place.manifest.name: sha256_file(place.manifest)}, figures=figures))
    BatchManifest(members=members, provenance=job.provenance(outputs)).write(outputs["manifest"])


def updated(
    spec: Spec,
    inputs: InputFiles,
    trained_on: PerTokenizer[Tensor],
    judged_on: PerTokenizer[Tensor],
    seed: int,
    checkpoint: Path,
) -> tuple[Backbone, UpdateFigures]:
    """Return a seed's updated backbone and what the update did, its loss on held-out general text before and after.

    Args: trained_on, judged_on: windows of the text of the round, and of held-out general text.
    Raises: DataError: a figure is not finite.
    """
    base, window, training = BackboneManifest.read(inputs["backbone"]), Window.of(spec.window), spec.training
    anchor, backbone = load_checked(inputs["model"], base), begin(inputs, base, seed)
    schedule = Schedule.given(training.phases, training.weight_decay)
    order = derive_seed("update", spec.update, spec.round, seed)  # both ways of a round see the text in one order
    name = named(spec.update, spec.way, spec.round, seed)
    held_out = judged_on.of(backbone)
    before = general_loss(backbone, held_out, window)
    done = update(
        backbone,
        anchor,
        trained_on.of(backbone),
        window,
        UpdateRecipe(schedule, training.batch, spec.trains, spec.stability, order),
        modules=[module_of_seed(inputs[f"source_{text}"], seed, base=base) for text in spec.holds],
        checkpoint=checkpoint,
        label=name,
    )
    figures = {key: value for key, value in asdict(done).items() if value is not None}
    figures |= {"general_loss_before": before, "general_loss_after": general_loss(backbone, held_out, window)}
    if not all(math.isfinite(value) for value in figures.values()):
        raise DataError(f"{name}: a figure of the update is not finite; lower its rate")
    backbone.model.cpu()  # where every backbone is written and its facts are measured
    return backbone, UpdateFigures(**figures)


def begin(inputs: InputFiles, base: BackboneManifest, seed: int) -> Backbone:
    """Return the backbone a round begins with: that of the round before, or the backbone itself."""
    if "before" not in inputs.keys():
        return load_checked(inputs["model"], base)
    before = UpdatedBackbone.of([inputs["before"]], seed)
    return load_checked(before.model, before.about())
