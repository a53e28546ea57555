"""A model with a module on it, for the lm-evaluation-harness of EleutherAI: `--model abi`.

    python -m abi.api.harness --model abi --model_args pretrained=my-model,module=my-module --tasks wikitext

is `lm_eval` with one more kind of model. `pretrained` and all other arguments are those of its kind `hf`; `module` is a
folder that `Module.save_pretrained` wrote. It needs `pip install ".[harness]"` in a checkout.
"""

from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from abi.api.attaching import attach
from abi.api.modules import Module


@register_model("abi")
class ModuleLM(HFLM):
    """A model of transformers with a module attached as long as it lives; without `module` it is the plain model.

    Args: pretrained: folder or hub id; module: folder of a module; given: as of `lm_eval.models.huggingface.HFLM`, but
        that `dtype` is that of the model the module belongs to unless it is given.
    Raises: DataError: the module belongs to another model, or the model is not admitted.
    """

    def __init__(self, pretrained: str, module: str | None = None, **given: Any) -> None:
        found = None if module is None else Module.from_pretrained(module)
        if found is not None:
            given = {"dtype": found.dtype, **given}
        super().__init__(pretrained, **given)
        if found is not None:
            self.attached = attach(self.model, found, tokenizer=self.tokenizer)

    def _model_call(
        self, inps: torch.Tensor, attn_mask: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return logits [B, T, V]. An encoder-decoder gets its decoder's input in place of labels.

        A module that reads the text has to see what the decoder reads; the model would shift labels after that.
        """
        if labels is None:
            return super()._model_call(inps, attn_mask)
        read = self.model.prepare_decoder_input_ids_from_labels(labels)
        mixed = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, mixed, mixed is not None):
            return self.model(input_ids=inps, attention_mask=attn_mask, decoder_input_ids=read).logits


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
