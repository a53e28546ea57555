"""Tokenized windows and one pass over a frozen backbone: the memory-mapped store and its manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abi.base.compute import finite
from abi.base.errors import DataError
from abi.base.files import read_tensors, write_tensors
from abi.base.job import progress
from abi.base.manifests.states import StatesManifest, StoredWindows
from abi.models.head import Head
from abi.models.utf8 import byte_positions
from abi.plan.specs.shared import Window as WindowSection
from abi.text.documents import Document

OF_WINDOWS = ("tokens", "targets", "target_bytes", "char_end", "document")
"""What is stored beside the states, as `Windows` names it."""

PER_PASS = 32
"""Windows that go through a backbone at once; of other batches its states would differ in their last digits."""


@dataclass(frozen=True)
class Window:
    """How text becomes positions: `length` tokens, the first `prefix` of them for an encoder; `skip` are not scored."""

    length: int
    prefix: int
    skip: int

    @classmethod
    def of(cls, section: WindowSection) -> "Window":
        """Return the window of a section of the config."""
        return cls(section.length, section.prefix, section.skip)

    @property
    def positions(self) -> int:
        """Predicted positions T per window."""
        return self.length - self.prefix if self.prefix else self.length - 1


@dataclass
class Windows:
    """Token windows of documents: `tokens` `[N, length]`, per predicted position target, bytes and text position."""

    tokens: Tensor
    targets: Tensor
    target_bytes: Tensor
    char_end: Tensor
    document: Tensor
    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


def make_windows(
    documents: Sequence[Document],
    encode: Any,
    window: Window,
    *,
    max_windows: int,
    max_per_document: int,
    min_scored: int,
    begin: int | None = None,
) -> Windows:
    """Return the full, non-overlapping windows of documents, in order; none crosses a document.

    Args: encode: text -> ids `[n]`, character ends `[n]`; min_scored: documents with fewer
        scored positions are left out; begin: token that stands before the text of every window, never a target.
        `char_end[n, t]` is the character up to which position t has read its text, 0 where it has read none.
    Raises: DataError: no document is long enough.
    """
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
    names: list[str] = []
    groups: list[str] = []
    start = window.prefix if window.prefix else 1
    n_text = window.length if begin is None else window.length - 1
    for document in documents:
        ids, ends = encode(document.text)
        count = min(len(ids) // n_text, max_per_document, max_windows - len(rows))
        if count * (window.positions - window.skip) < min_scored:
            continue
        bytes_at = byte_positions(document.text)
        for i in range(count):
            first = i * n_text
            tokens_at, end = ids[first : first + n_text], ends[first : first + n_text]
            if begin is not None:
                tokens_at, end = np.append(np.int32(begin), tokens_at), np.append(ends[first - 1] if i else 0, end)
            sizes = bytes_at[end[start:]] - bytes_at[end[start - 1 : -1]]
            if begin is not None:
                end[0] = 0  # nothing of the text: no position of another tokenization has read as much
            rows.append((tokens_at, end[start - 1 : -1], sizes, len(names)))
        names.append(document.document)
        groups.append(document.group)
        if (max_windows - len(rows)) * (window.positions - window.skip) < min_scored:
            break
    if not rows:
        raise DataError(
            f"states: no document fills {min_scored} scored positions of windows of {window.length} tokens; "
            "add longer text"
        )
    tokens = torch.from_numpy(np.stack([row[0] for row in rows]))
    return Windows(
        tokens=tokens,
        targets=tokens[:, start:].clone(),
        target_bytes=torch.from_numpy(np.stack([row[2] for row in rows]).astype(np.int32)),
        char_end=torch.from_numpy(np.stack([row[1] for row in rows]).astype(np.int32)),
        document=torch.tensor([row[3] for row in rows], dtype=torch.int32),
        names=names,
        groups=groups,
    )


def write_states(
    backbone: Any,
    windows: Windows,
    window: Window,
    taps: Sequence[int],
    head: Head,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
) -> StoredWindows:
    """Run a frozen backbone once over windows and store the tapped states; return what the manifest says.

    The tap of the final state is always stored. The first batch is checked: final state through the head gives the
    model's own logits. Raises: DataError: a backbone that is not admitted, a tap that does not exist, states that are
    not finite, or a head that disagrees.
    """
    if not backbone.facts.ends:
        raise DataError(
            f"states: the tokenizer of {backbone.name} does not say where in a text its tokens end; abi cannot use it"
        )
    backbone.require(window)
    wanted = sorted({*taps, backbone.depth})
    if wanted[0] < 0 or wanted[-1] > backbone.depth:
        wrong = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise DataError(f"states: tap {wrong} does not exist; valid taps are 0 to {backbone.depth}")
    n = len(windows.tokens)
    shape = (n, *windows.targets.shape[1:], backbone.width)
    stored = {f"tap.{tap}": torch.empty(shape, dtype=dtype) for tap in wanted}
    report = progress(n)
    with torch.inference_mode():
        for start in range(0, n, PER_PASS):
            tokens = windows.tokens[start : start + PER_PASS]
            hidden = backbone.hidden_states(tokens, window)
            if start == 0:
                _check_head(backbone, tokens[:4], window, hidden[-1][:4], head)
            for tap in wanted:
                stored[f"tap.{tap}"][start : start + PER_PASS] = hidden[tap].to(dtype)
            report(min(start + PER_PASS, n), "windows")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in stored.values()):
        raise DataError(f"{path}: the backbone gives NaN or infinite states; it is damaged or needs fp32")
    write_tensors(path, stored | {name: getattr(windows, name) for name in OF_WINDOWS})
    return StoredWindows(
        n_windows=n,
        length=window.length,
        positions=shape[1],
        width=shape[2],
        taps=wanted,
        final_tap=backbone.depth,
        dtype=str(dtype).removeprefix("torch."),
        skip=window.skip,
        documents=windows.names,
        groups=windows.groups,
    )


def _check_head(backbone: Any, tokens: Tensor, window: Window, final: Tensor, head: Head) -> None:
    """Raise DataError where final states through the head are not the model's own logits."""
    own = backbone.logits(tokens, window)
    error = float((head.logits(final.float()) - own).abs().max() / own.abs().max().clamp_min(1e-9))
    if not error <= backbone.tolerance:
        raise DataError(
            f"states: final state through the head misses the model's own logits by {error:.1e} (relative); "
            f"{backbone.name} is not the backbone of this head"
        )


CPU = torch.device("cpu")


class States:
    """The stored states of one window set, memory-mapped: only what is read comes into memory, and to the device.

    Args: sha256: of the file, as the manifest says; not compared if None. device: where states and targets that are
        read go; indices, tokens and what concerns characters stay on the CPU.
    Raises: TamperError: it is another file; DataError: damaged, not what the manifest says, or out of range.
    """

    def __init__(
        self,
        path: str | Path,
        manifest: StatesManifest,
        sha256: str | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.path, self.manifest, self.device = Path(path), manifest, device
        self._tensors, _ = read_tensors(path, sha256)
        expected = (manifest.n_windows, manifest.positions, manifest.width)
        if not self._as_promised(expected):
            raise DataError(
                f"{path}: does not hold the {expected} states its manifest promises; delete both and rebuild them"
            )
        if fault := self._out_of_range():
            raise DataError(f"{path}: {fault}; delete it and its manifest and rebuild them")
        self.windows = torch.arange(manifest.n_windows)  # now that memory of this size is known to be right

    def _as_promised(self, expected: tuple[int, int, int]) -> bool:
        """Return whether taps, tokens, targets and documents have the shapes and numbers of the manifest."""
        shapes: dict[str, tuple[int, ...]] = {f"tap.{tap}": expected for tap in {*self.manifest.taps, self.final_tap}}
        shapes |= {name: expected[:2] for name in ("targets", "target_bytes", "char_end")} | {"document": expected[:1]}
        shapes["tokens"] = (expected[0], self.manifest.length)
        if {name: tuple(tensor.shape) for name, tensor in self._tensors.items()} != shapes:
            return False
        if any(tensor.is_floating_point() != name.startswith("tap.") for name, tensor in self._tensors.items()):
            return False
        names = len(self.manifest.documents)
        return names == len(self.manifest.groups) == int(self._tensors["document"].max()) + 1

    def _out_of_range(self) -> str:
        """Return in words what no pass over a text could have stored, "" where there is nothing."""
        if not self.skip < self.manifest.positions:
            return f"its manifest leaves out {self.skip} of {self.manifest.positions} positions"
        document = self.document.long()
        if int(document[0]) or not bool(((document.diff() == 0) | (document.diff() == 1)).all()):
            return "its windows are not in the order of its documents"
        for name in ("tokens", "targets", "target_bytes", "char_end"):
            if int(self._tensors[name].min()) < 0:
                return f"its {name} hold a negative number"
        damaged = [name for name, tensor in self._tensors.items() if name.startswith("tap.") and not finite(tensor)]
        return f"{damaged[0]} holds NaN or infinity" if damaged else ""

    def check_vocabulary(self, head: Head) -> None:
        """Raise DataError where a token or a target is none of a head's vocabulary."""
        for name in ("tokens", "targets"):
            if name in self._tensors and int(self._tensors[name].max()) >= len(head.weight):
                raise DataError(
                    f"{self.path}: its {name} name a token beyond the {len(head.weight)} of the head; "
                    "delete it and its manifest and rebuild them"
                )

    def check_taps(self, taps: Sequence[int], width: int, where: str) -> None:
        """Raise DataError where a module, which `where` names, reads a tap or a width that is not stored."""
        if width != self.manifest.width or not {*taps} <= {*self.manifest.taps, self.final_tap}:
            raise DataError(
                f"{where}: reads taps {list(taps)} of width {width}, the states in {self.path} are taps "
                f"{self.manifest.taps} of width {self.manifest.width}; rebuild the module"
            )

    def __len__(self) -> int:
        return self.manifest.n_windows

    @property
    def skip(self) -> int:
        """First positions of a window, which are not scored."""
        return self.manifest.skip

    @property
    def final_tap(self) -> int:
        """Tap of the final state."""
        return self.manifest.final_tap

    def select(self, windows: Sequence[int]) -> "States":
        """Return a store of some windows only, in the given order; `windows` keeps their original numbers."""
        index = torch.tensor(list(windows), dtype=torch.long)
        tensors = {name: tensor[index] for name, tensor in self._tensors.items()}
        kept, tensors["document"] = torch.unique(tensors["document"].long(), return_inverse=True)
        documents, groups = self.manifest.documents, self.manifest.groups
        names = {"documents": [documents[i] for i in kept.tolist()], "groups": [groups[i] for i in kept.tolist()]}
        return self._derived(self.windows[index], tensors, **names)

    def positions(self, flat: Tensor) -> "States":
        """Return a store of single positions, given as flat indices `[n]` (window * positions + position).

        Its `windows` are those they come from; it holds no tokens, since a position is no window of them.
        """
        whole = self.by_position()
        return whole._derived(whole.windows[flat], {name: tensor[flat] for name, tensor in whole._tensors.items()})

    def by_position(self) -> "States":
        """Return every position as a window of its own, in order, without a copy of the states; as in `positions`."""
        positions = self.manifest.positions
        kept = {name: tensor for name, tensor in self._tensors.items() if name not in {"document", "tokens"}}
        tensors = {name: tensor.flatten(0, 1).unsqueeze(1) for name, tensor in kept.items()}
        tensors["document"] = self._tensors["document"].repeat_interleave(positions)
        return self._derived(self.windows.repeat_interleave(positions), tensors, positions=1, skip=0)

    def rerun(self, states: Mapping[int, Tensor]) -> "States":
        """Return the same windows with other states `[N, T, D]` of the same taps, as another pass gave them."""
        tensors = self._tensors | {f"tap.{tap}": given for tap, given in states.items()}
        [dtype] = {str(given.dtype).removeprefix("torch.") for given in states.values()}
        return self._derived(self.windows, tensors, dtype=dtype)

    def _derived(self, windows: Tensor, tensors: dict[str, Tensor], **facts: Any) -> "States":
        """Return a store of other windows of the same pass. Args: facts: what its manifest says otherwise."""
        other = object.__new__(States)
        other.path, other.device, other.windows, other._tensors = self.path, self.device, windows, tensors
        other.manifest = self.manifest.model_copy(update={"n_windows": len(windows), **facts})
        return other

    def taps(self, taps: Sequence[int], index: Tensor | slice) -> Tensor:
        """Return tapped states `[B, T, K, D]` of some windows. Raises: DataError: a tap that is not stored."""
        missing = [tap for tap in taps if f"tap.{tap}" not in self._tensors]
        if missing:
            raise DataError(
                f"{self.path}: tap {missing[0]} is not stored (stored: {self.manifest.taps}); "
                "add it to the backbone's `taps`"
            )
        return torch.stack([self._read(f"tap.{tap}", index).float() for tap in taps], dim=2)

    def _read(self, name: str, index: Tensor | slice) -> Tensor:
        tensor = self._tensors[name]
        if isinstance(index, Tensor) and index.dtype == torch.long and index.dim() == 1:
            return tensor.index_select(0, index).to(self.device)  # six times as fast as indexing
        return tensor[index].to(self.device)

    def final(self, index: Tensor | slice) -> Tensor:
        """Return final states `[B, T, D]` of some windows."""
        return self._read(f"tap.{self.final_tap}", index).float()

    def tokens(self, index: Tensor | slice) -> Tensor:
        """Return token ids `[B, length]` of some windows, what a backbone reads."""
        return self._tensors["tokens"][index]

    def targets(self, index: Tensor | slice) -> Tensor:
        """Return target ids `[B, T]`."""
        return self._read("targets", index).long()

    @property
    def target_bytes(self) -> Tensor:
        """UTF-8 bytes `[N, T]` of each target."""
        return self._tensors["target_bytes"]

    @property
    def char_end(self) -> Tensor:
        """Characters `[N, T]` read by each position."""
        return self._tensors["char_end"]

    @property
    def document(self) -> Tensor:
        """Index `[N]` of each window's document in the manifest."""
        return self._tensors["document"]
