"""Step write_states: one pass of a frozen backbone over the windows of every split of a text."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from abi.base import compute
from abi.base.files import sha256_file
from abi.base.job import InputFiles, Job, OutputFiles
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.states import StatesManifest
from abi.base.manifests.texts import Shares
from abi.base.typed import Provenance, Split
from abi.models.backbone import Backbone, load_checked
from abi.models.head import Head
from abi.models.states import Window, Windows, write_states
from abi.models.windows import windows_and_lost_share
from abi.plan.specs.models import WriteStates as Spec
from abi.text.documents import SPLITS, Document, assignment_sha256, read_assigned

Cut = Callable[[Backbone, Split], tuple[Windows, float]]


def run(job: Job[Spec], inputs: InputFiles, outputs: OutputFiles) -> None:
    """Write states (`train`, `calibration`, `test`: manifest paths, the tensors beside them)."""
    base = BackboneManifest.read(inputs["backbone"])
    write_splits(
        job.spec,
        read_assigned(inputs["documents"], inputs["record"]),
        base,
        load_checked(inputs["model"], base, compute.use_precision(job.spec.precision)),
        inputs["head"],
        {split: Path(outputs[split]) for split in SPLITS},
        job.provenance,
    )


def write_splits(
    spec: Spec,
    documents: Sequence[Document],
    base: BackboneManifest,
    backbone: Backbone,
    head_path: str | Path,
    manifests: Mapping[Split, Path],
    provenance: Callable[[], Provenance],
    cut: Cut | None = None,
) -> None:
    """Run a backbone over some splits of a text and write states and manifest of each.

    Args: base: the backbone's manifest; backbone: loaded and checked, in the precision of the spec from here on;
        manifests: split -> path of the manifest, the tensors go beside it; provenance: of what is written now;
        cut: what `windows_and_lost_share` gives of these documents for a backbone and a split, where it is known.
    Raises: TamperError: the head is not that of the manifest; DataError: the tokenizer loses text.
    """
    precision = compute.use_precision(spec.precision)
    backbone = backbone.run_in(precision)
    head, window = Head.read(head_path, base.head_sha256).to(backbone.device), Window.of(spec.window)
    told = {"compute": compute.current()}
    for split, manifest in manifests.items():
        windows, lost = (cut or partial(windows_and_lost_share, documents, spec))(backbone, split)
        tensors = manifest.with_suffix(".safetensors")
        stored = write_states(backbone, windows, window, spec.taps, head, tensors, dtype=precision)
        digest = sha256_file(tensors)
        StatesManifest(
            split=split,
            characters_lost=lost,
            **dict(stored),
            **dict(base.base),
            tensors_sha256=digest,
            corpus_sha256=assignment_sha256(documents),
            shares=Shares(**dict(spec.split)),
            salt=spec.salt,
            provenance=provenance().model_copy(update=told | {"outputs": {str(tensors): digest}}),
        ).write(manifest)
