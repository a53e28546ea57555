"""An n-gram model on a live backbone: its next-token distribution mixed with the model's, also while generating.

The weight of each follows how well it foretold the tokens before (`ngrams.mixed_losses`). So what a row weighs depends
on all of its text, and a pass that is given only the last token goes on from what the pass before it left.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from abi.base.errors import DataError
from abi.models.backbone import Backbone
from abi.models.logit_shift import TextHooks, vocabulary_of
from abi.models.ngram_module import NgramModule
from abi.models.ngrams import EVENLY, Foretold, weight_after

KEPT = "logits_to_keep"


@dataclass(frozen=True)
class _Left:
    """What a pass leaves to the next one: what each row has read `[B, L]`, and of the token after it.

    Args: weight: of the n-gram model `[B]`; own, its: the distributions `[B, V]` of the model and of the n-grams.
    """

    text: Tensor
    weight: Tensor
    own: Tensor
    its: Tensor


class NgramMixture(TextHooks):
    """An n-gram model on a backbone. Logits are then the logarithms of the mixture."""

    what = "an n-gram model"

    def __init__(self, backbone: Backbone, module: NgramModule) -> None:
        self.module, self.foretold = module, Foretold(module.ngrams, vocabulary_of(backbone))
        self.left: _Left | None = None
        self.wanted: int | Tensor = 0
        super().__init__(backbone)
        self.handles.append(self.model.register_forward_pre_hook(self._ask_for_all, with_kwargs=True))

    def _ask_for_all(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask the model for all logits: those of tokens that were read say how well it foretold them."""
        self.wanted = kwargs.get(KEPT, 0)
        if isinstance(self.wanted, Tensor):
            raise DataError("inference: with an n-gram model attached, ask for the last logits by number")
        return args, kwargs | ({KEPT: 0} if KEPT in kwargs else {})

    def changed(self, logits: Tensor, written: Tensor, text: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Return the logarithms of the mixture `[B, n, V]`. Args, Raises: as of `TextHooks`."""
        own = torch.log_softmax(logits.double().cpu(), -1)
        contexts = self.foretold.vocabulary.contexts(text, self.module.order - 1)[:, -own.shape[1] :]
        weights = self._weights(own, contexts, written.cpu(), text.cpu(), self._read_on(kwargs, written))
        n = min(int(self.wanted) or own.shape[1], own.shape[1])
        own, weights = own[:, -n:], weights[:, -n:, None]
        each = [[self.foretold.distribution(one) for one in row] for row in contexts[:, -n:].long().numpy()]
        its = torch.stack([torch.stack([torch.from_numpy(one) for one in row]) for row in each])
        mixed = torch.logaddexp((1 - weights).log() + own, weights.log() + its.log())
        self.left = _Left(text.cpu(), weights[:, -1, 0], own[:, -1].exp(), its[:, -1])
        return mixed.to(logits.device)

    def _weights(self, own: Tensor, contexts: Tensor, written: Tensor, text: Tensor, read_on: Tensor) -> Tensor:
        """Return the weight of the n-gram model at every position `[B, n]`.

        Args: own: log-probabilities of the model `[B, n, V]`; read_on: whether a position's text goes on `[B, T - 1]`.
        """
        n, length = own.shape[1], written.shape[1]
        weight = torch.full((len(own),), EVENLY, dtype=torch.float64)
        if length > n:
            weight = self._carried(text, text.shape[1] - n, read_on[:, length - n - 1])
        targets = written[:, length - n + 1 :]
        its = self.foretold.likelihoods(contexts[:, :-1], targets)
        plain = own[:, :-1].gather(-1, targets.unsqueeze(-1)).squeeze(-1).exp()
        found = [weight]
        for i in range(n - 1):
            after = self._after(found[-1], plain[:, i], its[:, i])
            found.append(torch.where(read_on[:, length - n + i], after, found[-1]))
        return torch.stack(found, 1)

    def _carried(self, text: Tensor, read: int, read_on: Tensor) -> Tensor:
        """Return the weights `[B]` after the first new token of rows whose beginning an earlier pass has read."""
        left = self.left
        fits = left is not None and left.text.shape[1] == read
        same = (left.text[None] == text[:, None, :read]).all(-1) if left and fits else torch.zeros(1, 1).bool()
        if left is None or not bool(same.any(1).all()):
            raise DataError(
                "inference: the text before these ids lies in a cache that was filled without the n-gram model; "
                "give all ids"
            )
        row, token = same.int().argmax(1), text[:, read, None]
        own, its = (part[row].gather(1, token).squeeze(1) for part in (left.own, left.its))
        return torch.where(read_on, self._after(left.weight[row], own, its), left.weight[row])

    def _after(self, weight: Tensor, own: Tensor, its: Tensor) -> Tensor:
        """Return the weights `[B]` after a token that the model gave the probability `own` and the n-grams `its`."""
        return weight_after(weight, own, its, self.module.share)

    def _read_on(self, kwargs: dict[str, Any], written: Tensor) -> Tensor:
        """Return whether both a token and the one after it are text `[B, T - 1]`, and no padding."""
        given = kwargs.get("decoder_attention_mask" if self.encoder_decoder else "attention_mask")
        mask = given if self.encoder_decoder or self.mask is None else self.mask
        if mask is None:
            return torch.ones(len(written), written.shape[1] - 1, dtype=torch.bool)
        if not isinstance(mask, Tensor) or mask.shape != written.shape:
            raise DataError(f"inference: an n-gram model reads the mask; give one number per token, {[*written.shape]}")
        there = mask.bool().cpu()
        return there[:, :-1] & there[:, 1:]
