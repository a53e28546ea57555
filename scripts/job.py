"""The script of every rule: run the step in `abi/steps` that bears the rule's name."""

from importlib import import_module

from abi.base import warm

warm.hand_over()  # where a warm server runs, a process forked from it does the rest, and this one waits

from abi.base.job import job  # noqa: E402
from abi.base.quiet import quiet  # noqa: E402

quiet()

step = import_module(f"abi.steps.{snakemake.rule}")  # first, so that torch is there when threads are limited
with job(snakemake, step) as running:
    step.run(running, snakemake.input, snakemake.output)
