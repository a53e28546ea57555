"""Ratio in one process: a portable module's step where freed memory goes back to the system, and where it is kept.

python benchmarks/heap.py   -> heap.csv: vocabulary, CPU seconds of a step before and after, of these the system's, MB

The step is that of `train_portable`: plain logits of 80 positions, and three modules that write on at most 8,000
strings.
"""

import csv
import resource
from pathlib import Path

import torch
import torch.nn.functional as F

from abi.base.heap import keep_freed

OUT = Path(__file__).with_suffix(".csv")
POSITIONS, WIDTH, ANCHORS, MODULES, STEPS = 80, 640, 8000, 3, 6
VOCABULARIES = (2048, 49152, 262144)


def stepping(vocabulary):
    """Return a step at a vocabulary."""
    weight, states = torch.randn(vocabulary, WIDTH) * 0.02, torch.randn(POSITIONS, WIDTH)
    strings = min(ANCHORS, vocabulary)
    shifts = torch.randn(POSITIONS, strings, requires_grad=True)
    string_of, targets = torch.randint(strings, (vocabulary,)), torch.randint(vocabulary, (POSITIONS,))

    def step():
        plain = torch.log_softmax(states @ weight.T, -1)
        for _ in range(MODULES):
            F.cross_entropy(plain + shifts.index_select(1, string_of), targets).backward()
            shifts.grad = None

    return step


def seconds(step):
    """Return CPU seconds of a step, and of these the system's."""
    step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(STEPS):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    return (after.ru_utime - before.ru_utime + system) / STEPS, system / STEPS


def main() -> None:
    """Measure every vocabulary without, then all of them with."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = {vocabulary: stepping(vocabulary) for vocabulary in VOCABULARIES}
    plain = {vocabulary: seconds(step) for vocabulary, step in steps.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert keep_freed(), "this C library cannot be told to keep memory"
    kept = {vocabulary: seconds(step) for vocabulary, step in steps.items()}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with OUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["vocabulary", "returned_s", "of_system_s", "kept_s", "of_system_s", "ratio", "peak_mb", "kept_mb"]
        )
        for vocabulary in VOCABULARIES:
            (before, system), (after, left) = plain[vocabulary], kept[vocabulary]
            figures = [f"{value:.4f}" for value in (before, system, after, left)]
            writer.writerow([vocabulary, *figures, f"{before / after:.2f}", peak >> 10, grown >> 10])
    print(OUT.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
