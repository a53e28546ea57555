"""The argument parser of the commands that do without typer: `abi verify`, which is to be fast, and `abi run`."""

import argparse
from typing import NoReturn

from abi.cli.main import BAD_INPUT


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence on stderr and leave with 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see `{self.prog} --help`\n")
