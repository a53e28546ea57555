"""The command `abi completion`, and what a shell is told when somebody presses Tab; typer knows the shells."""

import os
from argparse import ArgumentParser
from importlib import import_module
from typing import Annotated, Any

from typer import Argument
from typer.completion import completion_init, get_completion_script, shell_complete
from typer.core import CompletionItem, TyperCommand, TyperGroup

from abi.base.errors import ConfigError
from abi.cli.main import COMMANDS, READ_BY_THEMSELVES, VARIABLE, typer_command

SHELLS = ("bash", "zsh", "fish")


class _Parsed(TyperCommand):
    """A command whose options argparse reads."""

    def __init__(self, name: str, parser: ArgumentParser) -> None:
        super().__init__(name, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
        self.parser = parser

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Return the options that begin with what was typed, nothing before a dash."""
        known = [(option, action.help) for action in self.parser._actions for option in action.option_strings]
        found = [CompletionItem(option, help=told) for option, told in known if option.startswith(incomplete)]
        return found if incomplete else []


class _Commands(TyperGroup):
    """The commands of abi, each imported only when its options are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names."""
        return [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand:
        """Return one of them as the list shows it, with its name and help alone."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str, Any, list[str]]:
        """Return the command whose options are asked for, None for a word that is none."""
        name, *rest = args
        if name in READ_BY_THEMSELVES:
            return name, _Parsed(name, import_module(f"abi.cli.{COMMANDS[name].module}").parser()), rest
        return name, typer_command(name) if name in COMMANDS else None, rest


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
