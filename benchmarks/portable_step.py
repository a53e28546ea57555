"""Ratio in one process: the losses of portable modules over all tokens, and over the strings that tokens count as.

python -m benchmarks.portable_step   -> portable_step.csv: tokens, strings, CPU ms of a step both ways, ratio

The step is that of `train_portable`: plain logits of domain and general text, and three modules forward and backward.
"""

import csv
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from abi.arms.portable_fit import Lesson, Read, losses_of
from abi.models.head import Head
from abi.models.portable import PortableConfig, PortableModule
from benchmarks import timing

OUT = Path(__file__).with_suffix(".csv")
ROUNDS, MODULES = 6, 3
SHAPES = ((256, 1024, 1024, 96), (64, 49152, 8000, 576), (64, 262144, 8000, 640))
"""Positions of domain text, tokens, strings and width: a model of `tiny`, SmolLM2, Gemma 3."""


def by_token(modules: list[PortableModule], lesson: Lesson, domain: Read, general: Read, anchor_of: Tensor):
    """Return the losses as they are defined, over every token of the vocabulary."""
    plain = torch.log_softmax(lesson.head.logits(torch.cat([domain.final, general.final])), -1)
    contexts, n = torch.cat([domain.contexts, general.contexts]), len(domain.targets)
    wanted = anchor_of == anchor_of[domain.targets].unsqueeze(1)
    losses = []
    for module in modules:
        shift = torch.nn.functional.pad(module(contexts), (0, 1))[:, anchor_of]
        moved = torch.log_softmax(plain + shift, -1)
        cross_entropy = -torch.logsumexp(moved[:n].masked_fill(~wanted, -torch.inf), 1).mean()
        change = (plain[n:].exp() * (plain[n:] - moved[n:])).sum(1).mean()
        losses.append(cross_entropy + lesson.harm * change)
    return losses


def step_of(positions: int, tokens: int, strings: int, width: int):
    """Return modules, lesson and texts of random numbers."""
    config = PortableConfig(tuple(f"s{i}" for i in range(strings)), 64)
    modules = [PortableModule(config, seed) for seed in range(MODULES)]
    for module in modules:
        torch.nn.init.normal_(module.proj_out.weight, std=0.1)

    def read(n: int) -> Read:
        return Read(torch.randn(n, width), torch.randint(tokens, (n,)), torch.randint(256, (n, config.context)))

    lesson = Lesson(Head(torch.randn(tokens, width) * 0.05, 1.0), None, None, None, 1.0)  # type: ignore[arg-type]
    return modules, lesson, read(positions), read(positions // 4), torch.randint(strings + 1, (tokens,))


def step(losses, modules) -> None:
    """Run a step, forward and backward."""
    sum(losses()).backward()
    for module in modules:
        module.zero_grad(set_to_none=True)


def main() -> None:
    """Measure both ways in turn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with OUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["tokens", "strings", "by_token_ms", "by_string_ms", "ratio"])
        for shape in SHAPES:
            modules, lesson, domain, general, anchor_of = step_of(*shape)
            ways = {
                losses.__name__: partial(
                    step, partial(losses, modules, lesson, domain, general, anchor_of=anchor_of), modules
                )
                for losses in (by_token, losses_of)
            }
            token, string = (1e3 * s for s in timing.medians(timing.in_turns(ways, ROUNDS)).values())
            writer.writerow([shape[1], shape[2], f"{token:.1f}", f"{string:.1f}", f"{token / string:.2f}"])
    print(OUT.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
