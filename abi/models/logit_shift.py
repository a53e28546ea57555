"""Portable modules on a live backbone: hooks that add their shift to the logits, also while generating."""

import inspect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from abi.base.errors import DataError
from abi.models.backbone import Backbone
from abi.models.portable import Placed, PortableModule, Vocabulary
from abi.models.tokenizers import spellings

PREPARE, KEPT = "prepare_inputs_for_generation", "logits_to_keep"
SPELLED = "the states of models"
"""A text by which it is seen whether the tokens of a vocabulary spell what they stand for."""
LEAST_SHARE = 0.1
"""Share of the tokens that must begin with an anchor."""


def vocabulary_of(backbone: Backbone) -> Vocabulary:
    """Return the vocabulary of a backbone, one spelling per row of its head."""
    rows = backbone.model.get_output_embeddings().weight.shape[0]
    return Vocabulary(spellings(backbone.tokenizer, rows))


def check_spelling(backbone: Backbone, vocabulary: Vocabulary) -> None:
    """Raise DataError where the tokens of a text do not spell it: with marks of word pieces (`##s`, `</w>`) in them."""
    ids = backbone.tokenizer(SPELLED, add_special_tokens=False)["input_ids"]
    told = [vocabulary.spellings[i] for i in ids]
    if None not in told and "".join(map(str, told)).strip() != SPELLED:
        raise DataError(
            f"attach: the tokens of {SPELLED!r} spell {''.join(map(str, told))!r} in the vocabulary of "
            f"{type(backbone.model).__name__}; what reads text needs one whose tokens join to the text"
        )


def check_vocabulary(backbone: Backbone, module: PortableModule) -> None:
    """Raise DataError where hardly a token of a backbone begins with an anchor of a portable module, or none spells."""
    vocabulary = vocabulary_of(backbone)
    check_spelling(backbone, vocabulary)
    placed = Placed(module, vocabulary)
    spelled = sum(map(bool, placed.vocabulary.spellings))
    written = int((placed.anchor_of < len(module.config.anchors)).sum())
    if written < LEAST_SHARE * spelled:
        raise DataError(
            f"attach: {written} of {spelled} tokens of {type(backbone.model).__name__} begin with an anchor of the "
            "portable module; its strings are not those of this vocabulary"
        )


@dataclass(frozen=True)
class Read:
    """What a pass has read.

    Args: written: ids `[B, T]` of everything the decoder has; text: the same after what the encoder has, if there is
        one; tokens that are masked spell nothing there. mask: of `written`, 1 where there is no padding; None: nowhere
        any, or in another form. new: how many of `written` this pass was given. kept: at which of those the logits are,
        or how many of the last, 0: all. cache: of keys and values that it leaves behind, if it does.
    """

    written: Tensor
    text: Tensor
    mask: Tensor | None
    new: int
    kept: int | Tensor
    cache: Any


class _Step(threading.local):
    """What is known of the pass that comes: a thread's own, so that passes side by side do not mix."""

    text: Tensor | None = None
    """All ids `[B, L]` of the step that `generate` prepares."""
    mask: Tensor | None = None
    """Which of them are no padding `[B, L]`, as `generate` has it."""
    asked: Tensor | None = None
    """What the encoder was last given, without what was masked."""
    encoded: Tensor | None = None
    """What it made of that."""
    wanted: int = 0
    """Of how many last positions logits were asked for, 0: of all."""


def named(forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a `forward` is called with, by name."""
    return {**dict(zip(inspect.signature(forward).parameters, args, strict=False)), **kwargs}


class TextHooks:
    """Hooks on a backbone for what reads the text and changes the logits.

    With a cache of keys and values the model is given only the last token of a text. `generate` of transformers hands
    the whole ids of every row to `prepare_inputs_for_generation` at every step, after beams were reordered; they are
    noted there. So batches, beams and caches need nothing of their own.
    """

    what = "a portable module"
    """In words, where it refuses."""

    def __init__(self, backbone: Backbone, vocabulary: Vocabulary) -> None:
        self.model = backbone.model
        self.encoder_decoder = backbone.is_encoder_decoder
        self.prefix = "decoder_" if self.encoder_decoder else ""
        self.now = _Step()
        self.blank = next((i for i, spelling in enumerate(vocabulary.spellings) if not spelling), None)
        self.handles = [self.model.register_forward_hook(self, with_kwargs=True)]
        self.handles.append(self.model.register_forward_hook(self._forget, always_call=True))
        if self.encoder_decoder:
            self.handles.append(self.model.get_encoder().register_forward_hook(self._note, with_kwargs=True))
        self.own_preparation = self.model.__dict__.get(PREPARE)
        setattr(self.model, PREPARE, self._preparing(getattr(self.model, PREPARE)))

    def _preparing(self, own: Any) -> Any:
        """Return the model's preparation of a step, which also notes the whole ids."""

        def prepare(input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
            made = own(input_ids, *args, **kwargs)
            self.now.text, self.now.mask = input_ids, kwargs.get(f"{self.prefix}attention_mask")
            return made

        return prepare

    def _forget(self, *_: object) -> None:
        """Forget what was prepared for a pass that has failed: the next one may be of other text."""
        self.now.text, self.now.mask = None, None

    def _note(self, encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = named(encoder.forward, args, kwargs)
        asked = given.get("input_ids")
        self.now.asked = None if asked is None else self._without(asked, given.get("attention_mask"))
        self.now.encoded = output[0]

    def _without(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return ids `[B, L]` where masked ones spell nothing. Raises: DataError: every token spells something."""
        if mask is None or mask.shape != ids.shape or bool(mask.all()):
            return ids
        if self.blank is None:
            raise DataError(
                f"attach: {self.what} reads the text, and in this vocabulary padding is text, too; give rows of one "
                "length"
            )
        return ids.masked_fill(mask.to(ids.device) == 0, self.blank)

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Return the model's output with changed logits; they may be of the last positions only.

        Raises: DataError: the text before the given tokens is not known, or the model was asked for its loss or for a
            tuple.
        """
        if isinstance(output, tuple):
            raise DataError(f"attach: with {self.what} attached, leave out `return_dict=False`")
        if getattr(output, "loss", None) is not None:
            raise DataError(f"attach: with {self.what} attached, take the loss from the logits, not by labels")
        read = self._read(named(model.forward, args, kwargs), output)
        output.logits = self.changed(output.logits, read).to(output.logits.dtype)
        return output

    def changed(self, logits: Tensor, read: Read) -> Tensor:
        """Return the logits `[B, n, V]` of the last positions, changed."""
        raise NotImplementedError

    def _read(self, given: Mapping[str, Any], output: Any) -> Read:
        """Return what each row of the decoder has read, and the encoder before it."""
        ids = given.get(f"{self.prefix}input_ids")
        if ids is None:
            raise DataError(f"attach: {self.what} reads the text; give the model ids, not embeddings")
        written, mask = self.now.text, self.now.mask
        if written is None or not torch.equal(written[:, -ids.shape[1] :], ids):  # prepared for a pass that never came
            written, mask = ids, given.get(f"{self.prefix}attention_mask")
            self._check_places(given.get("position_ids"), mask)
        cache = getattr(output, "past_key_values", None)
        if cache is not None and int(cache.get_seq_length()) > written.shape[1]:
            raise DataError(
                f"attach: the text before these ids lies in a cache, and {self.what} reads the text; give all ids, "
                "with no `prefill_chunk_size`, or use `generate`"
            )
        text, kept = self._without(written, mask), given.get(KEPT, 0)
        if self.encoder_decoder:
            text = torch.cat([self._asked(given, len(text)), text], 1)
        return Read(written, text, mask, ids.shape[1], kept, cache)

    def _check_places(self, places: Tensor | None, mask: Any) -> None:
        """Raise DataError where a row holds several texts: where its positions do not go up by one.

        Args: mask: of `[B, T]`, as it tells padding; what has another form is that of a program which knows its rows.
        """
        plain = mask is None or (isinstance(mask, Tensor) and mask.dim() == 2)
        if places is None or places.dim() != 2 or not plain:
            return
        there = torch.ones_like(places) if mask is None else mask[:, -places.shape[1] :].to(places.device)
        both = (there[:, 1:] * there[:, :-1]).bool()
        if bool(((places[:, 1:] - places[:, :-1] != 1) & both).any()):
            raise DataError(
                f"attach: a row holds several texts (its positions start again), and {self.what} reads a row as one "
                "text; give every text a row of its own"
            )

    def _asked(self, given: Mapping[str, Any], rows: int) -> Tensor:
        """Return what the encoder was given for each row of the decoder. Raises: DataError: it is not known."""
        asked, encoded, states = self.now.asked, self.now.encoded, given.get("encoder_outputs")
        if asked is None or encoded is None or rows % len(asked):
            raise DataError(f"attach: {self.what} reads what the encoder was given; give it ids")
        times = rows // len(asked)
        if states is not None and states[0] is not encoded:
            if not torch.equal(states[0], encoded.repeat_interleave(len(states[0]) // len(encoded), 0)):
                raise DataError(
                    f"attach: {self.what} reads what the encoder was given, and these states are of other ids than "
                    "it was given last; give the ids again"
                )
        return asked.repeat_interleave(times, 0)

    def remove(self) -> None:
        """Take every hook off."""
        if not self.handles:
            return
        while self.handles:
            self.handles.pop().remove()
        self.model.__dict__.pop(PREPARE, None)
        if self.own_preparation is not None:
            setattr(self.model, PREPARE, self.own_preparation)


class LogitShift(TextHooks):
    """Some portable modules on a backbone.

    Args: parts: (module, weight) pairs; the shift is their weighted sum `[B, T, V]`.
    """

    def __init__(self, backbone: Backbone, parts: list[tuple[PortableModule, float]]) -> None:
        vocabulary = vocabulary_of(backbone)
        self.parts = [(Placed(module, vocabulary), weight) for module, weight in parts]
        super().__init__(backbone, vocabulary)

    def changed(self, logits: Tensor, read: Read) -> Tensor:
        """Return shifted logits. Args: as of `TextHooks`."""
        total, text = torch.zeros(()), read.text.to(logits.device)
        with torch.no_grad():  # the shift has no gradient; what it is added to may have one
            for placed, weight in self.parts:
                if isinstance(read.kept, Tensor):
                    shift = placed.shift(text, read.new)[:, read.kept.to(logits.device)]
                else:
                    shift = placed.shift(text, logits.shape[1])
                total = total + weight * shift
        return logits + total.to(logits)
