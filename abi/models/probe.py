"""The probe: a backbone is admitted by facts that are measured on a few tokens, or refused in one sentence.

Each fact says that something the engine takes for granted holds for this very model: that earlier positions do not see
later ones, that the stored head gives the model's logits, that a tap is what a block reads, that a cache and padding
change nothing, that text survives its tokenizer.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from abi.base.errors import DataError
from abi.base.manifests.backbones import BackboneFacts
from abi.models.generation import continued, prompts
from abi.models.head import blocks_of, reading
from abi.models.states import Window
from abi.models.tokenizers import characters_lost, decode, encode, start_of, tokenizer_json

if TYPE_CHECKING:
    from abi.models.backbone import Backbone

CODE = "def f(x):\n\n\treturn {'é': [x_1, 0.5]}  # 日本 🙂\n    \n\n\nif f(1):\n        print(\"a  b\")\n    return 1\n"
PROSE = "A state is kept for each token, and the model reads 12 of them at once."
LENGTH, NEW = 12, 3
"""Tokens of the probe's window, and tokens it generates."""

ROUNDING = 2e-6
"""Differences up to it are those of two orders of the same sums in fp32."""

MOST_LOST = 0.01
"""Share of a text's characters that its tokenizer may lose."""


@dataclass(frozen=True)
class _Admitted:
    tokenizer: Any
    facts: BackboneFacts


MEASURING = threading.RLock()
"""Held while a model is measured, or something is put on it: two threads would measure each other's hooks."""
_ADMITTED: "WeakKeyDictionary[nn.Module, _Admitted]" = WeakKeyDictionary()


class Attachment:
    """What is put on a model with hooks of its own methods, and changes what it says until it is taken off."""

    def detach(self) -> None:
        """Take it off; the model is then the plain one, bit for bit."""
        raise NotImplementedError


def attachment(model: nn.Module) -> Attachment | None:
    """Return what is on a model, None where nothing is."""
    owners = (getattr(hook, "__self__", None) for hook in model._forward_pre_hooks.values())
    return next((owner for owner in owners if isinstance(owner, Attachment)), None)


def admit(backbone: "Backbone", facts: BackboneFacts | None = None) -> BackboneFacts:
    """Return the facts of a backbone, measured once for each model in memory.

    Args: facts: those of the manifest of this very backbone, which are then not measured again.
    Raises: DataError: as `measure`; or something is attached to it, and what it is asked for is not known yet.
    """
    with MEASURING:
        return _admitted(backbone, facts)


def _admitted(backbone: "Backbone", facts: BackboneFacts | None) -> BackboneFacts:
    known = _ADMITTED.get(backbone.model)
    if known is None or known.tokenizer is not backbone.tokenizer:
        same = known is not None and tokenizer_json(known.tokenizer) == tokenizer_json(backbone.tokenizer)
        if not same and attachment(backbone.model) is not None:  # which would be measured with it
            raise DataError(
                f"backbone: a module is attached to {backbone.name}, and it was not measured with this tokenizer; "
                "detach it first"
            )
        found = known.facts if known is not None and same else facts or measure(backbone)
        known = _Admitted(backbone.tokenizer, found)
        _ADMITTED[backbone.model] = known
    return known.facts


@dataclass
class _Evaluated:
    """A model in eval mode: the parts that were training, and how many blocks still need it."""

    training: list[nn.Module]
    blocks: int = 0


_EVALUATED: dict[nn.Module, _Evaluated] = {}
_EVALUATED_LOCK = threading.Lock()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run a block with a model in eval mode; the last of several threads leaves every part of it as it was."""
    with _EVALUATED_LOCK:
        found = _EVALUATED.setdefault(model, _Evaluated([part for part in model.modules() if part.training]))
        found.blocks += 1
        model.eval()
    try:
        yield
    finally:
        with _EVALUATED_LOCK:
            found.blocks -= 1
            if not found.blocks:
                del _EVALUATED[model]
                for part in found.training:
                    part.training = True


@torch.no_grad()
def measure(backbone: "Backbone") -> BackboneFacts:
    """Return the facts of a backbone, measured now.

    Raises: DataError: its weights hold NaN or infinity, it cannot be run as abi runs it, it is not causal, its head
        is none that abi knows, or its hidden states are not what its blocks read.
    """
    weights = dict(backbone.model.named_parameters())
    for name, tensor in [*weights.items(), *backbone.model.named_buffers()]:
        try:  # a buffer may be a mask, whose infinities are meant
            sound = bool(torch.isfinite(tensor).all() if name in weights else not torch.isnan(tensor).any())
        except (RuntimeError, NotImplementedError):
            raise _unread(backbone.name, name, tensor) from None
        if not sound:
            kind = "weight" if name in weights else "buffer"
            raise DataError(f"backbone: {backbone.name} is refused, its {kind} {name} holds NaN or infinity")
    try:
        with evaluating(backbone.model):
            return _checked(backbone)
    except DataError:
        raise
    except Exception as error:  # what a class of transformers raises where it is called in a way it does not know
        lines = str(error).strip().splitlines() or [""]
        raise DataError(
            f"backbone: {backbone.name} is refused, it cannot be run as abi runs it "
            f"({type(error).__name__}: {lines[0][:160]})"
        ) from None


def _unread(backbone: str, name: str, tensor: Tensor) -> DataError:
    """Return the error of a weight that torch cannot look into: it has no data, or a precision below fp16."""
    if tensor.is_meta:
        return DataError(
            f"backbone: {backbone} is refused, some of its weights are offloaded; load it into memory whole"
        )
    precision = str(tensor.dtype).removeprefix("torch.")
    return DataError(
        f"backbone: {backbone} is refused, its {name} is in {precision}, in which nothing can be checked; load it in "
        "fp32, bf16 or fp16"
    )


def _checked(backbone: "Backbone") -> BackboneFacts:
    """Return the facts, refusing by those that everything rests on."""
    ids, window = backbone.sample(LENGTH), Window(LENGTH, LENGTH // 2 if backbone.is_encoder_decoder else 0, 0)
    blocks = blocks_of(backbone.decoder, backbone.depth)
    hidden, read = _taps(backbone, ids, window, blocks)
    logits = backbone.logits(ids, window)
    later = ids.clone()
    later[:, -3:] = ids[:, :3]
    kept = window.positions - 3
    found: dict[str, Any] = {
        "causal": _apart(backbone.logits(later, window)[:, :kept], logits[:, :kept]),
        "head": _apart(backbone.head().logits(hidden[-1].float()), logits),
        "taps": None if read is None else max(_apart(a, b) for a, b in zip(hidden, read, strict=True)),
    }
    said = {
        "causal": "it is not causal: earlier logits move by {} (relative) when later tokens change",
        "head": "the final state through its head misses its own logits by {} (relative)",
        "taps": "its hidden states are not what its blocks read: they differ by {} (relative)",
    }
    for fact, words in said.items():
        value = found[fact]
        if value is not None and not value <= backbone.tolerance:
            raise DataError(f"backbone: {backbone.name} is refused, {words.format(f'{value:.1e}')}")
    cache = _cache(backbone, ids)
    found |= {"cache": cache, "padded": _padded(backbone, ids, cache is not None)}
    return BackboneFacts(
        precision=str(backbone.embeddings_out.weight.dtype).removeprefix("torch."),
        **_rounded(found),
        **_text_facts(backbone.tokenizer),
        start=start_of(backbone.tokenizer),
    )


def _rounded(found: Mapping[str, float | None]) -> dict[str, Any]:
    """Return facts to two digits, rounding in the last bits as 0: more is noise of the machine."""
    return {k: None if v is None else float(f"{v:.1e}") if v > ROUNDING else 0.0 for k, v in found.items()}


def _taps(
    backbone: "Backbone", ids: Tensor, window: Window, blocks: nn.ModuleList | None
) -> tuple[tuple[Tensor, ...], list[Tensor] | None]:
    """Return hidden states, and what the blocks and the head read (None without a list of blocks).

    Raises: DataError: too few hidden states, or such of other shapes.
    """
    inner = {} if blocks is None else dict(enumerate(blocks))
    with reading(inner) as read:
        hidden = backbone.hidden_states(ids, window)
    shape = (1, window.positions, backbone.width)
    others = [f", one of {tuple(state.shape)}" for state in hidden if tuple(state.shape) != shape]
    if len(hidden) != backbone.depth + 1 or others:
        raise DataError(
            f"backbone: {backbone.name} is refused, it gives {len(hidden)} hidden states{''.join(others[:1])}, not "
            f"{backbone.depth + 1} of {shape}"
        )
    if blocks is None:
        return hidden, None
    if len(read) != len(inner):
        raise DataError(f"backbone: {backbone.name} is refused, it does not run the blocks it lists")
    return hidden, [*(read[tap][:, : window.positions] for tap in range(backbone.depth)), hidden[-1]]


def _cache(backbone: "Backbone", ids: Tensor) -> float | None:
    """Return how far apart the logits of generated tokens are with a cache and without; None where one fails."""
    cached, slow = (_steps(backbone, ids, torch.ones_like(ids), cache) for cache in (True, False))
    return None if cached is None or slow is None else _same_steps(cached, slow, 0)


def _padded(backbone: "Backbone", ids: Tensor, cache: bool) -> float | None:
    """Return how far apart the logits of a prompt are in a padded batch and alone; None where one fails."""
    short = ids[:, : LENGTH - 3]
    alone = _steps(backbone, short, torch.ones_like(short), cache)
    rows, mask = torch.cat([ids, ids]), torch.ones(2, LENGTH, dtype=torch.long)
    rows[1, : short.shape[1]], rows[1, short.shape[1] :], mask[1, short.shape[1] :] = short[0], int(ids[0, 0]), 0
    rows, mask = prompts({"input_ids": rows, "attention_mask": mask}, backbone.is_encoder_decoder)
    together = _steps(backbone, rows, mask, cache)
    return None if alone is None or together is None else _same_steps(together, alone, 1)


def _steps(backbone: "Backbone", ids: Tensor, mask: Tensor, cache: bool) -> tuple[Tensor, Tensor] | None:
    """Return greedy ids `[B, n]` and their logits `[n, B, V]`; None where the model does not generate so."""
    try:
        found = continued(backbone, ids, mask, NEW, cache=cache, output_logits=True, return_dict_in_generate=True)
        return found.sequences[:, -len(found.logits) :], torch.stack(found.logits).float()
    except Exception:  # whatever it is: a fact that cannot be measured is none, and what rests on it is refused
        return None


def _same_steps(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], row: int) -> float | None:
    """Return how far apart logits of a row of `one` and of the only row of `other` are, while their tokens agree."""
    worst = 0.0
    for step in range(min(len(one[1]), len(other[1]))):
        worst = max(worst, _apart(one[1][step, row], other[1][step, 0]))
        if int(one[0][row, step]) != int(other[0][0, step]):
            break
    return worst if math.isfinite(worst) else None


def _apart(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two tensors over the largest number of the second; infinity for NaN."""
    gap = (found.float() - expected.float()).abs().max() / expected.float().abs().max().clamp_min(1e-9)
    return float(gap.nan_to_num(nan=math.inf))


def _text_facts(tokenizer: Any) -> dict[str, Any]:
    """Return what a tokenizer keeps of a test text, and whether its tokens end where their text does."""
    try:
        lost = characters_lost(tokenizer, [CODE])
        text = "\n".join(CODE.splitlines()[4:]) if lost == 0 else PROSE
        ids, ends = encode(tokenizer, text)
        spelled = [decode(tokenizer, ids[: i + 1].tolist()).lstrip(" ") for i in range(len(ids))]
        whole = all(told == text[:end].lstrip(" ") for told, end in zip(spelled, ends.tolist(), strict=True))
        return {"characters_lost": float(f"{min(lost, 1.0):.2g}"), "ends": whole and bool(ends[-1] == len(text))}
    except DataError:  # no offsets: its text cannot be aligned, which `encode` says where it is asked
        return {"characters_lost": 1.0, "ends": False}


def require_lossless(backbone: "Backbone", texts: Sequence[str]) -> float:
    """Return the share of the characters of texts that a backbone's tokenizer loses.

    Raises: DataError: it is above `MOST_LOST`.
    """
    lost = characters_lost(backbone.tokenizer, texts)
    if lost > MOST_LOST:
        raise DataError(
            f"states: the tokenizer of {backbone.name} loses {lost:.1%} of the characters of the text; at most "
            f"{MOST_LOST:.0%} may go; choose another text or backbone"
        )
    return lost


def require_cache(backbone: "Backbone") -> None:
    """Raise DataError where a backbone does not generate the same with a cache as without."""
    _require(backbone, admit(backbone).cache, "generating with a cache", "generate with `cache=False`")


def require_padding(backbone: "Backbone") -> None:
    """Raise DataError where a backbone's row in a padded batch is not what it is alone."""
    _require(backbone, admit(backbone).padded, "a prompt in a padded batch", "give prompts one by one")


def _require(backbone: "Backbone", value: float | None, what: str, remedy: str) -> None:
    if value is None:
        raise DataError(f"generate: {backbone.name} cannot be run for {what}; {remedy}")
    if value > backbone.tolerance:
        raise DataError(f"generate: {backbone.name} gives other logits for {what} (by {value:.1e}, relative); {remedy}")
