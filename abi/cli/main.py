"""The command line: `abi COMMAND`. Every command is loaded when it runs, so that `abi verify` starts quickly.

Exit codes: 0 for any honest outcome, 1 for tampered or not reproducible, 2 for bad input. The result goes to stdout
(one JSON document with `--json`), progress to stderr.
"""

import contextlib
import difflib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from abi.base.errors import AbiError, DataError, TamperError

if TYPE_CHECKING:
    from typer.core import TyperCommand

HONEST, TAMPERED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
DEBUG = "--debug"


class Command(NamedTuple):
    """A subcommand: what it says of itself, an example, and where it runs (`module:function`)."""

    help: str
    example: str
    run: str


COMMANDS: dict[str, Command] = {
    "verify": Command(
        help="judge the published record and the results of this checkout; no torch",
        example="abi verify t5_same_backbone",
        run="abi.cli.verify:verify",
    ),
    "claims": Command(
        help="every claim with what was published, its verdict, and whether it is fresh, stale or never run",
        example="abi claims --scale tiny",
        run="abi.cli.show:claims",
    ),
    "show": Command(
        help="one claim: statement, figures, tests, every arm as a small plot, and what made them",
        example="abi show t5_to_gpt2",
        run="abi.cli.show:show",
    ),
    "plan": Command(
        help="before a run: how many jobs of each rule, and about how many minutes, from measured ones",
        example="abi plan t5_to_gpt2 --cores 2",
        run="abi.cli.config:plan",
    ),
    "generate": Command(
        help="continue a text by a built backbone, with a trained module attached or without",
        example='abi generate --backbone gpt2_medium --prompt "def main("',
        run="abi.cli.generate:generate",
    ),
    "check": Command(
        help="validate config/ for a scale; names every claim",
        example="abi check --scale tiny --claim t5_to_gpt2",
        run="abi.cli.config:check",
    ),
    "pin": Command(
        help="look up the revisions of a scale's hub models once and write its lock (needs the network)",
        example="abi pin --scale paper",
        run="abi.cli.config:pin",
    ),
    "docs": Command(
        help="write the figures that documents quote, from results/reference",
        example="abi docs --check",
        run="abi.cli.config:docs",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; no traceback unless `--debug`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    name, *rest = [word for word in given if word != DEBUG] or [""]
    if name in {"", "--help", "-h"}:
        emit(overview())
        return HONEST if name else BAD_INPUT
    if name not in COMMANDS:
        print(unknown(name), file=sys.stderr)
        return BAD_INPUT
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            code = run(name, rest)
        emit(said.getvalue())
        return code
    except (AbiError, OSError, KeyboardInterrupt) as error:
        return failed(error, debug=debug)


def run(name: str, arguments: list[str]) -> int:
    """Run a command and return its exit code; 2 and one sentence for arguments that it does not take."""
    try:
        if name == "verify":
            return int(resolve(COMMANDS[name].run)(arguments))
        return run_typed(name, arguments)
    except SystemExit as left:  # argparse, after `--help` or a wrong option
        return int(left.code or 0)


def run_typed(name: str, arguments: list[str]) -> int:
    """Run a command whose options are the parameters of its function."""
    import typer

    try:
        with command_of(name).make_context(f"abi {name}", arguments) as context:
            return int(context.command.invoke(context))
    except typer.Exit as left:  # after `--help`
        return left.exit_code
    except typer.TyperException as error:
        print(f"abi {name}: {error.format_message().rstrip('.')}; see `abi {name} --help`", file=sys.stderr)
        return BAD_INPUT


def command_of(name: str) -> "TyperCommand":
    """Return a command; its module is imported only now."""
    import typer.main

    about = COMMANDS[name]
    settings = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=settings)
    text = f"{about.help}\n\n\b\nexample:\n  {about.example}\n\n{DEBUG} shows the traceback of an error."
    app.command(name, help=text)(resolve(about.run))
    return typer.main.get_command(app)  # type: ignore[return-value]


def resolve(target: str) -> Callable[..., Any]:
    """Return the function a `module:function` string names, importing its module only now."""
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


def overview() -> str:
    """Return what `abi --help` says: every command with an example."""
    width = max(map(len, COMMANDS))
    told = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    examples = [f"  {command.example}" for command in COMMANDS.values()]
    usage = f"usage: abi [-h] [{DEBUG}] COMMAND ...\n\nAutonomous basis injection, put to the test.\n\ncommands:\n"
    options = "\n\noptions:\n  -h, --help  show this text, or that of a command\n"
    options += f"  {DEBUG}     show the traceback of an error\n"
    return usage + "\n".join(told) + options + "\nexample:\n" + "\n".join(examples) + "\n"


def unknown(name: str) -> str:
    """Return the sentence for a word that is no command."""
    if name.startswith("-"):
        return f"abi: '{name}' is no option before a command; see `abi --help`"
    close = difflib.get_close_matches(name, COMMANDS, 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"abi: '{name}' is not a command{meant}; commands: {', '.join(COMMANDS)}"


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


def failed(error: BaseException, *, debug: bool) -> int:
    """Report an error in one sentence on stderr and return its exit code; raise it again with `--debug`."""
    if isinstance(error, KeyboardInterrupt):
        print("abi: interrupted", file=sys.stderr)
        return INTERRUPTED
    if debug:
        raise error
    print(f"abi: {error}", file=sys.stderr)
    return TAMPERED if isinstance(error, TamperError) else BAD_INPUT
