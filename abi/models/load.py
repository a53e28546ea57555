"""The module of a folder or a checkpoint, of whatever shape it is."""

from pathlib import Path

from abi.base.errors import DataError
from abi.base.files import parse_file, read_tensors
from abi.base.manifests.modules import ModuleManifest
from abi.base.manifests.ngrams import NgramManifest
from abi.base.manifests.portable import PortableManifest
from abi.base.typed import of_format
from abi.models.module import CONFIG, AbiModule, read_module, read_original
from abi.models.ngram_module import NgramModule, read_ngrams
from abi.models.portable import PortableModule, read_portable

Loaded = (
    tuple[AbiModule, ModuleManifest | None]
    | tuple[PortableModule, PortableManifest]
    | tuple[NgramModule, NgramManifest]
)


def load_module(path: str | Path, taps: tuple[int, ...] | None = None) -> Loaded:
    """Return a frozen module and its manifest: a folder of abi, or a checkpoint of the original (safetensors) without.

    Args: taps: the hidden states a checkpoint of the original reads, where it does not say (`read_original`).
    Raises: DataError: as `read_module`, `read_portable`, `read_ngrams` and `read_original`, or a file of another form;
        nothing is unpickled.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise DataError(f"{path}: is no safetensors file, and abi unpickles nothing; convert the checkpoint first")
        return read_original(read_tensors(path)[0], taps, str(path)).requires_grad_(False), None
    about = parse_file(path / CONFIG)
    kind = of_format(about, {model.format_name(): model for model in (NgramManifest, PortableManifest)})
    if kind is NgramManifest:
        return read_ngrams(path)
    if kind is PortableManifest:
        return read_portable(path)
    module, manifest = read_module(path)
    return module.requires_grad_(False), manifest
