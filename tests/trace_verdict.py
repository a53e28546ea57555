"""List the files of the package that run between stored states and a verdict word: `python tests/trace_verdict.py [CLAIM]`.

Run it where `results/smoke` has been built. The job of evaluation and the job of the verdict are run again, writing to a
temporary folder, and every file of `abi/` in which a function ran is counted.
"""

import importlib
import inspect
import json
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path.cwd()
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Print how many files ran, and which."""
    claim = sys.argv[1] if len(sys.argv) > 1 else "t5_to_gpt2"
    old = (ROOT / "abi" / "stages").exists()
    names = ("evidence_of_claim", "verdict") if old else ("evaluate_arms", "judge_claim")
    steps = [importlib.import_module(f"abi.{'stages' if old else 'steps'}.{name}") for name in names]
    specs_of = importlib.import_module("abi.specs" if old else "abi.plan.workflow")
    study = getattr(specs_of, "Study" if old else "Workflow")
    load = importlib.import_module("abi.config" if old else "abi.plan.config").load
    job = importlib.import_module("abi.provenance" if old else "abi.base.job")
    jobs = study(load("smoke"))
    [batch] = jobs.batches("evaluation", jobs.config.closed_form_seeds(claim))[:1]
    seen: dict[str, int] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        ran = (
            event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED
        )  # functions, not bodies of modules and classes
        if ran and path.startswith(str(ROOT / "abi")):
            seen[path] = seen.get(path, 0) + 1

    with tempfile.TemporaryDirectory() as folder:
        if old:
            specs = [jobs.evaluation_spec(claim, batch), jobs.verdict_spec(claim)]
            inputs = [jobs.evaluation_input(claim, batch), jobs.verdict_input(claim)]
        else:
            own = jobs.of(claim)
            specs = [own.evidence_spec(batch), own.verdict_spec()]
            inputs = [own.evidence_input(batch), own.verdict_input()]
        outputs = [
            {"evidence": f"{folder}/e.csv.gz", "draws": f"{folder}/e.draws.csv.gz", "manifest": f"{folder}/e.json"},
            {"result": f"{folder}/result.json"},
        ]
        for step, spec, given, made in zip(steps, specs, inputs, outputs, strict=True):
            model = getattr(step, "Spec", None)
            typed = spec if model is None else model.model_validate(spec)
            paths = [p for value in given.values() for p in ([value] if isinstance(value, str) else value)]
            running = job.Job(step.__name__, typed, "0", [p for p in paths if p.endswith(".json")], 1)
            sys.setprofile(note)
            step.run(running, given, made)
            sys.setprofile(None)
        verdict = json.loads(Path(f"{folder}/result.json").read_text(encoding="utf-8"))["verdict"]
    print(f"{claim}: {verdict}; functions of {len(seen)} files ran")
    for path in sorted(seen):
        print(f"  {Path(path).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
