"""What of a scale's outputs is missing, damaged or stale, and what has to be rebuilt for it (no torch, no Snakemake).

Which files there should be is asked of the workflow (the last files of a target) and, from there backwards, of the
records themselves: the JSON file that a job writes last names its inputs and the files it wrote, with their hashes. So
a job is found by what rests on it, also where its own record is gone.
"""

import ast
import base64
import json
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from abi.audit.results.records import fault_of, is_record, job_of, read_record
from abi.audit.results.staleness import outdated, spec_now
from abi.base.errors import AbiError, DataError
from abi.base.files import FRESH_NS, Json, age_ns, identity, parse_file, sha256_file, write_text
from abi.base.job import files_in
from abi.base.recovery import LOCKS
from abi.base.typed import Provenance
from abi.base.wording import number
from abi.plan.workflow import Workflow

State = Literal["missing", "damaged", "stale"]
HASHES = Path(".snakemake") / "abi" / "hashes.json"
MEMORY, LONGEST = Path(".snakemake") / "metadata", 255
"""Where Snakemake keeps what made a file, by its name in base64; of longer names it makes folders."""


@dataclass(frozen=True)
class Line:
    """One thing that is not as it should be: the file, and why in a few words."""

    state: State
    file: str
    why: str


@dataclass
class Made:
    """What one job wrote: its records (three for states, else one) and all other files; and the files it read.

    `rule` is "" where no record of it can be read, and `made` is None there.
    """

    rule: str = ""
    files: dict[str, None] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    made: Provenance | None = None


@dataclass(frozen=True)
class Status:
    """The lines of a scale, and the jobs, by record, that must run again for what is missing or damaged.

    Args: records: that were read; files: of all jobs that are known, missing ones too.
    """

    results: str
    lines: list[Line]
    rebuild: dict[str, Made]
    records: int
    files: int

    def as_dict(self) -> dict[str, Json]:
        """Return plain data for `--json`."""
        rebuild = {name: {"rule": made.rule, "files": list(made.files)} for name, made in self.rebuild.items()}
        counts = {"records": self.records, "files": self.files}
        return {"results": self.results, "lines": [vars(line) for line in self.lines], "rebuild": rebuild, **counts}

    @property
    def built(self) -> bool:
        """Whether there is anything of a run."""
        return bool(self.records) or any(line.state == "damaged" for line in self.lines)

    def counted(self) -> str:
        """Return the summary line."""
        if not self.built:
            return f"{self.results}: nothing is built yet"
        states = [line.state for line in self.lines]
        words = [f"{states.count(state)} {state}" for state in get_args(State) if state in states]
        found = ", ".join(words) or "nothing missing, damaged or stale"
        jobs = number(len(self.rebuild), "job has", "jobs have")
        rests = f"; at least {jobs} to run for it" if self.rebuild else ""
        files, records = number(self.files, "file"), number(self.records, "record")
        return f"{self.results}: {files} expected, {records} read: {found}{rests}"


class Hashes:
    """Hashes of files by path, kept between calls while inode, size and both times of a file stay.

    Only `abi status` goes by this list: a job hashes what it reads itself. Args: deep: hash every file again.
    """

    def __init__(self, *, deep: bool = False) -> None:
        try:
            self.kept: dict[str, list[Json]] = {} if deep else dict(parse_file(HASHES))
        except (AbiError, TypeError, ValueError):
            self.kept = {}  # absent or damaged: everything is hashed
        self.changed = False

    def of(self, path: str) -> str | None:
        """Return the hash of a file, None where there is none that can be read."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return None  # to read a pipe might never end
            known = self.kept.get(path)
            if isinstance(known, list) and known[:-1] == [*identity(found)]:
                return str(known[-1])
            digest = sha256_file(path)
        except OSError:
            return None
        if age_ns(found) >= FRESH_NS:
            self.kept[path], self.changed = [*identity(found), digest], True
        return digest

    def keep(self) -> None:
        """Write the list for the next call; where that fails, the next call takes longer, and no more."""
        if self.changed:
            try:
                write_text(HASHES, json.dumps(self.kept))
            except DataError:
                return


class Survey:
    """Walks from the last files of a run to the first and notes what is not as it should be."""

    def __init__(self, workflow: Workflow, *, deep: bool = False) -> None:
        self.workflow, self.hashes = workflow, Hashes(deep=deep)
        self.lines: dict[tuple[State, str], Line] = {}
        self.made: dict[str, Made] = {}
        self.unseen: set[str] = set()
        """Stale records that Snakemake takes for up to date: it goes by dates, and by what it remembers of a file."""
        self.records = 0

    def look(self, targets: Sequence[str] = ()) -> Status:
        """Return the status of some targets (claims, or a page), of all that the scale can run if none is given."""
        cards = set(self.workflow.cards())
        finals = self.workflow.finals(targets)
        for path in finals:
            if not Path(path).is_file():
                self.lack(path, "never built, or deleted")
            if path not in cards:
                self.record(path)
        if not targets:
            for path in self.others():
                self.record(path)
            # Cards have no record: their inputs are those of their rule.
            inputs = dict.fromkeys(self.workflow.card_inputs(), "")
            self.made["cards"] = Made("write_cards", dict.fromkeys(sorted(cards)), inputs)
        self.hashes.keep()
        files = {file for made in self.made.values() for file in made.files} | {file for _, file in self.lines}
        return Status(self.workflow.results, list(self.lines.values()), self.rests_on(), self.records, len(files))

    def note(self, state: State, path: str, why: str) -> None:
        """Note what a file is, once."""
        self.lines.setdefault((state, path), Line(state, path, why))

    def lack(self, path: str, why: str) -> None:
        """Note a file that is missing, or whose place something else takes. Args: why: it is missed."""
        there = os.path.exists(path)
        self.note("damaged" if there else "missing", path, "is no file that can be read" if there else why)

    def others(self) -> Iterator[str]:
        """Yield the records under results/<scale> that no last file led to, and that a job of now writes."""
        known = {path for made in self.made.values() for path in made.files}
        for folder, below, names in os.walk(self.workflow.results):
            below[:] = sorted({*below} - {"logs", "benchmarks", "figures"} - {Path(name).stem for name in names})
            for name in sorted(names):
                path = f"{folder}/{name}"
                if name.endswith(".json") and path not in known and self.written_now(path):
                    yield path

    def written_now(self, path: str) -> bool:
        """Return whether a job of the configuration of now writes this record."""
        try:
            return bool(spec_now(self.workflow, path))
        except (AbiError, LookupError, ValueError, TypeError, StopIteration):
            return False

    def record(self, path: str) -> None:
        """Look at a record, at what it was made from and at what was written with it."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            job = self.made.setdefault(job_of(path), Made())
            if path in job.files:
                continue
            job.files[path] = None
            made = self.read(path) if Path(path).is_file() else None
            if made is None:
                continue
            job.rule, job.made = made.rule, made
            job.files |= dict.fromkeys(made.outputs)
            job.inputs |= made.inputs
            self.beside(path, made)
            waiting += self.before(path, made)

    def read(self, path: str) -> Provenance | None:
        """Return what made a record; None, and a line, where it cannot be believed."""
        self.records += 1
        try:
            found, made = read_record(path)
        except AbiError as error:
            self.note("damaged", path, fault_of(path, error))
            return None
        if words := misplaced(made, self.workflow.results):
            self.note("damaged", path, words)
            return None
        if found.seal is None:
            self.note("stale", path, "was written before records had a seal")
        try:
            reasons = outdated(self.workflow, path, made)
        except (AbiError, LookupError, ValueError, TypeError, StopIteration):
            self.note("stale", path, "no job of the configuration writes it now")
            return made
        if reasons:
            self.note("stale", path, "; ".join([*dict.fromkeys(reasons)][:3]))
        if (reasons or found.seal is None) and not remembered(path, made):
            self.unseen.add(path)
        return made

    def beside(self, path: str, made: Provenance) -> None:
        """Compare the files that a job wrote with the hashes in its record."""
        for file, sha256 in made.outputs.items():
            found = self.hashes.of(file)
            if found is None:
                self.lack(file, f"{path} was written with it")
            elif file == path:
                continue  # it stood there before the job wrote it anew: no file holds its own hash
            elif found != sha256:
                self.note("damaged", file, f"it is not the file that {path} was written with")
        folder = os.path.splitext(path)[0]
        if any(file.startswith(f"{folder}/") for file in made.outputs):  # a backbone's, of which every file is read
            added = {*files_in([folder])} - {*made.outputs}
            for file in sorted(file for file in added if not Path(file).name.startswith(".")):
                self.note("damaged", file, f"{path} was not written with it; move it away, or it is removed")
                self.made[job_of(path)].files[file] = None

    def before(self, path: str, made: Provenance) -> Iterator[str]:
        """Yield the records that a job read; note an input that is gone, and one that is another now."""
        for file, sha256 in made.inputs.items():
            found = self.hashes.of(file)
            if found is None and file.startswith(f"{self.workflow.results}/"):
                self.lack(file, f"{path} was made from it")
            elif found != sha256:
                self.note("stale", path, f"{file} {'is gone' if found is None else 'changed'}")
                if found is not None and os.stat(file).st_mtime <= os.stat(path).st_mtime:
                    self.unseen.add(path)
            if is_record(file, self.workflow.results):
                yield file

    def rests_on(self) -> dict[str, Made]:
        """Return the jobs that wrote what is missing, damaged, or stale and unseen, and all that rest on them."""
        bad = {line.file for line in self.lines.values() if line.state != "stale"} | self.unseen
        rebuild: dict[str, Made] = {}
        while True:
            more = {name: made for name, made in self.made.items() if name not in rebuild and touched(made, bad)}
            if not more:
                return {name: made for name, made in self.made.items() if name in rebuild}
            rebuild |= more
            bad |= {file for made in more.values() for file in made.files}


def misplaced(made: Provenance, results: str) -> str | None:
    """Return in few words why a record is of no job of this run, by the paths in it; None where it may be of one.

    What a record names is deleted with it, and it may have been copied from another run, or come from anybody.
    """
    if odd := next((path for path in (*made.outputs, *made.inputs) if not path.isprintable()), None):
        return f"names {odd[:60]!r}, which is no path of a file"
    if other := next((path for path in made.outputs if not inside(path, results)), None):
        return f"names {other} as a file of its job, so it is of another run"
    return None


def inside(path: str, results: str) -> bool:
    """Return whether a path is spelled as one below a folder of results."""
    return path.startswith(f"{results}/") and os.path.normpath(path) == path


def memory_of(path: str) -> Path | None:
    """Return where Snakemake keeps what made a file; None for a name too long for a file of its own."""
    name = base64.urlsafe_b64encode(path.encode()).decode()
    return None if len(name) > LONGEST else MEMORY / name


def remembered(path: str, made: Provenance) -> bool:
    """Return whether what Snakemake remembers of a file, or of the folder it was made with, made the one that is there.

    It did not where the file was copied here, or where the memory was lost or damaged.
    """
    places = [memory_of(place) for place in (path, *map(str, Path(path).parents))]
    if None in places:
        return True
    memory = next((place for place in places if place and place.exists()), None)
    try:
        params = [ast.literal_eval(text) for text in parse_file(memory)["params"]] if memory else []
    except (AbiError, LookupError, TypeError, ValueError, SyntaxError):
        return False
    return made.code in params and made.spec in params


def touched(made: Made, bad: Collection[str]) -> bool:
    """Return whether a job wrote or read one of some files."""
    return any(file in bad for file in (*made.files, *made.inputs))


def mend(status: Status) -> list[str]:
    """Delete every file of the jobs that must run again; return what was deleted.

    Raises: DataError: a run holds the folder, or a file cannot be deleted.
    """
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        raise DataError(
            f"{LOCKS}: a run is going on, or was killed; let it end, or run `snakemake --unlock`, and try again"
        )
    names = [file for made in status.rebuild.values() for file in made.files]
    if other := next((name for name in names if not inside(name, status.results)), None):
        raise DataError(f"{other}: is no file of {status.results}, and abi deletes none elsewhere")
    paths = [Path(name) for name in names]
    if folder := next((path for path in paths if path.is_dir()), None):
        raise DataError(f"{folder}: is a folder where a file belongs, and abi deletes none; move it away")
    gone = []
    for path in paths:
        try:
            path.unlink()
            gone.append(str(path))
            if memory := memory_of(str(path)):
                memory.unlink(missing_ok=True)  # a damaged one would end every run
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{path}: cannot be deleted ({error.strerror}); make its folder writable") from None
    return gone
