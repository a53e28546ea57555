"""The command line: `abi COMMAND`. Every command is loaded when it runs, so that `abi verify` starts quickly.

Exit codes: 0 for any honest outcome, 1 for tampered or not reproducible, 2 for bad input, 70 for a fault of abi itself.
The result goes to stdout (one JSON document with `--json`), progress to stderr.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from abi.base.errors import AbiError, DataError, TamperError
from abi.base.files import checkout
from abi.base.quiet import quiet
from abi.base.wording import closest

if TYPE_CHECKING:
    from typer.core import TyperCommand

HONEST, TAMPERED, BAD_INPUT, CRASHED, INTERRUPTED = 0, 1, 2, 70, 130
DEBUG = "--debug"
VARIABLE = "_ABI_COMPLETE"
"""Variable by which a shell asks what may be typed next (`abi completion`)."""


class Command(NamedTuple):
    """A subcommand, run by the function of its name: what it says of itself, arguments of an example, its module."""

    help: str
    example: str
    module: str


COMMANDS = {
    "verify": Command(
        "check the published record and the results of this checkout against themselves; needs no torch",
        "t5_same_backbone",
        "verify",
    ),
    "claims": Command(
        "list every claim: what was published, its verdict, and whether the result here is up to date",
        "--scale tiny",
        "show",
    ),
    "show": Command(
        "show one claim: statement, verdict, figures, tests, every arm as a small plot, and what made them",
        "t5_to_gpt2",
        "show",
    ),
    "report": Command(
        "one HTML page of two runs side by side: did I reproduce it, and where do they differ?",
        "--against reference",
        "report",
    ),
    "status": Command(
        "list what is missing, damaged or stale in a run, and why; with `--mend` the next run rebuilds it",
        "t5_to_gpt2 --mend",
        "status",
    ),
    "crate": Command(
        "describe a run as an RO-Crate: every job from the texts to the verdicts, with hashes, code and software",
        "results/tiny",
        "crate",
    ),
    "run": Command(
        "run Snakemake after clearing what a killed run left; refused while another run is going on",
        "t5_to_gpt2 --scale tiny",
        "run",
    ),
    "plan": Command(
        "say before a run how many jobs of each rule it has and about how long it takes, from measured jobs",
        "t5_to_gpt2 --cores 2",
        "plan",
    ),
    "replicates": Command(
        "say in how many rebuilt pairs, pretrained from other seeds, a claim has the same verdict",
        "--scale tiny",
        "replicates",
    ),
    "train": Command(
        "train a module beside a model of your own, on your own texts",
        "--model first-model --texts domain-texts --out my-module",
        "use",
    ),
    "distill": Command(
        "turn a LoRA adapter into a portable module, and say how much of its gain is kept",
        "--model first-model --adapter first-adapter --texts domain-texts --general-texts general-texts --out portable",
        "use",
    ),
    "transfer": Command(
        "move a trained module to another model; what you give decides the regime",
        "--module my-module --source first-model --target second-model --general-texts general-texts --out moved",
        "use",
    ),
    "evaluate": Command(
        "bits per byte of texts without and with a module, with intervals",
        "--model second-model --module moved --texts domain-texts",
        "use",
    ),
    "compare": Command(
        "is moving better than retraining, here? verdict, rivals, what each costs, and what to choose",
        "--module my-module --source first-model --target second-model --texts domain-texts "
        "--general-texts general-texts --regime general-only --out compared",
        "use",
    ),
    "push": Command("upload a saved module to the hub", "my-module user/my-module", "use"),
    "generate": Command(
        "continue a text with a model, with or without a trained module",
        '--model second-model --module moved --prompt "SELECT"',
        "generate",
    ),
    "demo": Command(
        "a page on this machine: see token by token what modules do to a model, mix them, and write with them",
        "--model second-model --module moved",
        "demo",
    ),
    "check": Command("validate config/ for a scale and list its claims", "--scale tiny --claim t5_to_gpt2", "config"),
    "new-claim": Command(
        "write a claim about models and text of your own into config/, checked, and say what to type next",
        "--source ~/models/first --target ~/models/second --text ~/notes --scale tiny",
        "new_claim",
    ),
    "pin": Command(
        "look up the revisions of a scale's hub models once and write its lock file (needs the network)",
        "--scale paper",
        "config",
    ),
    "completion": Command("print what a shell needs to complete commands and options", "bash", "completion"),
    "docs": Command("write the figures and tables that documents quote, from results/reference", "--check", "config"),
}

DISTRIBUTION = "abi-bench"
"""The name under which pip knows the package."""

PIPELINE = {"snakemake", "snakemake_interface_logger_plugins", "networkx", "rocrate"}
"""Packages that an installation of the library alone has not."""

OF_CHECKOUT = {"show", "claims", "status", "replicates"}
"""Commands that tell of a checkout's results: from a folder without any, of those that `abi run` would make there."""
READ_BY_THEMSELVES = {"verify", "run"}
"""Commands that read their arguments by argparse: one to be quick, one to pass them on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; no traceback unless `--debug`."""
    if VARIABLE in os.environ:
        from abi.cli.completion import complete

        return complete()
    quiet()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    name, *rest = [word for word in given if word != DEBUG] or [""]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in {"", "--help", "-h", "help"}:
        emit(overview())
        return HONEST if name else BAD_INPUT
    if name == "--version":
        from importlib import metadata  # only here: it takes as long as the rest of a quick command

        emit(f"abi {metadata.version(DISTRIBUTION)}\n")
        return HONEST
    if name not in COMMANDS:
        print(unknown(name), file=sys.stderr)
        return BAD_INPUT
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            code = run(name, rest)
        emit(said.getvalue())
        return code
    except (Exception, KeyboardInterrupt) as error:
        return failed(error, debug=debug)


def run(name: str, arguments: list[str]) -> int:
    """Run a command and return its exit code; 2 and one sentence for arguments that it does not take."""
    if name in OF_CHECKOUT and not Path("results").is_dir():
        os.chdir(checkout())
    if name in READ_BY_THEMSELVES:
        try:
            return int(function_of(name)(arguments))
        except SystemExit as left:  # argparse, after `--help` or a wrong option
            return int(left.code or 0)
    import typer

    try:
        with typer_command(name).make_context(f"abi {name}", arguments) as context:
            return int(context.command.invoke(context))
    except typer.Exit as left:  # after `--help`
        return left.exit_code
    except typer.TyperException as error:
        print(f"abi {name}: {error.format_message().rstrip('.')}; see `abi {name} --help`", file=sys.stderr)
        return BAD_INPUT


def function_of(name: str) -> Callable[..., Any]:
    """Return the function that runs a command; its module is imported only now."""
    return getattr(importlib.import_module(f"abi.cli.{COMMANDS[name].module}"), name.replace("-", "_"))


def typer_command(name: str) -> "TyperCommand":
    """Return a command whose options are the parameters of its function."""
    import typer.main

    settings = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=settings)
    app.command(name, help=f"{COMMANDS[name].help}\n\n\b\n{ending(name)}")(function_of(name))
    return typer.main.get_command(app)  # type: ignore[return-value]


def ending(name: str) -> str:
    """Return the last lines of a command's help."""
    return f"example:\n  abi {name} {COMMANDS[name].example}\n\n{DEBUG} shows the traceback of an error."


def overview() -> str:
    """Return what `abi --help` says: every command with an example."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    examples = "\n".join(f"  abi {name} {command.example}" for name, command in COMMANDS.items())
    return f"""usage: abi [-h] [{DEBUG}] COMMAND ...

Rebuild and test the published claims about autonomous basis injection; train, move and compare modules of your own.

commands:
{commands}

options:
  -h, --help  show this text, or that of a command
  {DEBUG}     show the traceback of an error

example:
{examples}
"""


def unknown(name: str) -> str:
    """Return the sentence for a word that is no command."""
    if name.startswith("-"):
        return f"abi: '{name}' is not an option of abi itself; see `abi --help`"
    return f"abi: '{name}' is not a command{closest(name, COMMANDS)} (valid: {', '.join(COMMANDS)})"


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
    """Report an error in one sentence on stderr and return its exit code.

    The traceback stands before it with `--debug`, and where nobody foresaw the error: by itself Python would leave with
    1, which says that something was altered.
    """
    if isinstance(error, KeyboardInterrupt):
        print(f"abi: interrupted{'; ' if str(error) else ''}{error}", file=sys.stderr)
        return INTERRUPTED
    lacking = str(error.name).partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if lacking in PIPELINE:
        install = f"pip install '{DISTRIBUTION}[pipeline]'"
        sentence = f"{lacking} is not installed, which this command needs; {install}"
        error = DataError(sentence).with_traceback(error.__traceback__)
    foreseen = isinstance(error, AbiError | OSError)
    if debug or not foreseen:
        import traceback  # only here: it takes as long as a quick command

        traceback.print_exception(error)
    if not foreseen:
        print(f"abi: a fault of abi itself ({type(error).__name__}); please report it", file=sys.stderr)
        return CRASHED
    print(f"abi: {error}", file=sys.stderr)
    return TAMPERED if isinstance(error, TamperError) else BAD_INPUT
