"""On what text should the source teach (`general-only`)? General text, or text that it writes, with its module or not.

python benchmarks/lesson_text.py [--scale tiny] [--claim gpt2_to_qwen_general_only] [--seeds 3]

The inputs of the claim must be there.

Every arm is fitted with the claim's budget on paired positions of each kind of text, its gain chosen on held-out text
of the same kind. The figure is the gap closure on domain calibration text in nats per position, mean over seeds, and
per seed how far the moved net is ahead of its best placebo. What the source writes, it draws; `written without` is the
control without its module.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import torch

from abi.arms.fitting import Budget, Nets, Solved, fit_arms, gradient_tasks, make
from abi.arms.metrics import evaluate
from abi.base.catalogue import ARMS
from abi.base.manifests.rates import RatesManifest
from abi.base.names import BIAS, LINEAR, NO_DOMAIN, ORACLE, PERMUTED, RANDOM, RAW, TRANSFERRED
from abi.models.backbone import Window, load_backbone
from abi.models.module import with_net
from abi.models.saved import module_of_seed, read_head, read_states
from abi.models.states import States, write_states
from abi.plan.config import load
from abi.plan.specs.arms import CalibrateArms, WriteLessonText
from abi.plan.workflow import Workflow
from abi.steps.calibrate_arms import teacher_of
from abi.steps.write_lesson_text import written
from abi.steps.write_states import windows_of

PLACEBOS = (RANDOM, PERMUTED, NO_DOMAIN, LINEAR, BIAS)
COLUMNS = ["claim", "text", "positions", "arm", "closure_calibration", "ahead_per_seed"]


def states_of(backbone, documents, split, spec, head, like: States, path: Path) -> States:
    """Return the states of a backbone on documents of a split, with the hashes of a store of the same backbone."""
    windows, window = windows_of(backbone, documents, split, spec), Window.of(spec.window)
    stored = write_states(backbone, windows, window, spec.taps, head, path)
    return States(path, like.manifest.model_copy(update=dict(stored)))


def main() -> None:
    """Print a row per kind of text and arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", default="gpt2_to_qwen_general_only")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Workflow(load(options.scale))
    claim = study.claim(options.claim)
    batch = f"1-{study.scale.jobs.seeds_per_job.calibration}"
    spec = CalibrateArms.model_validate({**study.of(options.claim).calibration_spec(batch), "variants": []})
    inputs = study.of(options.claim).calibration_input(batch)
    teaching, budget = (
        teacher_of(spec, inputs),
        Budget.of(spec, RatesManifest.read(inputs["rates"][0]).rates(spec.arms)),
    )
    writing = WriteLessonText.model_validate(study.of(options.claim).written_spec(batch))
    states_specs = {"source": writing.source, "target": writing.target}
    models = {
        "source": load_backbone(study.backbone_folder(claim.source)),
        "target": load_backbone(study.backbone_folder(claim.target)),
    }
    general = {"target": teaching.states, "source": read_states(teaching.inputs["source_states"], "train")}
    heads = {"target": teaching.head, "source": read_head(teaching.inputs["source_head"], general["source"])}
    check = read_states(study.states(claim.target, claim.text, "calibration"), "calibration")
    oracles = study.of(claim.of or options.claim).module_files(batch)[ORACLE]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for kind in ("general", "written", "written without"):
        found: dict[str, list[float]] = {}
        for seed in range(1, options.seeds + 1):
            module = module_of_seed(teaching.inputs["source"], seed, general["source"])
            with tempfile.TemporaryDirectory() as folder:
                pairs = teaching.pairs
                if kind != "general":
                    own = module if kind == "written" else with_net(module, None)
                    if kind == "written without":
                        own.proj_out.weight.zero_()
                    first, window = general["source"].tokens(slice(None))[:, 0], Window.of(writing.source.window)
                    documents = written(models["source"], own, first, window, writing, seed)
                    pairs = {
                        split: teaching.paired(
                            split,
                            *(
                                states_of(
                                    models[role],
                                    documents,
                                    split,
                                    states_specs[role],
                                    heads[role],
                                    general[role],
                                    Path(folder) / f"{role}.{split}.safetensors",
                                )
                                for role in ("target", "source")
                            ),
                        )
                        for split in ("train", "calibration")
                    }
                nets = Nets(source=module)
                data = teaching.data(nets, pairs)
                [task] = gradient_tasks(data, budget, seed)
                arms = {
                    name: make(ARMS[name].recipes[spec.regime], name, teaching.config, nets, data, seed=seed)
                    for name in (TRANSFERRED, *PLACEBOS)
                }
                fit_arms(arms, task, budget, seed, Solved(budget.ridge_penalty), None)
            oracle = module_of_seed(oracles, seed, check)
            models_of = {RAW: None, ORACLE: oracle, **{name: arm.model for name, arm in arms.items()}}
            losses = {
                name: float(values.mean())
                for name, _, values in evaluate(
                    models_of, check, teaching.head, reference=None, teacher=None, agree=False
                )
            }
            gain = losses[RAW] - losses[ORACLE]
            for name in arms:
                found.setdefault(name, []).append((losses[RAW] - losses[name]) / gain)
        n = len(data.states)
        best = max(PLACEBOS, key=lambda name: sum(found[name]))
        for name, closures in found.items():
            ahead = [f"{a - b:.3f}" for a, b in zip(found[TRANSFERRED], found[best], strict=True)]
            per_seed = " ".join(ahead) if name == TRANSFERRED else ""
            writer.writerow([options.claim, kind, n, name, f"{sum(closures) / len(closures):.3f}", per_seed])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
