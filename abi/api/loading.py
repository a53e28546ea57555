"""A model by its name, as the command line takes it: a folder, or a repository of the hub."""

from collections.abc import Sequence
from pathlib import Path

import torch

from abi.base.errors import DataError
from abi.base.hub import Repository, reason
from abi.models.backbone import Backbone, load_backbone

FILES = ("*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt", "model*.safetensors")
"""What a model needs of a repository."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions that a model can be loaded in."""


def load_model(place: str | Path, revision: str | None = None, dtype: str = "float32") -> Backbone:
    """Return the admitted model of a folder, or of a repository of the hub (`user/name`), with its tokenizer.

    Every function of the API takes it in place of (model, tokenizer); where these are two arguments, the second is then
    None. What is in the cache needs no network.
    Args: revision: branch, tag or commit of the hub; records name the commit. dtype: what its weights are rounded to; a
        module belongs to a model in the precision that it had when the module was made (`Module.dtype`).
    Raises: DataError: no such folder or repository, a revision of a folder, no model there, or one not admitted.
    """
    folder = Path(place)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise DataError(f"{place}: holds no config.json, so it is no model of transformers; give the folder of one")
    if folder.is_file():
        raise DataError(f"{place}: is a file; give the folder of a model of transformers")
    if folder.is_dir() and revision is not None:
        raise DataError(
            f"{place}: is a folder, which has no revision {revision!r}; leave it out, or give an id of the hub"
        )
    if dtype not in DTYPES:
        raise DataError(f"dtype: is {dtype!r}; give {', '.join(DTYPES)}")
    commit = None if folder.is_dir() else downloaded(str(place), "model", FILES, revision).name
    backbone = load_backbone(place, commit, DTYPES[dtype])
    backbone.model.config._commit_hash = commit  # where `origin_of` finds it; transformers keeps none itself since 5.23
    return backbone


def downloaded(repository: str, what: str, names: Sequence[str], revision: str | None = None) -> Path:
    """Return where files of a repository of the hub lie, brought into the cache where they are not there.

    Args: what: `model`, `module` or `adapter`, as the error calls it; names: patterns of the files.
    Raises: DataError: there is none, or no answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*names]))
    except HFValidationError:
        raise DataError(f"{repository}: is neither a folder nor an id of the hub; check it") from None
    except RevisionNotFoundError:
        raise DataError(f"{repository}: the hub has no revision {revision!r} of it; correct it") from None
    except Exception as error:  # as in `base.hub`
        why = reason(error, Repository(repository, "model"))
        raise DataError(f"{repository}: is no folder here, and no {what} comes from the hub: {why}") from None
