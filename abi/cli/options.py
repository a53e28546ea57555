"""Options that several commands share, and how their values are read."""

import os
import re
from pathlib import Path
from typing import Annotated

from typer import Option

from abi.base.files import scales

AsJson = Annotated[bool, Option("--json", help="one JSON document for machines instead of text")]
Scale = Annotated[str, Option("--scale", help=f"one of {', '.join(scales())}")]


def labelled(given: str) -> tuple[str, str]:
    """Return name and place of `NAME=PLACE`; the name is empty where none is given, also if the place has a `=`."""
    label, sign, place = given.partition("=")
    return (label, place) if sign and re.fullmatch(r"[\w-]+", label) else ("", given)


def folder_name(place: str) -> str:
    """Return the last part of a folder or hub id, of `.` and the like that of the folder it means."""
    return Path(place).name or Path(place).expanduser().resolve().name


def home_path(folder: Path) -> str:
    """Return a folder as entries name it: below the home as `~/...`, else from the root."""
    whole, home = Path(os.path.abspath(folder)), Path.home()
    return f"~/{whole.relative_to(home).as_posix()}" if whole.is_relative_to(home) else str(whole)
