"""An n-gram model as a module: it holds the text that it counts, and works beside any model whose tokens spell text."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from abi.base.errors import DataError
from abi.base.files import read_tensors, write_text
from abi.base.manifests.ngrams import NgramManifest, NgramShape
from abi.base.manifests.portable import PortableFacts
from abi.models.module import CARD, CONFIG, WEIGHTS, check_digest, check_tensors, write_weights
from abi.models.ngrams import Ngrams


class NgramModule(nn.Module):
    """Texts, and how their n-grams are mixed with a model (`ngrams.mixed_losses`, `ngram_mixture.py`).

    Its tensors are the bytes of all texts, `text` `[n]`, and where each ends, `ends`. They are counted when they are
    first asked for, about a second per 400,000 bytes, and stay on the processor.
    """

    text: torch.Tensor
    ends: torch.Tensor

    def __init__(self, texts: Sequence[bytes], order: int, share: float) -> None:
        super().__init__()
        self.order, self.share = order, share
        joined = np.frombuffer(b"".join(texts), dtype=np.uint8).copy()
        self.register_buffer("text", torch.from_numpy(joined))
        self.register_buffer("ends", torch.tensor([len(one) for one in texts], dtype=torch.int64).cumsum(0))

    @property
    def texts(self) -> list[bytes]:
        """What it holds."""
        whole, ends = self.text.numpy().tobytes(), self.ends.tolist()
        return [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def ngrams(self) -> Ngrams:
        """Its counts."""
        return Ngrams(self.texts, self.order)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Stay where it is, in the numbers it has: counting is done in numpy."""
        return self


def _fits(text: torch.Tensor, ends: torch.Tensor) -> bool:
    """Return whether texts end in order, the last one where all do."""
    if (text.dtype, ends.dtype) != (torch.uint8, torch.int64):
        return False
    bounds = [0, *ends.tolist()]
    return bounds == sorted(bounds) and bounds[-1] == len(text)


def save_ngrams(module: NgramModule, folder: str | Path, facts: PortableFacts) -> str:
    """Write `abi_config.json`, `abi_model.safetensors` and the card; return the hash of the tensors."""
    folder = Path(folder)
    digest = write_weights(module, folder)
    shape = NgramShape(order=module.order, share=module.share, bytes=len(module.text), texts=len(module.ends))
    NgramManifest(ngrams=shape, sha256=digest, **dict(facts)).write(folder / CONFIG)
    write_text(
        folder / CARD,
        f"---\nlibrary_name: abi\ntags: [abi, n-gram]\n---\n\n# N-gram model `{facts.name}`\n\n"
        f"It counts text `{facts.text}`, which it holds word for word, {shape.order} bytes at a time.\n",
    )
    return digest


def read_ngrams(folder: str | Path) -> tuple[NgramModule, NgramManifest]:
    """Return a saved n-gram model and its manifest.

    Raises: DataError: a file is missing or damaged, tensors are missing, extra or of wrong shape, or the hash differs.
    """
    folder = Path(folder)
    about = NgramManifest.read(folder / CONFIG)
    tensors, where = read_tensors(folder / WEIGHTS)[0], str(folder / WEIGHTS)
    shape = about.ngrams
    own = {"text": torch.empty(shape.bytes, device="meta"), "ends": torch.empty(shape.texts, device="meta")}
    check_tensors(own, tensors, where, "n-gram model")
    module = NgramModule([], shape.order, shape.share)
    module.text, module.ends = tensors["text"], tensors["ends"]
    if not _fits(module.text, module.ends):
        raise DataError(f"{where}: its texts do not end where they should; get the folder again")
    check_digest(tensors, about.sha256, folder)
    return module, about
