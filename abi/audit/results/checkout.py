"""The results of a checkout: are they readable and valid, do hashes and figures agree, also with another run's."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from abi.audit.record.data import Item
from abi.audit.record.documents import judge_documents
from abi.audit.record.judgement import items_of
from abi.audit.results.agreement import TOLERANCE, Agreed, agreed, together
from abi.audit.results.carried import WORDS
from abi.audit.results.findings import (
    CODES,
    DIFFERS,
    NOTE,
    STALE,
    TAMPERED,
    UNREADABLE,
    Checks,
    Finding,
    count_numbers,
)
from abi.audit.results.places import EVIDENCE, REFERENCE, altered, page_paths, result_paths
from abi.audit.results.reading import ResultFile, read, read_result
from abi.audit.results.records import made_by
from abi.audit.results.relations import Known, check_page, check_result, other_version, version_of
from abi.base.digest import code_digest
from abi.base.errors import DataError
from abi.base.files import Json, sha256_file
from abi.base.job import code_of, step_of
from abi.base.manifests.evidence import EvidenceManifest
from abi.base.manifests.pages import Summary
from abi.base.typed import Provenance, seal_of
from abi.judge.evidence_files import kept
from abi.judge.published import Record, default_root, figures_in, load_record
from abi.judge.results import AnyResult, PublishedFigure

AGAIN = "the next run of all claims writes it again"
Render = Callable[[Sequence[AnyResult], str], Mapping[str, str]]
"""Makes the pages of some results and their headline: file name (of any stem) -> text."""


@dataclass
class Compared:
    """What a comparison with another run came to, by claim.

    Args: others: the other run's result files, also of claims that are not here; tolerance: of an arm's figure.
    """

    folder: str
    others: Mapping[str, ResultFile]
    tolerance: float
    claims: dict[str, Agreed] = field(default_factory=dict)

    def words(self) -> str:
        """Return in one line whether the other run was reproduced."""
        return together(self.claims)

    def as_dict(self) -> dict[str, Json]:
        """Return plain data for `--json`."""
        return {"folder": self.folder, "claims": {name: asdict(found) for name, found in self.claims.items()}}


@dataclass
class Scale:
    """The result files of one folder by claim id, what was found in them, and counts."""

    folder: Path
    results: dict[str, ResultFile] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, int] = field(default_factory=lambda: {"matching": 0, "differing": 0, "absent": 0})
    numbers: int = 0
    checked: int = 0
    recomputed: dict[str, int] = field(default_factory=dict)
    compared: Compared | None = None

    @property
    def is_reference(self) -> bool:
        """Return whether this is a committed snapshot: its inputs were another run's and are not here."""
        return self.folder.parent.name == REFERENCE

    @property
    def unchecked(self) -> str:
        """The kind of finding where figures cannot be checked: a run's are old, committed ones have to be checked."""
        return UNREADABLE if self.is_reference else STALE

    def add(self, kind: str, file: str | Path, leaf: str, sentence: str) -> None:
        """Add a finding, once."""
        finding = Finding(kind, str(file), leaf, sentence)
        if finding not in self.findings:
            self.findings.append(finding)

    def code(self) -> int:
        """Return the exit code of what was found."""
        return max((CODES[finding.kind] for finding in self.findings), default=0)

    def as_dict(self) -> dict[str, Json]:
        """Return plain data for `--json`."""
        return {
            "verdicts": {name: file.result.verdict for name, file in self.results.items()},
            "files": {name: str(file.path) for name, file in self.results.items()},
            "numbers": self.numbers,
            "relations": self.checked,
            "hashes": self.hashes,
            "recomputed": self.recomputed,
            "compared": {} if self.compared is None else self.compared.as_dict(),
            "findings": [finding.as_dict() for finding in self.findings],
        }


def published() -> Known:
    """Return what tells of a claim what was published and what the audit says of it; the record is read once."""

    @functools.cache
    def read() -> tuple[Record, list[Item]]:
        record = load_record(default_root())
        return record, judge_documents(record)

    @functools.cache
    def known(claim: str) -> dict[str, PublishedFigure]:
        items, figures = items_of(*read(), claim), figures_in(read()[0], claim)
        told = {name: {"state": items[name].state, "reason": items[name].reason} for name in figures}
        return {name: figure.model_copy(update=told[name]) for name, figure in figures.items()}

    return known


def verified(folder: Path, known: Known, only: Sequence[str] = (), render: Render | None = None) -> Scale:
    """Return what a folder's result files say about themselves, their inputs and their summary.

    Args: known: the published record; only: claim ids to look at, all if empty; render: makes the pages again.
    """
    scale = Scale(folder)
    beside = {file.result.claim.id: file for file in _result_files(scale, folder)}
    for name, file in beside.items():
        claim = file.result.claim
        if not only or {name, claim.of, claim.record.claim} & set(only):
            scale.results[name] = file
            _check_file(scale, file, beside, known)
    _check_levels(scale, beside)
    for page in page_paths(folder):
        _check_page(scale, page, beside, render)
    if scale.is_reference:
        scale.findings += altered(folder)
    return scale


def _result_files(scale: Scale, folder: Path) -> list[ResultFile]:
    """Return the result files of a folder that can be read; what the others lack is a finding."""
    read_files = (read_result(path, scale.findings) for path in result_paths(folder))
    return [file for file in read_files if file is not None]


def _check_file(scale: Scale, file: ResultFile, beside: Mapping[str, ResultFile], known: Known) -> None:
    checks, made = Checks(str(file.path)), file.result.provenance
    if words := other_version(made.spec, file.result.protocol):
        checks.add("protocol", words, scale.unchecked)
    else:
        check_result(checks, file, beside, known)
    sealed = scale.is_reference or file.result.seal is not None  # a file of a run may be older than seals are
    if sealed and file.result.seal != seal_of(file.document):
        checks.add("seal", "is not that of the rest of the file, which was changed after it was written")
    checks.equal("scale", file.result.scale, scale.folder.name, "the folder")
    checks.equal("claim/record/result_file", file.result.claim.record.result_file, file.path.name, "the file's name")
    scale.findings += worded(checks.found, made)
    scale.numbers += count_numbers(file.figures)
    scale.checked += checks.n_checked
    _check_hashes(scale, file.path, made.inputs)


def _check_levels(scale: Scale, beside: Mapping[str, ResultFile]) -> None:
    """Tell which results were judged for another number of claims than most, so at another strict level."""
    told = {name: file.result.provenance.spec.get("n_claims") for name, file in beside.items()}
    counts = Counter(n for n in told.values() if isinstance(n, int))
    if len(counts) < 2:
        return
    [(usual, _)] = counts.most_common(1)
    for name, n in told.items():
        if isinstance(n, int) and n != usual and name in scale.results:
            words = f"is judged as one of {n} claims at the strict level, most beside it as one of {usual}; rebuild it"
            scale.add(STALE, beside[name].path, "provenance/spec/n_claims", words)


def worded(found: Sequence[Finding], made: Provenance) -> list[Finding]:
    """Return findings, those of words that other code wrote as one that is old: figures are checked all the same, those
    that the words say among them.

    What a file repeats of itself or of the files beside it is the same by whatever code.
    """
    words = [one for one in found if one.kind == TAMPERED and one.worded and _made_again(one.leaf)]
    if not words or made.code == code_of(made.rule, made.spec):
        return [*found]
    told = f"other code than this worded {len(words)} of its sentences and labels"
    return [Finding(STALE, words[0].file, "", told), *(one for one in found if one not in words)]


def _made_again(leaf: str) -> bool:
    """Return whether a leaf is words that a check makes again from figures."""
    return leaf.rpartition("/")[2] in WORDS and not leaf.startswith(("claim/", "rungs/"))


def _check_hashes(scale: Scale, file: Path, inputs: Mapping[str, str]) -> None:
    """Compare the hash of every input that is here; follow JSON manifests to the manifests they were made from."""
    if scale.is_reference:
        scale.hashes["absent"] += len(inputs)
        return
    for name, stored in inputs.items():
        path = Path(name)
        if not path.is_file():
            scale.hashes["absent"] += 1
            if EVIDENCE in path.parts:
                scale.add(NOTE, name, "", f"is missing; {file} rests on it")
            continue
        same = sha256_file(name) == stored
        scale.hashes["matching" if same else "differing"] += 1
        if not same:
            named = f"{file} was made from (leaf provenance/inputs/{name})"
            scale.add(TAMPERED, name, "", f"is not the file that {named}: altered, or rebuilt alone")
        if path.suffix == ".json":
            _check_manifest(scale, path)
        if path.suffix == ".json" and EVIDENCE in path.parts:
            _check_evidence(scale, path)


def _check_evidence(scale: Scale, manifest: Path) -> None:
    """Compare the hashes that a manifest of evidence promises with the files beside it."""
    promise = read(manifest, EvidenceManifest, scale.findings)
    if promise is None:
        return
    for path, same in kept(manifest, promise).items():
        if same is False:
            scale.add(TAMPERED, path, "", f"is not the file that {manifest} promises")


def _check_manifest(scale: Scale, manifest: Path) -> None:
    """Compare the hashes that a manifest holds of the small files (manifests, evidence) it was made from."""
    try:
        inputs = made_by(manifest).inputs
    except DataError as error:
        scale.add(UNREADABLE, manifest, "", str(error).removeprefix(f"{manifest}: "))
        return
    for path, digest in inputs.items():
        small = path.endswith(".json") and path != str(manifest)
        if small and Path(path).is_file() and sha256_file(path) != digest:
            scale.add(TAMPERED, path, "", f"is not the file that {manifest} was made from: altered, or rebuilt alone")


def _check_page(scale: Scale, path: Path, beside: Mapping[str, ResultFile], render: Render | None) -> None:
    """Check a page that counts claims: its words and counts, the hashes of its inputs, its lines."""
    summary = read(path, Summary, scale.findings)
    if summary is None:
        return
    checks, spec, counted = Checks(str(path)), summary.provenance.spec, None
    if words := other_version(spec, version_of(spec)):
        checks.add("provenance/spec/protocol", words, scale.unchecked)
    else:
        results = {name: file.result for name, file in beside.items()}
        counted = results if scale.is_reference else _counted(checks, path.stem, summary, results)
        if counted is not None:
            check_page(checks, path.stem, summary, counted)
    scale.findings += checks.found
    scale.checked += checks.n_checked
    _check_hashes(scale, path, summary.provenance.inputs)
    sound = counted is not None and summary.verdicts.keys() <= beside.keys()
    if render is not None and sound and not any(CODES[found.kind] for found in scale.findings):
        made = render([beside[name].result for name in summary.verdicts], summary.headline.sentence)
        current = summary.provenance.code == code_digest(step_of("summarise"))
        for name, text in made.items():
            _check_lines(scale, path.with_suffix(name[name.rindex(".") :]), text.splitlines(), current)


def _counted(
    checks: Checks, page: str, summary: Summary, results: Mapping[str, AnyResult]
) -> Mapping[str, AnyResult] | None:
    """Return the results that a page was made from, None where some are gone; what came or went since is told.

    Claims are added, renamed and built alone: that makes the page of all of them old, and nothing altered.
    """
    files = {Path(path).name for path in summary.provenance.inputs}
    others = results.keys() - summary.verdicts.keys()
    new = {name for name in others if results[name].claim.record.result_file not in files}
    gone = sorted(summary.verdicts.keys() - results.keys())
    if gone:
        checks.add("verdicts", f"counts {', '.join(gone)}, of which there is no result any more; {AGAIN}", STALE)
        return None
    if new and page == "summary":
        checks.add("verdicts", f"was written before there was a result of {', '.join(sorted(new))}; {AGAIN}", STALE)
    return {name: result for name, result in results.items() if name not in new}


def _check_lines(scale: Scale, path: Path, expected: Sequence[str], current: bool) -> None:
    """Compare a page with what the result files give, line by line. Args: current: whether the code of now wrote it."""
    if not path.is_file():
        return
    stored = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if stored == expected:
        return
    pairs: Iterable[tuple[int, tuple[str, str]]] = enumerate(zip(stored, expected, strict=False))
    i = next((i for i, (a, b) in pairs if a != b), min(len(stored), len(expected)))
    sentence = f"line {i + 1} is not what the result files give"
    if current:
        scale.add(TAMPERED, path, f"line {i + 1}", sentence)
    else:
        scale.add(STALE, path, f"line {i + 1}", f"{sentence} (it was written by other code)")


# another run


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


def holds(against: str, scale: Scale) -> bool:
    """Return whether there is a result of a scale to compare with."""
    try:
        folder = other_folder(against, scale)
    except DataError:
        return False
    name = scale.folder.name
    return folder.name == name or any(file.result.scale == name for file in _result_files(Scale(folder), folder))


def compare(scale: Scale, against: str, tolerance: float | None) -> None:
    """Say of every claim of `scale` how its result agrees with that of another run, and add where one differs.

    Raises: DataError: no result file is there, or those there are of another scale.
    """
    folder = other_folder(against, scale)
    if folder.resolve() == scale.folder.resolve():
        raise DataError(f"{folder}: is the run itself; name `{REFERENCE}` or the folder of another run")
    others = {file.path.name: file for file in _result_files(scale, folder)}
    named = {file.result.scale for file in others.values()}
    if named and scale.folder.name not in named:
        of = ", ".join(sorted(named))
        raise DataError(f"{folder}: holds results of scale {of}, not of {scale.folder.name}; name a run of that scale")
    by_claim = {file.result.claim.id: file for file in others.values()}
    scale.compared = Compared(str(folder), by_claim, TOLERANCE if tolerance is None else tolerance)
    for name, file in scale.results.items():
        other = others.pop(file.path.name, None)
        if other is None:
            scale.add(NOTE, file.path, "", f"{folder} has no such file that can be read")
            continue
        scale.compared.claims[name] = found = agreed(file, other, scale.compared.tolerance)
        for difference in found.differences:
            scale.add(DIFFERS, file.path, difference.leaf, difference.sentence)
    if others := {name: file for name, file in others.items() if not (scale.folder / name).exists()}:
        some = ", ".join(sorted(others)[:3]) + (", ..." if len(others) > 3 else "")
        scale.add(NOTE, folder, "", f"{len(others)} of its result files are not in {scale.folder} ({some})")
