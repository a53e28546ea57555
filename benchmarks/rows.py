"""The lines of the table: each of them one thing that is timed or whose memory is measured."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from abi.arms import metrics
from abi.arms.losses import EVALUATION_ROWS, head_loss
from abi.base import heap
from abi.base.errors import DataError
from abi.base.files import ROOT
from abi.base.manifests.speed import Benchmark
from abi.base.names import AGREEMENT
from abi.models.head import Head
from benchmarks import reference, timing
from benchmarks.sides import Shape, Sides, Turns

ROUNDS = 5
CORRECTION = Shape(
    "correction-mse",
    8192,
    positions=64,
    prefix=64,
    taps=(1, 2, 3, 4, 5, 6),
    d_abi=1024,
    teacher_abi=256,
    tap_norms=True,
    batch=8,
    micro=4,
    weight_decay=0.0,
)
"""C1 of docs/experiments.md, smaller: T5, a candidate of six taps, four micro-batches of two windows."""
KD, CE = Shape("kd", 8192), Shape("ce", 8192)
"""C3: GPT-2, four windows of 128 tokens."""
LARGE = Shape("kd", 50257)
NIB_SHAPE, WIDE, WIDE_POSITIONS = (492, 50257), 262144, 2048
SEEDS, ARMS, NATIVE, NATIVE_STEPS, ARM_STEPS, TOKENS = 5, 14, 3, 500, 1200, 500_000
"""A study as C3 has it: source, oracle and reference of 500 steps, arms of 1,200, on 500,000 tokens."""


def rows(folder: Path) -> Iterator[Benchmark]:
    """Yield every line, as it is measured. Args: folder: for what is written on the way."""
    yield memory_of_kd()  # before others have left memory behind
    yield nib()
    yield step("correction-mse", "Step of correction-MSE: T5, V = 8,192, 64 + 64 tokens, six taps", CORRECTION, folder)
    kd = sides(KD, folder).turns(ROUNDS)
    yield row_of("kd-8192", "Step of KD: GPT-2, V = 8,192", kd)
    yield step("kd-50257", "Step of KD: GPT-2, V = 50,257", LARGE, folder)
    yield study(kd, folder)
    heap.keep_freed()  # as every job of the pipeline does; from here on the original's side has it, too
    yield step("kd-50257-kept", "Step of KD: GPT-2, V = 50,257, both keep freed memory", LARGE, folder)
    yield from commands(folder)


def sides(shape: Shape, folder: Path) -> Sides:
    """Return both sides of a shape on a few windows."""
    return Sides.of(shape, 4 * shape.batch, folder)


def step(name: str, title: str, shape: Shape, folder: Path) -> Benchmark:
    """Return the line of a step of the engine against that of the original's loop."""
    return row_of(name, title, sides(shape, folder).turns(ROUNDS))


def row_of(name: str, title: str, turns: Turns) -> Benchmark:
    """Return the line of steps that took turns."""
    middle = turns.middle
    own, product = middle["engine"], middle["product"]
    rate = timing.GEMM_FLOP / product
    return Benchmark(
        name=name,
        title=title,
        rounds=len(turns.engine),
        seconds=own,
        reference_s=middle["reference"],
        ratio=middle["reference"] / own,
        share=turns.flop / own / rate,
        note=f"{middle['without_dropout'] / own:.2f} times without the dropout that the original has; "
        f"products run at {rate / 1e9:.0f} GFLOP/s",
    )


def memory_of_kd() -> Benchmark:
    """Return the memory of one KD step at a large vocabulary, above head, states, teacher and targets."""
    head = Head(torch.randn(WIDE, KD.width) * 0.02, 1.0)
    states, teacher = torch.randn(WIDE_POSITIONS, KD.width, requires_grad=True), torch.randn(WIDE_POSITIONS, KD.width)
    targets = torch.randint(WIDE, (WIDE_POSITIONS,))
    began = time.process_time()
    peak = timing.peak_mib(lambda: head_loss(states, head, targets, teacher=teacher).backward())
    whole = 4 * WIDE * WIDE_POSITIONS / timing.MIB
    return Benchmark(
        name="kd-memory",
        title=f"KD at V = {WIDE:,}, {WIDE_POSITIONS:,} positions",
        rounds=1,
        memory_mib=peak,
        seconds=time.process_time() - began,
        note=f"whole logits are {whole:,.0f} MiB each, and the original holds several",
    )


def nib() -> Benchmark:
    """Return the line of the four agreement metrics of one window, whose values must be the same."""
    one = 3 * torch.randn(*NIB_SHAPE)
    other = one + 0.3 * torch.randn(*NIB_SHAPE)

    def in_parts() -> dict[str, torch.Tensor]:
        found = {name: torch.empty(len(one)) for name in AGREEMENT}
        for at in range(0, len(one), EVALUATION_ROWS):
            part = slice(at, at + EVALUATION_ROWS)
            for name, values in metrics.agreement(*(metrics.distribution(x[part]) for x in (one, other))).items():
                found[name][part] = values
        return found

    in_parts()  # what is loaded with the first call is no memory of the second
    peak = timing.peak_mib(in_parts)
    ours, theirs = in_parts(), reference.nib(one, other)
    apart = max(float((ours[name] - values).abs().max()) for name, values in theirs.items())
    if not apart < 1e-4:
        raise DataError(
            f"benchmarks: agreement of a window is {apart:.1e} off the published formulas; mend abi/arms/metrics.py"
        )

    def published() -> object:
        return reference.nib(one, other)

    ways: dict[str, Callable[[], object]] = {"engine": in_parts, "reference": published, "both_keep": published}
    kept = {"engine": heap.keep_freed, "both_keep": heap.keep_freed}  # as every job of the pipeline does
    middle = timing.medians(timing.in_turns(ways, ROUNDS, before={**kept, "reference": heap.return_freed}))
    heap.return_freed()
    return Benchmark(
        name="nib",
        title="Agreement of a window of {} x {:,}".format(*NIB_SHAPE),
        rounds=ROUNDS,
        seconds=middle["engine"],
        reference_s=middle["reference"],
        ratio=middle["reference"] / middle["engine"],
        memory_mib=peak,
        note=f"{middle['both_keep'] / middle['engine']:.2f} times where both keep freed memory; no value differs by more "
        f"than {apart:.0e}; the original clips at 1e-12",
    )


def study(kd: Turns, folder: Path) -> Benchmark:
    """Return the line of a whole study: what its steps cost, times their number; the engine fills its store once."""
    both, together = sides(CE, folder), sides(KD, folder).turns(ROUNDS, arms=ARMS, against=False)
    ce, kds = both.turns(ROUNDS).middle, kd.middle
    shape, n = both.shape, 16
    one_pass = timing.medians(timing.in_turns({"": lambda: both.model.hidden(shape.windows(n))}, ROUNDS))[""]
    store = one_pass / n * TOKENS / (shape.positions + 1)
    own = store + SEEDS * (NATIVE * NATIVE_STEPS * ce["engine"] + ARM_STEPS * together.middle["engine"])
    theirs = SEEDS * (NATIVE * NATIVE_STEPS * ce["reference"] + ARMS * ARM_STEPS * kds["reference"])
    return Benchmark(
        name="study",
        title=f"Source, oracle, reference and {ARMS} arms of {SEEDS} seeds",
        rounds=ROUNDS,
        seconds=own,
        reference_s=theirs,
        ratio=theirs / own,
        note=f"extrapolated from single steps: {NATIVE} x {NATIVE_STEPS} steps of CE and {ARM_STEPS:,} of KD per seed; "
        f"filling the store is {100 * store / own:.0f} % of it",
    )


def commands(folder: Path) -> Iterator[Benchmark]:
    """Yield the lines of commands that a person waits for."""
    abi = [sys.executable, "-m", "abi.cli"]
    clone = folder / "clone"
    copied = subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), str(clone)], capture_output=True)
    if copied.returncode == 0:
        spent = timing.of_command([*abi, "verify"], clone, ROUNDS, {"PYTHONPATH": str(clone)})
        yield Benchmark(name="verify", title="`abi verify` in a fresh clone", rounds=ROUNDS, seconds=spent)
    there = {"PYTHONPATH": str(ROOT)}
    spent = timing.of_command([*abi, "--help"], folder, ROUNDS, there)
    yield Benchmark(name="help", title="`abi --help`", rounds=ROUNDS, seconds=spent)
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--cores", "1"]
    spent = timing.of_command(command, ROOT, ROUNDS, there)
    told = "of what is there: a finished run, or all jobs of one that is still to come"
    yield Benchmark(name="plan", title="`snakemake -n`", rounds=ROUNDS, seconds=spent, note=told)


def measured() -> list[Benchmark]:
    """Return every line, in a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return list(rows(Path(folder)))
