"""Portable modules on a live backbone: hooks that add their shift to the logits, also while generating."""

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from abi.base.errors import DataError
from abi.models.backbone import Backbone
from abi.models.portable import Placed, PortableModule, Vocabulary
from abi.models.tokenizers import spellings

LEAST_SHARE = 0.1
"""Share of the tokens that must begin with an anchor."""


def vocabulary_of(backbone: Backbone) -> Vocabulary:
    """Return the vocabulary of a backbone, one spelling per row of its head."""
    rows = backbone.model.get_output_embeddings().weight.shape[0]
    return Vocabulary(spellings(backbone.tokenizer, rows))


def check_vocabulary(backbone: Backbone, module: PortableModule) -> None:
    """Raise DataError where hardly a token of a backbone begins with an anchor of a portable module."""
    placed = Placed(module, vocabulary_of(backbone))
    spelled = sum(map(bool, placed.vocabulary.spellings))
    written = int((placed.anchor_of < len(module.config.anchors)).sum())
    if written < LEAST_SHARE * spelled:
        raise DataError(
            f"inference: {written} of {spelled} tokens of {type(backbone.model).__name__} begin with an anchor of the "
            "portable module; its strings are not those of this vocabulary"
        )


@dataclass(frozen=True)
class Read:
    """What a pass has read.

    Args: written: ids `[B, T]` of everything the decoder has; text: the same after what the encoder has, if there is
        one; tokens that are masked spell nothing there. mask: of `written`, 1 where there is no padding; None: nowhere
        any, or in another form. cache: of keys and values that it leaves behind, if it does.
    """

    written: Tensor
    text: Tensor
    mask: Tensor | None
    cache: Any


class _Step(threading.local):
    """What is known of the pass that comes: a thread's own, so that passes side by side do not mix."""

    text: Tensor | None = None
    """All ids `[B, L]` of the step that `generate` prepares."""
    mask: Tensor | None = None
    """Which of them are no padding `[B, L]`, as `generate` has it."""
    asked: Tensor | None = None
    """What the encoder was last given, without what was masked."""
    wanted: int = 0
    """Of how many last positions logits were asked for, 0: of all."""


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
        self.now = _Step()
        self.blank = next((i for i, spelling in enumerate(vocabulary.spellings) if not spelling), None)
        self.handles = [self.model.register_forward_hook(self, with_kwargs=True)]
        self.handles.append(self.model.register_forward_hook(self._forget, always_call=True))
        if self.encoder_decoder:
            encoder = self.model.get_encoder()
            self.handles.append(encoder.register_forward_pre_hook(self._note, with_kwargs=True))
        self.model.prepare_inputs_for_generation = self._preparing(self.model.prepare_inputs_for_generation)

    def _preparing(self, own: Any) -> Any:
        """Return the model's preparation of a step, which also notes the whole ids."""

        def prepare(input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
            cache = kwargs.get("past_key_values")
            if cache is not None and cache.get_seq_length() >= max(1, input_ids.shape[1]):
                raise DataError(
                    f"generate: {self.what} reads the text, and was handed a piece of it; give all ids, not embeddings "
                    "or those after a cache, and no `prefill_chunk_size`"
                )
            self.now.text, self.now.mask = input_ids, kwargs.get("attention_mask")
            return own(input_ids, *args, **kwargs)

        return prepare

    def _forget(self, *_: object) -> None:
        """Forget what was prepared for a pass that has failed: the next one may be of other text."""
        self.now.text, self.now.mask = None, None

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        asked = args[0] if args else kwargs.get("input_ids")
        self.now.asked = None if asked is None else self._without(asked, kwargs.get("attention_mask"))

    def _without(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return ids `[B, L]` where masked ones spell nothing, if the vocabulary has such a token."""
        if mask is None or self.blank is None or mask.shape != ids.shape:
            return ids
        return ids.masked_fill(mask.to(ids.device) == 0, self.blank)

    @torch.no_grad()
    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Return the model's output with changed logits; they may be of the last positions only.

        Raises: DataError: the text before the given tokens is not known, or the model was asked for its loss.
        """
        if getattr(output, "loss", None) is not None:
            raise DataError(f"inference: with {self.what} attached, take the loss from the logits, not by labels")
        read = self._read(args, kwargs, output)
        output.logits = self.changed(output.logits, read).to(output.logits.dtype)
        return output

    def changed(self, logits: Tensor, read: Read) -> Tensor:
        """Return the logits `[B, n, V]` of the last positions, changed."""
        raise NotImplementedError

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Read:
        """Return what each row of the decoder has read, and the encoder before it."""
        given = kwargs.get("decoder_input_ids" if self.encoder_decoder else "input_ids")
        given = args[0] if given is None and args and not self.encoder_decoder else given
        if given is None:
            raise DataError(f"inference: {self.what} reads the text; give the model ids, not embeddings")
        written, mask = self.now.text, self.now.mask
        if written is None or self.encoder_decoder:  # of an encoder-decoder `generate` has the mask of the prompt there
            mask = kwargs.get("decoder_attention_mask" if self.encoder_decoder else "attention_mask")
        if written is None:
            cache = kwargs.get("past_key_values")
            if cache is not None and cache.get_seq_length() > given.shape[1]:
                raise DataError(
                    f"inference: the text before these ids lies in a cache, and {self.what} reads the text; "
                    "give all ids, or use `generate`"
                )
            written = given
        text, cache = self._without(written, mask), getattr(output, "past_key_values", None)
        if not self.encoder_decoder:
            return Read(written, text, mask, cache)
        if self.now.asked is None:
            raise DataError(f"inference: {self.what} reads what the encoder was given; give it ids")
        asked = self.now.asked.repeat_interleave(len(text) // len(self.now.asked), 0)
        return Read(written, torch.cat([asked, text], 1), mask, cache)

    def remove(self) -> None:
        """Take every hook off."""
        while self.handles:
            self.handles.pop().remove()
        self.model.__dict__.pop("prepare_inputs_for_generation", None)


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
        total = torch.zeros(())
        for placed, weight in self.parts:
            total = total + weight * placed.shift(read.text)[:, -logits.shape[1] :]
        return logits + total.to(logits.dtype)
