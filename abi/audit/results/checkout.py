"""The results of a checkout: which there are, are they readable and valid, do hashes and figures agree (no numpy)."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abi.audit.results.figures import check_result, check_summary
from abi.audit.results.findings import CODES, NOTE, STALE, TAMPERED, UNREADABLE, Checks, Finding, count_numbers, parse
from abi.audit.results.rungs import Rung, check_ladder
from abi.audit.results.several import check_study
from abi.base.digest import code_digest
from abi.base.errors import AbiError, DataError
from abi.base.files import result_kind, sha256_file, validator
from abi.base.names import ASIDE, PAGES
from abi.judge.evidence_files import kept
from abi.judge.published import figures_of
from abi.report.tables import markdown, terminal

REFERENCE = "reference"
EVIDENCE = "evidence"  # folder under results/<scale>


@dataclass
class Scale:
    """The result files of one folder: claim id -> document, what was found in them, and counts."""

    folder: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, int] = field(default_factory=lambda: {"matching": 0, "differing": 0, "absent": 0})
    numbers: int = 0
    checked: int = 0
    recomputed: dict[str, int] = field(default_factory=dict)
    compared: dict[str, Any] = field(default_factory=dict)

    @property
    def is_reference(self) -> bool:
        """Return whether this is a committed snapshot: its inputs were another run's and are not here."""
        return self.folder.parent.name == REFERENCE

    def code(self) -> int:
        """Return the exit code of what was found."""
        return max((CODES[finding.kind] for finding in self.findings), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {
            "verdicts": {name: result.get("verdict") for name, result in self.results.items()},
            "files": self.files, "numbers": self.numbers, "relations": self.checked, "hashes": self.hashes,
            "recomputed": self.recomputed, "compared": self.compared,
            "findings": [vars(finding) for finding in self.findings],
        }  # fmt: skip


def folders(root: Path = Path("results")) -> list[Path]:
    """Return the folders that hold result files: results/<scale> and results/reference/<scale>."""
    places = [*sorted(root.glob("*")), *sorted((root / REFERENCE).glob("*"))]
    return [place for place in places if place.is_dir() and (result_paths(place) or page_paths(place))]


def result_paths(folder: Path) -> list[Path]:
    """Return the result files of a folder."""
    return [path for path in sorted(folder.glob("*.json")) if path.name not in ASIDE]


def page_paths(folder: Path) -> list[Path]:
    """Return the pages of a folder that count its claims, as JSON."""
    return [path for path in (folder / f"{page}.json" for page in PAGES) if path.exists()]


def read_result(path: Path, found: list[Finding]) -> dict[str, Any] | None:
    """Return the result file of a claim or of a ladder, by its `format`; None as `read`."""
    return read(path, None, found)


def read(path: Path, kind: str | None, found: list[Finding]) -> dict[str, Any] | None:
    """Return a JSON document of a schema; None if it cannot be used, with the reasons added to `found`.

    Args: kind: the schema; None: that of a result file with this `format`.
    """
    try:
        document = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        found.append(Finding(UNREADABLE, str(path), "", f"cannot be read ({error}); delete it and rebuild it"))
        return None
    except DataError as error:
        found.append(Finding(UNREADABLE, str(path), "", str(error).removeprefix(f"{path}: ")))
        return None
    faults = [
        Finding(
            TAMPERED,
            str(path),
            "/".join(str(part) for part in error.absolute_path),
            f"breaks its schema: {error.message[:120]}",
        )
        for error in validator(kind or result_kind(document)).iter_errors(document)
    ]
    found += faults
    return None if faults else document


def verified(folder: Path, only: Sequence[str] = ()) -> Scale:
    """Return what a folder's result files say about themselves, their inputs and their summary.

    Args: only: claim ids to look at; all if empty.
    """
    scale = Scale(folder)
    everything: dict[str, dict[str, Any]] = {}
    paths: dict[str, Path] = {}
    for path in result_paths(folder):
        document = read_result(path, scale.findings)
        if document is not None:
            name = str(document["claim"].get("id"))
            everything[name], paths[name] = document, path
    beside = {name: Rung(everything[name], sha256_file(path)) for name, path in paths.items()}
    for name, document in everything.items():
        if not only or name in only or _belongs(document, only):
            scale.results[name], scale.files[name] = document, str(paths[name])
            _check_file(scale, document, paths[name], beside)
    for page in page_paths(folder):
        _check_page(scale, page, everything)
    return scale


def _belongs(document: Mapping[str, Any], only: Sequence[str]) -> bool:
    """Return whether a result is of one of some claims: by their id in the record, or another regime of theirs."""
    claim = document["claim"]
    return claim.get("of") in only or claim.get("record", {}).get("claim") in only


def _check_file(scale: Scale, document: dict[str, Any], path: Path, beside: Mapping[str, Rung]) -> None:
    checks = Checks(str(path))
    known = published(document, checks)
    kind = result_kind(document)
    if kind == "ladder":
        check_ladder(checks, document, beside, known)
    elif kind == "study":
        check_study(checks, document, known)
    else:
        check_result(checks, document, known)
    checks.equal("scale", document["scale"], scale.folder.name, "the folder")
    expected = document["claim"].get("record", {}).get("result_file")
    checks.equal("claim/record/result_file", expected, path.name, "the file's name")
    scale.findings += checks.found
    scale.numbers += count_numbers({key: value for key, value in document.items() if key != "provenance"})
    scale.checked += checks.n_checked
    _check_hashes(scale, str(path), document["provenance"]["inputs"])


def published(document: Mapping[str, Any], checks: Checks) -> dict[str, Any] | None:
    """Return what the record says of a result's claim now; None (and a note) if it cannot be read."""
    claim = document["claim"].get("record", {}).get("claim")
    if claim is None:
        return {}
    try:
        return _figures_of(claim)
    except AbiError as error:
        checks.add("record", f"cannot be compared with config/record ({error})", NOTE)
        return None


@functools.cache
def _figures_of(claim: str) -> dict[str, Any]:
    return figures_of(claim)


def _check_hashes(scale: Scale, file: str, inputs: Mapping[str, str], prefix: str = "provenance/inputs") -> None:
    """Compare the hash of every input that is here; follow JSON manifests to the manifests they were made from."""
    if scale.is_reference:
        scale.hashes["absent"] += len(inputs)
        return
    for name, stored in inputs.items():
        if not Path(name).is_file():
            scale.hashes["absent"] += 1
            if EVIDENCE in Path(name).parts:
                scale.findings.append(Finding(NOTE, name, "", f"is missing; {file} rests on it"))
            continue
        same = sha256_file(name) == stored
        scale.hashes["matching" if same else "differing"] += 1
        if not same:
            sentence = f"is not the file that {file} was made from (leaf {prefix}/{name}): altered, or rebuilt alone"
            scale.findings.append(Finding(TAMPERED, name, "", sentence))
        if name.endswith(".json"):
            _check_manifest(scale, name)
        if name.endswith(".json") and EVIDENCE in Path(name).parts:
            _check_evidence(scale, name)


def _check_evidence(scale: Scale, name: str) -> None:
    """Compare the hashes that a manifest of evidence promises with the files beside it."""
    promise = read(Path(name), "evidence", scale.findings)
    if promise is None:
        return
    for path, same in kept(name, promise).items():
        if same is False:
            scale.findings.append(Finding(TAMPERED, str(path), "", f"is not the file that {name} promises"))


def _check_manifest(scale: Scale, name: str) -> None:
    """Compare the hashes that a manifest holds of the small files (manifests, evidence) it was made from."""
    try:
        inputs = parse(Path(name).read_text(encoding="utf-8"), name)["provenance"]["inputs"]
        small = {path: digest for path, digest in inputs.items() if path.endswith(".json") and path != name}
    except (AbiError, OSError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        scale.findings.append(Finding(UNREADABLE, name, "", f"is no manifest ({error}); delete it and rebuild it"))
        return
    for path, digest in small.items():
        if Path(path).is_file() and sha256_file(path) != digest:
            finding = Finding(
                TAMPERED, path, "", f"is not the file that {name} was made from: altered, or rebuilt alone"
            )
            scale.findings += [] if finding in scale.findings else [finding]


def _check_page(scale: Scale, path: Path, results: Mapping[str, dict[str, Any]]) -> None:
    """Check a page that counts claims: its words and counts, the hashes of its inputs, its lines."""
    summary = read(path, "summary", scale.findings)
    if summary is None:
        return
    checks = Checks(str(path))
    try:
        check_summary(checks, summary, _listed(path, summary, results))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        checks.add("", f"lacks a figure or holds one of another kind ({error!r})")
    scale.findings += checks.found
    scale.checked += checks.n_checked
    _check_hashes(scale, str(path), {k: v for k, v in summary["provenance"]["inputs"].items()}, "provenance/inputs")
    if not checks.found and not scale.findings:
        _check_texts(scale, path, summary, results)


def _listed(path: Path, summary: Mapping[str, Any], results: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the results a page must list: the summary every one, the headline those it counts."""
    if path.stem == "summary":
        return dict(results)
    return {name: results[name] for name in summary["provenance"]["spec"]["counted"]}


def _check_texts(scale: Scale, page: Path, summary: Mapping[str, Any], results: Mapping[str, dict[str, Any]]) -> None:
    """Compare the Markdown and the text of a page with what the result files give, line by line."""
    ordered = [results[name] for name in summary["verdicts"]]
    sentence = summary["headline"]["sentence"]
    for suffix, make in ((".md", markdown), (".txt", terminal)):
        path = page.with_suffix(suffix)
        if not path.is_file():
            continue
        stored, expected = (
            path.read_text(encoding="utf-8", errors="replace").splitlines(),
            make(ordered, sentence).splitlines(),
        )
        if stored == expected:
            continue
        i = next(
            (i for i, (a, b) in enumerate(zip(stored, expected, strict=False)) if a != b),
            min(len(stored), len(expected)),
        )
        current = summary["provenance"]["code"] == code_digest("scripts/summarise.py")
        sentence_of = f"line {i + 1} is not what the result files give" + (
            "" if current else " (it was written by other code)"
        )
        scale.findings.append(Finding(TAMPERED if current else STALE, str(path), f"line {i + 1}", sentence_of))
