"""Models in folders of this machine: which files make one, and one hash of them."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from abi.base.errors import ConfigError, DataError
from abi.base.files import sha256_json, sha256_once

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LAYOUT = ("*.json", "*.safetensors", "*.model", "*.txt")
"""What of a folder in the Hugging Face layout makes a model and its tokenizer. Nothing else is read."""


class Index(BaseModel):
    """What the index of a sharded model says of it, beside what is not read."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]
    """tensor -> the file that holds it"""


def model_files(folder: Path) -> list[Path]:
    """Return the files of a folder that make a model, in order of their names."""
    return sorted({path for pattern in LAYOUT for path in folder.glob(pattern) if path.is_file()})


def weight_files(folder: Path) -> list[str]:
    """Return the names of a folder's safetensors: one file, or an index and what it names; none where neither is there.

    Raises: DataError: the index is damaged, or names a file that is not in the folder itself.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    try:
        shards = sorted({*Index.model_validate_json((folder / INDEX).read_bytes()).weight_map.values()})
        held = [path.name for path in folder.iterdir()]
    except (OSError, ValidationError):
        raise DataError(f"{folder / INDEX}: does not name files of weights; fetch or write it again") from None
    lacking = next((name for name in shards if name not in held), None)
    if lacking is not None:
        raise DataError(f"{folder / INDEX}: names {lacking}, which is not in that folder; fetch or write it again")
    return [INDEX, *shards]


def folder_hash(path: str, where: str) -> str:
    """Return the hash of the files that make the model in a folder: another name or byte gives another one.

    Args: where: the key that names the folder.
    Raises: ConfigError: there is no folder, or no model in it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{where}: {folder} is not a folder; correct `path`")
    files = model_files(folder)
    if not (folder / "config.json").is_file() or not any(file.suffix == ".safetensors" for file in files):
        raise ConfigError(
            f"{where}: {folder} holds no model (config.json and weights as safetensors); correct `path`, or convert it"
        )
    return sha256_json({file.name: sha256_once(file) for file in files})
