"""The command line. Commands load what they need when they run, so that `abi verify` starts without torch or numpy.

Exit codes: 0 for any honest outcome, 1 for tampered or not reproducible, 2 for bad input. The result goes to stdout
(one JSON document with `--json`), progress to stderr.
"""

import argparse
import contextlib
import difflib
import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from abi.base.errors import AbiError, DataError, TamperError

HONEST, TAMPERED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Section(NamedTuple):
    """What one part of a command found: its name in JSON, its text or (with --json) its data, and its exit code."""

    name: str
    text: str
    data: dict[str, Any]
    code: int


class Command(NamedTuple):
    """A subcommand: what it says of itself, an example, its options, and where it runs (`module:function`)."""

    help: str
    example: str
    options: Callable[[argparse.ArgumentParser], None]
    run: str


def later(target: str) -> Callable[[argparse.ArgumentParser], None]:
    """Return an `options` function that imports its module only when it is needed."""
    return lambda parser: resolve(target)(parser)


def verify_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi verify`."""
    parser.add_argument(
        "claims", nargs="*", metavar="CLAIM", help="show only these claims of the record (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document for machines instead of text")
    parser.add_argument("--config", type=Path, metavar="DIR", help="folder that holds record/ (default: config)")
    parser.add_argument("--scale", help="only the results of this scale (default: every scale that has results)")
    parser.add_argument(
        "--recompute", action="store_true", help="judge the results again from their evidence (numpy, pandas)"
    )
    parser.add_argument(
        "--against", metavar="RUN", help="compare the results with `reference` or with the folder of another run"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-6, metavar="X", help="of --against, relative (default: 1e-6)"
    )


VERIFIERS: tuple[str, ...] = ("abi.cli.main:verify_record", "abi.cli.main:verify_results")
"""What `abi verify` runs, in order: `module:function` from the options to a `Section`; each imports what it needs."""

COMMANDS: dict[str, Command] = {
    "verify": Command(
        help="judge the published record and the results of this checkout; no torch, no numpy",
        example="abi verify t5_same_backbone",
        options=verify_options,
        run="abi.cli.main:verify",
    ),
    "claims": Command(
        help="every claim with what was published, its verdict, and whether it is fresh, stale or never run",
        example="abi claims --scale tiny",
        options=later("abi.cli.show:claims_options"),
        run="abi.cli.show:claims",
    ),
    "show": Command(
        help="one claim: statement, figures, tests, every arm as a small plot, and what made them",
        example="abi show t5_to_gpt2",
        options=later("abi.cli.show:show_options"),
        run="abi.cli.show:show",
    ),
    "plan": Command(
        help="before a run: how many jobs of each rule, and about how many minutes, from measured ones",
        example="abi plan t5_to_gpt2 --cores 2",
        options=later("abi.plan.estimate:plan_options"),
        run="abi.plan.estimate:plan",
    ),
    "generate": Command(
        help="continue a text by a built backbone, with a trained module attached or without",
        example='abi generate --backbone gpt2_medium --prompt "def main("',
        options=later("abi.cli.generate:generate_options"),
        run="abi.cli.generate:generate",
    ),
    "check": Command(
        help="validate config/ for a scale; names every claim",
        example="abi check --scale tiny --claim t5_to_gpt2",
        options=later("abi.cli.config:check_options"),
        run="abi.cli.config:check",
    ),
    "pin": Command(
        help="look up the revisions of a scale's hub models once and write its lock (needs the network)",
        example="abi pin --scale paper",
        options=later("abi.cli.config:pin_options"),
        run="abi.cli.config:pin",
    ),
    "docs": Command(
        help="write the figures that documents quote, from results/reference",
        example="abi docs --check",
        options=later("abi.cli.config:docs_options"),
        run="abi.cli.config:docs",
    ),
}


def verify_record(options: argparse.Namespace) -> Section:
    """Return the judgement of the published record; AbiError if it is missing or a claim is unknown."""
    from abi.audit.record.judgement import judge, load, to_text
    from abi.judge.published import check_claim, claims_of

    found = load(options.config / "record" if options.config else None)
    for claim in options.claims:
        check_claim(claim, claims_of(found))
    judgement = judge(found)
    code = TAMPERED if judgement.altered else HONEST
    if options.json:
        return Section("record", "", judgement.as_dict(options.claims), code)
    return Section("record", to_text(judgement, options.claims or None), {}, code)


def verify_results(options: argparse.Namespace) -> Section:
    """Return what is found in the results of the working directory, if there are any."""
    from abi.audit.results import verify

    found = verify.verify(
        options.claims,
        scale=options.scale,
        recompute=options.recompute,
        against=options.against,
        tolerance=options.tolerance,
    )
    if options.json:
        return Section("results", "", found.as_dict(), found.code())
    return Section("results", found.text(), {}, found.code())


def verify(options: argparse.Namespace) -> int:
    """Run every part of `abi verify` and return the worst exit code."""
    sections = [resolve(target)(options) for target in VERIFIERS]
    if options.json:
        print(json.dumps({section.name: section.data for section in sections}, indent=1))
    else:
        print("\n\n".join(section.text for section in sections))
    return max(section.code for section in sections)


def emit(text: str) -> None:
    """Print a result; a reader that has seen enough (`| head`, `>&-`) changes neither the exit code nor stderr.

    Raises: DataError: stdout cannot take it (a full disk).
    """
    if sys.stdout is None:
        return
    try:
        print(text, end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise DataError(f"stdout: cannot be written ({error.strerror}); free space or write elsewhere") from None


def resolve(target: str) -> Callable[..., Any]:
    """Return the function a `module:function` string names, importing its module only now."""
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence on stderr and leave with 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def build_parser(wanted: str = "") -> argparse.ArgumentParser:
    """Return the parser with every command; only the wanted one loads its options."""
    examples = "\n".join(f"  {command.example}" for command in COMMANDS.values())
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="abi", description="Autonomous basis injection, put to the test.", formatter_class=form)
    parser.epilog = f"example:\n{examples}"
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    chosen = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in COMMANDS.items():
        own = chosen.add_parser(name, help=command.help, description=command.help, formatter_class=form)
        own.epilog = f"example:\n  {command.example}"
        own.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
        if name == wanted:
            command.options(own)
    return parser


def unknown(arguments: Sequence[str]) -> str:
    """Return the sentence for a first word that is no command, or "" if it is one (or an option)."""
    words = [word for word in arguments if not word.startswith("-")]
    if not words or words[0] in COMMANDS:
        return ""
    close = difflib.get_close_matches(words[0], COMMANDS, 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"abi: '{words[0]}' is not a command{meant}; commands: {', '.join(COMMANDS)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; no traceback unless `--debug`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if message := unknown(arguments):
        print(message, file=sys.stderr)
        return BAD_INPUT
    parser = build_parser(next((word for word in arguments if not word.startswith("-")), ""))
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return BAD_INPUT
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            code = int(resolve(COMMANDS[options.command].run)(options))
        emit(said.getvalue())
        return code
    except (AbiError, OSError, KeyboardInterrupt) as error:
        return failed(error, debug=options.debug)


def failed(error: BaseException, *, debug: bool) -> int:
    """Report an error in one sentence on stderr and return its exit code; raise it again with `--debug`."""
    if isinstance(error, KeyboardInterrupt):
        print("abi: interrupted", file=sys.stderr)
        return INTERRUPTED
    if debug:
        raise error
    print(f"abi: {error}", file=sys.stderr)
    return TAMPERED if isinstance(error, TamperError) else BAD_INPUT
