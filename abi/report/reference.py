"""The committed reference run: what documents quote, and how a run becomes it."""

from pathlib import Path

from abi.audit.results.snapshot import write_manifest
from abi.base.errors import DataError
from abi.base.files import ROOT, write_text
from abi.base.page_manifests import InstrumentManifest
from abi.judge.results import AnyResult, read_result
from abi.plan.config import load
from abi.plan.measured import adopt_jobs
from abi.plan.workflow import Workflow

REFERENCE = ROOT / "results" / "reference"
INSTRUMENT = "instrument"
SIMULATED = ROOT / "docs" / f"{INSTRUMENT}.json"
PAGES = ("headline.md", "summary.md", "transfer.md")


def reference_results(scale: str) -> list[AnyResult]:
    """Return the committed result files of a scale, in the order of the claims; a reference may hold some of them."""
    paths = [REFERENCE / scale / Path(path).name for path in Workflow(load(scale)).page_files("summary")]
    return [read_result(path) for path in paths if path.exists()]


def adopt(what: str) -> None:
    """Copy to the committed reference: results, pages, jobs of a scale and their hashes, or the instrument."""
    if what == INSTRUMENT:
        simulated = Path(f"results/{INSTRUMENT}.json")
        InstrumentManifest.read(simulated)
        write_text(SIMULATED, simulated.read_text(encoding="utf-8"))
        return
    wanted = [Path(path) for path in Workflow(load(what)).page_files("summary")]
    made = {path.name: path.read_text(encoding="utf-8") for path in wanted if path.exists() and read_result(path)}
    if not made:
        raise DataError(f"results/{what}: holds no result to adopt; run `snakemake --config scale={what}` first")
    pages = [Path(f"results/{what}", name) for name in PAGES]
    made |= {page.name: page.read_text(encoding="utf-8") for page in pages if page.exists()}
    folder = REFERENCE / what
    for old in [*folder.glob("*.json"), *folder.glob("*.md")]:
        if old.name not in made:
            old.unlink()  # of another run: a reference holds one run's files
    for name, text in made.items():
        write_text(folder / name, text)
    adopt_jobs(what)
    write_manifest(folder)
