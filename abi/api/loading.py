"""A model by its name, as the command line takes it: a folder, or a repository of the hub."""

from collections.abc import Sequence
from pathlib import Path

import torch

from abi.base.errors import DataError
from abi.base.hub import Repository, Sizes, fetch, files_beside_weights, look_up
from abi.base.hub_errors import reason
from abi.base.machine import GB, free_memory
from abi.models import backbone as local
from abi.models.backbone import Backbone
from abi.models.classes import require_class
from abi.models.hub import stored_sizes

CONFIG = "config.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions that a model can be loaded in."""


def load_backbone(place: str | Path, revision: str | None = None, dtype: str | torch.dtype = "float32") -> Backbone:
    """Return the admitted model of a folder, or of a repository of the hub (`user/name`), with its tokenizer.

    Every function of the API takes it in place of (model, tokenizer); where these are two arguments, the second is then
    None. What is in the cache needs no network.
    Args: revision: branch, tag or commit of the hub; records name the commit. dtype: what its weights are rounded to; a
        module belongs to a model in the precision that it had when the module was made (`Module.dtype`).
    Raises: DataError: no such folder or repository, a revision of a folder, no model there, one not admitted, or one
        that disk or memory have no room for.
    """
    folder = Path(place)
    if folder.is_dir() and not (folder / CONFIG).is_file():
        raise DataError(f"{place}: holds no config.json, so it is no model of transformers; give the folder of one")
    if folder.is_file():
        raise DataError(f"{place}: is a file; give the folder of a model of transformers")
    if folder.is_dir() and revision is not None:
        raise DataError(
            f"{place}: is a folder, which has no revision {revision!r}; leave it out, or give an id of the hub"
        )
    precision = DTYPES.get(_name(dtype))
    if precision is None:
        raise DataError(f"dtype: is {_name(dtype)!r}; give {', '.join(DTYPES)}")
    commit = None if folder.is_dir() else fetched(str(place), revision, precision).name
    if folder.is_dir() and (sizes := stored_sizes(folder)):
        _require_memory(str(place), sizes, precision)
    backbone = local.load_backbone(place, commit, precision)
    backbone.model.config._commit_hash = commit  # where `origin_of` finds it; transformers keeps none itself since 5.23
    return backbone


def fetched(name: str, revision: str | None, dtype: torch.dtype) -> Path:
    """Return where the files of a model of the hub lie: those that it needs, brought into the cache and checked.

    Where the hub does not answer, what the cache holds of that revision stands for it.
    Raises: DataError: no such model, no answer and nothing in the cache, or too little disk or memory.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    _require_id(name)
    repository = Repository(name, "model")
    try:
        found = look_up(repository, revision, files_beside_weights, require_class)
    except DataError as error:
        kept = try_to_load_from_cache(name, CONFIG, revision=revision)
        if isinstance(kept, str):
            return Path(kept).parent
        why = str(error).partition(": ")[2]
        raise DataError(f"{name}: is no folder here, and no model comes from the hub: {why}") from None
    if found.sizes is not None:
        _require_memory(name, found.sizes, dtype)
    fetch(repository, found.revision, found.files)
    # all is there by now; this notes which commit the branch is, by which the cache is asked where there is no network
    return Path(hf_hub_download(name, CONFIG, revision=revision)).parent


def _require_id(name: str) -> None:
    """Raise DataError where a name can be none of the hub's."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise DataError(f"{name}: is neither a folder nor an id of the hub; check it") from None


def _require_memory(name: str, sizes: Sizes, dtype: torch.dtype) -> None:
    """Raise DataError where the weights of a model alone are more than the memory that is free."""
    needed, free = dtype.itemsize * sizes.parameters, free_memory()
    if needed > free:
        smaller = "" if dtype.itemsize == 2 else ", or `dtype='bfloat16'`"
        raise DataError(
            f"{name}: its {sizes.parameters / 1e6:.0f} million weights are {needed / GB:.1f} GB in {_name(dtype)}, "
            f"{free / GB:.1f} GB of memory are free; use a larger machine{smaller}"
        )


def _name(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix("torch.")


def downloaded(repository: str, what: str, names: Sequence[str], revision: str | None = None) -> Path:
    """Return where files of a repository of the hub lie, brought into the cache where they are not there.

    Args: what: `module` or `adapter`, as the error calls it; names: patterns of the files.
    Raises: DataError: there is none, or no answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    _require_id(repository)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*names]))
    except RevisionNotFoundError:
        raise DataError(f"{repository}: the hub has no revision {revision!r} of it; correct it") from None
    except Exception as error:  # as in `base.hub`
        why = reason(error, Repository(repository, "model").page)
        raise DataError(f"{repository}: is no folder here, and no {what} comes from the hub: {why}") from None
