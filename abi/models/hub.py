"""Backbones of the hub: brought here at a pinned revision, refused beforehand where disk or memory are too small."""

import shutil
from pathlib import Path

import transformers
from safetensors import SafetensorError, safe_open

from abi.base.errors import DataError
from abi.base.files import unwritable
from abi.base.hub import Repository, Sizes, fetch, require_memory
from abi.base.model_folders import INDEX, weight_files
from abi.models.sentinels import spell_bytes
from abi.plan.specs.models import Hub


def stored_sizes(folder: Path) -> Sizes | None:
    """Return the sizes of the model of a folder by the headers of its safetensors, None where it has none.

    Raises: DataError: a file is damaged, or none of them holds a matrix.
    """
    shapes: list[list[int]] = []
    names = [name for name in weight_files(folder) if name != INDEX]
    if not names:
        return None
    for path in (folder / name for name in names):
        try:
            with safe_open(path, "pt") as held:
                shapes += [held.get_slice(name).get_shape() for name in held.keys()]
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: is no safetensors file ({str(error)[:160]}); fetch or write it again") from None
    try:
        return Sizes.of(shapes)
    except ValueError:
        raise DataError(f"{folder}: its safetensors hold no matrix, so it is no language model") from None


def download_backbone(hub: Hub, folder: str | Path, endpoint: str | None = None) -> None:
    """Copy a model of the hub at its pinned revision into a folder: safetensors as they are, config, tokenizer.

    Raises: DataError: too little memory or disk, as `fetch`, or no sentinels where they should stand for bytes.
    """
    if hub.sizes is not None:
        require_memory(f"backbone {hub.id}@{hub.revision}", hub.sizes)
    folder = Path(folder)
    source = fetch(Repository(hub.id, "model", endpoint), hub.revision, hub.files, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in hub.files:
            shutil.copyfile(source / name, folder / name)
        if hub.sentinels_as_bytes:
            _respell(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _respell(folder: Path) -> None:
    """Put in place of a folder's tokenizer the one whose sentinels stand for bytes."""
    try:
        own = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise DataError(f"{folder}: holds no tokenizer that can be loaded ({str(error)[:160]})") from None
    spelled = spell_bytes(own)
    for name in ("spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    spelled.save_pretrained(folder)
