"""The command `abi verify`: the published record and the results of this checkout, judged (no torch).

The one command with argparse: typer reads values by pydantic, whose import takes longer than judging the whole record.
"""

import argparse
import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from abi.base.errors import ConfigError, DataError
from abi.base.wording import closest
from abi.cli.main import COMMANDS, HONEST, TAMPERED, ending
from abi.cli.parser import Parser
from abi.plan import DEFAULT

if TYPE_CHECKING:
    from abi.judge.results import AnyResult


class Part(NamedTuple):
    """What one part of a verification found: in words, as data for `--json`, and its exit code."""

    text: str
    data: object
    code: int


def parser() -> Parser:
    """Return the options of `abi verify`."""
    form = argparse.RawDescriptionHelpFormatter
    about = COMMANDS["verify"].help
    made = Parser(prog="abi verify", description=about, formatter_class=form, epilog=ending("verify"))
    add = made.add_argument
    add("claims", nargs="*", metavar="CLAIM", help="show only these claims (default: all)")
    add("--json", action="store_true", help="one JSON document for machines instead of text")
    add("--config", type=Path, metavar="DIR", help="folder that holds record/ (default: config)")
    add("--scale", help="only the results of this scale (default: every scale that has results)")
    add("--recompute", action="store_true", help="judge the results again from their evidence (numpy, pandas)")
    add("--against", metavar="RUN", help="compare the results with `reference` or with the folder of another run")
    add("--tolerance", type=float, metavar="X", help="with --against: relative tolerance of an arm's figure")
    add("--deep", nargs="?", const="", metavar="DIR", help="walk the chain from the texts to the verdicts of a run")
    add("--brief", action="store_true", help="the results alone, without the published record")
    return made


def verify(arguments: Sequence[str]) -> int:
    """Judge the record and the results, and return the worse exit code."""
    options = parser().parse_args(arguments)
    others = ("against", "tolerance", "recompute", "config", "brief")
    asked = {name: getattr(options, name) for name in others}
    beside = [f"--{name}" for name, value in asked.items() if value is not None and value is not False]
    if options.deep is not None and beside:
        raise ConfigError(f"verify: --deep walks the chain of a run and nothing else; leave out {', '.join(beside)}")
    if options.deep is not None:
        parts = {"chain": chain(options)}
    else:
        with without_collection():
            told = record(options.claims, options.config, brief=options.brief)
            found = results(options, alone=told is None)
        parts = {"results": found} if told is None else {"record": told, "results": found}
    if options.json:
        print(json.dumps({name: part.data for name, part in parts.items()}, indent=1))
    else:
        print("\n\n".join(part.text for part in parts.values()))
    return max(part.code for part in parts.values())


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave cyclic garbage alone: results stay to the end, and walking them takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def record(claims: list[str], config: Path | None, *, brief: bool) -> Part | None:
    """Return the judgement of the published record on some claims, all for none; None where it says nothing of them.

    Args: brief: it is not asked for, but may know a claim. Raises: ConfigError: a claim that neither it nor any scale
        knows; AbiError: it is missing.
    """
    if brief and not claims:
        return None
    from abi.audit.record.judgement import WHOLE, judge, load
    from abi.audit.record.page import to_text
    from abi.judge.published import claims_of

    found = load(config / "record" if config else None)
    known = [*claims_of(found), WHOLE]
    told = [claim for claim in claims if claim in known]
    if len(told) < len(claims):
        check_known(claims, known)
    if brief or (claims and not told):
        return None
    judgement = judge(found)
    code = TAMPERED if judgement.altered else HONEST
    return Part(to_text(judgement, told or None), judgement.as_dict(told), code)


def check_known(claims: Sequence[str], of_record: Sequence[str]) -> None:
    """Raise ConfigError for a claim that neither the record nor any scale knows."""
    from abi.base.files import checkout, scales  # pydantic and all that reads a configuration
    from abi.plan.config import claims_at

    root = checkout()
    there = (claim for name in scales(root / "config/scales") for claim in claims_at(name, root))
    known = [*of_record, *dict.fromkeys(there)]
    for claim in claims:
        if claim not in known:
            raise ConfigError(f"{claim!r} is no claim{closest(claim, known)}; `abi claims` lists them")


def results(options: argparse.Namespace, *, alone: bool) -> Part:
    """Return what is found in the results of the working directory, if there are any.

    Args: alone: they are all that is asked about some claims. Raises: DataError: then, there is no result of them.
    """
    from abi.audit.results.verify import verify as verified

    names = ("scale", "recompute", "against", "tolerance")
    found = verified(options.claims, render=pages, **{name: getattr(options, name) for name in names})
    if alone and options.claims and not any(scale.results for scale in found.scales):
        at = f" at scale {options.scale}" if options.scale else ""
        raise DataError(f"results: none of {', '.join(options.claims)}{at}; `abi claims` says what is built")
    return Part(found.text(), found.as_dict(), found.code())


def chain(options: argparse.Namespace) -> Part:
    """Return what is found of the whole chain of a run: that of a folder, or of a scale here (`tiny`)."""
    from abi.audit.results.places import run_of
    from abi.cli.deep import deep  # torch, and all that a job imports

    root, folder = run_of(Path(options.deep) if options.deep else Path("results") / (options.scale or DEFAULT))
    with chdir(root):
        found = deep(folder, options.claims, pages)
    return Part(found.text(), found.as_dict(), TAMPERED if found.broken else HONEST)


def pages(results: "Sequence[AnyResult]", sentence: str) -> dict[str, str]:
    """Return the pages that the audit compares with those there are; the renderer is loaded only now."""
    from abi.report.verdicts import summary_pages

    return summary_pages(results, sentence)
