"""Backbones: load, save, run, tap, head. Families of models differ here, and in `lora` by their layers.

`tokenizers` and `build` also make things of transformers, `lora` of PEFT; nothing else in abi imports either.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_file, sha256_once, sha256_tensors, unwritable, write_tensors
from abi.base.manifests import BackboneManifest, Pretraining
from abi.base.typed import Provenance
from abi.models.tokenizers import vocabulary_hash
from abi.plan.specs.shared import Window as WindowSection

log = logging.getLogger("abi")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


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
class Backbone:
    """A frozen language model with its tokenizer, read from a folder in the Hugging Face layout."""

    model: Any
    tokenizer: Any

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model has an encoder (prefix-LM use) or is a causal decoder."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def depth(self) -> int:
        """The tap index of the final state (after the final norm)."""
        config = self.model.config
        if self.is_encoder_decoder:
            return int(config.num_decoder_layers if t5_like(config) else config.decoder_layers)
        return int(config.num_hidden_layers)

    @property
    def width(self) -> int:
        """The backbone width D."""
        config = self.model.config
        return int(config.d_model if self.is_encoder_decoder else config.hidden_size)

    def require(self, window: Window) -> None:
        """Raise DataError where the model cannot read a window: wrong kind, or longer than its positions."""
        if bool(window.prefix) != self.is_encoder_decoder:
            kind = (
                "an encoder-decoder needs a prefix" if self.is_encoder_decoder else "a decoder-only model has no prefix"
            )
            raise DataError(f"states: window prefix {window.prefix}: {kind}; correct `window` of the backbone")
        limit = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(window.prefix, window.length - window.prefix)
        if limit is not None and longest > limit:
            raise DataError(
                f"states: {longest} tokens of a window are more than the {limit} positions of "
                f"{type(self.model).__name__}; lower `window.length` of the backbone"
            )

    def hidden_states(self, tokens: Tensor, window: Window) -> tuple[Tensor, ...]:
        """Return L+1 hidden states `[B, T, D]` of the predicted positions; the last is after the final norm.

        Args: tokens: `[B, length]` ids. Encoder-decoder: the first `prefix` go to the encoder and the decoder predicts
            the rest.
        """
        return (
            self._run(self.model.base_model, tokens, window).decoder_hidden_states
            if self.is_encoder_decoder
            else tuple(state[:, :-1] for state in self._run(self.model.base_model, tokens, window).hidden_states)
        )

    def logits(self, tokens: Tensor, window: Window) -> Tensor:
        """Return the model's own logits `[B, T, V]` of the predicted positions."""
        logits = self._run(self.model, tokens, window).logits
        return logits if self.is_encoder_decoder else logits[:, :-1]

    def _run(self, model: Any, tokens: Tensor, window: Window) -> Any:
        """Return what the model, or its part below the head where the class has one, gives."""
        tokens = tokens.long()
        if self.is_encoder_decoder:
            inputs, targets = tokens[:, : window.prefix], tokens[:, window.prefix :]
            start = torch.full_like(targets[:, :1], self.model.config.decoder_start_token_id)
            decoder = torch.cat([start, targets[:, :-1]], dim=1)
            return model(input_ids=inputs, decoder_input_ids=decoder, output_hidden_states=True, use_cache=False)
        return model(input_ids=tokens, output_hidden_states=True, use_cache=False)

    def head(self) -> tuple[dict[str, Tensor], float]:
        """Return the head's tensors (`weight` `[V, D]`, maybe `bias` `[V]`) and the family's scale of final states."""
        embeddings = self.model.get_output_embeddings()
        tensors = {"weight": embeddings.weight.detach().float().contiguous()}
        bias = getattr(embeddings, "bias", None)
        bias = getattr(self.model, "final_logits_bias", None) if bias is None else bias
        if bias is not None:
            tensors["bias"] = bias.detach().float().flatten().contiguous()
        config = self.model.config
        scaled = t5_like(config) and getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
        return {k: v.clone() for k, v in tensors.items()}, float(self.width**-0.5 if scaled else 1.0)


def t5_like(config: Any) -> bool:
    """Return whether a config is of the T5 family, which names its decoder's depth apart and may scale final states."""
    return bool(config.is_encoder_decoder) and hasattr(config, "num_decoder_layers")


def generation_cache(backbone: Backbone) -> dict[str, Any]:
    """Return what `generate` is given to keep keys and values in: nothing but for encoder-decoders.

    transformers 5.23 sizes the cache of an encoder-decoder by the depth of the encoder, which fails where a T5's
    decoder is deeper; one without a size grows with the layers that write to it.
    """
    if not backbone.is_encoder_decoder:
        return {}
    empty = transformers.DynamicCache
    return {"past_key_values": transformers.EncoderDecoderCache(empty(), empty())}


def targets(tokens: Tensor, window: Window) -> Tensor:
    """Return the ids `[B, T]` that the positions of a window predict."""
    return tokens[:, window.prefix :] if window.prefix else tokens[:, 1:]


def load_backbone(folder: str | Path) -> Backbone:
    """Return the backbone of a folder, in eval mode, fp32, safetensors only.

    Raises: DataError: no model there, damaged weights, or a tokenizer that cannot belong to the model.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        loaded: Any = auto.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
        )
        model, loading = loaded
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = str(error).split("\n")[0][:160]
        raise DataError(f"{folder}: is not a loadable backbone ({reason}); delete it and rebuild it") from None
    if loading["missing_keys"]:
        raise DataError(f"{folder}: the weights lack {sorted(loading['missing_keys'])[0]}; delete it and rebuild it")
    rows = model.get_output_embeddings().weight.shape[0]
    if not 1 < len(tokenizer) <= rows:
        raise DataError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {rows}; they do not belong together"
        )
    return Backbone(model.eval().requires_grad_(False), tokenizer)


def save_backbone(backbone: Backbone, folder: str | Path) -> None:
    """Save model and tokenizer in the Hugging Face layout. Raises: DataError: disk full or folder read-only."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain Exception where it cannot write
        raise unwritable(folder, error) from error


def weights_hash(backbone: Backbone) -> str:
    """Return the hash of a backbone's weights: `weights_sha256` of its manifest, `base_sha256` elsewhere."""
    return sha256_tensors(dict(backbone.model.named_parameters()))


def check_weights(backbone: Backbone, base: BackboneManifest, where: str | Path) -> None:
    """Raise TamperError where a backbone's weights are not those of its manifest `base`, bit for bit."""
    if weights_hash(backbone) != base.weights_sha256:
        raise TamperError(
            f"{where}: the weights are not those of backbone {base.name}; delete its manifest to rebuild both"
        )


def load_checked(folder: str | Path, base: BackboneManifest) -> Backbone:
    """Return the backbone of a folder.

    Raises: TamperError: its weights, or another of its files, are not those of its manifest `base`.
    """
    for name, sha256 in base.files.items():
        path = Path(folder) / name
        if not path.is_file() or sha256_once(path) != sha256:
            raise TamperError(
                f"{path}: is missing or not the file of backbone {base.name}; delete its manifest to rebuild both"
            )
    backbone = load_backbone(folder)
    check_weights(backbone, base, folder)
    return backbone


def describe_backbone(
    backbone: Backbone,
    folder: str | Path,
    head: str | Path,
    *,
    name: str,
    revision: str,
    provenance: Provenance,
    pretraining: Pretraining | None = None,
) -> BackboneManifest:
    """Write the head of a backbone and return the backbone's manifest: what it is, its sizes, its hashes.

    Args: folder: where its files lie; head: where to write the head; pretraining: what building it left, if it was
        built.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    tensors, scale = backbone.head()
    write_tensors(head, tensors, {"scale": repr(scale)})
    return BackboneManifest(
        name=name,
        revision=revision,
        model_class=type(backbone.model).__name__,
        model_type=backbone.model.config.model_type,
        width=backbone.width,
        depth=backbone.depth,
        n_parameters=sum(value.numel() for value in backbone.model.parameters()),
        head_rows=backbone.model.get_output_embeddings().weight.shape[0],
        n_tokens=len(backbone.tokenizer),
        vocabulary=vocabulary_hash(backbone.tokenizer),
        weights_sha256=weights_hash(backbone),
        files={path.relative_to(folder).as_posix(): sha256_once(path) for path in files},
        head_scale=scale,
        head_sha256=sha256_file(head),
        pretraining=pretraining or Pretraining(),
        provenance=provenance,
    )


@torch.no_grad()
def final_states(backbone: Backbone, tokens: Tensor, window: Window, batch: int = 32) -> Tensor:
    """Return final states `[N, T, D]` of windows, run in the batches of `states.write_states`."""
    parts = [backbone.hidden_states(tokens[i : i + batch], window)[-1] for i in range(0, len(tokens), batch)]
    return torch.cat(parts)
