"""The manifest of a backbone: what it is, its sizes, hashes and facts."""

from pathlib import Path

from abi.base.files import sha256_file, sha256_once
from abi.base.manifests.backbones import BackboneFacts, BackboneManifest, LicenceFound, Pretraining
from abi.base.typed import Provenance
from abi.models.backbone import Backbone
from abi.models.identity import identity_hash, weights_hash
from abi.models.probe import measure
from abi.models.tokenizers import vocabulary_hash


def describe_backbone(
    backbone: Backbone,
    folder: str | Path | None,
    head: str | Path,
    *,
    name: str,
    revision: str,
    provenance: Provenance,
    pretraining: Pretraining | None = None,
    licence: LicenceFound | None = None,
    facts: BackboneFacts | None = None,
) -> BackboneManifest:
    """Write the head of a backbone and return the backbone's manifest: what it is, its sizes, hashes and facts.

    Args: folder: where its files lie, None: in memory alone; head: where to write the head; pretraining: what building
        it left, if it was built; licence: under which it came; facts: measured already.
    Raises: DataError: as `probe.measure`.
    """
    files = [] if folder is None else sorted(path for path in Path(folder).rglob("*") if path.is_file())
    own, found = backbone.head(), weights_hash(backbone)
    own.write(head)
    return BackboneManifest(
        name=name,
        revision=revision,
        model_class=backbone.name,
        model_type=backbone.model.config.model_type,
        width=backbone.width,
        depth=backbone.depth,
        n_parameters=sum(value.numel() for value in backbone.model.parameters()),
        head_rows=len(own.weight),
        n_tokens=len(backbone.tokenizer),
        vocabulary=vocabulary_hash(backbone.tokenizer),
        weights_sha256=found,
        identity_sha256=identity_hash(backbone, found),
        facts=facts or measure(backbone),
        files={path.relative_to(folder or "").as_posix(): sha256_once(path) for path in files},
        head_scale=own.scale,
        head_sha256=sha256_file(head),
        pretraining=pretraining or Pretraining(),
        licence=licence,
        provenance=provenance,
    )
