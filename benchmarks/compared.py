"""The word of `abi.compare` beside that of the DAG, on the same pairs of backbones and the same texts.

python benchmarks/compared.py [--scale tiny] [--seeds 3] [CLAIM ...]   (where the verdicts of the scale were built)

Every transfer is asked again through the public API, which knows nothing of
the DAG: it splits the documents itself, and has budgets and rates of its own. Rows go to compared.csv: claim, both words,
what `compare` would choose, seconds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

import abi
from abi.api.sides import Pair
from abi.base.files import write_text
from abi.base.regimes import transfer_regimes
from abi.base.tables import csv_rows, csv_text
from abi.judge.results import Result, read_result
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.text.documents import read_documents

OUT = Path(__file__).with_suffix(".csv")
KEPT = Path("build/compared")
COLUMNS = ["claim", "dag", "compare", "choice", "seconds"]


def transfers(workflow: Workflow, named: list[str]) -> Iterator[str]:
    """Yield the transfers of a scale in all regimes, those that are named or all."""
    for name, claim in workflow.config.claims.items():
        if claim.kind == "transfer" and claim.regime in transfer_regimes() and (not named or name in named):
            yield name


def compared(workflow: Workflow, name: str, seeds: int) -> list[str]:
    """Return a row: the claim, its verdict in the DAG, that of `compare`, what that would choose, seconds."""
    claim = workflow.claim(name)
    result = read_result(workflow.result_file(name))
    assert isinstance(result, Result)

    def pair(backbone: str) -> Pair:
        loaded = abi.load_backbone(workflow.backbone_folder(backbone))
        return loaded.model, loaded.tokenizer

    def texts(text: str) -> list[str]:
        return [document.text for document in read_documents(workflow.text_files(text)["documents"])]

    found = abi.compare(
        "portable" if claim.regime == "zero-text" else "module",
        pair(claim.source),
        pair(claim.target),
        texts(claim.text),
        texts("general"),
        regime=claim.regime,
        seeds=seeds,
        lora=False,
        keep=KEPT / name,
    )
    return [name, result.verdict, found.verdict, found.choice, f"{found.seconds:.0f}"]


def main() -> None:
    """Print a row per transfer, put it among those of other transfers in the file, and count the words that agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("claims", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    workflow, rows = Workflow(load(options.scale)), {}
    for name in transfers(workflow, options.claims):
        row = compared(workflow, name, options.seeds)
        print(",".join(row), flush=True)
        if OUT.exists():
            rows = {known[0]: known for known in csv_rows(OUT.read_text(encoding="utf-8"), COLUMNS)}
        rows[name] = row
        write_text(OUT, csv_text(COLUMNS, [rows[key] for key in sorted(rows)]))
    same = sum(row[1] == row[2] for row in rows.values())
    print(f"{same} of {len(rows)} words are those of the DAG")


if __name__ == "__main__":
    main()
