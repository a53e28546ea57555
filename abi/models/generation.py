"""Generation with a model's own distribution: fresh settings, prompts of one length or padded, with a cache or none."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor

from abi.base.errors import DataError

if TYPE_CHECKING:
    from abi.models.backbone import Backbone

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""All that a model's own settings of generation are asked for."""


def prompts(ids: Tensor | Mapping[str, Tensor], encoder_decoder: bool) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask `[B, L]`, padding where the model reads it as if it were not there.

    A decoder continues the last column, so padding goes to the left; an encoder counts positions from the first, so
    there it goes to the right.
    Args: ids: of prompts of one length, or what a tokenizer returns (`input_ids` and `attention_mask`).
    Raises: DataError: no ids, rows of several lengths, or a mask of another shape, of a row without tokens, or with a
        gap.
    """
    if isinstance(ids, Tensor):
        return _whole(ids).long(), torch.ones_like(ids).long()
    try:
        rows = _whole(torch.as_tensor(ids["input_ids"])).long()
        mask = torch.as_tensor(ids.get("attention_mask", torch.ones_like(rows))).long()
    except (KeyError, TypeError, ValueError):
        raise DataError(
            "generate: ids hold no `input_ids` of one length; give `tokenizer(text, padding=True, return_tensors='pt')`"
        ) from None
    if rows.dim() != 2 or mask.shape != rows.shape or rows.numel() == 0:
        raise DataError(f"generate: ids of shape {tuple(rows.shape)} under a mask of {tuple(mask.shape)}; give [B, L]")
    n, length = mask.sum(1), mask.shape[1]
    first = mask.argmax(1)
    at = torch.arange(length, device=mask.device)
    if bool((n == 0).any()) or not torch.equal(mask, ((at >= first[:, None]) & (at < (first + n)[:, None])).long()):
        raise DataError("generate: a row of the mask is empty or has a gap; pad prompts at one end")
    shift = first if encoder_decoder else first + n
    order = (at + shift[:, None]) % length
    return rows.gather(1, order), mask.gather(1, order)


def _whole(ids: Tensor) -> Tensor:
    """Return ids. Raises: DataError: they are no whole numbers."""
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise DataError(f"generate: ids are {ids.dtype}; give whole numbers, as a tokenizer returns them")
    return ids


def fresh_settings(backbone: "Backbone", **given: Any) -> transformers.GenerationConfig:
    """Return settings that hold what is given, the model's token ids, and nothing else it brings along."""
    own, config = backbone.model.generation_config, backbone.model.config
    found = {key: getattr(own, key, None) for key in TOKEN_IDS}
    found = {key: getattr(config, key, None) if value is None else value for key, value in found.items()}
    if backbone.is_encoder_decoder:
        found["decoder_start_token_id"] = backbone.start_id
    if found["pad_token_id"] is None:
        ends = found["eos_token_id"]
        found["pad_token_id"] = ends[0] if isinstance(ends, list) else 0 if ends is None else ends
    return transformers.GenerationConfig(**found, **given)


@dataclass(frozen=True)
class Draws:
    """How tokens are drawn. Args: temperature: above 0; top_k, top_p: of the likeliest alone; seed: of the numbers."""

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class _Drawn(transformers.LogitsProcessor):
    """Leaves of every row the one token that is drawn, with random numbers of its own, so that no thread shares them.

    They are drawn on the CPU: a card draws other numbers from the same seed.
    """

    def __init__(self, draws: Draws) -> None:
        self.temperature, self.generator = draws.temperature, torch.Generator().manual_seed(draws.seed)
        self.cut: list[transformers.LogitsProcessor] = []  # transformers too cuts after the temperature
        if draws.top_k:
            self.cut.append(transformers.TopKLogitsWarper(draws.top_k))
        if draws.top_p < 1:
            self.cut.append(transformers.TopPLogitsWarper(draws.top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores `[B, V]`: 0 for the drawn token, -inf for all others."""
        left = scores.float().cpu() / self.temperature
        for cut in self.cut:
            left = cut(input_ids.cpu(), left)
        drawn = torch.multinomial(torch.softmax(left, -1), num_samples=1, generator=self.generator)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn.to(scores.device), 0.0)


@torch.no_grad()
def continued(
    backbone: "Backbone",
    ids: Tensor,
    mask: Tensor,
    n_tokens: int,
    *,
    cache: bool,
    draws: Draws | None = None,
    **given: Any,
) -> Any:
    """Return what transformers' `generate` gives under fresh settings: ids, or with logits where that is given.

    Args: draws: greedy without. torch's own random numbers are neither read nor changed, so that the same draws give
        the same ids whatever other threads do.
    """
    # To transformers drawing is greedy, too: it takes the only token that `_Drawn` leaves, and needs no generator.
    settings = fresh_settings(backbone, max_new_tokens=n_tokens, num_beams=1, use_cache=cache, do_sample=False, **given)
    # transformers fills what is not set from the model's own settings. A copy that shares everything else carries
    # fresh ones, so that another thread's model is left alone.
    model = copy.copy(backbone.model)
    model.generation_config = settings
    ids, mask = ids.to(backbone.device), mask.to(backbone.device)
    more = _empty_cache(backbone) if cache else {}
    if draws is not None:
        more["logits_processor"] = [_Drawn(draws)]
    return model.generate(ids, attention_mask=mask, generation_config=settings, **more)


def _empty_cache(backbone: "Backbone") -> dict[str, Any]:
    """Return what `generate` is given to keep keys and values in: nothing but for encoder-decoders.

    transformers 5.23 sizes the cache of an encoder-decoder by the depth of the encoder, which fails where a T5's
    decoder is deeper; one without a size grows with the layers that write to it.
    """
    if not backbone.is_encoder_decoder:
        return {}
    empty = transformers.DynamicCache
    return {"past_key_values": transformers.EncoderDecoderCache(empty(), empty())}
