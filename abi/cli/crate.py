"""The command `abi crate`: the description of a run as an RO-Crate (abi/report/crate.py)."""

from contextlib import chdir
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from abi.audit.results.places import run_of
from abi.cli.main import HONEST
from abi.cli.options import Scale
from abi.plan import DEFAULT
from abi.report.crate import write_crate


def crate(
    folder: Annotated[
        Path | None, Argument(metavar="DIR", help="folder of a run, `results/<scale>`", show_default="that of --scale")
    ] = None,
    scale: Scale = DEFAULT,
    agent: Annotated[str | None, Option(help="who ran it: a name, or the address of an ORCID")] = None,
) -> int:
    """Write the crate of a run beside its results. Raises: AbiError: there are none, or they are not what they say."""
    root, results = run_of(folder or Path("results") / scale)
    with chdir(root):
        n = write_crate(results, agent)
    print(f"{results}/ro-crate-metadata.json: {n} jobs; every hash was compared")
    return HONEST
