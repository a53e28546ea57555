"""Cost of evaluation: a batch of windows at once, or `metrics.EVALUATION_LOGITS` logits at a time.

python -m benchmarks.evaluation_cost     (median CPU seconds, in turns in one process; the ratio is what matters)
"""

import functools
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from abi.arms import metrics
from abi.base.manifests.states import StatesManifest
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig
from abi.models.states import States
from benchmarks import timing

WINDOWS, POSITIONS, WIDTH, VOCABULARY, ROUNDS = 16, 127, 128, 2048, 5


def main() -> None:
    """Print CPU seconds of both ways and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = (WINDOWS, POSITIONS)
    tensors = {"tap.3": torch.randn(*shape, WIDTH), "targets": torch.randint(0, VOCABULARY, shape, dtype=torch.int32)}
    tensors |= {name: torch.ones(shape, dtype=torch.int32) for name in ("target_bytes", "char_end")}
    tensors["tokens"] = torch.ones(WINDOWS, POSITIONS + 1, dtype=torch.int32)
    tensors["document"] = torch.zeros(WINDOWS, dtype=torch.int32)
    manifest = {
        "n_windows": WINDOWS,
        "length": POSITIONS + 1,
        "positions": POSITIONS,
        "width": WIDTH,
        "taps": [3],
        "final_tap": 3,
        "skip": 20,
        "documents": ["d"],
        "groups": ["g"],
    }

    head = Head(torch.randn(VOCABULARY, WIDTH) / 10, 1.0)
    config = ModuleConfig(WIDTH, (3,), 64)
    arms = {f"arm{i}": AbiModule(config, seed=i).requires_grad_(False) for i in range(6)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "states.safetensors"
        save_file(tensors, path)
        states = States(path, StatesManifest.model_construct(**manifest))

        def run(chunk):
            metrics.EVALUATION_LOGITS = chunk
            judges = {"reference": arms["arm0"], "teacher": arms["arm1"]}
            list(metrics.evaluate(arms, states, head, **judges, windows_per_batch=4))

        sizes = {"whole batch": 2**40, "in chunks": metrics.EVALUATION_LOGITS}
        ways = {name: functools.partial(run, chunk) for name, chunk in sizes.items()}
        seconds = timing.medians(timing.in_turns(ways, ROUNDS))
    for name, spent in seconds.items():
        print(f"{name:12s} {spent:.3f} s")
    print(f"ratio        {seconds['whole batch'] / seconds['in chunks']:.2f}")


if __name__ == "__main__":
    main()
