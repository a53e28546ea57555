"""Commands that show what is known of claims: `abi claims` and `abi show` (no torch, no pandas, ASCII)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from abi.audit.record.page import ascii_only
from abi.audit.results.places import REFERENCE, elsewhere, own_or_committed
from abi.audit.results.staleness import stale
from abi.base.errors import AbiError
from abi.base.files import parse_file
from abi.base.typed import Verdict
from abi.cli.one_claim import found, provenance, wrapped
from abi.cli.options import AsJson, Scale
from abi.judge.published import figures_of
from abi.judge.results import AnyResult
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.kinds.base import GivenPair
from abi.plan.specs.judge import ArmsClaim, AtlasClaim, ClaimSaid, DoseClaim, LadderClaim
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates
from abi.report.render import Table, terminal
from abi.report.replicates import in_a_sentence, replicated, result_of, results_at
from abi.report.words import MEANINGLESS, checks_of, in_groups, published_words

COMMITTED, NEVER, UNREADABLE, PENDING = "committed", "never run", "unreadable", "pending"
STATES = ("fresh", "stale", COMMITTED, NEVER, UNREADABLE, PENDING)


@dataclass(frozen=True)
class Row:
    """What the table says of a claim.

    Args: state: `committed`: it was never run here, and the run that came with this checkout is shown; why: it is
        stale, unreadable or pending.
    """

    id: str
    of: str | None
    kind: str
    regime: str | None
    published: str
    verdict: Verdict | None
    state: str
    why: list[str]


def claims(scale: Scale = DEFAULT, as_json: AsJson = False) -> int:
    """Print a table of all claims, their regimes and ladders; exit code 2 if a result cannot be read."""
    workflow = Workflow(load(scale))
    rows = [about(workflow, claim_id) for claim_id in [*workflow.listed("summary"), *workflow.config.pending]]
    states = [row.state for row in rows]
    code = 2 if UNREADABLE in states else 0
    if as_json:
        print(json.dumps({"scale": scale, "claims": [vars(row) for row in rows]}, indent=1))
        return code
    print(ascii_only("\n".join(claims_table(rows))))
    note = f" ({MEANINGLESS})" if workflow.scale.meaningless else ""
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    print(f"\nscale {scale}{note}: {counts}")
    print("A line that begins with _ is another regime of the claim above it; its id is the two joined.")
    for sentence in (_committed(states), elsewhere()):
        print(sentence, end="\n" if sentence else "")
    return code


def show(
    claim: Annotated[str, Argument(metavar="CLAIM", help="a claim of config/claims.yaml (`abi claims` lists them)")],
    scale: Scale = DEFAULT,
    as_json: AsJson = False,
    exit_rule: Annotated[
        bool, Option("--exit-rule", help="exit with 1 unless every pass rule of the original is met (`reproduce`)")
    ] = False,
) -> int:
    """Print everything known of one claim, regime or ladder. Raises: DataError: its result file cannot be read."""
    workflow = Workflow(load(scale))
    row, path = about(workflow, claim), result_path(workflow, claim)
    result = None if path is None else result_of(claim, scale, path)
    code = exit_code(result) if exit_rule else 0
    if as_json:
        facts = {"statement": given(workflow, claim).statement, "command": command_of(workflow, claim)}
        whole = None if path is None else parse_file(path)
        print(json.dumps({**vars(row), **facts, "result": whole}, indent=1))
        return code
    lines = _head(workflow, row)
    if row.state == PENDING:
        told = f"abi show {claim} --scale {scale_of(workflow, claim)}"
        lines += [f"Scale {scale} cannot run it. This shows it, and this builds it:", f"  {told}"]
        lines += [f"  {command_of(workflow, claim)}"]
    elif result is None:
        lines += [f"Never run at scale {scale}. This builds it:", f"  {command_of(workflow, claim)}", elsewhere()]
    else:
        own = (
            [f"This is the committed run. Your own: {command_of(workflow, claim)}", ""]
            if row.state == COMMITTED
            else []
        )
        lines += [
            *own,
            *found(result, str(path)),
            *_rebuilt(workflow, claim, result),
            *provenance(result, str(path)),
        ]
    print(ascii_only("\n".join(lines)).rstrip())
    return code


def exit_code(result: AnyResult | None) -> int:
    """Return the original's exit code: 1 unless there are pass rules of the original and all are met."""
    checks = () if result is None else checks_of(result)
    return 0 if checks and all(check.passed for check in checks) else 1


# the table of claims


def about(workflow: Workflow, claim_id: str) -> Row:
    """Return what the table says of a claim."""
    claim = given(workflow, claim_id)
    known = figures_of(claim.record.claim) if claim.record.claim else {}
    facts = (claim_id, getattr(claim, "of", None), claim.kind, getattr(claim, "regime", None), published_words(known))
    if claim_id in workflow.config.pending:
        return Row(*facts, None, PENDING, [workflow.config.elsewhere(claim_id)])
    path = result_path(workflow, claim_id)
    if path is None:
        return Row(*facts, None, NEVER, [])
    try:
        result = result_of(claim_id, workflow.config.name, path)
    except AbiError as error:
        return Row(*facts, None, UNREADABLE, [str(error)])
    if REFERENCE in path.parts:
        return Row(*facts, result.verdict, COMMITTED, [])
    reasons = list(dict.fromkeys(words for _, words in stale(workflow, claim_id, result.provenance)))
    return Row(*facts, result.verdict, "stale" if reasons else "fresh", reasons)


def given(workflow: Workflow, claim_id: str) -> ClaimSaid:
    """Return a claim, a regime, a ladder or a pending claim as configured. Raises: ConfigError: unknown."""
    return workflow.config.pending.get(claim_id) or workflow.claim(claim_id)


def result_path(workflow: Workflow, claim_id: str) -> Path | None:
    """Return the result file of a claim, also a link that leads nowhere; else the committed one; else None."""
    if claim_id in workflow.config.pending:
        return None
    return own_or_committed(workflow.result_file(claim_id))


def _committed(states: Sequence[str]) -> str:
    """Return what `committed` means, where a claim is."""
    told = "committed: never run here; the verdict is that of the run that comes with this checkout (results/reference)"
    return told if COMMITTED in states else ""


def command_of(workflow: Workflow, claim_id: str) -> str:
    """Return the command that builds a claim, at a scale that can run it."""
    return f"snakemake --config scale={scale_of(workflow, claim_id)} -- {claim_id}"


def scale_of(workflow: Workflow, claim_id: str) -> str:
    """Return this scale, or for a claim that is pending the first that runs it."""
    pending = workflow.config.pending.get(claim_id)
    return (pending.scales or [DEFAULT])[0] if pending else workflow.config.name


def claims_table(rows: Sequence[Row]) -> list[str]:
    """Return the table of claims, at most `WIDTH` columns wide, regimes under their claim, reasons under their line."""
    ordered = in_groups(rows, claim=lambda row: row)
    cells = [
        [f"  {row.id.removeprefix(row.of)}", row.regime, row.published, row.verdict, row.state]
        if row.of
        else [row.id, row.kind, row.published, row.verdict, row.state]
        for row in ordered
    ]
    head, *told = terminal(Table(["claim", "kind", "published", "verdict", "state"], cells), "")
    lines = [head]
    for row, line in zip(ordered, told, strict=True):
        more = f" (+{len(row.why) - 1})" if len(row.why) > 1 else ""
        lines += [line, *(wrapped(f"{row.state}: {row.why[0]}{more}", "      ") if row.why else [])]
    return lines


# one claim


def _head(workflow: Workflow, row: Row) -> list[str]:
    claim = given(workflow, row.id)
    lines = [f"{row.id}: {claim.title}", *wrapped(claim.statement), ""]
    lines += wrapped(f"{'; '.join(_about(workflow, claim))}; scale {workflow.config.name}")
    if row.of:
        lines += wrapped(f"another regime of {row.of}")
    lines += wrapped(f"published: {row.published}")
    state = row.state + (": " + "; ".join(row.why) if row.why else "")
    return [*lines, *(wrapped(f"state: {state}") if row.state != NEVER else []), ""]


def _about(workflow: Workflow, claim: ClaimSaid) -> list[str]:
    """Return in words how a claim is measured: kind, regime, backbones, text, fit; of a ladder those rungs that run."""
    match claim:
        case LadderClaim() | DoseClaim():
            there = [rung for rung in claim.rungs if rung in workflow.config.every()] or claim.rungs
            return [f"{claim.kind} of {', '.join(there)}"]
        case ArmsClaim():
            sees = f"regime {claim.regime} (the target side sees {claim.sees})"
            pair = " -> ".join(dict.fromkeys((claim.source, claim.target)))
            measured = [pair, f"text {claim.text}", f"fitted by {claim.fit}"]
            return [claim.kind, *([sees] if claim.kind != "reconstruction" else []), *measured]
        case GivenPair():
            return [claim.kind, " -> ".join(dict.fromkeys((claim.source, claim.target))), f"text {claim.text}"]
        case AtlasClaim():
            return [claim.kind, claim.backbone]
    return [claim.kind]


def _rebuilt(workflow: Workflow, claim_id: str, result: AnyResult) -> list[str]:
    """Return what came of a claim on backbones from other pretraining seeds, where it was built with such."""
    there, unreadable = results_at(
        replicates(workflow.config.name), {claim_id: workflow.claim(claim_id).record.result_file}
    )
    sentences = [*map(in_a_sentence, replicated([result], there)), *unreadable]
    return ["", *(line for sentence in sentences for line in wrapped(sentence))] if sentences else []
