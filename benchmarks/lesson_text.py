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
from abi.models.module import AbiModule, with_net
from abi.models.saved import module_of_seed, read_head, read_states
from abi.models.states import States, write_states
from abi.models.windows import windows_of
from abi.plan.config import load
from abi.plan.specs.arms import CalibrateArms, WriteLessonText
from abi.plan.workflow import Workflow
from abi.steps.calibrate_arms import teacher_of
from abi.steps.write_lesson_text import written

PLACEBOS = (RANDOM, PERMUTED, NO_DOMAIN, LINEAR, BIAS)
KINDS = ("general", "written", "written without")
ROLES = ("target", "source")
COLUMNS = ["claim", "text", "positions", "arm", "closure_calibration", "ahead_per_seed"]


class Lesson:
    """A claim's lesson on texts of several kinds.

    Args: scale: of the claim; claim: id of one of regime `general-only`, whose inputs are there.
    """

    def __init__(self, scale: str, claim: str) -> None:
        workflow = Workflow(load(scale))
        known, batch = workflow.claim(claim), f"1-{workflow.scale.jobs.seeds_per_job.calibration}"
        about, inputs = workflow.of(claim), workflow.of(claim).calibration_input(batch)
        self.spec = CalibrateArms.model_validate({**about.calibration_spec(batch), "variants": []})
        self.teaching = teacher_of(self.spec, inputs)
        self.budget = Budget.of(self.spec, RatesManifest.read(inputs["rates"][0]).rates(self.spec.arms))
        self.writing = WriteLessonText.model_validate(about.written_spec(batch))
        folders = {"target": known.target, "source": known.source}
        self.models = {role: load_backbone(workflow.backbone_folder(name)) for role, name in folders.items()}
        stored = read_states(self.teaching.inputs["source_states"], "train")
        self.general = {"target": self.teaching.states, "source": stored}
        self.heads = {"target": self.teaching.head, "source": read_head(self.teaching.inputs["source_head"], stored)}
        self.check = read_states(workflow.states(known.target, known.text, "calibration"), "calibration")
        self.oracles = workflow.of(known.of or claim).module_files(batch)[ORACLE]

    def closures(self, kind: str, seed: int) -> tuple[int, dict[str, float]]:
        """Return on how many positions the arms of a seed were fitted, and arm -> its gap closure."""
        module = module_of_seed(self.teaching.inputs["source"], seed, self.general["source"])
        nets = Nets(source=module)
        with tempfile.TemporaryDirectory() as folder:
            pairs = self.teaching.pairs if kind == "general" else self.written(kind, module, seed, Path(folder))
            data = self.teaching.data(nets, pairs)
            [task] = gradient_tasks(data, self.budget, seed)
            recipes = {name: ARMS[name].recipes[self.spec.regime] for name in (TRANSFERRED, *PLACEBOS)}
            arms = {
                name: make(recipe, name, self.teaching.config, nets, data, seed=seed)
                for name, recipe in recipes.items()
            }
            fit_arms(arms, task, self.budget, seed, Solved(self.budget.ridge_penalty), None)
        oracle = module_of_seed(self.oracles, seed, self.check)
        models = {RAW: None, ORACLE: oracle, **{name: arm.model for name, arm in arms.items()}}
        scores = evaluate(models, self.check, self.teaching.head, reference=None, teacher=None, agree=False)
        losses = {name: float(values.mean()) for name, _, values in scores}
        gain = losses[RAW] - losses[ORACLE]
        return len(data.states), {name: (losses[RAW] - losses[name]) / gain for name in arms}

    def written(self, kind: str, module: AbiModule, seed: int, folder: Path):
        """Return the pairs of states on text that the source writes, with its module or without."""
        own = module
        if kind == "written without":
            own = with_net(module, None)
            own.proj_out.weight.zero_()
        first, window = self.general["source"].tokens(slice(None))[:, 0], Window.of(self.writing.source.window)
        documents = written(self.models["source"], own, first, window, self.writing, seed)
        return {
            split: self.teaching.paired(split, *(self.states(role, documents, split, folder) for role in ROLES))
            for split in ("train", "calibration")
        }

    def states(self, role: str, documents, split: str, folder: Path) -> States:
        """Return the states of a backbone on documents of a split, with the hashes of its stored ones."""
        spec = getattr(self.writing, role)
        windows, window = windows_of(self.models[role], documents, split, spec), Window.of(spec.window)
        path = folder / f"{role}.{split}.safetensors"
        stored = write_states(self.models[role], windows, window, spec.taps, self.heads[role], path)
        return States(path, self.general[role].manifest.model_copy(update=dict(stored)))


def main() -> None:
    """Print a row per kind of text and arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--claim", default="gpt2_to_qwen_general_only")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lesson, writer = Lesson(options.scale, options.claim), csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for kind in KINDS:
        seeds = [lesson.closures(kind, seed) for seed in range(1, options.seeds + 1)]
        found = {name: [closures[name] for _, closures in seeds] for name in (TRANSFERRED, *PLACEBOS)}
        best = max(PLACEBOS, key=lambda name: sum(found[name]))
        ahead = [f"{a - b:.3f}" for a, b in zip(found[TRANSFERRED], found[best], strict=True)]
        for name, closures in found.items():
            mean, per_seed = sum(closures) / len(closures), " ".join(ahead) if name == TRANSFERRED else ""
            writer.writerow([options.claim, kind, seeds[-1][0], name, f"{mean:.3f}", per_seed])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
