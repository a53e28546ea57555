"""What is committed of a run: its results, pages, jobs, and the code that made it.

A result names the code that judged it. What it rests on (backbones, modules, calibrations, evidence) is not committed,
so `abi docs --adopt` writes the code of every rule behind the verdicts into a table beside them: everybody can tell
whether it is the code of the checkout.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from abi.audit.results.carried import CARRIED, carried, read_carried, stands_for
from abi.audit.results.carried import COLUMNS as CARRIED_COLUMNS
from abi.audit.results.places import write_manifest
from abi.audit.results.status import Survey
from abi.base.digest import code_digest
from abi.base.errors import DataError
from abi.base.files import ROOT, write_text
from abi.base.job import starts_of
from abi.base.manifests.pages import InstrumentManifest
from abi.base.manifests.speed import SpeedManifest
from abi.base.tables import csv_rows, csv_text
from abi.base.typed import Document
from abi.judge.results import read_result
from abi.plan.config import load
from abi.plan.measured import REFERENCE, adopt_jobs
from abi.plan.workflow import Workflow

INSTRUMENT = "instrument"
SIMULATED = ROOT / "docs" / f"{INSTRUMENT}.json"
BENCHMARKS = "benchmarks"
TIMED = REFERENCE / f"{BENCHMARKS}.json"
MARKDOWN = ("headline.md", "summary.md", "transfer.md")
CODE = "code.csv"
COLUMNS = ("rule", "code", "files", "results")
"""A rule, the digest of its code, the files where that code starts (`abi.base.job.starts_of`), and the result files
that rest on it; both between blanks."""
ALL = "-"
"""Of `results`: every one in the folder."""


class MadeBy(NamedTuple):
    """A row of the table of codes."""

    rule: str
    code: str
    files: str
    results: str


def adopt(what: str, *, keep: bool = False) -> None:
    """Copy to the committed reference: a scale's results, pages, code, jobs, hashes; the instrument; benchmarks.

    Args: keep: committed results of a scale that this run does not have stay, with the code that made them.
    """
    alone: dict[str, tuple[type[Document], Path]] = {
        INSTRUMENT: (InstrumentManifest, SIMULATED),
        BENCHMARKS: (SpeedManifest, TIMED),
    }
    if what in alone:
        (kind, place), made_here = alone[what], Path(f"results/{what}.json")
        kind.read(made_here)
        write_text(place, made_here.read_text(encoding="utf-8"))
        return
    workflow = Workflow(load(what))
    wanted = [Path(path) for path in workflow.page_files("summary")]
    made = {path.name: path.read_text(encoding="utf-8") for path in wanted if path.exists() and read_result(path)}
    if not made:
        raise DataError(f"results/{what}: holds no result to adopt; run `snakemake --config scale={what}` first")
    results, pages = {*made}, [Path(f"results/{what}", name) for name in MARKDOWN]
    made |= {page.name: page.read_text(encoding="utf-8") for page in pages if page.exists()}
    folder, codes = REFERENCE / what, codes_of_run(workflow)
    others = [old for old in [*folder.glob("*.json"), *folder.glob("*.md")] if old.name not in made]
    if keep and others:
        codes = _kept(codes_of(what), {old.name for old in others}) + _kept(codes, results)
    else:
        for old in [*others, folder / CARRIED]:
            old.unlink(missing_ok=True)  # of another run
    for name, text in made.items():
        write_text(folder / name, text)
    write_text(folder / CODE, csv_text(COLUMNS, sorted(codes)))
    adopt_jobs(what, keep=keep)
    write_manifest(folder)


def carry(scale: str, before: Path, after: Path, but: Collection[str] = ()) -> int:
    """Let the code of one run stand for that of another, behind a committed run; return for how many rules it does.

    Args: scale: of the committed run; before, after: folders of two runs of a small scale; but: result files whose
        figures are other ones by the code after, and which were built by it and adopted (`keep`) before.
    Raises: DataError: as `carried`, or there is no committed run, or one of `but` is of the code before.
    """
    folder, codes = REFERENCE / scale, codes_of(scale)
    made = {(row.rule, row.files) for row in codes}
    rows = [row for row in carried(before, after, but) if (row.rule, row.files) in made]
    known, there = read_carried(folder), {name for name in but if (folder / name).exists()}
    for row, one in ((row, one) for row in rows for one in codes if (one.rule, one.files) == (row.rule, row.files)):
        rests = there if one.results == ALL else there & {*one.results.split()}
        if rests and row.before in stands_for(one.rule, one.files, one.code, known):
            raise DataError(
                f"{folder / min(rests)}: is by the code before, which gives other figures; build it by the code after "
                f"and adopt it first (`abi docs --adopt {scale} --keep`)"
            )
    write_text(folder / CARRIED, csv_text(CARRIED_COLUMNS, dict.fromkeys([*known, *rows])))
    write_manifest(folder)
    return len(rows)


def _kept(rows: Iterable[MadeBy], names: set[str]) -> list[MadeBy]:
    """Return the rows on which some results rest, with these alone."""
    found = [(row, names if row.results == ALL else names & {*row.results.split()}) for row in rows]
    return [row._replace(results=" ".join(sorted(rests))) for row, rests in found if rests]


def codes_of_run(workflow: Workflow) -> list[MadeBy]:
    """Return the code of everything that the verdicts of a run rest on and that is still there.

    Raises: DataError: a record behind a verdict is damaged, or not what its rule would write now.
    """
    survey = Survey(workflow)
    for path in map(Path, workflow.page_files("summary")):
        if path.is_file():
            survey.record(str(path))
    wrong = [line for line in survey.lines.values() if line.state != "missing"]
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise DataError(
            f"{wrong[0].file}: {wrong[0].state}, {wrong[0].why}{more}; a run is adopted whole: "
            f"`abi run --mend --scale {Path(workflow.results).name}` first"
        )
    made = [job.made for job in survey.made.values() if job.made is not None]
    return [MadeBy(*row, ALL) for row in sorted({(m.rule, m.code, " ".join(starts_of(m.rule, m.spec))) for m in made})]


def rules_changed(scale: str, root: Path = ROOT) -> list[str] | None:
    """Return the rules whose code is another than the one that made the committed run; None where nothing says.

    Args, Raises: as `codes_changed`.
    """
    changed = codes_changed(scale, root)
    return None if changed is None else sorted({row.rule for row in changed})


def codes_changed(scale: str, root: Path = ROOT) -> list[MadeBy] | None:
    """Return the code behind a committed run that is another here; None where nothing says what made it.

    Code that was shown to give the same figures is no other (`carry`).
    Args: root: of the checkout whose code is meant. Raises: DataError: a table is damaged.
    """
    if not (REFERENCE / scale / CODE).is_file():
        return None
    rows = read_carried(REFERENCE / scale)
    try:
        here = [(row, code_digest(*row.files.split(), root=root)) for row in codes_of(scale)]
        return [row for row, code in here if code not in stands_for(row.rule, row.files, row.code, rows)]
    except OSError:
        raise DataError(f"{REFERENCE / scale / CODE}: names a file that is not there; adopt a run again") from None


def codes_of(scale: str) -> list[MadeBy]:
    """Return the code that a committed run was made by. Raises: DataError: the table is damaged, or not there."""
    path = REFERENCE / scale / CODE
    try:
        return [MadeBy(*row) for row in csv_rows(path.read_text(encoding="utf-8"), COLUMNS)]
    except (OSError, ValueError):
        raise DataError(
            f"{path}: is no table of {', '.join(COLUMNS)}; write it again with `abi docs --adopt {scale}`"
        ) from None
