"""Update of a backbone: more training on general text, with or without a term that holds its modules' ABI states.

The loss is that of the original's claims C4 to C6: `LM + weight * mean over modules of MSE(h_abi(updated),
h_abi(anchor))`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from abi.base.errors import DataError
from abi.models.backbone import Backbone, Window, targets
from abi.models.loop import BatchOrder, Schedule, fit
from abi.models.module import AbiModule


@dataclass(frozen=True)
class UpdateRecipe:
    """How a backbone is updated.

    Args: batch: windows per step; trains: `all`, or `body`: not embeddings and head; stability: weight of the term that
        holds the ABI states; seed: of the order of the text.
    """

    schedule: Schedule
    batch: int
    trains: str
    stability: float
    seed: int


@dataclass(frozen=True)
class Updated:
    """What an update did: mean losses of its last steps in nats per token, and of the drift if it held one."""

    steps: int
    tokens_seen: int
    loss_nats: float
    elapsed_s: float
    stability_mse: float | None


def update(
    backbone: Backbone,
    anchor: Backbone,
    windows: Tensor,
    window: Window,
    recipe: UpdateRecipe,
    *,
    modules: Sequence[AbiModule] = (),
    checkpoint: Path | None = None,
    label: str = "update",
) -> Updated:
    """Train a backbone on, in place, and freeze it again; return what was done.

    Args: anchor: the backbone whose ABI states are held, left as it is; windows: of the text of this round,
        `[N, length]` (`pack`); modules: what is held, on the anchor's own states, where the recipe has a stability
        term.
    Raises: DataError: a stability term without a module; TamperError: anchor or module changed.
    """
    if recipe.stability and not modules:
        raise DataError(f"{label}: a stability weight of {recipe.stability} needs a module whose states are held")
    order = BatchOrder(len(windows), recipe.batch, recipe.seed)
    drifts: list[float] = []

    def loss(step: int) -> Tensor:
        batch = windows[order[step]]
        hidden = backbone.hidden_states(batch, window)
        found = language_loss(backbone, hidden[-1], batch, window)
        if not recipe.stability:
            return found
        with torch.no_grad():
            before = anchor.hidden_states(batch, window)
        drift = torch.stack([mse_loss(abi_states(m, hidden), abi_states(m, before)) for m in modules]).mean()
        drifts.append(float(drift.detach()))
        return found + recipe.stability * drift

    frozen = {f"anchor.{name}": p for name, p in anchor.model.named_parameters()}
    frozen |= {f"module{i}.{name}": p for i, module in enumerate(modules) for name, p in module.named_parameters()}
    backbone.model.requires_grad_(False)
    trained = fit(
        loss,
        trainable(backbone, recipe.trains),
        recipe.schedule,
        frozen=frozen,
        checkpoint=checkpoint,
        label=label,
        beside=drifts.pop if recipe.stability else None,
    )
    held = trained.beside
    backbone.model.eval().requires_grad_(False)
    return Updated(
        steps=recipe.schedule.steps,
        tokens_seen=recipe.schedule.steps * recipe.batch * window.length,
        loss_nats=trained.last_loss(20),
        elapsed_s=round(trained.elapsed_s, 2),
        stability_mse=sum(held[-20:]) / len(held[-20:]) if held else None,
    )


def abi_states(module: AbiModule, hidden: Sequence[Tensor]) -> Tensor:
    """Return a module's interface states `[B, T, A]` of a backbone's hidden states."""
    state: Tensor = module.interface_state(torch.stack([hidden[tap] for tap in module.config.taps], dim=2))
    return state


def language_loss(backbone: Backbone, final: Tensor, tokens: Tensor, window: Window) -> Tensor:
    """Return the mean CE in nats of final states `[B, T, D]` through the backbone's own head, which may train."""
    logits = backbone.head_logits(final)
    return cross_entropy(logits.flatten(0, 1), targets(tokens, window).flatten().to(logits.device).long())


def trainable(backbone: Backbone, trains: str) -> dict[str, Tensor]:
    """Return the parameters an update changes: `all`, or `body`, which leaves embeddings and head as they are."""
    model = backbone.model
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    kept = {id(p) for end in ends if end is not None for p in end.parameters()} if trains == "body" else set()
    return {name: p for name, p in model.named_parameters() if id(p) not in kept}


@torch.no_grad()
def general_loss(backbone: Backbone, windows: Tensor, window: Window, most: int = 64, batch: int = 16) -> float:
    """Return the mean CE in nats per token of a backbone on the first of some windows `[N, length]`."""
    windows = windows[:most]
    total = 0.0
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch]
        final = backbone.hidden_states(part, window)[-1]
        total += len(part) * float(language_loss(backbone, final, part, window))
    return total / len(windows)


def part_of_round(texts: Sequence[str], number: int, rounds: int) -> list[str]:
    """Return the texts of a round, 1-based: every `rounds`-th one, so that no round sees another's."""
    return list(texts[number - 1 :: rounds])


def named(update_name: str, way: str, number: int, seed: int) -> str:
    """Return the name of an updated backbone, as its states and modules carry it."""
    return f"{update_name}.{way}.{number}.seed{seed}"
