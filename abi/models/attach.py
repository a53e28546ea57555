"""A trained module on a live backbone: attach and detach, generate, and several modules by name (inject, use, revoke).

A module is attached by hooks and changes no weight: the correction is added to the final state right before the head,
where stored states add it, and detaching leaves the plain backbone, bit for bit. `hidden_states` of the backbone stay
plain.
"""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from abi.base.errors import DataError
from abi.base.manifests.modules import ModuleManifest
from abi.models.backbone import Backbone
from abi.models.generation import Draws, continued, prompts
from abi.models.head import blocks_of, first_input
from abi.models.identity import identity_hash, weights_hash
from abi.models.module import AbiModule
from abi.models.probe import MEASURING, Attachment, admit, attachment, require_cache, require_padding

Rows = tuple[Tensor | None, Tensor | float]
"""The rows of a batch that a module corrects `[n]`, None for all, and its weight in each, `[n, 1, 1]`."""


class _Pass(threading.local):
    """What one pass of a backbone has noted so far: a thread's own, so that passes side by side do not mix."""

    def __init__(self) -> None:
        self.seen: dict[int, Tensor] = {}
        self.positions: Tensor | None = None
        """Those whose logits were asked for, where they were named (`logits_to_keep`)."""


class Attached(Attachment):
    """Modules on a backbone until `detach()`, or until the end of a `with` block.

    Hooks note the inputs of its blocks, and the head reads the corrected state. Modules go to the backbone's device;
    they compute in their own precision, whatever that of the backbone; if that is moved later, they follow. What torch
    compiled in this process is compiled again: such code does not look for hooks that came later.
    Args: parts: (module, weight) pairs; the correction `[B, T, D]` is their weighted sum.
    Raises: DataError: something is attached to the backbone already, or it is not admitted.
    """

    def __init__(self, backbone: Backbone, parts: list[tuple[AbiModule, float]]) -> None:
        with MEASURING:
            self._put_on(backbone, parts)

    def _put_on(self, backbone: Backbone, parts: list[tuple[AbiModule, float]]) -> None:
        if attachment(backbone.model) is not None:
            raise DataError(
                "attach: a module is attached to this backbone already; detach it first (`abi.detach(model)`), or "
                "attach several by name (`abi.attach(model, {...})`)"
            )
        self.backbone, self.depth = backbone, backbone.depth
        for module, _ in parts:
            module.to(backbone.device)
        self.parts = parts
        wanted = self._wanted({tap for module, _ in self.parts for tap in module.config.taps})
        self.scale, self.now = backbone.form.before, _Pass()
        self.entry = backbone.entry
        self.at_entry = self.entry.register_forward_pre_hook(self)
        self.handles = [backbone.model.register_forward_pre_hook(self._begin, with_kwargs=True)]
        self.handles.append(backbone.model.register_forward_hook(self._end, always_call=True))
        self.noted: set[int] = set()
        _forget_compiled()
        self._note_taps(wanted)

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin a pass: nothing noted, and the hook on the head there is now (`resize_token_embeddings` makes one)."""
        kept = kwargs.get("logits_to_keep")
        self.now.seen, self.now.positions = {}, kept if isinstance(kept, Tensor) else None
        entry = self.backbone.entry
        if entry is not self.entry and self.handles:
            self.at_entry.remove()
            self.entry, self.at_entry = entry, entry.register_forward_pre_hook(self)

    def _end(self, *_: object) -> None:
        self.now.seen, self.now.positions = {}, None

    def _wanted(self, taps: set[int]) -> set[int]:
        """Return those of some taps that a block reads. Raises: DataError: the blocks cannot be found."""
        wanted = taps - {self.depth}
        if wanted and self.backbone.facts.taps is None:
            raise DataError(
                f"attach: {self.backbone.name} keeps its blocks in no list, so only modules that read the final "
                "state work on it"
            )
        return wanted

    def _note_taps(self, wanted: set[int]) -> None:
        """Let the blocks be noted that read some taps."""
        blocks = blocks_of(self.backbone.decoder, self.depth) or nn.ModuleList()
        new = sorted(wanted - self.noted)
        for tap in new:
            self.handles.append(blocks[tap].register_forward_pre_hook(self._note(tap), with_kwargs=True))
        self.noted |= wanted
        if new:
            _forget_compiled()

    def _note(self, tap: int) -> Any:
        """Return a hook that keeps what the block after a tap reads: the hidden state of that tap."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.now.seen[tap] = first_input(args, kwargs)

        return hook

    def __call__(self, head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the head reads, `[B, n, D]`, corrected; n are the positions that it was asked for, often 1.

        Raises: DataError: the head was called outside a pass of the backbone, and the modules read more than its input.
        """
        scaled, *rest = args
        in_use = self._in_use(scaled)
        if not in_use:
            self.now.seen = {}
            return args
        states = {tap: self._asked(state, scaled) for tap, state in self.now.seen.items()}
        states[self.depth] = scaled / self.scale
        total = torch.zeros(scaled.shape, device=scaled.device)
        for module, (rows, weight) in in_use:
            if module.device != scaled.device:  # the backbone was moved after this was attached
                module.to(scaled.device)
            own = weight * _correction(module, states, rows)
            total = total + own if rows is None else total.index_add(0, rows, own)
        self.now.seen = {}
        return (scaled + (total * self.scale).to(scaled.dtype), *rest)

    def _in_use(self, scaled: Tensor) -> list[tuple[AbiModule, Rows]]:
        """Return the modules that correct this pass, each with its rows of `[B, n, D]` and its weight in them."""
        return [(module, (None, weight)) for module, weight in self.parts]

    def _asked(self, state: Tensor, scaled: Tensor) -> Tensor:
        """Return a tap `[B, T, D]` at the positions that the head was given, `[B, n, D]`, and where it is."""
        if self.now.positions is not None and self.entry is self.backbone.embeddings_out:
            return state[:, self.now.positions].to(scaled.device)
        return state[:, -scaled.shape[1] :].to(scaled.device)

    def detach(self) -> None:
        """Take the modules off; the backbone is then the plain one, bit for bit. Twice does no harm."""
        self.at_entry.remove()
        while self.handles:
            self.handles.pop().remove()

    def __enter__(self) -> "Attached":
        if not self.handles:
            raise DataError("attach: it was detached from the model; attach it again")
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def _forget_compiled() -> None:
    """Let torch compile again what it has compiled."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _correction(module: AbiModule, states: Mapping[int, Tensor], rows: Tensor | None) -> Tensor:
    """Return a module's correction `[n, T, D]` of some rows. Raises: DataError: a tap was not noted."""
    if missing := [tap for tap in module.config.taps if tap not in states]:
        raise DataError(
            f"attach: the head ran without its blocks, and the module reads tap {missing[0]}; call the whole backbone"
        )
    taps = [states[tap] if rows is None else states[tap][rows] for tap in module.config.taps]
    found: Tensor = module(torch.stack(taps, dim=2).to(module.proj_in.weight.dtype)).float()
    return found


def check_pair(
    backbone: Backbone, module: AbiModule, about: ModuleManifest | None = None, base: "Marks | None" = None
) -> None:
    """Raise DataError where a module cannot belong to a backbone: another width, a tap it lacks, another backbone.

    Args: about: the module's manifest, whose hashes are compared; base: the backbone's, computed if not given.
    """
    config = module.config
    if config.width != backbone.width:
        owner = "a backbone" if about is None else about.base_model
        raise DataError(
            f"attach: the module is for {owner}, which is {config.width} wide, and this one is {backbone.width} wide"
        )
    if max(config.taps) > backbone.depth or min(config.taps) < 0:
        raise DataError(
            f"attach: the module reads tap {max(config.taps)}, this backbone has taps 0 to {backbone.depth}"
        )
    if about is None:
        return
    base, precision = base or Marks.of(backbone), str(backbone.embeddings_out.weight.dtype).removeprefix("torch.")
    if about.base_sha256 != base.weights and precision != "float32":
        raise DataError(
            f"attach: the backbone is in {precision}, so its weights cannot be compared with those the module "
            f"belongs to (of {about.base_model}); load it in the precision that it had when the module was "
            "made (`Module.dtype`), as a rule float32"
        )
    if about.base_sha256 != base.weights:
        raise DataError(
            f"attach: the module belongs to other weights (of {about.base_model}) than this backbone's; "
            "give it the backbone it was trained or calibrated on, in the same precision"
        )
    if about.identity_sha256 not in (None, base.identity):
        raise DataError(
            f"attach: the backbone has the weights of {about.base_model}, but another config, tokenizer or buffer "
            "than the module belongs to; give it the backbone it was trained or calibrated on"
        )


@dataclass(frozen=True)
class Marks:
    """The hashes of a backbone that a module's manifest names."""

    weights: str
    identity: str

    @classmethod
    def of(cls, backbone: Backbone) -> "Marks":
        """Return those of a backbone."""
        weights = weights_hash(backbone)
        return cls(weights, identity_hash(backbone, weights))


def attach(backbone: Backbone, module: AbiModule, about: ModuleManifest | None = None) -> Attached:
    """Put a module on a backbone: its logits are then head(final + module(taps)), also while generating.

    Args: about: the module's manifest (`load_module`); with it, a module of other weights is refused.
    Raises: DataError: another module is attached already, or the module belongs to another backbone.
    """
    admit(backbone)
    check_pair(backbone, module, about)
    return Attached(backbone, [(module, 1.0)])


def generate(
    backbone: Backbone,
    ids: Tensor | Mapping[str, Tensor],
    n_tokens: int,
    *,
    least: int = 0,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    cache: bool = True,
) -> Tensor:
    """Return new ids `[B, n]`, n at most `n_tokens`, that continue ids `[B, L]` (or answer them: encoder-decoder).

    A row ends with its end-of-text token, padded behind. Settings a model of the hub brings along (nucleus, beams,
    penalties, forced tokens) are left out: what is drawn is the model's own distribution. Whatever is attached to the
    backbone acts on every token.
    Args: ids: of prompts of one length, or what the tokenizer returns for a padded batch, mask included; least: tokens
        before which no row ends; temperature: 0 is greedy, otherwise every token is drawn; top_k, top_p: of the
        likeliest tokens alone, so many or of so much probability; seed: of the draws, which leave torch's own state
        alone and are the same whatever other threads draw.
    Raises: DataError: no ids, ids the model lacks, more tokens than it has positions for, a negative temperature, or a
        backbone that is not admitted or gives other text with a cache or padding, where one is used.
    """
    rows, mask = prompts(ids, backbone.is_encoder_decoder)
    _check_request(backbone, rows, n_tokens, temperature, least)
    if cache:
        require_cache(backbone)
    if not bool(mask.all()):
        require_padding(backbone)
    draws = Draws(temperature, top_k, top_p, seed) if temperature else None
    found: Tensor = continued(backbone, rows, mask, n_tokens, cache=cache, draws=draws, min_new_tokens=least or None)
    return (found[:, 1:] if backbone.is_encoder_decoder else found[:, rows.shape[1] :]).to(rows.device)


def _check_request(backbone: Backbone, ids: Tensor, n_tokens: int, temperature: float, least: int) -> None:
    rows = backbone.model.get_input_embeddings().weight.shape[0]
    if ids.dim() != 2 or ids.numel() == 0 or int(ids.min()) < 0 or int(ids.max()) >= rows:
        raise DataError(
            f"generate: ids of shape {tuple(ids.shape)} are not [B, L] ids from 0 to {rows - 1}; give some text"
        )
    if n_tokens < 1 or not 0 <= temperature < float("inf"):
        raise DataError(
            f"generate: {n_tokens} tokens at temperature {temperature}; ask for 1 or more at 0 (greedy) or more"
        )
    if not 0 <= least <= n_tokens:
        raise DataError(f"generate: at least {least} of {n_tokens} tokens; give `least` from 0 to the number of tokens")
    limit = backbone.most_positions
    longest = max(ids.shape[1], n_tokens + 1) if backbone.is_encoder_decoder else ids.shape[1] + n_tokens
    if limit is not None and longest > limit:
        raise DataError(f"generate: {longest} tokens are more than the model's {limit} positions; ask for fewer")
