"""LoRA adapters (PEFT) on a backbone, as large as the interface they are compared with."""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abi.base.errors import DataError
from abi.base.files import sha256_tensors, write_tensors, write_text
from abi.models.backbone import Backbone

BLOCK = re.compile(r"(.*?\.\d+)\.")
"""The block a layer stands in: its name up to the first number."""

MOST_OF_INTERFACE = 1.1
"""Trainable parameters of a LoRA adapter, at most, over those of the interface it is compared with."""


@dataclass(frozen=True)
class LoraShape:
    """Which layers an adapter changes and at what rank; with scaling 2, as `lora_alpha` is twice the rank."""

    rank: int
    layers: tuple[str, ...]
    n_parameters: int

    @property
    def alpha(self) -> int:
        """PEFT's `lora_alpha`."""
        return 2 * self.rank


def _decoder_linears(backbone: Backbone) -> dict[str, tuple[str, int]]:
    """Return name -> block, inputs + outputs of every linear layer of the decoder blocks, without head and encoder, or
    the parts of a composite model that read no text.
    """
    from transformers.pytorch_utils import Conv1D

    within = set(backbone.decoder.modules()) - {backbone.model.get_output_embeddings()}
    found = {
        name: (block[1], sum(module.weight.shape))
        for name, module in backbone.model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module in within and (block := BLOCK.match(name))
    }
    if not found:
        raise DataError(f"lora: {backbone.name} has no linear layer in numbered decoder blocks; leave the arm out")
    return found


def lora_shape(backbone: Backbone, interface: int) -> LoraShape:
    """Return the adapter shape whose parameters come closest to an interface's, and are at most 1.1 times as many.

    All linear layers (attention and MLP) of all decoder blocks share one rank. Where rank 1 is too much already, rank 1
    is put on the last blocks alone, as many as fit. Raises: DataError: not even one block fits.
    """
    layers = _decoder_linears(backbone)
    per_rank, most = sum(size for _, size in layers.values()), MOST_OF_INTERFACE * interface
    ranks = range(1, int(most // per_rank) + 1)
    if ranks:
        # As many parameters as the interface: what is compared is where they sit, not how many they are.
        rank = min(ranks, key=lambda r: abs(r * per_rank - interface))
        return LoraShape(rank, tuple(layers), rank * per_rank)
    blocks = list(dict.fromkeys(block for block, _ in layers.values()))
    for first in range(1, len(blocks)):
        kept = {name: size for name, (block, size) in layers.items() if block in blocks[first:]}
        if sum(kept.values()) <= most:
            return LoraShape(1, tuple(kept), sum(kept.values()))
    raise DataError(
        f"lora: rank 1 on one block has more than {most:.0f} parameters, 1.1 times the interface; raise d_abi"
    )


@dataclass
class Adapted:
    """A backbone whose decoder blocks carry a LoRA adapter (PEFT); its own weights and its head stay as they are.

    `backbone` runs with the adapter on; `trainable` are the adapter's parameters, `base` all others.
    """

    backbone: Backbone
    peft: Any
    shape: LoraShape

    @property
    def trainable(self) -> dict[str, Tensor]:
        """The adapter's parameters, by name."""
        return {name: p for name, p in self.backbone.model.named_parameters() if ".lora_" in name}

    @property
    def base(self) -> dict[str, Tensor]:
        """The backbone's own parameters, by name."""
        return {name: p for name, p in self.backbone.model.named_parameters() if ".lora_" not in name}

    def save(self, folder: str | Path, base_model: str) -> str:
        """Write the adapter as PEFT reads it (safetensors and its config); return the hash of its tensors."""
        from peft import get_peft_model_state_dict

        tensors = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        config = {
            key: sorted(value) if isinstance(value, set) else value
            for key, value in self.peft.peft_config["default"].to_dict().items()
        }
        config |= {"base_model_name_or_path": base_model, "inference_mode": True}
        write_tensors(Path(folder) / "adapter_model.safetensors", tensors, {"format": "pt"})
        write_text(Path(folder) / "adapter_config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
        return sha256_tensors(tensors)

    def remove(self) -> Backbone:
        """Take the adapter off and return the plain backbone; this one is of no more use."""
        return Backbone(self.peft.unload().eval().requires_grad_(False), self.backbone.tokenizer)


def adapt(backbone: Backbone, shape: LoraShape, seed: int) -> Adapted:
    """Put a fresh LoRA adapter on a backbone, in place: no dropout, `B` zero, so that it begins as the plain backbone.

    Raises: DataError: PEFT adapts other layers than asked.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    layers = dict(backbone.model.named_modules())
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(shape.layers),
        fan_in_fan_out=isinstance(layers[shape.layers[0]], Conv1D),
        task_type="SEQ_2_SEQ_LM" if backbone.is_encoder_decoder else "CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 in a way it will not answer for long
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed the caller's cards, too
        wrapped: Any = get_peft_model(backbone.model, config)
    model = wrapped.get_base_model().eval()
    adapted = Adapted(Backbone(model, backbone.tokenizer), wrapped, shape)
    got = {name.partition(".lora_")[0] for name in adapted.trainable}
    if got != set(shape.layers) or sum(p.numel() for p in adapted.trainable.values()) != shape.n_parameters:
        raise DataError(
            f"lora: PEFT adapts {len(got)} layers of {type(model).__name__}, not the {len(shape.layers)} asked"
        )
    return adapted
