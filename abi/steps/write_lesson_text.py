"""Step write_lesson_text: text that a source backbone draws with its module, and the states of both backbones on it.

It is another lesson of `general-only` (variants with `text: written`): where the source's module is at home, without a
document of the domain. Every sequence begins with a token that a window of general text begins with; the rest is drawn.
"""

import hashlib
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor

from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.batches import BatchManifest, Member
from abi.base.typed import Split
from abi.models import attach
from abi.models.backbone import Backbone, Window, load_checked
from abi.models.module import AbiModule, derive_seed
from abi.models.saved import check_backbone, module_of_seed, read_states
from abi.plan.specs.arms import WriteLessonText as Spec
from abi.steps.write_states import write_splits
from abi.text.documents import Document, split_of

LESSONS: tuple[Split, ...] = ("train", "calibration")
TOGETHER = 160
"""Sequences that are drawn at once."""


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write `manifest` (a batch) and in `folder` the states of every seed, role and split:
    `seed<n>.<role>.<split>.json`.

    Raises: DataError: the source is an encoder-decoder, which writes nothing without a text to read.
    """
    spec, folder = job.spec, Path(outputs["folder"])
    states_of = {"source": spec.source, "target": spec.target}
    bases = {role: BackboneManifest.read(inputs[f"{role}_backbone"]) for role in states_of}
    source, window = load_checked(inputs["source_model"], bases["source"]), Window.of(spec.source.window)
    if source.is_encoder_decoder:
        raise DataError(f"{bases['source'].name}: an encoder-decoder writes no text of its own; leave the variant out")
    general = read_states(inputs["general"], "train")
    check_backbone(general, bases["source"].weights_sha256, "the source")
    first = general.tokens(slice(None))[:, 0]
    texts: dict[int, list[Document]] = {}
    for seed in spec.seeds:
        module = module_of_seed(inputs["modules"], seed, base=bases["source"])
        texts[seed] = written(source, module, first, window, spec, seed)
    files: dict[int, dict[str, str]] = {seed: {} for seed in spec.seeds}
    # Role by role, so that each backbone is loaded once: the source is rounded only when all is drawn.
    for role, backbone in (("source", source), ("target", load_checked(inputs["target_model"], bases["target"]))):
        for seed, documents in texts.items():
            manifests = {split: folder / f"seed{seed}.{role}.{split}.json" for split in LESSONS}
            place = inputs[f"{role}_head"], manifests, job.provenance
            write_splits(states_of[role], documents, bases[role], backbone, *place)
            files[seed] |= {path.name: sha256_file(path) for path in manifests.values()}
    members = [Member(seed=seed, files=of_seed) for seed, of_seed in files.items()]
    BatchManifest(members=members, provenance=job.provenance(outputs)).write(outputs["manifest"])


def written(
    backbone: Backbone, module: AbiModule, first: Tensor, window: Window, spec: Spec, seed: int
) -> list[Document]:
    """Return the documents of every split a backbone draws with a module. Args: first: tokens `[N]` to begin with."""
    wanted = [(split, name) for split, n in spec.documents for name in islice(names_of(split, spec), n)]
    n_sequences = len(wanted) * spec.sequences
    generator = torch.Generator().manual_seed(derive_seed("written", seed))
    begin = first[torch.randint(len(first), (n_sequences,), generator=generator)].unsqueeze(1)
    texts: list[str] = []
    with attach.attach(backbone, module):
        for at in range(0, n_sequences, TOGETHER):
            some = begin[at : at + TOGETHER]
            drawn = attach.generate(
                backbone,
                some,
                window.length - 1,
                temperature=spec.temperature,
                seed=derive_seed("written", seed, at),
            )
            texts += backbone.tokenizer.batch_decode(torch.cat([some, drawn], 1), skip_special_tokens=True)
    documents = []
    for i, (split, name) in enumerate(wanted):
        text = "\n\n".join(texts[i * spec.sequences : (i + 1) * spec.sequences])
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        documents.append(Document(name, name, "written", str(seed), digest, split, len(data), text))
    return documents


def names_of(split: str, spec: Spec) -> Iterator[str]:
    """Yield the names of written documents that their hash puts into a split, as it does with any group."""
    shares, salt = dict(spec.source.split), spec.source.salt
    return (name for i in count() if split_of(name := f"written-{i}", shares, salt) == split)
