"""`abi verify --recompute`: figures and verdict again from the evidence, by the code that made them (numpy, pandas)."""

import zlib
from pathlib import Path

from pydantic import ValidationError

from abi.audit.results.checkout import Scale, worded
from abi.audit.results.findings import CLOSE, NOTE, STALE, TAMPERED, Checks, count_numbers, differences, show
from abi.audit.results.places import page_paths
from abi.audit.results.reading import ResultFile
from abi.audit.results.records import made_by
from abi.audit.results.relations import RULES, other_version
from abi.audit.results.staleness import stale
from abi.base.errors import AbiError
from abi.base.files import Json
from abi.base.job import hardware, versions
from abi.base.typed import Document, Provenance, fault
from abi.judge import judgement
from abi.plan.config import load
from abi.plan.specs.arms import CalibrateArms, ChooseRates, EvaluateArms
from abi.plan.specs.judge import JudgeClaim
from abi.plan.specs.models import TrainModules
from abi.plan.workflow import Workflow

FIGURES = ("python", "numpy", "scipy", "pandas")
FOLDERS = ("lora", "rates", "fits", "calibration", "backbones", "updates", "generation", "alignments", "overlaps")
STAGES = {name: name for name in FOLDERS}
STAGES |= {"evidence": "manifests", "corpus": "texts"}
"""Folder of a run -> name of such inputs of a verdict. Modules are named by their role; other files are rungs."""
SPECS = dict(RULES.values())
"""Rule that judges -> the model of its spec."""
DAMAGED = (ValueError, KeyError, TypeError, IndexError, StopIteration, OSError, EOFError, zlib.error)


def recompute(scale: Scale, root: Path) -> None:
    """Add to `scale` every leaf of its result files that the evidence does not give, and what is stale.

    Args: root: folder that holds `config/`.
    """
    for name, file in scale.results.items():
        try:
            _recompute(scale, name, file)
        except AbiError as error:
            scale.add(TAMPERED, file.path, "", f"cannot be judged again: {error}")
        except ValidationError as error:
            scale.add(TAMPERED, file.path, "", f"cannot be judged again: {fault(error)}")
        except DAMAGED as error:
            words = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            scale.add(TAMPERED, file.path, "", f"cannot be judged again from its evidence ({words})")
    _staleness(scale, root)


def _recompute(scale: Scale, name: str, file: ResultFile) -> None:
    made = file.result.provenance
    if other_version(made.spec, file.result.protocol):
        return  # said where the file was read
    absent = [path for path in made.inputs if not Path(path).is_file()]
    if absent:
        rest = len(absent) - 1
        scale.add(NOTE, file.path, "", f"is not recomputed: {absent[0]} and {rest} other inputs are not here")
        return
    if made.rule == "judge_claim":
        _manifests_agree(scale, file)
    again = judged_again(made)
    exact = same_machine(made)
    if not exact:
        here = versions()
        other = [f"{n} {made.versions.get(n)}" for n in FIGURES if made.versions.get(n) != here[n]]
        words = f"made elsewhere ({', '.join(other) or 'another machine'}): compared to 1e-9"
        scale.add(NOTE, file.path, "provenance/versions", words)
    kind = "bit for bit" if exact else "to 1e-9"
    figures = {key: value for key, value in again.items() if key != "provenance"}
    checks = Checks(str(file.path))
    for leaf, a, b, relative in differences(file.figures, figures, tolerance=0.0 if exact else CLOSE):
        checks.add(leaf, f"{show(a)} is stored, the evidence gives {show(b)} (relative {relative:.2g}, {kind})")
    scale.findings += worded(checks.found, made)
    scale.recomputed[name] = count_numbers(figures)


def judged_again(made: Provenance) -> dict[str, Json]:
    """Return the result file that the job of a provenance block gives from the inputs of now."""
    spec = SPECS[made.rule].model_validate(made.spec)
    result: Document = getattr(judgement, made.rule)(spec, inputs_of(made), lambda: made)
    return result.file()


def inputs_of(made: Provenance) -> dict[str, list[str]]:
    """Return the named inputs of a verdict from the paths of its provenance; `wrong` is a source of another text."""
    named: dict[str, list[str]] = {name: [] for name in ("evidence", "draws", "rungs", *STAGES.values())}
    for path in made.inputs:
        parts = Path(path).parts
        if path.endswith(".csv.gz"):
            named["draws" if path.endswith(".draws.csv.gz") else "evidence"].append(path)
        elif "modules" in parts:
            wrong = parts[-2] == "source" and parts[-4] != made.spec["claim"].get("text")
            named.setdefault("wrong" if wrong else parts[-2], []).append(path)
        else:
            named[next((name for stage, name in STAGES.items() if stage in parts), "rungs")].append(path)
    return named


def same_machine(made: Provenance) -> bool:
    """Return whether figures must come out bit for bit: the same packages on the same kind of processor."""
    here, now, told = hardware(), versions(), made.hardware
    machine = (told.machine, told.system, told.cpu) == (here.machine, here.system, here.cpu)
    return machine and all(made.versions.get(name) == now[name] for name in FIGURES)


def _manifests_agree(scale: Scale, file: ResultFile) -> None:
    """Name every leaf of the stored spec that the manifests of what was really made contradict."""
    spec = JudgeClaim.model_validate(file.result.provenance.spec)
    for path in file.result.provenance.inputs:
        told = _told_twice(spec, Path(path)) if path.endswith(".json") else {}
        for leaf, (stored, real) in told.items():
            for at, a, b, _ in differences(stored, real, tolerance=0.0):
                place = f"provenance/spec/{leaf}/{at}".rstrip("/")
                scale.add(TAMPERED, file.path, place, f"{show(a)} is stored, {path} was made with {show(b)}")


def _told_twice(spec: JudgeClaim, path: Path) -> dict[str, tuple[Json, Json]]:
    """Return leaf of a claim's spec -> its value, and that in the spec that a manifest was made with."""
    made, claim, parts = made_by(path).spec, spec.claim, path.parts
    if "backbones" in parts:
        pair = {"source": (claim.source, spec.backbones.source), "target": (claim.target, spec.backbones.target)}
        return {f"backbones/{role}": (own.plain(), made) for role, (name, own) in pair.items() if name == path.stem}
    if "evidence" in parts:
        return {"claim/regime": (claim.regime, EvaluateArms.model_validate(made).regime)}
    if "modules" in parts and made.get("name") == claim.module:  # a portable module has another shape
        phases = TrainModules.model_validate(made).module.training.phases
        return {"training_steps": (spec.training_steps, sum(phase.steps for phase in phases))}
    if "rates" in parts:
        return {"budget/rates": (spec.budget and spec.budget.rates, ChooseRates.model_validate(made).budget.rates)}
    if "calibration" in parts:
        fits = CalibrateArms.model_validate(made)
        keys = ("regime", "fit", "text", "variants")
        told = {f"claim/{key}": (getattr(claim, key), getattr(fits, key)) for key in keys}
        return told | {
            "budget": (spec.budget and spec.budget.plain(), fits.budget.plain()),
            "d_abi": (spec.d_abi, fits.module.d_abi),
        }
    return {}


def _staleness(scale: Scale, root: Path) -> None:
    """Name what is not as `config/` and the code say now; a committed reference is compared with config only."""
    try:
        workflow = Workflow(load(scale.folder.name, root))
    except AbiError as error:
        scale.add(STALE, scale.folder, "", f"is no scale of config/ now ({error})")
        return
    for name, file in scale.results.items():
        if name not in workflow.config.every():
            scale.add(STALE, file.path, "claim/id", f"{name} is no claim of config/claims.yaml now")
            continue
        for leaf, words in stale(workflow, name, file.result.provenance):
            if not (scale.is_reference and leaf.startswith("provenance/inputs")):
                scale.add(STALE, file.path, leaf, words)
    for page in page_paths(scale.folder):
        _stale_page(scale, workflow, page)


def _stale_page(scale: Scale, workflow: Workflow, page: Path) -> None:
    """Name what of a page's spec is not as `config/` says now."""
    try:
        spec = made_by(page).spec
    except AbiError:
        return
    for leaf, *_ in differences(spec, workflow.page_spec(page.stem), tolerance=0.0):
        scale.add(STALE, page, f"provenance/spec/{leaf}", f"{leaf.rpartition('/')[2]} changed in config")
