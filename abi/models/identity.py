"""What a backbone is: one hash of weights, stored buffers, config and tokenizer."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from abi.base.errors import TamperError
from abi.base.files import sha256_json, sha256_tensors
from abi.base.manifests.backbones import BackboneManifest
from abi.models.tokenizers import tokenizer_json, vocabulary_hash

if TYPE_CHECKING:
    from abi.models.backbone import Backbone

NOT_IDENTITY = {
    *("_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "torch_dtype"),
    *("transformers_version", "use_cache", "return_dict", "output_attentions", "output_hidden_states"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
}
"""Keys of a config that change no logit by themselves; `model.config.pad_token_id = ...` is what every tutorial writes.
What follows from them in some classes is counted: what a decoder begins with, from where positions are counted."""
DROPPED = re.compile(r"dropout|pdrop|layerdrop")
"""What else changes none: it acts in training alone."""


def weights_hash(backbone: "Backbone") -> str:
    """Return the hash of a backbone's weights: `weights_sha256` of its manifest, `base_sha256` elsewhere."""
    return sha256_tensors(dict(backbone.model.named_parameters()))


def identity_hash(backbone: "Backbone", weights: str) -> str:
    """Return the hash of all that makes a backbone's text: weights, stored buffers, config and tokenizer.

    Args: weights: `weights_hash`. Of the config counts what differs from the defaults of its class and may change a
        logit.
    """
    named = {name for name, _ in backbone.model.named_parameters()}
    stored = {k: v for k, v in backbone.model.state_dict().items() if k not in named}
    tied = {v.data_ptr() for _, v in backbone.model.named_parameters()}
    buffers = {name: value for name, value in stored.items() if value.data_ptr() not in tied}
    parts = {"weights": weights, "buffers": sha256_tensors(buffers), "tokenizer": tokenizer_json(backbone.tokenizer)}
    parts |= {"begins with": backbone.start_id} if backbone.is_encoder_decoder else {}
    parts |= {f"padding of {name}": place for name, place in _padding(backbone.model).items()}
    return sha256_json(parts | {"config": _lasting(backbone.model.config.to_diff_dict())})


def _padding(model: nn.Module) -> dict[str, int]:
    """Return part -> id of padding, of parts that may count positions from there: tables of tokens do not."""
    found = {name: getattr(part, "padding_idx", None) for name, part in model.named_modules() if name}
    parts = dict(model.named_modules())
    return {n: place for n, place in found.items() if isinstance(place, int) and not isinstance(parts[n], nn.Embedding)}


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a config makes a backbone's text, the parts of a composite one likewise."""
    named = {str(key): value for key, value in config.items() if value is not None and key not in NOT_IDENTITY}
    kept = {key: value for key, value in named.items() if not DROPPED.search(key)}
    return {key: _lasting(value) if isinstance(value, Mapping) else value for key, value in kept.items()}


def check_weights(backbone: "Backbone", base: BackboneManifest, where: str | Path) -> None:
    """Raise TamperError where a backbone's weights are not those of its manifest `base`, bit for bit."""
    if weights_hash(backbone) != base.weights_sha256:
        raise _changed("weights are", base, where)


def check_identity(backbone: "Backbone", base: BackboneManifest, where: str | Path) -> None:
    """Raise TamperError where a backbone is not that of its manifest `base`: weights, vocabulary, all the rest."""
    weights = weights_hash(backbone)
    if weights != base.weights_sha256:
        raise _changed("weights are", base, where)
    if vocabulary_hash(backbone.tokenizer) != base.vocabulary:
        raise _changed("vocabulary is", base, where)
    if base.identity_sha256 not in (None, identity_hash(backbone, weights)):
        raise _changed("config, tokenizer or buffers are", base, where)


def _changed(what: str, base: BackboneManifest, where: str | Path) -> TamperError:
    """Return the error of a part of a backbone that is not as its manifest says."""
    return TamperError(f"{where}: the {what} not those of backbone {base.name}; delete its manifest to rebuild both")
