"""`abi verify --recompute`: figures and verdict again from the evidence, by the code that made them (numpy, pandas)."""

import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.audit.results.checkout import Scale, page_paths
from abi.audit.results.findings import CLOSE, NOTE, STALE, TAMPERED, Finding, count_numbers, differences, parse, show
from abi.audit.results.staleness import stale
from abi.base.errors import AbiError
from abi.base.job import Job, hardware, versions
from abi.plan.config import load
from abi.plan.transfers import Study
from abi.steps import judge_claim, judge_ladder, judge_study

FIGURES = ("python", "numpy", "scipy", "pandas")


class Replay(Job):
    """A job that judges again from a stored spec; its provenance is the stored one."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        super().__init__(stored["rule"], stored["spec"], stored["code"], list(stored["inputs"]), stored["threads"])
        self.stored = dict(stored)

    def provenance(self) -> dict[str, Any]:
        """Return the stored provenance."""
        return self.stored


def recompute(scale: Scale, root: Path) -> None:
    """Add to `scale` every leaf of its result files that the evidence does not give, and what is stale.

    Args: root: folder that holds `config/`.
    """
    for name, result in scale.results.items():
        try:
            _recompute(scale, name, result)
        except AbiError as error:
            _add(scale, name, TAMPERED, "", f"cannot be judged again: {error}")
        except (ValueError, KeyError, TypeError, IndexError, StopIteration, OSError, EOFError, zlib.error) as error:
            words = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            _add(scale, name, TAMPERED, "", f"cannot be judged again from its evidence ({words})")
    _staleness(scale, root)


def _recompute(scale: Scale, name: str, result: dict[str, Any]) -> None:
    provenance = result["provenance"]
    absent = [path for path in provenance["inputs"] if not Path(path).is_file()]
    if absent:
        _add(scale, name, NOTE, "", f"is not recomputed: {absent[0]} and {len(absent) - 1} other inputs are not here")
        return
    if provenance["rule"] == "judge_claim":
        _manifests_agree(scale, name, provenance)
    again = judged_again(provenance)
    tolerance = 0.0 if same_machine(provenance) else CLOSE
    if not tolerance:
        kind = "bit for bit"
    else:
        kind = "to 1e-9"
        other = [
            f"{n} {provenance['versions'].get(n)}" for n in FIGURES if provenance["versions"].get(n) != versions()[n]
        ]
        _add(
            scale,
            name,
            NOTE,
            "provenance/versions",
            f"made elsewhere ({', '.join(other) or 'another machine'}): compared to 1e-9",
        )
    for leaf, a, b, relative in differences(result, again, tolerance=tolerance):
        if not leaf.startswith("provenance/"):
            _add(
                scale,
                name,
                TAMPERED,
                leaf,
                f"{show(a)} is stored, the evidence gives {show(b)} (relative {relative:.2g}, {kind})",
            )
    scale.recomputed[name] = count_numbers({key: value for key, value in again.items() if key != "provenance"})


def judged_again(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result file that the job of a provenance block writes from the inputs of now."""
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/result.json"
        if provenance["rule"] == "judge_ladder":
            alignments = [path for path in provenance["inputs"] if "alignments" in Path(path).parts]
            rungs = [path for path in provenance["inputs"] if path not in alignments]
            judge_ladder.run(Replay(provenance), {"rungs": rungs, "alignments": alignments}, {"result": target})
        elif provenance["rule"] == "judge_study":
            judge_study.run(Replay(provenance), inputs_of_study(provenance["inputs"]), {"result": target})
        else:
            inputs = inputs_of(provenance["inputs"], provenance["spec"]["claim"]["text"])
            judge_claim.run(Replay(provenance), inputs, {"result": target})
        return parse(Path(target).read_text(encoding="utf-8"), target)


def rows_kind(path: str) -> str | None:
    """Return which input of a verdict a file of evidence is: `draws`, `evidence` or `manifests`; None for any other file."""
    if path.endswith(".draws.csv.gz"):
        return "draws"
    if path.endswith(".csv.gz"):
        return "evidence"
    return "manifests" if "evidence" in Path(path).parts else None


def inputs_of(paths: Mapping[str, str], text: str) -> dict[str, list[str]]:
    """Return the named inputs of a verdict from the paths that its provenance lists; `wrong` is a source of another text."""
    named: dict[str, list[str]] = {"evidence": [], "draws": [], "manifests": [], "calibration": [], "backbones": []}
    for path in paths:
        parts = Path(path).parts
        if kind := rows_kind(path):
            named[kind].append(path)
        elif "lora" in parts:
            named.setdefault("lora", []).append(path)
        elif "modules" in parts:
            wrong = parts[-2] == "source" and parts[-4] != text
            named.setdefault("wrong" if wrong else parts[-2], []).append(path)
        else:
            named["calibration" if "calibration" in parts else "backbones"].append(path)
    return named


def inputs_of_study(paths: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the named inputs of the verdict of a claim made of several studies from the paths that its provenance lists."""
    named: dict[str, list[str]] = {"evidence": [], "draws": [], "manifests": []}
    for path in paths:
        parts = Path(path).parts
        if kind := rows_kind(path):
            named[kind].append(path)
        elif "updates" in parts or "generation" in parts:
            named.setdefault("updates" if "updates" in parts else "generation", []).append(path)
    return named


def same_machine(provenance: Mapping[str, Any]) -> bool:
    """Return whether figures must come out bit for bit: the same packages on the same kind of processor."""
    here, now = hardware(), versions()
    machine = all(provenance["hardware"].get(key) == here[key] for key in ("machine", "system", "cpu"))
    return machine and all(provenance["versions"].get(name) == now[name] for name in FIGURES)


def _manifests_agree(scale: Scale, name: str, provenance: Mapping[str, Any]) -> None:
    """Name every leaf of the stored spec that the manifests of what was really made contradict."""
    spec = provenance["spec"]
    roles: dict[str, list[str]] = {}
    for role in ("source", "target"):
        roles.setdefault(spec["claim"][role], []).append(role)
    for path in provenance["inputs"]:
        parts = Path(path).parts
        made = (
            parse(Path(path).read_text(encoding="utf-8"), path)["provenance"]["spec"] if path.endswith(".json") else {}
        )
        expected: dict[str, tuple[Any, Any]] = {}
        if "backbones" in parts:
            expected = {f"backbones/{role}": (spec["backbones"][role], made) for role in roles.get(Path(path).stem, ())}
        elif "evidence" in parts and made:
            expected = {"claim/regime": (spec["claim"]["regime"], made["regime"])}
        elif "calibration" in parts:
            expected = {f"claim/{key}": (spec["claim"][key], made[key]) for key in ("regime", "fit", "text")}
            expected["claim/variants"] = (spec["claim"].get("variants", []), made["variants"])
            expected |= {"budget": (spec["budget"], made["budget"]), "d_abi": (spec["d_abi"], made["module"]["d_abi"])}
        elif "modules" in parts and made["name"] == spec["claim"]["module"]:
            steps = sum(phase["steps"] for phase in made["module"]["training"]["phases"])
            expected = {"training_steps": (spec["training_steps"], steps)}
        for leaf, (stored, real) in expected.items():
            for at, a, b, _ in differences(stored, real, tolerance=0.0):
                place = f"provenance/spec/{leaf}/{at}".rstrip("/")
                _add(scale, name, TAMPERED, place, f"{show(a)} is stored, {path} was made with {show(b)}")


def _staleness(scale: Scale, root: Path) -> None:
    """Name what is not as `config/` and the code say now; a committed reference is compared with config only."""
    try:
        study = Study(load(scale.folder.name, root))
    except AbiError as error:
        scale.findings.append(Finding(STALE, str(scale.folder), "", f"is no scale of config/ now ({error})"))
        return
    for name, result in scale.results.items():
        if name not in study.config.every():
            _add(scale, name, STALE, "claim/id", f"{name} is no claim of config/claims.yaml now")
            continue
        for leaf, words in stale(study, name, result):
            if not (scale.is_reference and leaf.startswith("provenance/inputs")):
                _add(scale, name, STALE, leaf, words)
    for page in page_paths(scale.folder):
        _stale_page(scale, study, page)


def _stale_page(scale: Scale, study: Study, page: Path) -> None:
    """Name what of a page's spec is not as `config/` says now."""
    try:
        spec = parse(page.read_text(encoding="utf-8"), str(page))["provenance"]["spec"]
    except (AbiError, OSError, UnicodeDecodeError, KeyError, TypeError):
        return
    for leaf, *_ in differences(spec, study.page_spec(page.stem), tolerance=0.0):
        words = f"{leaf.rpartition('/')[2]} changed in config"
        scale.findings.append(Finding(STALE, str(page), f"provenance/spec/{leaf}", words))


def _add(scale: Scale, name: str, kind: str, leaf: str, sentence: str) -> None:
    finding = Finding(kind, scale.files[name], leaf, sentence)
    if finding not in scale.findings:
        scale.findings.append(finding)
