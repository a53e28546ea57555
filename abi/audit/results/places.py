"""Where result files lie in a checkout (standard library only, so that a checkout without results costs nothing)."""

from pathlib import Path

from abi.base.files import ROOT
from abi.base.names import ASIDE, PAGES

REFERENCE = "reference"
EVIDENCE = "evidence"  # folder under results/<scale>


def folders(root: Path = Path("results")) -> list[Path]:
    """Return the folders that hold result files: results/<scale> and results/reference/<scale>."""
    places = [*sorted(root.glob("*")), *sorted((root / REFERENCE).glob("*"))]
    return [place for place in places if place.is_dir() and (result_paths(place) or page_paths(place))]


def result_paths(folder: Path) -> list[Path]:
    """Return the result files of a folder."""
    return [path for path in sorted(folder.glob("*.json")) if path.name not in ASIDE]


def page_paths(folder: Path) -> list[Path]:
    """Return the pages of a folder that count its claims, as JSON."""
    return [path for path in (folder / f"{page}.json" for page in PAGES) if path.exists()]


def config_root() -> Path:
    """Return the folder whose `config/` counts: the working directory if it has one, else this checkout."""
    return Path() if Path("config/claims.yaml").is_file() else ROOT
