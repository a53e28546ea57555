"""The chain from a verdict back to its texts: what each record on the way promises of a file, and what is there.

A record is the JSON file that a job writes last. By its seal it promises its own contents, by `provenance.inputs` what
its job read, by `provenance.outputs` what else its job wrote; the record of states also names the text and the backbone
that they are of. Links are looked at from the texts towards the verdict, so that the first broken one is the damage and
not what follows from it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from abi.audit.results.places import page_paths, result_paths
from abi.audit.results.records import EVALUATE, WRITERS, Record, fault_of, is_record, read_record
from abi.base.errors import DataError, TamperError
from abi.base.files import parse_file, scales, sha256_once
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.evidence import EvidenceManifest
from abi.base.manifests.states import StatesManifest
from abi.base.manifests.texts import TextManifest
from abi.base.typed import Provenance, seal_of

SHOWN = 12
"""Characters of a hash that a sentence shows."""


def begins(made: Provenance) -> bool:
    """Return whether a chain may begin with a record: a text, or a backbone that was not built here from texts."""
    return made.rule == "build_text" or (made.rule == "build_backbone" and not made.spec.get("build"))


@dataclass(frozen=True)
class Broken:
    """A promise that does not hold: the record that gives it, the file it is about, what it says, what is there."""

    record: str
    file: str
    promised: str
    found: str

    def words(self) -> str:
        """Return all of it in one sentence."""
        by = "it" if self.record == self.file else self.record
        return f"{self.file}: {by} promises {self.promised}, {self.found}"


@dataclass
class Chain:
    """All that some last files rest on.

    Args: results: folder of the run, `results/<scale>`; records: from the texts to the last files; links: how many
        promises were looked at.
    """

    results: str
    records: dict[str, Record] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    broken: list[Broken] = field(default_factory=list)
    links: int = 0

    @classmethod
    def of(cls, results: Path, finals: Iterable[str] = ()) -> "Chain":
        """Return the chain of some last files, of all results and pages of a run if none is given.

        Raises: DataError: there is none.
        """
        found, asked = cls(str(results)), list(finals) or last_files(results)
        if not asked:
            known = results.name in scales()
            mend = f"build some with `abi run --scale {results.name}`" if known else "name a run, like results/tiny"
            raise DataError(f"{results}: holds no result file; {mend}")
        for path in asked:
            if path not in found.seen:
                found._follow(path)
        return found

    def loose(self) -> list[Broken]:
        """Return the records that name nothing they were made from, although their job reads something."""
        return [
            Broken(path, path, "a chain back to a text", f"it names no input of {made.rule}")
            for path, (_, made) in self.records.items()
            if not made.inputs and not begins(made)
        ]

    def _follow(self, path: str) -> None:
        """Look at a record after all that it was made from."""
        self.seen.add(path)
        try:
            record = read_record(path)
            if record.document.seal is None:
                raise DataError(f"{path}: has no seal")
        except TamperError:
            content = parse_file(path)
            words = f"contents of seal {content['seal'][:SHOWN]}", f"there are those of {seal_of(content)[:SHOWN]}"
            self.broken.append(Broken(path, path, *words))
            return
        except DataError as error:
            self.broken.append(Broken(path, path, "a record of abi", f"it {fault_of(path, error)}"))
            return
        self.links += 1  # its seal
        for file in record.made.inputs:
            if is_record(file, self.results) and file not in self.seen and Path(file).is_file():
                self._follow(file)
        self.records[path] = record
        self._writer(path, record)
        for file, sha256 in {**record.made.inputs, **record.others(path)}.items():
            self._compare(path, file, f"sha256 {sha256[:SHOWN]}", sha256, hash_of(file))
        for file, what, promised, found in self._facts(record):
            self._compare(path, file, f"{what} {promised[:SHOWN]}", promised, found)

    def _writer(self, path: str, record: Record) -> None:
        """Compare the rule that a record names with its form; for what is made again of it follows from the rule."""
        asked = {path: (record.made.rule, WRITERS.get(record.document.kind))}
        for file in record.made.inputs if record.made.rule in EVALUATE else ():
            if (read := self.records.get(file)) and isinstance(read.document, EvidenceManifest):
                asked[file] = read.made.rule, EVALUATE[record.made.rule]
        for file, (rule, rules) in asked.items():
            if rules is not None and rule not in rules:
                self.broken.append(Broken(path, file, f"a record of {' or '.join(sorted(rules))}", f"it says {rule}"))

    def _compare(self, record: str, file: str, promise: str, promised: str, found: str | None) -> None:
        self.links += 1
        if found != promised:
            there = f"there is {found[:SHOWN]}" if found else "nothing is there"
            self.broken.append(Broken(record, file, promise, there))

    def _facts(self, record: Record) -> Iterator[tuple[str, str, str, str]]:
        """Yield (file, what, promised, found) of what a record says of the records that it was made from."""
        states = record.document
        if not isinstance(states, StatesManifest):
            return
        for file in record.made.inputs:
            match self.records.get(file):
                case (TextManifest() as text, _):
                    yield file, "documents and splits", states.corpus_sha256, text.assignment_sha256
                case (BackboneManifest() as backbone, _):
                    yield file, "weights", states.base_sha256, backbone.weights_sha256


def last_files(results: Path) -> list[str]:
    """Return the records that a run writes last: results, pages that count them, the report, the table of transfers."""
    others = [results / "report.json", results / "transfer.json"]
    return [str(path) for path in (*result_paths(results), *page_paths(results), *others) if path.is_file()]


def hash_of(path: str) -> str | None:
    """Return the hash of a file, read once per process while it stays the same file; None where there is none."""
    return sha256_once(path) if Path(path).is_file() else None
