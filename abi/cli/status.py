"""The command `abi status`: what of a run is missing, damaged or stale, and how to get it right (no torch)."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from abi.audit.results.places import elsewhere
from abi.audit.results.status import Survey, mend
from abi.base.errors import DataError
from abi.base.names import PAGES
from abi.base.recovery import alone
from abi.base.wording import number
from abi.cli.main import HONEST, TAMPERED
from abi.cli.options import AsJson, Scale
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.workflow import Workflow

MOST = 5
"""How many damaged files a run names before it begins."""


def status(
    targets: Annotated[
        list[str] | None, Argument(metavar="CLAIM", help="or the page `headline`", show_default="all")
    ] = None,
    scale: Scale = DEFAULT,
    mends: Annotated[
        bool,
        Option("--mend", help="delete what is damaged or lacks a part, and what rests on it; snakemake rebuilds it"),
    ] = False,
    deep: Annotated[bool, Option("--deep", help="hash every file again, unchanged ones too")] = False,
    as_json: AsJson = False,
) -> int:
    """Print one line for every output that is missing, damaged or stale, and a summary.

    Returns: 0 if there is none, or all that needs it was deleted; else 1.
    """
    found = Survey(Workflow(load(scale)), deep=deep).look(targets or ())
    deleted: list[str] = []
    done = mends
    if mends and found.rebuild:
        try:
            with alone(Path.cwd()):
                deleted = mend(found)
        except DataError as error:
            print(f"abi status: not all of it was deleted: {error}", file=sys.stderr)
            done = False
    if as_json:
        print(json.dumps({**found.as_dict(), "deleted": deleted}, indent=1))
    else:
        for line in found.lines if found.built else []:
            print(f"{line.state:<8} {line.file}: {line.why}")
        print(found.counted())
        if not found.built and (warning := elsewhere()):
            print(warning)
        if deleted:
            print(f"deleted {number(len(deleted), 'file')}, which the next run rebuilds, of these jobs:")
            print("\n".join(f"  {made.rule:<22} {name}" for name, made in found.rebuild.items()))
    return HONEST if done or not found.lines else TAMPERED


def mended(words: Sequence[str], scale: str) -> list[str]:
    """Delete what has to be rebuilt for the claims and pages among some words, or for all; say what it was."""
    workflow = Workflow(load(scale))
    found = Survey(workflow).look([word for word in words if word in {*PAGES, *workflow.config.every()}])
    if not found.rebuild:
        return []
    try:
        deleted = mend(found)
    except DataError as error:
        return [f"not all of it was deleted: {error}"]
    damaged = [f"{line.file}: {line.why}" for line in found.lines if line.state == "damaged"]
    if not deleted and not damaged:
        return []  # what is missing is what the run builds
    more = [f"and {len(damaged) - MOST} more"] if len(damaged) > MOST else []
    return [
        f"{found.counted()}; {number(len(deleted), 'file')} deleted, which this run rebuilds",
        *damaged[:MOST],
        *more,
    ]
