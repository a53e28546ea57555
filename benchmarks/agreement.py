"""How far figures move where numbers are added in another order: one claim under other threads and kernels.

python benchmarks/agreement.py [--scale smoke] [--claim t5_to_gpt2] [--settings NAME ...] [--baseline FOLDER]
                               [--keep FOLDER] [--cores 1]

The claim is built from nothing in all its regimes, in a scratch copy of this checkout per setting, and compared with
the run of the first setting as `abi verify --against` does. A baseline is the folder `results/<scale>` of a run that is
there. Copies are removed at the end, unless a folder is named to keep them in: what is finished there is not built
again. Rows of this scale and claim in agreement.csv are replaced.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abi.audit.results.agreement import agreed
from abi.audit.results.reading import ResultFile, read_result
from abi.base.files import ROOT, write_text
from abi.base.tables import csv_rows, csv_text
from abi.plan.config import load
from abi.plan.workflow import Workflow

PARTS = ("abi", "config", "docs", "envs", "scripts", "workflow", "CITATION.cff", "Snakefile")
OUT = Path(__file__).with_suffix(".csv")
COLUMNS = [
    "scale",
    "claim",
    "setting",
    "word",
    "arms_percent",
    "figures_equal",
    "figures",
    "tests_flipped",
    "difference",
]
AVX2 = {
    **{"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    **{"OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""},
}
OLD = {
    **{"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    **{"OPENBLAS_CORETYPE": "Nehalem", "NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""},
}
COMPUTES = (
    "build_backbone",
    "write_states",
    "train_modules",
    "train_portable",
    "fit_alignment",
    "choose_rates",
    "calibrate_arms",
    "calibrate_placebos",
    "train_lora",
    "evaluate_arms",
)
THREADS = ["--cores", "2", "--set-threads", *(f"{rule}=2" for rule in COMPUTES)]
SETTINGS: dict[str, tuple[dict[str, str], list[str]]] = {
    "as it is": ({}, []),
    "again": ({}, []),
    "two threads": ({"OMP_NUM_THREADS": "2"}, THREADS),
    "kernels of AVX2": (AVX2, []),
    "kernels of SSE4.2": (OLD, []),
    "both: two threads, SSE4.2": ({**OLD, "OMP_NUM_THREADS": "2"}, THREADS),
}
"""What is set in the environment, and the words of Snakemake beside the targets."""


def built(scratch: Path, scale: str, targets: list[str], setting: str, cores: int) -> Path:
    """Build what some targets lack, from nothing in a new folder, and return the folder of their results."""
    if not scratch.exists():
        scratch.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, scratch / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, scratch)
    own, words = SETTINGS[setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ABI_WARM": "1", **own, "PYTHONPATH": str(scratch)}
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", *(words or ["--cores", str(cores)])]
    subprocess.run([*command, "--config", f"scale={scale}", "--", *targets], cwd=scratch, env=environment, check=True)
    return scratch / "results" / scale


def read(folder: Path, name: str) -> ResultFile:
    """Return a result file of a run."""
    found = read_result(folder / name, [])
    if found is None:
        raise SystemExit(f"{folder / name}: is no result file; build it first")
    return found


def rows(base: Path, other: Path, scale: str, files: dict[str, str], setting: str) -> Iterator[list[Any]]:
    """Yield a row per claim and regime."""
    for claim, name in files.items():
        found = agreed(read(other, name), read(base, name))
        percent, why = f"{100 * found.furthest:.2g}", "; ".join(d.sentence for d in found.differences)
        yield [scale, claim, setting, found.word, percent, found.equal, found.leaves, found.flipped, why]


def main() -> None:
    """Build, compare and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--claim", default="t5_to_gpt2")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS)[1:], default=list(SETTINGS)[1:])
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--cores", type=int, default=1, help="jobs at once where each has one thread")
    given = parser.parse_args()
    workflow = Workflow(load(given.scale))
    targets = workflow.regimes_of(given.claim) or [given.claim]
    files = {claim: workflow.claim(claim).record.result_file for claim in targets}
    found: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = given.keep or Path(folder)
        base = given.baseline or built(scratch / "base", given.scale, targets, next(iter(SETTINGS)), given.cores)
        for setting in given.settings:
            copy = scratch / "".join(letter if letter.isalnum() else "_" for letter in setting)
            found += rows(base, built(copy, given.scale, targets, setting, given.cores), given.scale, files, setting)
            if given.keep is None:
                shutil.rmtree(copy)
            print(*found[-len(targets) :], sep="\n", flush=True)
    kept = csv_rows(OUT.read_text(encoding="utf-8"), COLUMNS) if OUT.exists() else []
    kept = [row for row in kept if not (row[0] == given.scale and row[1] in files and row[2] in given.settings)]
    write_text(OUT, csv_text(COLUMNS, [*kept, *found]))


if __name__ == "__main__":
    main()
