"""`abi verify --against`: the results of a scale beside those of another run, leaf by leaf (standard library only)."""

import re
from pathlib import Path
from typing import Any

from abi.audit.results.checkout import REFERENCE, Scale, read_result, result_paths
from abi.audit.results.findings import DIFFERS, NOTE, Finding, differences, is_number, show
from abi.base.errors import DataError

NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")
IDENTITIES = ("sha256", "vocabulary", "revision")


def other_folder(against: str, scale: Scale) -> Path:
    """Return the folder to compare with: `reference`, or a folder that holds the scale's files or its folder.

    Raises: DataError: no result file is there.
    """
    name = scale.folder.name
    places = [Path("results") / REFERENCE / name] if against == REFERENCE else [Path(against) / name, Path(against)]
    for place in places:
        if result_paths(place):
            return place
    remedy = f"commit one by `abi docs --adopt {name}`" if against == REFERENCE else "name the folder of a run"
    raise DataError(f"{places[0]}: holds no result file to compare {scale.folder} with; {remedy}")


def compare(scale: Scale, against: str, tolerance: float) -> None:
    """Add to `scale` every leaf in which its results differ from those of another run.

    Verdict words must be equal, numbers within the tolerance (relative; smaller differences are notes). Sentences are
    compared without their numbers, which have leaves of their own; hashes of weights are notes: they name a machine's bits.
    """
    folder = other_folder(against, scale)
    others = {path.name: read_result(path, scale.findings) for path in result_paths(folder)}
    equal, within, beyond = 0, 0, 0
    for name, result in scale.results.items():
        file = Path(scale.files[name]).name
        other = others.pop(file, None)
        if other is None:
            scale.findings.append(
                Finding(DIFFERS, scale.files[name], "", f"{folder} has no such file that can be read")
            )
            beyond += 1
            continue
        for leaf, a, b, relative in differences(kept(result), kept(other), tolerance=0.0):
            far = relative > tolerance and not any(word in leaf for word in IDENTITIES)
            size = f"relative {relative:.2g}" if is_number(a) and is_number(b) else "another value"
            sentence = f"{show(a)} here, {show(b)} in {folder} ({size})"
            scale.findings.append(Finding(DIFFERS if far else NOTE, scale.files[name], leaf, sentence))
            within, beyond = within + (not far), beyond + far
        equal += 1
    for file in others:
        scale.findings.append(Finding(NOTE, str(folder / file), "", f"has no counterpart in {scale.folder}"))
    scale.compared = {
        "folder": str(folder),
        "tolerance": tolerance,
        "results": equal,
        "within": within,
        "beyond": beyond,
    }


def kept(result: dict[str, Any]) -> Any:
    """Return a result without what names a run (provenance, seconds, hashes of a ladder's rungs), numbers in sentences masked."""
    rest = {key: value for key, value in result.items() if key != "provenance"}
    if "rungs" in rest:
        rest["rungs"] = [{key: value for key, value in rung.items() if key != "sha256"} for rung in rest["rungs"]]
    return _kept(rest, "")


def _kept(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return {name: _kept(value, name) for name, value in node.items() if name != "elapsed_s"}
    if isinstance(node, list):
        return [_kept(value, key) for value in node]
    return NUMBER.sub("#", node) if key in ("reason", "sentence") and isinstance(node, str) else node
