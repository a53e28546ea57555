"""On what text should the source teach (`general-only`)? General text, text the source writes with its module, or without.

python benchmarks/lesson_text.py [--scale tiny] [--claim gpt2_to_qwen_general_only] [--seeds 3]   (after the inputs of the claim exist)

Every arm is fitted with the claim's budget on paired positions of each kind of text, in equal number, its gain chosen on a held-out
tenth of the same kind. The figure is the gap closure on domain calibration text in nats per position, mean over seeds, and per seed
how far the moved net is ahead of its best placebo. No kind of text holds a domain document: what the source writes, it draws.
"""

import argparse
import csv
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from abi import backbones, inference
from abi.alignment import pair_states
from abi.arms import RECIPES, Solved, fit_arms, gradient_tasks, make
from abi.config import load
from abi.corpus import Document
from abi.metrics import evaluate
from abi.specs import Study
from abi.stages.calibration import Teaching, budget_of
from abi.stages.store import module_of_seed, read_head, read_states
from abi.states import States, make_windows, write_states
from abi.teaching import spread_rows

PLACEBOS = ("random", "permuted", "no-domain", "linear", "bias")
COLUMNS = ["claim", "text", "positions", "arm", "closure_calibration", "ahead_per_seed"]
SEQUENCES, TOGETHER, PER_DOCUMENT = 960, 160, 8


def written(backbone, module, window, starts, seed: int) -> list[Document]:
    """Return documents that a backbone draws, with a module or plain: sequences of a window's length, a few to a document."""
    attached = None if module is None else inference.attach(backbone, module)
    texts = []
    for at in range(0, SEQUENCES, TOGETHER):
        ids = starts[at : at + TOGETHER, None]
        found = inference.generate(backbone, ids, window.length - 1, temperature=1.0, seed=1000 * seed + at)
        texts += backbone.tokenizer.batch_decode(torch.cat([ids, found], 1), skip_special_tokens=True)
    if attached is not None:
        attached.detach()
    joined = ["\n\n".join(texts[i : i + PER_DOCUMENT]) for i in range(0, len(texts), PER_DOCUMENT)]
    return [
        Document(f"written-{i}", f"written-{i}", "source", "0", "0" * 64, "train", len(text.encode()), text)
        for i, text in enumerate(joined)
    ]


def states_of(backbone, documents, window, taps, head, like: States, path: Path) -> States:
    """Return the states of a backbone on documents, with the hashes of a store of the same backbone."""
    windows = make_windows(
        documents, partial(backbones.encode, backbone.tokenizer), window, max_windows=10**6, max_per_document=10**6, min_scored=1
    )  # fmt: skip
    return States(path, {**like.manifest, **write_states(backbone, windows, window, taps, head, path)})


def main() -> None:
    """Print a row per kind of text and arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", default="gpt2_to_qwen_general_only")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(load(options.scale))
    claim = study.claim(options.claim)
    batch = f"1-{study.scale['jobs']['seeds_per_job']['calibration']}"
    spec = {**study.calibration_spec(options.claim, batch), "variants": []}
    teaching, budget = Teaching(spec, study.calibration_input(options.claim, batch)), budget_of(spec)
    source, target = (study.scale["backbones"][claim[role]] for role in ("source", "target"))
    models = {role: backbones.load(study.backbone_folder(claim[role])) for role in ("source", "target")}
    general = {"target": teaching.states, "source": read_states(teaching.inputs["source_states"], "train")}
    heads = {"target": teaching.head, "source": read_head(teaching.inputs["source_head"], general["source"])}
    check = read_states(study.states(claim["target"], claim["text"], "calibration"), "calibration")
    oracles = study.modules_input(claim.get("of", options.claim), batch)["oracle"]
    usual = dict(teaching.pairs)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for kind in ("general", "written with the module", "written without", "general and written with"):
        found: dict[str, list[float]] = {}
        for seed in range(1, options.seeds + 1):
            module = module_of_seed(teaching.inputs["source"], seed, general["source"])
            with tempfile.TemporaryDirectory() as folder:
                if kind == "general":
                    teaching.pairs = usual
                else:
                    starts = general["source"].tokens(slice(None))[:, 0]
                    order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(seed))
                    starts = starts[order.repeat(1 + SEQUENCES // len(starts))[:SEQUENCES]]
                    window = backbones.Window(**source["window"])
                    own = None if kind == "written without" else module
                    documents = written(models["source"], own, window, starts, seed)
                    if kind.startswith("general and"):
                        documents = documents[: len(documents) // 2]
                    made = {
                        role: states_of(
                            models[role], documents, backbones.Window(**side["window"]), side["taps"], heads[role], general[role],
                            Path(folder) / f"{role}.safetensors",
                        )
                        for role, side in (("source", source), ("target", target))
                    }  # fmt: skip
                    at_target, at_source = pair_states(made["target"], made["source"], None)
                    cut = len(at_target) * 9 // 10
                    most = len(usual["train"][0])
                    if kind.startswith("general and"):
                        half = spread_rows(cut, most // 2)
                        rows = spread_rows(most, most - len(half))
                        teaching.pairs = usual | {
                            "train": (
                                joined(
                                    usual["train"][0].select(rows.tolist()), made["target"].positions(at_target[half])
                                ),
                                joined(
                                    usual["train"][1].select(rows.tolist()), made["source"].positions(at_source[half])
                                ),
                                heads["source"],
                            )
                        }
                    else:
                        few, rest = spread_rows(cut, most), torch.arange(cut, len(at_target))[:4000]
                        teaching.pairs = {
                            name: (made["target"].positions(at_target[rows]), made["source"].positions(at_source[rows]), heads["source"])
                            for name, rows in (("train", few), ("calibration", rest))
                        }  # fmt: skip
                    if seed == 1:
                        print(repr(documents[0].text[:300]), file=sys.stderr)
                nets, data = teaching.of(seed)
                [task] = gradient_tasks(data, budget, seed)
                recipes = RECIPES["general-only"]
                arms = {
                    name: make(recipes[name], name, teaching.config, nets, data, seed=seed)
                    for name in ("transferred", *PLACEBOS)
                }
                fit_arms(arms, task, budget, seed, Solved(budget.ridge_penalty), None)
            oracle = module_of_seed(oracles, seed, check)
            models_of = {"raw": None, "oracle": oracle, **{name: arm.model for name, arm in arms.items()}}
            losses = {
                name: float(values.mean())
                for name, _, values in evaluate(
                    models_of, check, teaching.head, reference=None, teacher=None, agree=False
                )
            }
            gain = losses["raw"] - losses["oracle"]
            for name in arms:
                found.setdefault(name, []).append((losses["raw"] - losses[name]) / gain)
        n = len(teaching.pairs["train"][0])
        best = max(PLACEBOS, key=lambda name: sum(found[name]))
        for name, closures in found.items():
            ahead = [f"{a - b:.3f}" for a, b in zip(found["transferred"], found[best], strict=True)]
            writer.writerow(
                [options.claim, kind, n, name, f"{sum(closures) / len(closures):.3f}", " ".join(ahead) if name == "transferred" else ""]
            )  # fmt: skip
        sys.stdout.flush()


def joined(one: States, other: States) -> States:
    """Return two stores of one-position windows of one backbone as one."""
    names = one._tensors.keys() & other._tensors.keys()
    tensors = {name: torch.cat([one._tensors[name], other._tensors[name]]) for name in names}
    return one._derived(torch.arange(len(one) + len(other)), tensors)


if __name__ == "__main__":
    main()
