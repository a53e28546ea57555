"""The command `abi completion`, and what a shell is told when somebody presses Tab; typer knows the shells."""

import os
from typing import Annotated, Any

from typer import Argument
from typer.completion import completion_init, get_completion_script, shell_complete
from typer.core import TyperCommand, TyperGroup

from abi.base.errors import ConfigError
from abi.cli.main import COMMANDS, READ_BY_THEMSELVES, VARIABLE, typer_command

SHELLS = ("bash", "zsh", "fish")


class _Commands(TyperGroup):
    """The commands of abi, each imported only when its options are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names."""
        return [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand:
        """Return one of them as the list shows it, with its name and help alone."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str, Any, list[str]]:
        """Return the command whose options are asked for; none for one that reads its arguments by itself."""
        name, *rest = args
        known = name in COMMANDS and name not in READ_BY_THEMSELVES
        return name, typer_command(name) if known else None, rest


def completion(shell: Annotated[str, Argument(metavar="SHELL", help=f"one of {', '.join(SHELLS)}")]) -> int:
    """Print what a shell reads to complete the commands and options of abi.

    Raises: ConfigError: another shell.
    """
    if shell not in SHELLS:
        raise ConfigError(f"completion: {shell!r} is none of {', '.join(SHELLS)}")
    print(get_completion_script(prog_name="abi", complete_var=VARIABLE, shell=shell))
    return 0


def complete() -> int:
    """Print what may stand where somebody pressed Tab, as the shell asks for it by its variables."""
    completion_init()
    return shell_complete(_Commands(name="abi"), {}, "abi", VARIABLE, os.environ[VARIABLE])
