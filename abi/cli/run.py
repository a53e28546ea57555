"""`abi run`: Snakemake with its own words, after clearing what a killed run left (abi/base/recovery.py)."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from abi.base import recovery
from abi.base.errors import ConfigError
from abi.base.files import checkout
from abi.cli.main import COMMANDS, ending
from abi.cli.parser import Parser
from abi.cli.status import mended
from abi.plan import DEFAULT
from abi.plan.config import load, require_checkout

SCALE = re.compile(r"(?:--config=|-C)?scale=(.+)")
"""How Snakemake is told a scale."""
NOT_OURS = re.compile(r"--(directory|configfiles?)\b|-d")
"""Options with which Snakemake would run elsewhere, or at a scale that is in a file."""


def parser() -> Parser:
    """Return the options of `abi run` itself; all others are Snakemake's."""
    made = Parser(
        "abi run",
        usage="abi run [TARGET ...] [--scale NAME] [options of snakemake]",
        description=COMMANDS["run"].help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=ending("run"),
        allow_abbrev=False,
    )
    made.add_argument("--scale", metavar="NAME", help="a scale of config/scales; `tiny` if absent")
    made.add_argument("--mend", action="store_true", help="first delete what is damaged, as `abi status --mend` does")
    return made


def run(arguments: Sequence[str]) -> NoReturn:
    """Become `snakemake`, as the only run of this folder.

    Raises: DataError: another run is alive here, or the folder is read-only.
    """
    split = arguments.index("--") if "--" in arguments else len(arguments)
    given, words = parser().parse_known_args(arguments[:split])
    if taken := next((word for word in words if NOT_OURS.match(word)), None):
        raise ConfigError(f"abi run: runs in the checkout, at the scale that `--scale` names; leave out {taken}")
    named = (match[1] for word in words if (match := SCALE.fullmatch(word)))
    name = given.scale or next(named, DEFAULT)
    scale = ["--config", f"scale={given.scale}"] if given.scale else []
    require_checkout(checkout())
    os.chdir(checkout())
    first = [*takewhile(lambda word: not word.startswith("-"), words)]
    options, targets = words[len(first) :], [*first, *arguments[split + 1 :]]
    if any("/" not in target for target in targets):
        load(name).require_targets(targets)
    import_module("snakemake_interface_logger_plugins")  # before anything is deleted for a run that cannot begin
    if not recovery.looks(words):
        cleared = recovery.begin(Path.cwd())
        if cleared:
            print(f"abi: an earlier run was killed; {'; '.join(cleared)}", file=sys.stderr, flush=True)
        if given.mend:
            for line in mended([*words, *arguments[split + 1 :]], name):
                print(f"abi: {line}", file=sys.stderr, flush=True)
    # Targets stand behind `--`, where the rules see them before Snakemake tells (`plan.config.targets_of`).
    ours = ["abi.cli.progress", "--logger", "abi", "--logger-abi-scale", name]
    program = ["snakemake"] if speaks_itself(words) else ours
    behind = ["--", *targets] if targets else arguments[split:]
    os.execv(sys.executable, [sys.executable, "-m", *program, *options, *scale, *behind])


def speaks_itself(words: Sequence[str]) -> bool:
    """Return whether Snakemake's own lines are wanted: it only looks, or it was told what to say."""
    return recovery.looks(words) or any(
        word.partition("=")[0] in {"--verbose", "--logger", "--quiet"} for word in words
    )
