"""`abi verify --against`: the results of a scale beside those of another run, leaf by leaf."""

import re
from collections.abc import Mapping
from pathlib import Path

from abi.audit.results.checkout import Compared, Scale
from abi.audit.results.findings import DIFFERS, NOTE, differences, is_number, show
from abi.audit.results.places import REFERENCE, result_paths
from abi.audit.results.reading import read_result
from abi.base.errors import DataError
from abi.base.files import Json

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
    compared without their numbers, which have leaves of their own. Hashes of weights name a machine's bits: notes.
    """
    folder = other_folder(against, scale)
    others = {path.name: read_result(path, scale.findings) for path in result_paths(folder)}
    scale.compared = Compared(str(folder), tolerance)
    for file in scale.results.values():
        other = others.pop(file.path.name, None)
        if other is None:
            scale.add(DIFFERS, file.path, "", f"{folder} has no such file that can be read")
            scale.compared.beyond += 1
            continue
        for leaf, a, b, relative in differences(kept(file.figures), kept(other.figures), tolerance=0.0):
            far = relative > tolerance and not any(word in leaf for word in IDENTITIES)
            size = f"relative {relative:.2g}" if is_number(a) and is_number(b) else "another value"
            scale.add(DIFFERS if far else NOTE, file.path, leaf, f"{show(a)} here, {show(b)} in {folder} ({size})")
            scale.compared.within += not far
            scale.compared.beyond += far
        scale.compared.results += 1
    for name in others:
        scale.add(NOTE, folder / name, "", f"has no counterpart in {scale.folder}")


def kept(figures: Mapping[str, Json]) -> Json:
    """Return a result's figures without what names a run (seconds, hashes of rungs), numbers in sentences masked."""
    rest = dict(figures)
    if "rungs" in rest:
        rest["rungs"] = [{key: value for key, value in rung.items() if key != "sha256"} for rung in rest["rungs"]]
    return _kept(rest, "")


def _kept(node: Json, key: str) -> Json:
    if isinstance(node, dict):
        return {name: _kept(value, name) for name, value in node.items() if name != "elapsed_s"}
    if isinstance(node, list):
        return [_kept(value, key) for value in node]
    return NUMBER.sub("#", node) if key in ("reason", "sentence") and isinstance(node, str) else node
