"""The original's training loop, written from its specification (docs/experiments.md): the pipeline's measure.

Every micro-batch runs the frozen backbone for the teacher and once more for the student and forms all logits; the
gradients of micro-batches add up, then one step of AdamW follows. Nothing here uses the engine, so that it can also say
whether the engine's steps are right: the module is written anew, with the parameter names of the original.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE, KD_WEIGHT, CLIP = 2.0, 0.9, 1.0


class Domain(nn.Module):
    """`LN(W2 GELU(W0 x + b0) + b2)`, `[..., A]` to `[..., A]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.ln = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the net makes of x."""
        return self.ln(self.net(x))


class Module(nn.Module):
    """The standard module: `proj_out(h + alpha * D(h))`, `h` the normed projection of tapped states `[B, T, K, D]`."""

    def __init__(self, width: int, taps: Sequence[int], d_abi: int, *, tap_norms: bool = False) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.tap_lns = nn.ModuleList([nn.LayerNorm(width) for _ in taps] if tap_norms else [])
        self.proj_in = nn.Linear(width * len(self.taps), d_abi, bias=False)
        self.abi_ln = nn.LayerNorm(d_abi)
        self.proj_out = nn.Linear(d_abi, width, bias=False)
        self.domain = Domain(d_abi)
        self.domain_alpha = nn.Parameter(torch.tensor(1.0))

    def forward(self, hidden: Sequence[Tensor]) -> Tensor:
        """Return the correction `[B, T, D]` of all hidden states `[B, T, D]` of a pass."""
        read = [hidden[tap] for tap in self.taps]
        if len(self.tap_lns):
            read = [norm(states) for norm, states in zip(self.tap_lns, read, strict=True)]
        h = self.abi_ln(self.proj_in(torch.cat(read, -1)))
        return self.proj_out(h + self.domain_alpha * self.domain(h))


@dataclass(frozen=True)
class Model:
    """A frozen language model of transformers. Args: prefix: tokens that an encoder reads, 0 for a decoder alone."""

    model: nn.Module
    prefix: int = 0

    def hidden(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return the hidden states `[B, T, D]` of the predicted positions, the last one final."""
        if not self.prefix:
            return self.model.transformer(tokens[:, :-1], output_hidden_states=True).hidden_states
        start = torch.full_like(tokens[:, :1], self.model.config.decoder_start_token_id)
        before = torch.cat([start, tokens[:, self.prefix : -1]], 1)
        encoded = self.model.encoder(tokens[:, : self.prefix]).last_hidden_state
        return self.model.decoder(before, encoder_hidden_states=encoded, output_hidden_states=True).hidden_states

    @property
    def scale(self) -> float:
        """What T5 multiplies its final state by, before a head that is tied to the embedding."""
        return self.model.config.d_model**-0.5 if self.prefix else 1.0

    def logits(self, states: Tensor) -> Tensor:
        """Return all logits `[B, T, V]` of final states."""
        return self.model.lm_head(states * self.scale)

    def targets(self, tokens: Tensor) -> Tensor:
        """Return the tokens `[B, T]` that are predicted."""
        return tokens[:, self.prefix or 1 :]


def loss(
    backbone: Model, student: Module, teacher: Module | None, tokens: Tensor, kind: str, *, dropout: bool
) -> Tensor:
    """Return the scalar `ce`, `kd` or `correction-mse` of a micro-batch `[B, length]`, both passes anew.

    Args: dropout: whether the student's pass has it, as the original's has.
    """
    if teacher is not None:
        backbone.model.eval()
        with torch.no_grad():
            hidden = backbone.hidden(tokens)
            taught = teacher(hidden)
            teacher_logits = backbone.logits(hidden[-1] + taught)
    backbone.model.train(dropout)
    hidden = backbone.hidden(tokens)
    correction = student(hidden)
    logits = backbone.logits(hidden[-1] + correction).flatten(0, 1)
    if kind == "correction-mse":
        return F.mse_loss(correction, taught)
    ce = F.cross_entropy(logits, backbone.targets(tokens).flatten())
    if kind == "ce":
        return ce
    own, given = F.log_softmax(logits / TEMPERATURE, -1), F.softmax(teacher_logits.flatten(0, 1) / TEMPERATURE, -1)
    kl = F.kl_div(own, given, reduction="batchmean")
    return KD_WEIGHT * TEMPERATURE**2 * kl + (1 - KD_WEIGHT) * ce


class Training:
    """The loop of one student. Args: as of `loss`; rate: of AdamW, held constant; weight_decay: of AdamW."""

    def __init__(
        self,
        backbone: Model,
        student: Module,
        teacher: Module | None,
        kind: str,
        *,
        rate: float,
        weight_decay: float = 0.01,
        dropout: bool = True,
    ) -> None:
        self.backbone, self.student, self.teacher, self.kind, self.dropout = backbone, student, teacher, kind, dropout
        self.parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=weight_decay)

    def step(self, micro_batches: Iterable[Tensor]) -> float:
        """Take one step on some micro-batches `[B, length]` of equal size; return its loss."""
        self.optimizer.zero_grad()
        parts, total = list(micro_batches), 0.0
        for tokens in parts:
            found = loss(self.backbone, self.student, self.teacher, tokens, self.kind, dropout=self.dropout) / len(
                parts
            )
            found.backward()
            total += found.item()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        return total


def nib(reference: Tensor, candidate: Tensor) -> dict[str, Tensor]:
    """Return the four NIB metrics `[N]` of two sets of logits `[N, V]`, all distributions at once, clipped at 1e-12."""
    p, q = (torch.softmax(logits, -1).numpy() for logits in (reference, candidate))
    p, q = np.clip(p, 1e-12, None), np.clip(q, 1e-12, None)
    m = (p + q) / 2
    js = 0.5 * (p * np.log(p / m)).sum(-1) + 0.5 * (q * np.log(q / m)).sum(-1)
    top = [np.argpartition(-x, 5, axis=-1)[:, :5] for x in (p, q)]
    overlap = [len({*a} & {*b}) / 5 for a, b in zip(*(ids.tolist() for ids in top), strict=True)]
    entropy = [-(x * np.log(x)).sum(-1) for x in (p, q)]
    found = {
        "js_nats": np.maximum(js, 0),
        "top1": (p.argmax(-1) == q.argmax(-1)).astype("float32"),
        "top5": np.array(overlap, "float32"),
        "entropy_diff_nats": abs(entropy[0] - entropy[1]),
    }
    return {name: torch.from_numpy(values) for name, values in found.items()}
