"""One portable module on every backbone of a scale, attached to the live models in one loop.

Bits per byte of calibration text, domain and general, with the module attached and without; the backbone's own oracle
beside it. Test text is left to the verdicts.
Run where the scale was built: `python benchmarks/portable.py [SCALE] [SOURCE]`; writes `benchmarks/portable.csv`.
"""

import math
import sys
from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

import abi
from abi.models.backbone import Backbone, Window
from abi.models.saved import read_states
from abi.models.states import States
from abi.plan.config import load
from abi.plan.workflow import Workflow

TEXTS = ("python", "general")


@torch.no_grad()
def bits_per_byte(backbone: Backbone, states: States, window: Window, batch: int = 16) -> float:
    """Return bits per byte of the scored positions of stored windows, by the live model as it is now."""
    nats = n_bytes = 0.0
    for start in range(0, len(states), batch):
        index = slice(start, start + batch)
        logits = backbone.logits(states.tokens(index), window)[:, window.skip :]
        targets = states.targets(index)[:, window.skip :]
        nats += float(cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
        n_bytes += float(states.target_bytes[index][:, window.skip :].sum())
    return nats / n_bytes / math.log(2)


def main(scale: str = "tiny", source: str = "gpt2", prompt: str = "def main(") -> None:
    """Measure seed 1 of a source's module on every backbone that was built, and print what each writes with it."""
    workflow, rows = Workflow(load(scale)), []
    [folder] = Path(f"{workflow.results}/modules/{source}/python/portable/portable").glob("1-*/seed1/transferred")
    module, _ = abi.load_module(folder)
    for name, made in workflow.scale.backbones.items():
        if not Path(workflow.backbone(name)).exists():
            continue
        backbone, window = abi.load_backbone(workflow.backbone_folder(name)), Window.of(made.window)
        oracles = Path(f"{workflow.results}/modules/{name}/python").glob("*/oracle/1-*/seed1")
        oracle = next((abi.load_module(path)[0] for path in sorted(oracles) if "standard" in path.parts), None)
        for text in TEXTS:
            states = read_states(workflow.states(name, text, "calibration"), "calibration")
            row: dict[str, object] = {"source": source, "backbone": name, "text": text}
            row["raw"] = bits_per_byte(backbone, states, window)
            for arm, attached in (("portable", module), ("oracle", oracle)):
                if attached is not None:
                    with abi.attach(backbone, attached):
                        row[arm] = bits_per_byte(backbone, states, window)
            rows.append(row)
        ids = backbone.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        plain = backbone.tokenizer.decode(abi.generate(backbone, ids, 24)[0])
        with abi.attach(backbone, module):
            print(f"{name}: {plain!r} -> {backbone.tokenizer.decode(abi.generate(backbone, ids, 24)[0])!r}")
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    table.round(4).to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
