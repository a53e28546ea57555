"""The script of every rule: run the step in `abi/steps` that bears the rule's name."""

from functools import partial
from importlib import import_module

from abi.base import warm

warm.hand_over()  # where a warm server runs, a process forked from it does the rest, and this one waits

from abi.base.job import job  # noqa: E402
from abi.base.quiet import quiet  # noqa: E402

quiet()

with job(snakemake, partial(import_module, f"abi.steps.{snakemake.rule}")) as running:
    running.step.run(running, snakemake.input, snakemake.output)
