"""Commands that show what is known of claims: `abi claims` and `abi show` (no torch, no pandas, ASCII)."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from abi.audit.record.page import ascii_only
from abi.audit.results.places import REFERENCE, own_or_committed
from abi.audit.results.staleness import stale
from abi.base.errors import AbiError, DataError
from abi.base.files import parse_file
from abi.base.names import CANDIDATE
from abi.base.typed import Verdict
from abi.cli.options import AsJson, Scale
from abi.judge.fits import ArmFigures, Figure, Fit
from abi.judge.published import figures_of
from abi.judge.results import AnyResult, LadderResult, Result, StudyResult, read_result
from abi.plan import DEFAULT
from abi.plan.config import load
from abi.plan.kinds.base import GivenPair
from abi.plan.specs.judge import ArmsClaim, AtlasClaim, ClaimSaid, DoseClaim, LadderClaim
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates
from abi.report.render import Table, bounds, figure, number, terminal
from abi.report.replicates import in_a_sentence, replicated
from abi.report.statements import Stated, decided_by, told
from abi.report.words import (
    MEANINGLESS,
    check_words,
    checks_of,
    counts_words,
    deciding,
    fit_words,
    in_groups,
    in_order,
    interval_words,
    plain_words,
    published_words,
    rates_words,
    robustness_of,
    robustness_words,
    share_words,
    studies,
)

WIDTH = 100
PLOT = 48
COMMITTED, NEVER, UNREADABLE, PENDING = "committed", "never run", "unreadable", "pending"
STATES = ("fresh", "stale", COMMITTED, NEVER, UNREADABLE, PENDING)
METRICS = (
    ("js_nats", "JS to the reference, nats (less is better)"),
    ("bits_per_byte", "bits per byte (less is better)"),
)


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
    study = Workflow(load(scale))
    rows = [about(study, claim_id) for claim_id in [*study.listed("summary"), *study.config.pending]]
    states = [row.state for row in rows]
    code = 2 if UNREADABLE in states else 0
    if as_json:
        print(json.dumps({"scale": scale, "claims": [vars(row) for row in rows]}, indent=1))
        return code
    print(ascii_only("\n".join(claims_table(rows))))
    note = f" ({MEANINGLESS})" if study.scale.meaningless else ""
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    print(f"\nscale {scale}{note}: {counts}")
    print("A line that begins with _ is another regime of the claim above it; its id is the two joined.")
    for sentence in (_committed(states), _elsewhere()):
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
    study = Workflow(load(scale))
    row, path = about(study, claim), result_path(study, claim)
    result = None if path is None else read_result(path)
    code = exit_code(result) if exit_rule else 0
    if as_json:
        facts = {"statement": given(study, claim).statement, "command": command_of(study, claim)}
        whole = None if path is None else parse_file(path)
        print(json.dumps({**vars(row), **facts, "result": whole}, indent=1))
        return code
    lines = _head(study, row)
    if result is None:
        lines += [f"Never run at scale {scale}. This builds it:", f"  {command_of(study, claim)}", _elsewhere()]
    else:
        own = [f"This is the committed run. Your own: {command_of(study, claim)}", ""] if row.state == COMMITTED else []
        lines += [
            *own,
            *_found(result, str(path)),
            *_rebuilt(study, claim, result),
            *_provenance(result, str(path)),
        ]
    print(ascii_only("\n".join(lines)).rstrip())
    return code


def exit_code(result: AnyResult | None) -> int:
    """Return the original's exit code: 1 unless there are pass rules of the original and all are met."""
    checks = () if result is None else checks_of(result)
    return 0 if checks and all(check.passed for check in checks) else 1


# the table of claims


def about(study: Workflow, claim_id: str) -> Row:
    """Return what the table says of a claim."""
    claim = given(study, claim_id)
    known = figures_of(claim.record.claim) if claim.record.claim else {}
    facts = (claim_id, getattr(claim, "of", None), claim.kind, getattr(claim, "regime", None), published_words(known))
    if claim_id in study.config.pending:
        return Row(*facts, None, PENDING, [study.config.elsewhere(claim_id)])
    path = result_path(study, claim_id)
    if path is None:
        return Row(*facts, None, NEVER, [])
    try:
        result = read_result(path)
    except AbiError as error:
        return Row(*facts, None, UNREADABLE, [str(error)])
    if REFERENCE in path.parts:
        return Row(*facts, result.verdict, COMMITTED, [])
    reasons = list(dict.fromkeys(words for _, words in stale(study, claim_id, result.provenance)))
    return Row(*facts, result.verdict, "stale" if reasons else "fresh", reasons)


def given(study: Workflow, claim_id: str) -> ClaimSaid:
    """Return a claim, a regime, a ladder or a pending claim as configured. Raises: ConfigError: unknown."""
    return study.config.pending.get(claim_id) or study.claim(claim_id)


def result_path(study: Workflow, claim_id: str) -> Path | None:
    """Return the result file of a claim, also a link that leads nowhere; else the committed one; else None."""
    if claim_id in study.config.pending:
        return None
    return own_or_committed(study.result_file(claim_id))


def _committed(states: Sequence[str]) -> str:
    """Return what `committed` means, where a claim is."""
    told = "committed: never run here; the verdict is that of the run that comes with this checkout (results/reference)"
    return told if COMMITTED in states else ""


def _elsewhere() -> str:
    """Return a warning where the working directory holds no results."""
    return "" if Path("results").is_dir() else "There is no folder results/ here: run abi where your results are."


def command_of(study: Workflow, claim_id: str) -> str:
    """Return the command that builds a claim, at a scale that can run it."""
    pending = study.config.pending.get(claim_id)
    scale = (pending.scales or [DEFAULT])[0] if pending else study.config.name
    return f"snakemake --config scale={scale} -- {claim_id}"


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
        lines += [line, *(_wrapped(f"{row.state}: {row.why[0]}{more}", "      ") if row.why else [])]
    return lines


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


# one claim


def _head(study: Workflow, row: Row) -> list[str]:
    claim = given(study, row.id)
    lines = [f"{row.id}: {claim.title}", *_wrapped(claim.statement), ""]
    lines += _wrapped(f"{'; '.join(_about(claim))}; scale {study.config.name}")
    if row.of:
        lines += _wrapped(f"another regime of {row.of}")
    lines += _wrapped(f"published: {row.published}")
    state = row.state + (": " + "; ".join(row.why) if row.why else "")
    return [*lines, *(_wrapped(f"state: {state}") if row.state != NEVER else []), ""]


def _about(claim: ClaimSaid) -> list[str]:
    """Return in words how a claim is measured: kind, regime, backbones, text, fit; of a ladder its rungs."""
    match claim:
        case LadderClaim() | DoseClaim():
            return [f"{claim.kind} of {', '.join(claim.rungs)}"]
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


def _found(result: AnyResult, path: str) -> list[str]:
    """Return verdict and reason, then the rungs of a ladder, or share, tests, arms and training of studies."""
    lines = [result.verdict + (f"  ({MEANINGLESS})" if result.meaningless else "")]
    lines += [*_wrapped(plain_words(result)), *_wrapped(f"by the protocol: {result.reason}")]
    checks = [line for check in checks_of(result) for line in _wrapped(check_words(check))]
    if isinstance(result, LadderResult):
        lines += [*checks, "", "Rungs"]
        for rung in result.rungs:
            lines += _wrapped(f"{rung.id}: {rung.verdict} (at the strict level {rung.verdict_at_strict_level})")
            lines += _wrapped(rung.reason, "      ")
        return lines
    own = deciding(result)
    if isinstance(result, Result) and own is None:
        raise DataError(f"{path}: holds no fit {result.claim.fit!r}, which decides; delete it and rebuild it")
    if own is not None:
        lines += _wrapped(own.published_criteria.sentence) if own.published_criteria else []
        lines += [f"  share of the gain that is the moved net's own: {share_words(own)}"]
    stated = {one.study: one for one in told(result)} if isinstance(result, StudyResult) else {}
    for name, fit in studies(result).items():
        if name in stated:
            lines += _wrapped(f"{name}: {fit.verdict}: {stated[name].statement}")
            lines += _wrapped(decided_by(stated[name]), "      ")
        elif fit is not own:
            lines += [f"  fit {name} ({fit_words(result, name)}): {fit.verdict}"]
    shown = {"": own} if own is not None else {f" ({name})": fit for name, fit in studies(result).items()}
    tests = [line for name, fit in shown.items() for line in _tests(name, fit)]
    tests += [line for fit in shown.values() for line in _shared(result, fit)]
    return [*lines, *checks, *tests, *_arms(_own_names(shown, stated)), *_training(result)]


def _rebuilt(study: Workflow, claim_id: str, result: AnyResult) -> list[str]:
    """Return what came of a claim on backbones from other pretraining seeds, where it was built with such."""
    file = study.claim(claim_id).record.result_file
    there: dict[str, list[AnyResult]] = {}
    unread: list[str] = []
    for name in replicates(study.config.name):
        path = own_or_committed(Path("results", name, file))
        if path is not None and path.exists():
            try:
                there[name] = [read_result(path)]
            except AbiError as error:  # it says nothing of this claim's own result
                unread.append(str(error))
    sentences = [*map(in_a_sentence, replicated([result], there)), *unread]
    return ["", *(line for sentence in sentences for line in _wrapped(sentence))] if sentences else []


def _tests(name: str, fit: Fit) -> list[str]:
    heads = ["test", "mean", f"{100 * fit.level:g} % interval", "limit", "holds"]
    holds = [("yes" if test.passed else "no") + ("" if test.required else " *") for test in fit.tests]
    figures = [[test.id, test.mean, interval_words(test.interval), test.limit] for test in fit.tests]
    rows = [[*cells, held] for cells, held in zip(figures, holds, strict=True)]
    words = f"Tests on {counts_words(fit)}{name}; more is better, * is reported only"
    return ["", *textwrap.wrap(words, WIDTH), *terminal(Table(heads, rows))]


def _shared(result: Result | StudyResult, fit: Fit) -> list[str]:
    """Return what the test text of a fit shares with train, and the verdict without some of that text."""
    told = robustness_of(result, fit.fit)
    sentences = [] if told is None else robustness_words(told, fit)
    heads = [f"Text shared with train ({fit.fit}); reported, it decides nothing"] if sentences else []
    return ["", *heads, *(line for sentence in sentences for line in _wrapped(sentence))] if heads else []


def _own_names(shown: Mapping[str, Fit], stated: Mapping[str, Stated]) -> dict[str, dict[str, ArmFigures]]:
    """Return the arms of studies; those of an experiment, which its statements share, once and by their own names."""
    found: dict[str, dict[str, ArmFigures]] = {}
    for name, fit in shown.items():
        one = stated.get(name.strip(" ()"))
        arms = fit.arms if one is None else {one.candidate if a == CANDIDATE else a: f for a, f in fit.arms.items()}
        found |= {} if one is not None and arms in found.values() else {name: arms}
    return found


def _arms(shown: Mapping[str, Mapping[str, ArmFigures]]) -> list[str]:
    """Return one plot per metric: every arm a line, in the fixed order."""
    lines: list[str] = []
    for name, arms in shown.items():
        for metric, words in METRICS:
            known = {arm: arms[arm].domain[metric] for arm in in_order(arms) if metric in arms[arm].domain}
            lines += ["", f"Arms on held-out domain text{name}: {words}", *plot(known)] if known else []
    return [*lines, "  o mean, . one seed, ( ) interval of the mean"] if lines else []


def plot(arms: Mapping[str, Figure]) -> list[str]:
    """Return one line per arm: its seeds as dots, its mean, its interval, on one axis; nothing for no arms."""
    if not arms:
        return []
    values = [(found.mean, found.lower, found.upper, *found.per_seed.values()) for found in arms.values()]
    known = [value for of_arm in values for value in of_arm if value is not None]
    low, high, width, lines = min(known), max(known), max(len(arm) for arm in arms), []
    for arm, found in arms.items():
        marks = [(seed, ".") for seed in found.per_seed.values()]
        marks += [(end, mark) for end, mark in ((found.lower, "("), (found.upper, ")")) if end is not None]
        cells = [" "] * PLOT
        for value, mark in [*marks, (found.mean, "o")]:
            cells[place(value, low, high)] = mark
        lines.append(f"  {arm:<{width}} |{''.join(cells)}| {figure(found.mean)}{bounds(found.lower, found.upper)}")
    left, right = figure(low), figure(high)
    return [*lines, f"  {'':<{width}}  {left}{right:>{PLOT - len(left)}}"]


def place(value: float, low: float, high: float) -> int:
    """Return the column of a value on an axis of `PLOT` columns."""
    return round((value - low) / (high - low) * (PLOT - 1)) if high > low else 0


def _training(result: Result | StudyResult) -> list[str]:
    """Return what the fitted arms were trained with, and the backbones they were trained on."""
    if isinstance(result, StudyResult):
        return []
    own, lines = [entry for entry in result.training if entry.fit == result.claim.fit], []
    if own:
        heads = ["arm", "rate", "steps", "trainable", "last loss", "seconds"]
        rows = [[e.arm, e.lr, e.steps, e.n_trainable, e.final_loss, e.elapsed_s] for e in own]
        lines = ["", f"Training of the arms ({result.claim.fit}; means over seeds)", *terminal(Table(heads, rows))]
        lines += _wrapped(rates_words(result.rates)) if result.rates else []
    for name, its in result.backbones.items():
        sizes = f"{its.n_parameters} parameters, depth {its.depth}, width {its.width}"
        lines += _wrapped(f"{name}: {its.model_class}, {sizes}, revision {its.revision}")
    return lines


def _provenance(result: AnyResult, path: str) -> list[str]:
    """Return what made the result file."""
    made = result.provenance
    packages = [f"{name} {made.versions[name]}" for name in ("python", "torch", "numpy") if name in made.versions]
    cost = f"{made.elapsed_s:.1f} s, {made.peak_memory_mb:.0f} MB"
    lines = ["", "Made by", f"  {path}"]
    lines += [f"  rule {made.rule}, code {made.code}, protocol {result.protocol}, {number(made.threads, 'thread')}"]
    lines += _wrapped(f"{', '.join(packages)}; {made.hardware.cpu or 'unknown processor'}; {cost}")
    return [*lines, *(f"  {digest[:12]}  {name}" for name, digest in made.inputs.items())]
