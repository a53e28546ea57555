"""An n-gram model on a live backbone: its next-token distribution mixed with the model's, also while generating.

The weight of each follows how well it foretold the tokens before (`ngrams.mixed_losses`). So what a row weighs depends
on all of its text, and a pass that is given only the last token goes on from what the pass before it left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from abi.base.errors import DataError
from abi.models.backbone import Backbone
from abi.models.logit_shift import KEPT, Read, TextHooks, named, vocabulary_of
from abi.models.ngram_module import NgramModule
from abi.models.ngrams import EVENLY, Foretold, weight_after

AT_ONCE = 64
"""Positions `[B, AT_ONCE, V]` that are held in double precision."""
TRAIL = 32
"""Last positions that a pass may go on from: not only the last where what an assistant proposed was refused."""
_NUMBERS = count()


class _Place(NamedTuple):
    """What is known after a token: the weight of the n-gram model `[B]`, and the probabilities `[B, V]` of the next.

    Args: own, its: by the model and by the n-grams, in single precision.
    """

    weight: Tensor
    own: Tensor
    its: Tensor


@dataclass(frozen=True)
class _Left:
    """What a pass leaves in its cache to the next one: what each row has read `[B, L]`, and its last places."""

    text: Tensor
    places: tuple[_Place, ...]

    def at(self, text: Tensor) -> tuple[Tensor, int] | None:
        """Return which of its rows each row of `text` `[B, l]` begins, and how many places reach as far."""
        n = len(self.places) - (self.text.shape[1] - text.shape[1])
        if not 0 < n <= len(self.places):
            return None
        same = (self.text[None, :, : text.shape[1]] == text[:, None]).all(-1)
        rows = same.int().argmax(1)
        if same.shape[0] == same.shape[1]:  # of rows that are alike each goes on from itself
            rows = torch.where(same.diagonal(), torch.arange(len(rows)), rows)
        return (rows, n) if bool(same.any(1).all()) else None


class NgramMixture(TextHooks):
    """An n-gram model on a backbone. Logits are then the logarithms of the mixture.

    Tokens that spell nothing, such as the end of a text, keep the probability that the backbone gives them.
    Raises: DataError: no token of the backbone spells text.
    """

    what = "an n-gram model"

    def __init__(self, backbone: Backbone, module: NgramModule) -> None:
        vocabulary = vocabulary_of(backbone)
        if not vocabulary.strings:
            raise DataError(f"attach: no token of {backbone.name} spells text, and {self.what} writes text")
        self.module, self.foretold = module, Foretold(module.ngrams, vocabulary)
        self.left = f"_abi_ngrams_{next(_NUMBERS)}"
        """The attribute of a cache under which this mixture leaves there what the next pass goes on from."""
        super().__init__(backbone, vocabulary)
        self.handles.append(self.model.register_forward_pre_hook(self._ask_for_all, with_kwargs=True))

    def _ask_for_all(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask the model for all logits: those of tokens that were read say how well it foretold them."""
        given = named(self.model.forward, args, kwargs)
        wanted = given.get(KEPT, 0)
        if isinstance(wanted, Tensor):
            raise DataError("attach: with an n-gram model attached, ask for the last logits by number")
        self.now.wanted = wanted
        return ((), given | {KEPT: 0}) if KEPT in given else (args, kwargs)

    @torch.no_grad()
    def changed(self, logits: Tensor, read: Read) -> Tensor:
        """Return the logarithms of the mixture `[B, n, V]`. Args, Raises: as of `TextHooks`."""
        text, n = read.text.cpu(), logits.shape[1]
        contexts = self.foretold.vocabulary.contexts(text, self.module.order - 1)[:, -n:]
        before = self._before(read.cache, text[:, : text.shape[1] - n]) if read.written.shape[1] > n else ()
        weights = self._weights(logits, contexts, text, read, before)
        n = min(self.now.wanted or n, n)
        own = torch.log_softmax(logits[:, -n:].cpu().double(), -1)
        each = [[self.foretold.distribution(one) for one in row] for row in contexts[:, -n:].long().numpy()]
        its = self._beside(own, torch.stack([torch.stack([torch.from_numpy(one) for one in row]) for row in each]))
        weights = weights[:, -n:]
        if read.cache is not None:
            most = max(TRAIL, self.now.wanted)
            last = range(max(0, n - most), n)
            places = [_Place(weights[:, i], own[:, i].exp().float(), its[:, i].float()) for i in last]
            gone_on = before if len(places) == logits.shape[1] else ()
            setattr(read.cache, self.left, _Left(text, (*gone_on, *places)[-most:]))
        by = weights.unsqueeze(-1)
        return torch.logaddexp((1 - by).log() + own, by.log() + its.log()).to(logits.dtype).to(logits.device)

    def _beside(self, own: Tensor, its: Tensor) -> Tensor:
        """Return what the n-grams say of every token `[B, n, V]` beside the model. Args: own: its log-probabilities."""
        silent = self.foretold.silent
        kept = own[..., silent].exp()
        its = its * (1 - kept.sum(-1, keepdim=True)).clamp(min=0)
        its[..., silent] = kept
        return its

    def _weights(self, logits: Tensor, contexts: Tensor, text: Tensor, read: Read, before: Sequence[_Place]) -> Tensor:
        """Return the weight of the n-gram model at every position `[B, n]`. Args: before: places before those."""
        n, length = logits.shape[1], read.written.shape[1]
        written, read_on = read.written.cpu(), self._read_on(read)
        weight = torch.full((len(logits),), EVENLY, dtype=torch.float64)
        if before:
            weight = self._carried(before[-1], text[:, -n, None], read_on[:, length - n - 1])
        targets = written[:, length - n + 1 :]
        plain, kept = self._of_model(logits[:, :-1], targets)
        its = self.foretold.beside(plain, self.foretold.likelihoods(contexts[:, :-1], targets), targets, kept)
        found = [weight]
        for i in range(n - 1):
            after = self._after(found[-1], plain[:, i], its[:, i])
            found.append(torch.where(read_on[:, length - n + i], after, found[-1]))
        return torch.stack(found, 1)

    def _of_model(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities `[B, n]` that the model gives to targets, and to all silent tokens together."""
        plain, kept = [torch.zeros(len(targets), 0).double()], [torch.zeros(len(targets), 0).double()]
        for some, wanted in zip(logits.split(AT_ONCE, 1), targets.split(AT_ONCE, 1), strict=True):
            chances = torch.log_softmax(some.cpu().double(), -1)
            plain.append(chances.gather(-1, wanted.unsqueeze(-1)).squeeze(-1).exp())
            kept.append(chances[..., self.foretold.silent].exp().sum(-1))
        return torch.cat(plain, 1), torch.cat(kept, 1)

    def _before(self, cache: Any, text: Tensor) -> tuple[_Place, ...]:
        """Return the last places of text `[B, l]` that earlier passes have read, a row for each of its rows.

        Raises: DataError: they have not.
        """
        left: _Left | None = getattr(cache, self.left, None)
        found = left.at(text) if left is not None else None
        if left is None or found is None:
            raise DataError(
                "attach: the text before these ids lies in a cache that was filled without the n-gram model, or was "
                "changed since; give all ids and no cache"
            )
        rows, n = found
        if torch.equal(rows, torch.arange(len(left.text))):
            return left.places[:n]
        weight, own, its = left.places[n - 1]
        return (_Place(weight[rows], own[rows], its[rows]),)  # of beams the last alone, which costs a copy

    def _carried(self, place: _Place, token: Tensor, read_on: Tensor) -> Tensor:
        """Return the weights `[B]` after a token `[B, 1]` that follows a place."""
        own, its = (part.gather(1, token).squeeze(1).double() for part in (place.own, place.its))
        return torch.where(read_on, self._after(place.weight, own, its), place.weight)

    def _after(self, weight: Tensor, own: Tensor, its: Tensor) -> Tensor:
        """Return the weights `[B]` after a token that the model gave the probability `own` and the n-grams `its`."""
        return weight_after(weight, own, its, self.module.share)

    def _read_on(self, read: Read) -> Tensor:
        """Return whether both a token and the one after it are text `[B, T - 1]`, and no padding."""
        shape = read.written.shape
        if read.mask is None:
            return torch.ones(shape[0], shape[1] - 1, dtype=torch.bool)
        if not isinstance(read.mask, Tensor) or read.mask.shape != shape:
            raise DataError(f"attach: an n-gram model reads the mask; give one number per token, {[*shape]}")
        there = read.mask.bool().cpu()
        return there[:, :-1] & there[:, 1:]
