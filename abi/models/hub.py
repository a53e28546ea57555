"""Backbones of the hub: brought here at a pinned revision, refused beforehand where disk or memory are too small."""

import shutil
from pathlib import Path

import transformers

from abi.base.errors import DataError
from abi.base.files import unwritable
from abi.base.hub import GB, Repository, fetch
from abi.base.machine import free_memory
from abi.models.sentinels import spell_bytes
from abi.plan.specs.models import Hub


def require_memory(hub: Hub) -> None:
    """Raise DataError where this process has too little free memory for a backbone whose sizes are known."""
    if hub.sizes is None:
        return
    needed, free = hub.sizes.memory_needed, free_memory()
    if needed > free:
        raise DataError(
            f"backbone {hub.id}@{hub.revision}: needs {needed / GB:.1f} GB of memory for "
            f"{hub.sizes.parameters / 1e6:.0f} million parameters, {free / GB:.1f} GB are free; "
            "use a larger machine, give the job more, or leave its claims out"
        )


def download_backbone(hub: Hub, folder: str | Path, endpoint: str | None = None) -> None:
    """Copy a model of the hub at its pinned revision into a folder: safetensors as they are, config, tokenizer.

    Raises: DataError: too little memory or disk, as `fetch`, or no sentinels where they should stand for bytes.
    """
    require_memory(hub)
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
