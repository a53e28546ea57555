"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

from typer import Option

from abi.base.files import ROOT

SCALES = ", ".join(
    sorted(path.stem for path in Path(ROOT, "config", "scales").glob("*.yaml") if not path.stem.endswith(".lock"))
)
AsJson = Annotated[bool, Option("--json", help="one JSON document for machines instead of text")]
Scale = Annotated[str, Option("--scale", help=f"one of {SCALES}")]
