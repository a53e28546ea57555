"""Ratios in one process: a KD step on stored states with the chunked loss against the original's structure.

python benchmarks/step_cost.py   -> CSV on stdout: what, median ms, ratio to the reference

Reference: run the frozen backbone for every step, logits of all positions at once, `kl_div` + `cross_entropy` through autograd.
"""

import csv
import statistics
import sys
import time

import torch
import torch.nn.functional as F
import transformers

from abi.arms.losses import head_loss
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig


def naive(states, head, targets, teacher):
    """Return the KD + CE loss with whole logits."""
    s, t = head.logits(states), head.logits(teacher)
    kl = F.kl_div(F.log_softmax(s / 2, -1), F.softmax(t / 2, -1), reduction="batchmean")
    return 0.9 * 4 * kl + 0.1 * F.cross_entropy(s, targets)


def main() -> None:
    """Time the three structures interleaved, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=8192, n_embd=256, n_layer=6, n_head=4, n_positions=256)
    model = transformers.GPT2LMHeadModel(config).eval().requires_grad_(False)
    head = Head(model.lm_head.weight.detach(), 1.0)
    module = AbiModule(ModuleConfig(width=256, taps=(6,), d_abi=64))
    tokens = torch.randint(0, 8192, (4, 129))
    targets = tokens[:, 1:].flatten()
    with torch.no_grad():
        final = model.transformer(tokens[:, :-1]).last_hidden_state
    teacher = final.flatten(0, 1) + 0.1

    def step(loss, *, run_backbone):
        def run():
            states = final
            if run_backbone:
                with torch.no_grad():
                    states = model.transformer(tokens[:, :-1]).last_hidden_state
            student = (states + module(states.unsqueeze(2))).flatten(0, 1)
            loss(student, head, targets, teacher).backward()
            module.zero_grad()

        return run

    def chunked(states, head, targets, teacher):
        return head_loss(states, head, targets, teacher=teacher)

    ways = {
        "reference: backbone each step, naive loss": step(naive, run_backbone=True),
        "stored states, naive loss": step(naive, run_backbone=False),
        "stored states, chunked loss": step(chunked, run_backbone=False),
    }
    times = {name: [] for name in ways}
    for _ in range(12):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    reference = next(iter(medians.values()))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["what", "median_ms", "ratio_to_reference"])
    writer.writerows([name, f"{ms:.1f}", f"{reference / ms:.2f}"] for name, ms in medians.items())


if __name__ == "__main__":
    main()
