"""Command `abi replicates`: has a claim the same word in pairs rebuilt from other pretraining seeds (no torch)."""

import json
from dataclasses import asdict

from abi.audit.record.page import ascii_only
from abi.audit.results.places import own_or_committed
from abi.cli.options import AsJson, Scale
from abi.judge.results import AnyResult, read_result
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates as scales_of
from abi.report.render import terminal
from abi.report.replicates import replicated, table


def replicates(scale: Scale = DEFAULT, as_json: AsJson = False) -> int:
    """Print per claim its verdict and those in the replicates, with the spread of share and gap closure.

    The verdict of a claim stays that of its own pair. A replicate is built as any scale is:
    `make <claim> SCALE=tiny_r1`; where it was not, the committed results are read.
    """
    names = scales_of(scale)
    found = replicated(results_at(scale), {name: results_at(name) for name in names})
    if as_json:
        print(json.dumps([{**asdict(row), "same": row.same} for row in found], indent=1))
        return 0
    told = f"replicates of {scale}: {', '.join(names) or 'none in config/scales'}"
    print(ascii_only("\n".join(terminal(table(found))) if found else "no claim is built here and in a replicate"))
    print(f"\n{told}")
    return 0


def results_at(scale: str) -> list[AnyResult]:
    """Return the results of a scale in the order of its claims: those built here, else the committed ones."""
    files = (own_or_committed(path) for path in Workflow(load(scale)).page_files("summary"))
    return [read_result(path) for path in files if path is not None and path.exists()]
