"""New backbones: built from text with a real transformers class."""

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor

from abi.base.errors import DataError
from abi.base.manifests.backbones import Pretraining
from abi.models.backbone import Backbone, Window, load_backbone, save_backbone, targets
from abi.models.loop import BatchOrder, Phase, Schedule, fit
from abi.models.tokenizers import build_tokenizer, pack
from abi.plan.specs.models import Build


def build_backbone(definition: Build, texts: Sequence[str], window: Window) -> tuple[Backbone, Pretraining]:
    """Build a small backbone of a real transformers class and pretrain it on general train text.

    Returns: the backbone and what its training left.
    Raises: DataError: no text, or a model that transformers cannot make or that cannot read the window.
    """
    if not texts:
        raise DataError("backbone: the text has no train document to build from; rebuild the text")
    tokenizer = build_tokenizer(texts, definition.tokenizer.kind, definition.tokenizer.vocab_size)
    recipe = definition.pretraining
    torch.manual_seed(recipe.seed)
    backbone = _as_loaded(Backbone(_fresh_model(definition.model_type, definition.config, tokenizer), tokenizer))
    backbone.require(window)
    windows = pack(backbone.tokenizer, texts, window.length)
    order = BatchOrder(len(windows), recipe.batch, recipe.seed)

    def loss(step: int) -> Tensor:
        batch = windows[order[step]]
        logits = backbone.logits(batch, window)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets(batch, window).flatten().long())

    schedule = Schedule([Phase(recipe.steps, recipe.lr, recipe.warmup, "cosine")], weight_decay=0.01, clip=1.0)
    trained = fit(loss, dict(backbone.model.named_parameters()), schedule, label=definition.model_type)
    backbone.model.eval().requires_grad_(False)
    return backbone, Pretraining(
        steps=recipe.steps,
        tokens_seen=recipe.steps * recipe.batch * window.length,
        loss_nats=round(trained.last_loss(), 4),
    )


def _as_loaded(backbone: Backbone) -> Backbone:
    """Return the backbone with its tokenizer as every later job loads it.

    Of some families (Qwen2) transformers puts its own rules in place of the saved ones: what pretraining reads must be
    cut as what is evaluated is.
    """
    with TemporaryDirectory() as folder:
        save_backbone(backbone, folder)
        return Backbone(backbone.model, load_backbone(folder).tokenizer)


def _fresh_model(model_type: str, keywords: dict[str, Any], tokenizer: Any) -> Any:
    """Return a fresh model of a family. Raises: DataError: unknown family or keyword, or sizes that do not fit."""
    special = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.eos_token_id,
    }
    try:
        plain = transformers.AutoConfig.for_model(model_type)
        known = {*plain.to_dict(), *plain.attribute_map}
        for key in keywords:
            if key not in known:
                raise ValueError(f"it has no keyword {key!r}")
        if keywords.get("is_encoder_decoder", plain.is_encoder_decoder):
            special["decoder_start_token_id"] = tokenizer.pad_token_id
        config = transformers.AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **special, **keywords)
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        return auto.from_config(config).train()
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(
            f"backbone: transformers makes no {model_type} of this config ({reason}); correct `build`"
        ) from None
