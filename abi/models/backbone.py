"""Backbones: load, save, run, tap, head, identity. Families of models differ here, and in `lora` by their layers.

`tokenizers`, `generation` and `build` also make things of transformers, `lora` of PEFT; nothing else in abi imports
either.
"""

import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import Tensor, nn

from abi.base import compute
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_once, unwritable
from abi.base.manifests.backbones import BackboneFacts, BackboneManifest
from abi.models.classes import require_class
from abi.models.head import SAME, Head, HeadForm, config_numbers, in_this_thread, measure_form, reading
from abi.models.identity import check_identity
from abi.models.probe import MEASURING, admit, evaluating
from abi.models.products import Products, linear
from abi.models.states import PER_PASS, Window
from abi.models.tokenizers import beyond, untrimmed

log = logging.getLogger("abi")

_FORMS: "WeakKeyDictionary[nn.Module, HeadForm]" = WeakKeyDictionary()


def stride(n: int) -> int:
    """Return by how many of n ordinary ids a sample goes on, so that none comes twice before all have come."""
    return next(step for step in (7919, 7907, 1) if math.gcd(step, n) == 1)


@dataclass
class Backbone:
    """A frozen language model with its tokenizer, read from a folder in the Hugging Face layout."""

    model: Any
    tokenizer: Any

    @property
    def name(self) -> str:
        """The class of the model, as refusals name it."""
        return type(self.model).__name__

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model has an encoder (prefix-LM use) or is a causal decoder."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def depth(self) -> int:
        """The tap index of the final state (after the final norm)."""
        config = self.model.config
        for key in ("num_decoder_layers", "decoder_layers"):  # T5, BART
            if getattr(config, key, None) is not None:
                return int(getattr(config, key))
        return int(config.get_text_config(decoder=True).num_hidden_layers)

    @property
    def width(self) -> int:
        """The backbone width D."""
        return int(self.entry.weight.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where it runs; tokens are brought there."""
        found: torch.device = self.embeddings_out.weight.device
        return found

    def run_in(self, precision: torch.dtype) -> "Backbone":
        """Return this backbone, its weights in a precision from here on; its head and facts are those of before.

        The frequencies of rotary positions stay as they are: in bf16 far positions fall together.
        """
        if all(p.dtype == precision for p in self.model.parameters()):
            return self
        self.form, self.facts  # noqa: B018 (measured once, before)
        kept = {name: buffer for name, buffer in self.model.named_buffers() if name.endswith("inv_freq")}
        self.model.to(precision)
        for name, buffer in kept.items():
            place, _, own = name.rpartition(".")
            self.model.get_submodule(place).register_buffer(own, buffer, persistent=False)
        return self

    @property
    def decoder(self) -> Any:
        """The part that predicts: a decoder's body, of a composite model its language model, without the head."""
        inner = self.model.get_decoder()
        return self.model.base_model if inner is self.model else inner

    @property
    def embeddings_out(self) -> Any:
        """The matrix of the head, a module. Raises: DataError: the class has none."""
        found = self.model.get_output_embeddings()
        if getattr(found, "weight", None) is None or found.weight.dim() != 2:
            raise DataError(f"backbone: {self.name} is refused, it has no head that is one matrix")
        return found

    @property
    def entry(self) -> Any:
        """The module that reads the final state: the matrix of the head, or the projection before it (OPT-350m)."""
        projection = getattr(self.decoder, "project_out", None)
        return self.embeddings_out if projection is None else projection

    def require(self, window: Window) -> None:
        """Raise DataError where the model cannot read a window: wrong kind, or longer than its positions."""
        if bool(window.prefix) != self.is_encoder_decoder:
            kind = (
                "an encoder-decoder needs a prefix" if self.is_encoder_decoder else "a decoder-only model has no prefix"
            )
            raise DataError(f"states: window prefix {window.prefix}: {kind}; correct `window` of the backbone")
        longest = max(window.prefix, window.length - window.prefix)
        if self.most_positions is not None and longest > self.most_positions:
            raise DataError(
                f"states: {longest} tokens of a window are more than the {self.most_positions} positions of "
                f"{self.name}; lower `window.length` of the backbone"
            )

    @property
    def most_positions(self) -> int | None:
        """The tokens the model has positions for; None where it has no limit."""
        config = self.model.config
        inner = config if self.is_encoder_decoder else config.get_text_config(decoder=True)
        named = [
            getattr(of, name, None) for name in ("max_position_embeddings", "max_seq_len") for of in (config, inner)
        ]
        most: int | None = next(filter(None, named), None)
        table = getattr(getattr(self.decoder, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)  # from behind which RoBERTa and its like count
        return most if most is None or padding is None else most - padding - 1

    def hidden_states(self, tokens: Tensor, window: Window) -> tuple[Tensor, ...]:
        """Return L+1 hidden states `[B, T, D]` of the predicted positions; the last is after the final norm.

        Args: tokens: `[B, length]` ids. Encoder-decoder: the first `prefix` go to the encoder and the decoder predicts
            the rest.
        """
        if self.entry is self.embeddings_out:
            found = self._run(self.model.base_model, tokens, window)
            states = found.decoder_hidden_states if self.is_encoder_decoder else found.hidden_states
        else:
            with reading({"final": self.entry}) as read:
                found = self._run(self.model.base_model, tokens, window)
            states = (*found.hidden_states[:-1], read["final"])
        return tuple(states) if self.is_encoder_decoder else tuple(state[:, :-1] for state in states)

    def logits(self, tokens: Tensor, window: Window) -> Tensor:
        """Return the model's own logits `[B, T, V]` of the predicted positions."""
        logits = self._run(self.model, tokens, window).logits
        return logits if self.is_encoder_decoder else logits[:, :-1]

    def _run(self, model: Any, tokens: Tensor, window: Window) -> Any:
        """Return what the model, or its part below the head where the class has one, gives."""
        tokens = tokens.to(self.device).long()
        if self.is_encoder_decoder:
            inputs, targets = tokens[:, : window.prefix], tokens[:, window.prefix :]
            decoder = torch.cat([torch.full_like(targets[:, :1], self.start_id), targets[:, :-1]], dim=1)
            given = {"input_ids": inputs, "decoder_input_ids": decoder}
        else:
            given = {"input_ids": tokens}
        # Recomputed layers of a model that checkpoints would run outside of the block, by other products than before.
        with nullcontext() if getattr(model, "is_activation_checkpointing", False) else Products():
            return model(**given, output_hidden_states=True, use_cache=False)

    @property
    def start_id(self) -> int:
        """The id an encoder-decoder's decoder begins with."""
        places = (self.model.config, self.model.generation_config, self.model.config.get_text_config(decoder=True))
        for key in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
            for place in places:
                if isinstance(getattr(place, key, None), int):
                    return int(getattr(place, key))
        raise DataError(f"backbone: {self.name} names no token that its decoder begins with; set it in its config")

    def sample(self, n: int) -> Tensor:
        """Return n ordinary ids `[1, n]`, spread over the vocabulary, the same at every call."""
        config = {int(value) for key, value in config_numbers(self.model.config).items() if key.endswith("token_id")}
        special = set(self.tokenizer.all_special_ids) | config
        rows = min(len(self.tokenizer), self.model.get_input_embeddings().weight.shape[0])
        usual = [i for i in range(rows) if i not in special]
        if len(usual) < 2:
            raise DataError(
                f"backbone: {self.name} has {len(usual)} ordinary tokens, which make no text; check its tokenizer"
            )
        step = stride(len(usual))
        return torch.tensor([[usual[(i * step) % len(usual)] for i in range(1, n + 1)]])

    @property
    def form(self) -> HeadForm:
        """What the model does to its final state beside its matrix, measured once. Raises: as `measure_form`."""
        with MEASURING:
            if self.model not in _FORMS:
                _FORMS[self.model] = self._measured_form()
            return _FORMS[self.model]

    @torch.no_grad()
    def _measured_form(self) -> HeadForm:
        ids = self.sample(10)
        window = Window(10, 4 if self.is_encoder_decoder else 0, 0)
        stands_apart = getattr(self.model, "final_logits_bias", None)

        def run(loud: float) -> tuple[Tensor, Tensor, Tensor]:
            told: list[Tensor] = []
            multiplied = in_this_thread(lambda _, args: (args[0] * loud, *args[1:]))
            louder = self.entry.register_forward_pre_hook(multiplied)
            kept = self.embeddings_out.register_forward_hook(in_this_thread(lambda _, __, out: told.append(out)))
            try:
                with reading({"head": self.entry}) as read:
                    logits = self.logits(ids, window)
            finally:
                louder.remove()
                kept.remove()
            cut = slice(None) if self.is_encoder_decoder else slice(-1)
            if not told or "head" not in read:
                raise DataError(f"backbone: {self.name} is refused, it does not run its own head")
            own = logits.float() if stands_apart is None else logits.float() - stands_apart.float()
            return read["head"][:, cut].float() / loud, told[-1][:, cut].float(), own

        config = self.model.config
        numbers = config_numbers(config) | config_numbers(config.get_text_config(decoder=True))
        with evaluating(self.model):
            final = self.hidden_states(ids, window)[-1].float()
            return measure_form(final, numbers, self.width, run, self.name, self.tolerance)

    @property
    def tolerance(self) -> float:
        """Most that two results may differ, relative to the largest number, to count as one: by the precision."""
        return {torch.float16: 2e-2, torch.bfloat16: 6e-2}.get(self.embeddings_out.weight.dtype, SAME)

    @property
    def facts(self) -> BackboneFacts:
        """What was measured when the backbone was admitted, now if it was not yet. Raises: as `probe.measure`."""
        return admit(self)

    def head(self) -> Head:
        """Return the head in fp32, a copy without gradient; a projection before its matrix is multiplied into it."""
        matrix, form = self.embeddings_out, self.form
        weight = matrix.weight.detach().float()
        if self.entry is not matrix:
            weight = weight @ self.entry.weight.detach().float()
        apart = getattr(self.model, "final_logits_bias", None)
        bias = getattr(matrix, "bias", None)
        found = None if bias is None else bias.detach().float() * form.after
        if apart is not None:
            found = apart.detach().float().flatten() + (0 if found is None else found)
        bias = None if found is None else found.contiguous().clone()
        return Head(weight.contiguous().clone(), form.scale, bias, form.soft_cap)

    def head_logits(self, final: Tensor) -> Tensor:
        """Return the logits `[..., V]` of final states `[..., D]` through the model's own head, which may train."""
        matrix, form = self.embeddings_out, self.form
        bias = getattr(matrix, "bias", None)
        read = final * form.scale
        if self.entry is not matrix:
            read = linear(read, self.entry.weight)
        out = linear(read, matrix.weight, bias if bias is None or form.after == 1 else bias * form.after)
        apart = getattr(self.model, "final_logits_bias", None)
        out = out if apart is None else out + apart
        return out if form.soft_cap is None else form.soft_cap * torch.tanh(out / form.soft_cap)


def targets(tokens: Tensor, window: Window) -> Tensor:
    """Return the ids `[B, T]` that the positions of a window predict."""
    return tokens[:, window.prefix :] if window.prefix else tokens[:, 1:]


def load_backbone(folder: str | Path, revision: str | None = None, dtype: torch.dtype = torch.float32) -> Backbone:
    """Return the admitted backbone of a folder, in eval mode, safetensors only.

    Args: revision: of a repository in the local cache of the hub, whose id is given for a folder; dtype: that weights
        are rounded to, but for those that their class keeps in fp32.
    Raises: DataError: no model there, damaged weights, a tokenizer that cannot belong to the model, or as
        `probe.admit`.
    """
    backbone = read_backbone(folder, revision, dtype)
    admit(backbone)
    return backbone


def read_backbone(folder: str | Path, revision: str | None = None, dtype: torch.dtype = torch.float32) -> Backbone:
    """Return the backbone of a folder as `load_backbone`, before it is admitted."""
    given: Any = {"local_files_only": True, "trust_remote_code": False, "revision": revision or "main"}
    try:
        require_class(str(folder), transformers.PretrainedConfig.get_config_dict(folder, **given)[0].get("model_type"))
        config = transformers.AutoConfig.from_pretrained(folder, **given)
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        loaded: Any = auto.from_pretrained(folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **given)
        model, loading = loaded
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **given)
    except DataError:
        raise
    except Exception as error:
        if not Path(folder).is_dir():
            raise DataError(
                f"{folder}: is no folder here, and the local cache of the hub has no such model; correct it"
            ) from None
        reason = str(error).split("\n")[0][:160]
        raise DataError(
            f"{folder}: is not a loadable backbone ({reason}); see whether all its files are there"
        ) from None
    if loading["missing_keys"]:
        raise DataError(f"{folder}: the weights lack {sorted(loading['missing_keys'])[0]}; they are not all there")
    if loading["unexpected_keys"]:
        raise DataError(
            f"{folder}: no part of {type(model).__name__} reads the tensor {sorted(loading['unexpected_keys'])[0]}; "
            "its config.json belongs to another model"
        )
    backbone = Backbone(model.eval().requires_grad_(False), untrimmed(tokenizer))
    rows = backbone.embeddings_out.weight.shape[0]
    if len(tokenizer) < 2 or beyond(tokenizer, rows):
        raise DataError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {rows}; they do not belong together"
        )
    return backbone


def save_backbone(backbone: Backbone, folder: str | Path) -> None:
    """Save model and tokenizer in the Hugging Face layout. Raises: DataError: disk full or folder read-only."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain Exception where it cannot write
        raise unwritable(folder, error) from error


def load_checked(folder: str | Path, base: BackboneManifest, precision: torch.dtype = torch.float32) -> Backbone:
    """Return the backbone of a folder on the device of the job, admitted when its manifest `base` was written, or now.

    Args: precision: that it runs in. It is read in it where the hashes of its files say that it is the admitted one, so
        that nothing ever holds it in fp32; otherwise it is rounded before it goes to a card.
    Raises: TamperError: it, or one of its files, is not that of the manifest; DataError: as `load_backbone`.
    """
    for name, sha256 in base.files.items():
        path = Path(folder) / name
        if not path.is_file() or sha256_once(path) != sha256:
            raise TamperError(
                f"{path}: is missing or not the file of backbone {base.name}; delete its manifest to rebuild both"
            )
    admitted = base.identity_sha256 is not None
    rounded = admitted and bool(base.files) and precision != torch.float32
    backbone = read_backbone(folder, dtype=precision if rounded else torch.float32)
    if not rounded:
        check_identity(backbone, base, folder)
    admit(backbone, base.facts if admitted else None)
    backbone.run_in(precision).model.to(compute.device())
    return backbone


@torch.no_grad()
def final_states(backbone: Backbone, tokens: Tensor, window: Window) -> Tensor:
    """Return final states `[N, T, D]` of windows on the CPU, in the batches in which states are written."""
    parts = (tokens[start : start + PER_PASS] for start in range(0, len(tokens), PER_PASS))
    return torch.cat([backbone.hidden_states(part, window)[-1].cpu() for part in parts])
