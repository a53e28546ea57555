"""Command `abi replicates`: has a claim the same word in pairs rebuilt from other pretraining seeds (no torch)."""

import json
import sys
from dataclasses import asdict

from abi.audit.record.page import ascii_only
from abi.audit.results.places import elsewhere
from abi.cli.main import BAD_INPUT, HONEST
from abi.cli.options import AsJson, Scale
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates as scales_of
from abi.report.render import terminal
from abi.report.replicates import replicated, results_at, table


def replicates(scale: Scale = DEFAULT, as_json: AsJson = False) -> int:
    """Print per claim its verdict and those in the replicates, with the spread of share and gap closure.

    The verdict of a claim stays that of its own pair. A replicate is built as any scale is:
    `make <claim> SCALE=tiny_r1`; where it was not, the committed results are read. Exit code 2 if a result cannot be
    read.
    """
    names, workflow = scales_of(scale), Workflow(load(scale))
    files = {claim: workflow.claim(claim).record.result_file for claim in workflow.listed("summary")}
    there, unreadable = results_at(names, files)
    rebuilt = {result.claim.id for results in there.values() for result in results}
    own, more = results_at([scale], {claim: file for claim, file in files.items() if claim in rebuilt})
    for sentence in [*more, *unreadable]:
        print(f"abi replicates: {sentence}", file=sys.stderr)
    code = BAD_INPUT if more or unreadable else HONEST
    found = replicated(own[scale], there)
    if as_json:
        print(json.dumps([{**asdict(row), "same": row.same} for row in found], indent=1))
        return code
    nothing = "\n".join(["no claim is built here and in a replicate", elsewhere()]).rstrip()
    print(ascii_only("\n".join(terminal(table(found))) if found else nothing))
    print(f"\nreplicates of {scale}: {', '.join(names) or 'none in config/scales'}")
    return code
