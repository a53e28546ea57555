"""Where result files lie in a checkout, and whether a committed reference is what was adopted (standard library)."""

import os
from pathlib import Path

from abi.audit.results.findings import TAMPERED, Finding
from abi.base.errors import ConfigError
from abi.base.files import MANIFEST, listed, listing, scales, sha256_file, write_text
from abi.base.names import ASIDE, PAGES

RESULTS, REFERENCE = "results", "reference"
EVIDENCE = "evidence"  # folder under results/<scale>
CRATE = "ro-crate-metadata.json"
"""Name that the specification of RO-Crate gives to the description of a folder."""


def elsewhere(results: Path = Path(RESULTS)) -> str:
    """Return a warning where there is no folder of results; else nothing."""
    return "" if results.is_dir() else f"There is no folder {results}/ here: run abi where your results are."


def folders(root: Path = Path(RESULTS)) -> list[Path]:
    """Return the folders that hold result files: results/<scale> and results/reference/<scale>."""
    runs = [place for place in sorted(root.glob("*")) if place.name != REFERENCE]  # which holds the benchmarks, too
    places = [*runs, *sorted((root / REFERENCE).glob("*"))]
    return [place for place in places if place.is_dir() and (result_paths(place) or page_paths(place))]


def own_or_committed(path: str | Path) -> Path | None:
    """Return a result file of a run, also a link that leads nowhere; else the committed one; else None."""
    own = Path(path)
    places = (own, own.parent.parent / REFERENCE / own.parent.name / own.name)
    return next((place for place in places if os.path.lexists(place)), None)


def result_paths(folder: Path) -> list[Path]:
    """Return the result files of a folder."""
    return [path for path in sorted(folder.glob("*.json")) if path.name not in {*ASIDE, CRATE}]


def page_paths(folder: Path) -> list[Path]:
    """Return the pages of a folder that count its claims, as JSON."""
    return [path for path in (folder / f"{page}.json" for page in PAGES) if path.exists()]


def run_of(folder: Path) -> tuple[Path, Path]:
    """Return the checkout of a run and its folder from there, `results/<scale>`. Raises: ConfigError: it is none."""
    place = folder.resolve()
    if place.parent.name == RESULTS and place.is_dir():
        return place.parents[1], Path(RESULTS, place.name)
    if place.parent.name != RESULTS or place.exists():
        why = "is no folder of a run" if place.exists() else "there is no such folder"
        raise ConfigError(f"{folder}: {why}; name one like results/tiny")
    if place.name not in (names := scales()):
        raise ConfigError(f"{folder}: is not there, and {place.name!r} is no scale; scales: {', '.join(names)}")
    builds = f"`abi run --scale {place.name}` builds it"
    raise ConfigError(elsewhere(folder.parent) or f"{folder}: nothing is built yet at scale {place.name}; {builds}")


def write_manifest(folder: Path) -> None:
    """Write the list of a reference's files, for `sha256sum -c` and `abi verify`."""
    write_text(folder / MANIFEST, listing(hashes(folder)))


def hashes(folder: Path) -> dict[str, str]:
    """Return name -> hash of every file under a folder but the list itself."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def altered(folder: Path) -> list[Finding]:
    """Return one finding per file that is not as its list says, is missing, or is not listed."""
    path = folder / MANIFEST
    remedy = f"restore it, or write it by `abi docs --adopt {folder.name}`"
    if not path.is_file():
        return [Finding(TAMPERED, str(path), "", f"is missing, so that nothing guards the files beside it; {remedy}")]
    text = path.read_text(encoding="utf-8", errors="replace")
    expected, found = listed(text), hashes(folder)
    if len(expected) != len(text.splitlines()):
        return [Finding(TAMPERED, str(path), "", f"lists a file twice, or holds a line of another form; {remedy}")]
    wrong = {name: "is not the file that was adopted" for name in found if expected.get(name) != found[name]}
    wrong |= {name: "is not listed" for name in found if name not in expected}
    wrong |= {name: "is listed and not there" for name in expected if name not in found}
    return [Finding(TAMPERED, str(folder / name), "", f"{wrong[name]} (by {MANIFEST})") for name in sorted(wrong)]
