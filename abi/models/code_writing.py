"""A frozen backbone that goes on after prompts with a module attached, or with none, and reads what was written."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from abi.base.diagnostics import Way
from abi.models.attach import attach, generate
from abi.models.backbone import Backbone, Window
from abi.models.generation import fresh_settings
from abi.models.module import AbiModule
from abi.models.tokenizers import continuation, prompt_ids
from abi.models.written import Written


class CodeWriter:
    """A backbone and its tokenizer, which generate in one padded batch."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def write(self, module: AbiModule | None, prompts: Sequence[str], way: Way, n_tokens: int, seed: int) -> Written:
        """Return continuations of at least one and at most `n_tokens` tokens. Raises: DataError: as `generate`."""
        ids = [torch.tensor(prompt_ids(self.backbone.tokenizer, prompt)) for prompt in prompts]
        longest = max(map(len, ids))
        rows, mask = torch.zeros(2, len(ids), longest, dtype=torch.long)
        for i, row in enumerate(ids):
            rows[i, longest - len(row) :], mask[i, longest - len(row) :] = row, 1
        with self.wearing(module):
            made = generate(
                self.backbone,
                {"input_ids": rows, "attention_mask": mask},
                n_tokens,
                least=1,
                temperature=way.temperature,
                top_k=way.top_k,
                top_p=way.top_p,
                seed=seed,
            )
        found = [self.ended(row) for row in made.cpu()]
        tokenizer, alone = self.backbone.tokenizer, self.backbone.is_encoder_decoder
        before = [[] if alone else row.tolist() for row in ids]
        texts = [continuation(tokenizer, *pair) for pair in zip(before, (row.tolist() for row in found), strict=True)]
        return Written(texts, ids, found)

    def ended(self, row: Tensor) -> Tensor:
        """Return the ids of a continuation before the first token that ends it; at least one, whatever it is."""
        told = fresh_settings(self.backbone).eos_token_id
        ends = [] if told is None else told if isinstance(told, list) else [told]
        at = torch.isin(row[1:], torch.tensor(ends, dtype=row.dtype)).nonzero()
        return row[: int(at[0]) + 1] if len(at) else row

    @torch.no_grad()
    def losses(self, module: AbiModule | None, written: Written) -> list[float]:
        """Return the mean CE in nats of every continuation after its prompt."""
        with self.wearing(module):
            return [self.loss(*pair) for pair in zip(written.prompts, written.ids, strict=True)]

    def loss(self, prompt: Tensor, made: Tensor) -> float:
        """Return the mean CE in nats of the ids `[n]` that were made after a prompt `[P]`."""
        length = len(prompt) + len(made)
        ids = torch.cat([prompt, made]).unsqueeze(0)
        logits = self.backbone.logits(ids, Window(length, len(prompt), 0))[0, -len(made) :]
        return float(cross_entropy(logits.float(), made.to(logits.device).long()))

    def wearing(self, module: AbiModule | None) -> AbstractContextManager[object]:
        """Return the context in which a module is attached, or in which the backbone is plain."""
        return nullcontext() if module is None else attach(self.backbone, module)
