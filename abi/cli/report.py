"""Command `abi report`: two runs side by side, as one HTML page that needs no network (no torch)."""

from pathlib import Path
from typing import Annotated

from typer import Option

from abi.audit.results.agreement import TOLERANCE
from abi.audit.results.findings import CODES, DIFFERS, Finding
from abi.audit.results.verify import verify
from abi.base.errors import DataError, TamperError
from abi.base.files import write_text
from abi.cli.main import HONEST, TAMPERED
from abi.cli.options import Scale
from abi.plan import DEFAULT
from abi.report.against import page, two_runs
from abi.report.blocks import html
from abi.report.figures import svg_of


def report(
    against: Annotated[str, Option(metavar="DIR", help="`reference`, or the folder of another run")],
    scale: Scale = DEFAULT,
    output: Annotated[
        Path | None, Option(metavar="FILE", help="where to write it", show_default="results/<scale>/against.html")
    ] = None,
    tolerance: Annotated[float, Option(metavar="X", help="relative tolerance of an arm's figure")] = TOLERANCE,
) -> int:
    """Write the page and say whether the run was reproduced; 1 where it was not, as `abi verify --against`.

    Raises: AbiError: one of the runs is missing, damaged, altered, or of another scale.
    """
    found = next(one for one in verify(scale=scale, against=against, tolerance=tolerance).scales if one.compared)
    refuse([finding for finding in found.findings if CODES[finding.kind] and finding.kind != DIFFERS], against)
    made = page(two_runs(found))
    path = output or found.folder / "against.html"
    write_text(path, html(made, {drawing.name: svg_of(drawing) for drawing in made.drawings()}))
    print(f"{path}: {found.compared.words() if found.compared else ''}")
    return TAMPERED if any(finding.kind == DIFFERS for finding in found.findings) else HONEST


def refuse(bad: list[Finding], against: str) -> None:
    """Raise what `abi verify` found where figures cannot be trusted: DataError: unreadable; TamperError: altered."""
    if bad:
        worst = max(bad, key=lambda finding: CODES[finding.kind])
        more = f" ({len(bad) - 1} more findings)" if len(bad) > 1 else ""
        sentence = f"{worst.words()}{more}; `abi verify --brief --against {against}` lists what is wrong"
        raise TamperError(sentence) if CODES[worst.kind] == TAMPERED else DataError(sentence)
